"""The command line: one command a file, each with its options and the lines that it prints.

A file here imports no torch when it is loaded, save `model.py`, `weights.py`, `images.py` and `setup.py`, which wait
until the options are read: help is there at once.
"""
