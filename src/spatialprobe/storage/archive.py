"""Archives of tensors and a JSON description in one safetensors file, written atomically and verified by checksums."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from spatialprobe.errors import ArgumentError, StorageError
from spatialprobe.storage.checksum import digest, separate_memory
from spatialprobe.storage.files import replace_file, shown_path, source_of, target_of
from spatialprobe.storage.schema import MalformedError, check
from spatialprobe.storage.stored import StoredTensor, describe_damage, describe_mismatch
from spatialprobe.storage.tensors import Checks, check_dtypes, write_tensors
from spatialprobe.text import escape_surrogates, map_texts, unescape_surrogates

_ESCAPED = "escaped"  # the key that marks a description whose texts were escaped by `escape_surrogates`
_CHECKS = {str: ([int], str, str)}  # for each tensor: shape, dtype, checksum

_Made = TypeVar("_Made")


# Suffixes of other formats, by which a user or a program would mistake the file.
_TEXTS = {".csv", ".htm", ".html", ".json", ".md", ".pdf", ".txt", ".xml", ".yaml"}
_PICTURES = {".bmp", ".gif", ".jpeg", ".jpg", ".mp4", ".png", ".svg", ".tif", ".tiff", ".webp"}
_DATA = {".h5", ".hdf5", ".npy", ".npz", ".parquet", ".pickle", ".pkl", ".pt", ".pth", ".zip"}
_OTHER_FORMATS = _TEXTS | _PICTURES | _DATA


@dataclass(frozen=True)
class Archive:
    """A kind of file, and the words for it in error messages."""

    format: str  # in its header: "spatialprobe activations"
    version: int
    writer: str  # "save_activations"
    kind: str  # "file of activations"

    def write(
        self, path: str | os.PathLike[str], tensors: Mapping[str, torch.Tensor], description: dict[str, Any]
    ) -> Path:
        """Write tensors and a description of them as JSON, and return the path.

        Raises:
            ArgumentError: the name has the suffix of another format.
            StorageError: the file cannot be written there, or a tensor's dtype cannot be stored.
        """
        target = target_of(path, StorageError)
        if target.suffix.lower() in _OTHER_FORMATS:
            raise ArgumentError(
                f"{self.writer} writes a safetensors file, but {target.name!r} has the suffix of another format: name "
                f"it {target.stem + '.safetensors'!r}."
            )
        try:
            check_dtypes(tensors)
        except ValueError as error:
            raise StorageError(f"Cannot save {target.name!r}: {error}.") from error
        ready = separate_memory(tensors)

        def describe(checks: Checks) -> dict[str, str]:
            text = _to_json({"tensors": checks, **description})
            version = str(self.version)
            return {"format": self.format, "version": version, "description": text, "digest": digest(text.encode())}

        with replace_file(target) as temporary:
            write_tensors(temporary, ready, describe)
            self._check_readable(temporary, target)
        return target

    def read(
        self,
        path: str | os.PathLike[str],
        build: Callable[[dict[str, Any], Mapping[str, torch.Tensor]], _Made],
    ) -> _Made:
        """Return what `build` makes from a file's description and its verified tensors on the CPU; see `open`."""

        def build_verified(description: dict[str, Any], stored: Mapping[str, StoredTensor]) -> _Made:
            wrong = [name for name, tensor in stored.items() if not tensor.is_intact()]
            if wrong:
                raise MalformedError(describe_mismatch(wrong))
            return build(description, {name: tensor.value for name, tensor in stored.items()})

        return self.open(path, build_verified)

    def open(
        self,
        path: str | os.PathLike[str],
        build: Callable[[dict[str, Any], Mapping[str, StoredTensor]], _Made],
    ) -> _Made:
        """Return what `build` makes from a file's description and its tensors, whose values are verified once read.

        `build` raises MalformedError if the description does not have the expected form: a checksum detects damage,
        but an attacker who crafts a file can compute it too.

        Raises:
            StorageError: the file is damaged, of another kind, or of a newer version of the format.
            FileNotFoundError: there is no such file.
        """
        source = source_of(path, self.kind)
        header, tensors = self._load(source)
        text = self._read_description(header, source)
        try:
            description = _parse(text)
            if description.pop(_ESCAPED, None) is not None:
                description = map_texts(unescape_surrogates, description)
            expected = description.pop("tensors", None)
            check(expected, _CHECKS, "the checksums")
            return build(description, _expect(tensors, expected, source))
        except MalformedError as error:
            raise StorageError(describe_damage(source, error)) from error

    def _load(self, source: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
        """Return the texts in a file's header, and its tensors."""
        from safetensors import safe_open

        try:
            with safe_open(source, framework="pt") as file:
                header = dict(file.metadata() or {})
                if header.get("format") != self.format:  # then its tensors are not read
                    return header, {}
                return header, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except Exception as error:  # it reads arbitrary bytes, and does not document what it raises
            raise StorageError(f"{shown_path(source)} is damaged, or is not a {self.kind}: {error}.") from error

    def _check_readable(self, temporary: Path, target: Path) -> None:
        """Check that the installed safetensors can read the file: older versions support fewer dtypes."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(temporary, framework="pt"):
                pass
        except SafetensorError as error:
            raise StorageError(
                f"Cannot save {target.name!r}: the installed safetensors cannot read it back ({error}). Update "
                "safetensors."
            ) from error

    def _read_description(self, header: Mapping[str, str], source: Path) -> str:
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


def _to_json(description: Mapping[str, Any]) -> str:
    """Return a description as JSON, with lone surrogates escaped: JSON reads two adjacent ones as one character."""
    text = json.dumps(description)
    if "\\ud" in text and json.loads(text) != map_texts(str, description):
        return json.dumps({**map_texts(escape_surrogates, description), _ESCAPED: True})
    return text


def _parse(text: str) -> dict[str, Any]:
    """Return the mapping in a JSON text.

    Raises:
        MalformedError: the text is not JSON, or not a mapping.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"its description is not JSON ({error})") from error
    if not isinstance(found, dict):
        raise MalformedError("its description is not a mapping")
    return found


def _expect(
    tensors: Mapping[str, torch.Tensor], expected: Mapping[str, list[Any]], source: Path
) -> dict[str, StoredTensor]:
    """Return the tensors with the checksums that the description expects.

    Raises:
        MalformedError: some are missing, or have other shapes or dtypes.
    """
    if expected.keys() != tensors.keys():
        raise MalformedError("it does not hold the tensors that its description lists")
    stored = {name: StoredTensor(tensor, name, expected[name], source) for name, tensor in tensors.items()}
    wrong = [name for name, tensor in stored.items() if not tensor.has_expected_form()]
    if wrong:
        raise MalformedError(describe_mismatch(wrong))
    return stored
