"""Sweeps: statistics of every channel over a whole data set, in one pass and in constant memory."""
