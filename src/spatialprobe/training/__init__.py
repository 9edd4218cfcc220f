"""While a model trains: statistics of its layers over the steps, and where values first are infinite or NaN."""
