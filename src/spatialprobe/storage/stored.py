"""Tensors of a file that is mapped into memory, compared with their checksums when they are first read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from spatialprobe.errors import StorageError
from spatialprobe.storage.checksum import fingerprint
from spatialprobe.storage.files import shown_path


class StoredTensor:
    """A tensor of a file: its shape and dtype are known, its values are read and verified on first use."""

    __slots__ = ("_expected", "_name", "_source", "value")

    def __init__(self, value: torch.Tensor, name: str, expected: list[Any], source: Path) -> None:
        self.value = value  # unverified: for its shape, dtype and device
        self._name = name
        self._expected: list[Any] | None = expected  # its fingerprint; None once the values were found to match it
        self._source = source

    def has_expected_form(self) -> bool:
        """Return whether the shape and dtype are those that were saved, without a look at the values."""
        return self._expected is None or self._expected[:2] == [list(self.value.shape), str(self.value.dtype)]

    def is_intact(self) -> bool:
        """Return whether the values are those that were saved; they are compared once."""
        if self._expected is not None and fingerprint(self.value) == self._expected:
            self._expected = None
        return self._expected is None

    def read(self) -> torch.Tensor:
        """Return the values that were saved.

        Raises:
            StorageError: the values in the file are others.
        """
        if not self.is_intact():
            raise StorageError(describe_damage(self._source, describe_mismatch([self._name])))
        return self.value

    def __reduce__(self) -> tuple[Callable[[torch.Tensor], torch.Tensor], tuple[Any, ...]]:
        return _identity, (self.read(),)  # a copied or unpickled record holds a verified tensor of its own


def describe_damage(source: Path, problem: object) -> str:
    """Return the message of the error that a file is damaged."""
    return f"{shown_path(source)} is damaged, or was crafted: {problem}. Save it again."


def describe_mismatch(names: list[str]) -> str:
    """Return which tensors have other values than those that were saved."""
    return f"the values of {', '.join(names)} do not match their checksums"


def _identity(value: torch.Tensor) -> torch.Tensor:
    return value
