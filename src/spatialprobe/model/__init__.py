"""The user's model: selecting layers, adding hooks, calling it, evaluation mode, and restoring its state."""
