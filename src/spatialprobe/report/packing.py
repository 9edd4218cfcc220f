"""Arrays as text: compressed [RFC 1950] and in base64."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

_LEVEL = 6  # of zlib


def packed(array: npt.NDArray[Any], dtype: str) -> str:
    """The bytes of an array of a dtype such as "<f8", compressed, in base64."""
    return base64.b64encode(zlib.compress(np.ascontiguousarray(array, dtype).data, _LEVEL)).decode()


def differences(codes: npt.NDArray[np.uint8]) -> str:
    """Return codes as differences to the one before, modulo 256, packed: neighbors are alike, which packs better."""
    flat = codes.ravel()
    return packed(np.diff(flat, prepend=flat[:1] * 0), "u1")
