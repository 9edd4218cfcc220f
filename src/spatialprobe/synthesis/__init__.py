"""Inputs that are made, not found: what drives a channel of a layer to its maximum."""
