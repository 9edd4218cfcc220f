"""Capture: which layers, hooks on them, and the records they leave."""
