"""Sweeps: what every channel does over a whole data set, in one pass and in constant memory."""
