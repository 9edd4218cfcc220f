"""The interactive page: numbers to 8-bit codes, codes to a payload, the payload into one HTML file."""
