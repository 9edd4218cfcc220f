"""Tensors and a description of them in one safetensors file: written whole or not at all, and checked bit by bit."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from spatialprobe.errors import ArgumentError, StorageError
from spatialprobe.storage.checksum import digest, fingerprint, separate_memory
from spatialprobe.storage.files import replace_file, shown_path, source_of, target_of
from spatialprobe.storage.schema import MalformedError, check
from spatialprobe.storage.tensors import check_dtypes, write_tensors
from spatialprobe.text import escape_surrogates, map_texts, unescape_surrogates

_ESCAPED = "escaped"  # in a description whose texts are as `escape_surrogates` shows them
_CHECKS = {str: ([int], str, str)}  # of each tensor: shape, dtype, checksum

_Made = TypeVar("_Made")


# Suffixes under which somebody, or a program, would take the file for something else.
_TEXTS = {".csv", ".htm", ".html", ".json", ".md", ".pdf", ".txt", ".xml", ".yaml"}
_PICTURES = {".bmp", ".gif", ".jpeg", ".jpg", ".mp4", ".png", ".svg", ".tif", ".tiff", ".webp"}
_DATA = {".h5", ".hdf5", ".npy", ".npz", ".parquet", ".pickle", ".pkl", ".pt", ".pth", ".zip"}
_OTHER_FORMATS = _TEXTS | _PICTURES | _DATA


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
            ArgumentError: the name says that it is a file of another format.
            StorageError: the file cannot be written there, or a tensor's dtype cannot be stored.
        """
        target = target_of(path, StorageError)
        if target.suffix.lower() in _OTHER_FORMATS:
            raise ArgumentError(
                f"{self.writer} writes a file of safetensors, and {target.name!r} says another format: name it "
                f"{target.stem + '.safetensors'!r}."
            )
        try:
            check_dtypes(tensors)
        except ValueError as error:
            raise StorageError(f"Cannot save {target.name!r}: {error}.") from error
        ready = separate_memory(tensors)
        checks = {key: fingerprint(tensor) for key, tensor in ready.items()}
        text = _written({"tensors": checks, **description})
        header = {
            "format": self.format,
            "version": str(self.version),
            "description": text,
            "digest": digest(text.encode()),
        }
        with replace_file(target) as scratch:
            write_tensors(scratch, ready, header)
            self._check_readable(scratch, target)
        return target

    def read(
        self,
        path: str | os.PathLike[str],
        build: Callable[[dict[str, Any], Mapping[str, torch.Tensor]], _Made],
    ) -> _Made:
        """Return what `build` makes of a file's description and tensors, which are on the CPU and were checked.

        `build` raises MalformedError where the description is not what it must be: a checksum finds damage, but whoever
        crafts a file can compute it too.

        Raises:
            StorageError: the file is damaged, of another kind, or of a newer version of the format.
            FileNotFoundError: there is no such file.
        """
        source = source_of(path, self.kind)
        header, tensors = self._load(source)
        text = self._description(header, source)
        try:
            description = _parsed(text)
            if description.pop(_ESCAPED, None) is not None:
                description = map_texts(unescape_surrogates, description)
            expected = description.pop("tensors", None)
            check(expected, _CHECKS, "the checksums")
            _compare(tensors, expected)
            return build(description, tensors)
        except MalformedError as error:
            raise StorageError(f"{shown_path(source)} is damaged, or was crafted: {error}. Save it again.") from error

    def _load(self, source: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
        """Return the texts in a file's header, and its tensors."""
        from safetensors import safe_open

        try:
            with safe_open(source, framework="pt") as file:
                header = dict(file.metadata() or {})
                if header.get("format") != self.format:  # then its tensors are not read
                    return header, {}
                return header, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except Exception as error:  # it meets bytes of any kind, and does not say what it raises
            raise StorageError(f"{shown_path(source)} is damaged, or no {self.kind}: {error}.") from error

    def _check_readable(self, scratch: Path, target: Path) -> None:
        """Check that the installed safetensors reads what was written: older ones know fewer dtypes."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(scratch, framework="pt"):
                pass
        except SafetensorError as error:
            raise StorageError(
                f"Cannot save {target.name!r}: the installed safetensors does not read it ({error})."
            ) from error

    def _description(self, header: Mapping[str, str], source: Path) -> str:
        if header.get("format") != self.format:
            raise StorageError(f"{shown_path(source)} was not written by {self.writer}, or its header is damaged.")
        version, text = header.get("version", ""), header.get("description", "")
        if version.isdecimal() and len(version) < 10 and int(version) > self.version:
            raise StorageError(
                f"{shown_path(source)} has format {version}; this version reads {self.version}. Update spatialprobe."
            )
        if version != str(self.version) or header.get("digest") != digest(text.encode()):
            raise StorageError(
                f"{shown_path(source)} is damaged: its description does not match its checksum. Save it again."
            )
        return text


def _written(description: Mapping[str, Any]) -> str:
    """Return a description in JSON, which would read two lone surrogates beside each other as one character."""
    text = json.dumps(description)
    if "\\ud" in text and json.loads(text) != map_texts(str, description):
        return json.dumps({**map_texts(escape_surrogates, description), _ESCAPED: True})
    return text


def _parsed(text: str) -> dict[str, Any]:
    """Return the mapping that a text in JSON describes.

    Raises:
        MalformedError: it describes none.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"its description is not JSON ({error})") from error
    if not isinstance(found, dict):
        raise MalformedError("its description is not a mapping")
    return found


def _compare(tensors: Mapping[str, torch.Tensor], expected: Mapping[str, Any]) -> None:
    """Check that the tensors are those that a description speaks of.

    Raises:
        MalformedError: some are missing, or have other values.
    """
    if expected.keys() != tensors.keys():
        raise MalformedError("it does not hold the tensors it speaks of")
    wrong = [key for key, tensor in tensors.items() if fingerprint(tensor) != expected[key]]
    if wrong:
        raise MalformedError(f"the values of {', '.join(wrong)} do not match their checksums")
