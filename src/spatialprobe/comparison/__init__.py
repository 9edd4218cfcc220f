"""Two models, checkpoints or layers side by side."""
