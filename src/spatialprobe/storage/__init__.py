"""Files written whole or not at all, archives of tensors, checksums."""
