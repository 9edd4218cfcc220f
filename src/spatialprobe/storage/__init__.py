"""Atomic writes of files, archives of tensors, and checksums."""
