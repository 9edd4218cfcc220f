"""PNG files [W3C, PNG third edition], with a palette or in color, with text, and without Pillow's copies.

Sheets of maps are smooth or noise between borders: of the differences to the left neighbor run lengths find most of
what zlib finds, and cost less. A row like the one above, as there are many in enlarged maps, is written as no
difference.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from spatialprobe.text import escape_controls

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TRUE_COLOUR, _PALETTE = 2, 3  # color types
_SUB, _UP = 1, 2  # filter types: the difference to the left neighbor, and to the row above
_LEVEL, _MEMORY = 1, 9  # of zlib
_PIECE = 2**18  # bytes that are packed at once, so that they stay in the cache


def png(pixels: npt.NDArray[np.uint8], colors: npt.NDArray[np.uint8] | None, text: Mapping[str, str]) -> bytes:
    """The file, from codes (H, W) and their colors (256, 3), or from colors (H, W, 3) and None."""
    height, width = pixels.shape[:2]
    kind = _TRUE_COLOUR if colors is None else _PALETTE
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))]
    if colors is not None:
        chunks.append((b"PLTE", colors.tobytes()))
    shown = {key.encode("latin-1"): escape_controls(words).encode() for key, words in text.items()}
    chunks += [(b"iTXt", key + b"\0\0\0\0\0" + words) for key, words in shown.items()]
    chunks += [*((b"IDAT", piece) for piece in _compressed(pixels) if piece), (b"IEND", b"")]
    return _SIGNATURE + b"".join(part for name, data in chunks for part in _chunk(name, data))


def _chunk(name: bytes, data: bytes) -> tuple[bytes, ...]:
    check = zlib.crc32(data, zlib.crc32(name))
    return struct.pack(">I", len(data)), name, data, struct.pack(">I", check)


def _compressed(pixels: npt.NDArray[np.uint8]) -> Iterator[bytes]:
    """The rows in pieces, some at a time; in color runs are of three bytes, for which it takes all of zlib."""
    strategy = zlib.Z_RLE if pixels.ndim == 2 else zlib.Z_DEFAULT_STRATEGY
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS, _MEMORY, strategy)
    rows, step = pixels.reshape(len(pixels), -1), pixels[0, 0].size
    some = max(1, _PIECE // rows.shape[1])
    for start in range(0, len(rows), some):
        before = rows[start - 1] if start else None
        yield packer.compress(_filtered(rows[start : start + some], before, step).data)
    yield packer.flush()


def _filtered(rows: npt.NDArray[np.uint8], before: npt.NDArray[np.uint8] | None, step: int) -> npt.NDArray[np.uint8]:
    """Rows, each after its filter's number; one like the row above it, or the first like `before`, becomes zeros."""
    filtered = np.empty((rows.shape[0], rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = _SUB
    filtered[:, 1 : 1 + step] = rows[:, :step]
    np.subtract(rows[:, step:], rows[:, :-step], out=filtered[:, 1 + step :])  # modulo 256
    repeated = np.zeros(len(rows), np.bool_)
    repeated[1:] = (rows[1:] == rows[:-1]).all(axis=1)
    repeated[0] = before is not None and np.array_equal(rows[0], before)
    filtered[repeated] = 0
    filtered[repeated, 0] = _UP
    return filtered
