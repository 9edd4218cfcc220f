"""The user's model: which layers, hooks on it, calling it, evaluation mode and restoring."""
