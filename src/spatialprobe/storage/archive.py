"""Tensors and a description of them in one safetensors file: written whole or not at all, and checked bit by bit."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from spatialprobe.errors import StorageError
from spatialprobe.storage.checksum import apart, digest, fingerprint
from spatialprobe.storage.files import path_of, replacing, target_of


@dataclass(frozen=True)
class Archive:
    """A kind of file, and how its errors speak of it."""

    format: str  # in its header: "spatialprobe activations"
    version: int
    writer: str  # "save_activations"
    kind: str  # "file of activations"

    def write(
        self, path: str | os.PathLike[str], tensors: Mapping[str, torch.Tensor], description: dict[str, Any]
    ) -> Path:
        """Write tensors with whatever JSON can hold of them, and return the path.

        Raises:
            StorageError: the folder does not exist, the path is one, or a tensor's dtype cannot be stored.
        """
        from safetensors.torch import save_file

        target = target_of(path, StorageError)
        ready = apart(tensors)
        checks = {key: fingerprint(tensor) for key, tensor in ready.items()}
        text = json.dumps({"tensors": checks, **description})
        header = {
            "format": self.format,
            "version": str(self.version),
            "description": text,
            "digest": digest(text.encode()),
        }
        with replacing(target) as scratch:
            try:
                save_file(ready, scratch, header)
            except (KeyError, ValueError, RuntimeError) as error:
                dtypes = ", ".join(sorted({str(tensor.dtype) for tensor in tensors.values()}))
                raise StorageError(
                    f"Cannot save {target.name!r}: safetensors holds no tensors of {dtypes} ({error})."
                ) from error
        return target

    def read(self, path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """The description and the tensors, on the CPU, after comparing each tensor with its checksum.

        Raises:
            StorageError: the file is damaged, of another kind, or of a newer version of the format.
            FileNotFoundError: there is no such file.
        """
        from safetensors import SafetensorError, safe_open

        source = path_of(path)
        if not source.exists():
            raise FileNotFoundError(f"No file {str(source)!r}.")
        if source.is_dir():
            raise StorageError(f"{str(source)!r} is a folder, no {self.kind}: name the file in it.")
        try:
            with safe_open(source, framework="pt") as file:
                description = self._description(file.metadata() or {}, source)
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, UnicodeDecodeError) as error:
            raise StorageError(f"{str(source)!r} is damaged, or no {self.kind}: {error}.") from error
        expected = description.pop("tensors")
        if expected.keys() != tensors.keys():
            raise StorageError(f"{str(source)!r} is damaged: it does not hold the tensors it speaks of. Save it again.")
        wrong = [key for key, tensor in tensors.items() if fingerprint(tensor) != expected[key]]
        if wrong:
            raise StorageError(
                f"{str(source)!r} is damaged: the values of {', '.join(wrong)} do not match their checksums. "
                "Save it again."
            )
        return description, tensors

    def _description(self, header: Mapping[str, str], source: Path) -> dict[str, Any]:
        if header.get("format") != self.format:
            raise StorageError(f"{str(source)!r} was not written by {self.writer}, or its header is damaged.")
        version, text = header.get("version", ""), header.get("description", "")
        if version.isdecimal() and int(version) > self.version:
            raise StorageError(
                f"{str(source)!r} has format {version}; this version reads {self.version}. Update spatialprobe."
            )
        if version != str(self.version) or header.get("digest") != digest(text.encode()):
            raise StorageError(
                f"{str(source)!r} is damaged: its description does not match its checksum. Save it again."
            )
        description: dict[str, Any] = json.loads(text)
        return description
