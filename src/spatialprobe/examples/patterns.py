"""Ten classes of small pictures that differ only in their local spatial pattern, drawn from a seed.

No download and no license: the set exists wherever NumPy does. Position, phase, frequency, tilt, contrast, colors
and their polarity are random, and every pattern covers a random share of its picture drawn from one distribution for
all classes, so that neither a single pixel nor the histogram of colors tells the class. What tells it is how
neighboring pixels relate, which is what a convolution sees.

To add a class, write a function from a `Canvas` to a height (its contour lines are the edges of the pattern) and
name it in `PATTERNS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from spatialprobe.arguments import as_int

FloatArray: TypeAlias = npt.NDArray[np.float32]

PERIOD = (3.6, 4.8)  # pixels from one stripe, dot or ring to the next
TILT = 12.0  # degrees; small against the 45 between neighboring stripe classes
COVERED_SHARE = (0.3, 0.4)  # of the picture's area, before polarity
CONTRAST = (0.5, 0.9)  # distance of the two colors in the RGB unit cube
CELL = 1.85  # periods, from one scattered motif to the next
STRAY = 0.2  # cells, how far a motif lies off its place at most
WARP = 2.4  # pixels, how far lines are bent (root mean square)
CHECKER_BEND = 0.65  # of the bend of the other patterns
WARP_LENGTH = 6.0  # pixels, over which the bend changes
HUES = 1.05  # 0: the two colors differ in lightness alone; large: in hue alone as often
NOISE = 0.03  # standard deviation, in units of the full intensity range
EDGE_WIDTH = 0.35  # pixels; a harder edge would show the pixel grid


@dataclass(frozen=True)
class Canvas:
    """The coordinates of N pictures, each with its own random origin, tilt and period."""

    x: FloatArray  # (N, H, W), pixels to the right of the origin
    y: FloatArray  # (N, H, W), pixels below the origin
    rigid_x: FloatArray  # as x, before it was bent
    rigid_y: FloatArray  # as y, before it was bent
    period: FloatArray  # (N, 1, 1), pixels
    generator: np.random.Generator


def wave(distance: FloatArray, canvas: Canvas) -> FloatArray:
    """Return a sine along a distance in pixels, one period of the canvas long, with a random phase per picture."""
    phase = canvas.generator.random(canvas.period.shape, dtype=np.float32)
    height: FloatArray = np.sin(2 * np.pi * (distance / canvas.period + phase), dtype=np.float32)
    return height


def from_motif(canvas: Canvas) -> tuple[FloatArray, FloatArray]:
    """Return offsets right and down, in cells of a lattice, from the motif in each pixel's cell.

    Rows of cells slide against each other and motifs stray within their cells, so that knowing where one motif lies
    says little about the others.
    """
    generator, count = canvas.generator, len(canvas.period)
    picture = np.arange(count)[:, None, None]
    down = canvas.rigid_y / (CELL * canvas.period)
    row = np.floor(down).astype(np.int64)
    across = canvas.rigid_x / (CELL * canvas.period) + generator.random((count, 64), dtype=np.float32)[picture, row]
    column = np.floor(across).astype(np.int64)
    stray = uniform(generator, (0.5 - STRAY, 0.5 + STRAY), (2, count, 64, 64))[:, picture, row, column]
    return across - column - stray[0], down - row - stray[1]


def checkerboard(canvas: Canvas) -> FloatArray:
    """Return squares that alternate in both directions."""
    # Less bent than stripes, or squares would look like blobs. A square is half a wave, hence the longer waves.
    x: FloatArray = canvas.rigid_x + CHECKER_BEND * (canvas.x - canvas.rigid_x)
    y: FloatArray = canvas.rigid_y + CHECKER_BEND * (canvas.y - canvas.rigid_y)
    longer = np.float32(1.5)
    across, down = wave(x / longer, canvas), wave(y / longer, canvas)
    height: FloatArray = np.sign(across * down) * np.minimum(np.abs(across), np.abs(down))
    return height


def dots(canvas: Canvas) -> FloatArray:
    """Return scattered discs."""
    return -np.hypot(*from_motif(canvas))


def rings(canvas: Canvas) -> FloatArray:
    """Return closed lines around one center."""
    return wave(np.hypot(canvas.x, canvas.y), canvas)


def crosses(canvas: Canvas) -> FloatArray:
    """Return scattered plus signs."""
    across, down = np.abs(from_motif(canvas))
    slenderness = np.float32(2.9)  # length of an arm over its width, at every share that is covered
    height: FloatArray = -np.maximum(slenderness * np.minimum(across, down), np.maximum(across, down))
    return height


def corners(canvas: Canvas) -> FloatArray:
    """Return scattered right angles, in each picture all open towards the same one of four directions."""
    flip = canvas.generator.choice(np.array([-1, 1], np.float32), (2, *canvas.period.shape))
    offsets = flip * from_motif(canvas) + np.float32(0.2)
    slenderness = np.float32(3.5)
    reach = np.maximum(offsets, -slenderness * offsets)
    height: FloatArray = -np.maximum(slenderness * np.abs(offsets).min(axis=0), reach.max(axis=0))
    return height


def blobs(canvas: Canvas) -> FloatArray:
    """Return patches of irregular outline: white noise without its fine detail."""
    return smooth_noise(canvas.x.shape, canvas.period / 3.2, canvas.generator)


PATTERNS: dict[str, Callable[[Canvas], FloatArray]] = {
    "horizontal stripes": lambda canvas: wave(canvas.y, canvas),
    "vertical stripes": lambda canvas: wave(canvas.x, canvas),
    "rising stripes": lambda canvas: wave((canvas.x + canvas.y) / np.float32(np.sqrt(2)), canvas),
    "falling stripes": lambda canvas: wave((canvas.x - canvas.y) / np.float32(np.sqrt(2)), canvas),
    "checkerboard": checkerboard,
    "dots": dots,
    "rings": rings,
    "crosses": crosses,
    "corners": corners,
    "blobs": blobs,
}
CLASSES: tuple[str, ...] = tuple(PATTERNS)


def draw_patterns(count: int, seed: int = 0, size: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images (N, 3, size, size) float32 in [0, 1] and labels (N,) int64, which are indices into `CLASSES`.

    They are drawn, not loaded: the same arguments give the same images. The classes are equally frequent and in
    random order. Raises ArgumentError for a count below 1, a seed below 0, or a size below 8 or above 256 pixels.

    >>> images, labels = draw_patterns(20)
    >>> images.shape, CLASSES[labels[0]]
    (torch.Size([20, 3, 32, 32]), 'checkerboard')
    """
    count, seed = as_int(count, "count", least=1), as_int(seed, "seed", least=0)
    images, labels = draw(count, seed, as_int(size, "size", least=8, most=256))
    return torch.from_numpy(images).float() / 255, torch.from_numpy(labels)


def draw_masked_patterns(count: int, seed: int = 0, size: int = 32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return what `draw_patterns` returns, and masks `(count, size, size)` int64: the pixels of the motif.

    These have the number of the motif, that of its class in `CLASSES` counted from 1; all others are 0. So masks are
    concept numbers as `evidence.concept_alignment` takes them.

    Raises:
        ArgumentError: as `draw_patterns`.

    >>> import spatialprobe as sp
    >>> images, labels, masks = sp.examples.draw_masked_patterns(20)
    >>> bool((images == sp.examples.draw_patterns(20)[0]).all()), masks[0].unique().tolist() == [0, int(labels[0]) + 1]
    (True, True)
    """
    count, seed = as_int(count, "count", least=1), as_int(seed, "seed", least=0)
    images, labels, motifs = draw_with_motifs(count, seed, as_int(size, "size", least=8, most=256))
    numbers = torch.from_numpy(labels)
    return torch.from_numpy(images).float() / 255, numbers, torch.from_numpy(motifs) * (numbers + 1)[:, None, None]


def draw(count: int, seed: int, size: int = 32) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return images `(N, 3, size, size)` uint8 and labels `(N,)` int64, in random order, classes equally frequent.

    The same arguments give the same arrays, bit for bit. Classes differ in frequency by at most one image, where
    `count` is not a multiple of ten. Raises ValueError for a count below one or a size below eight pixels.

    >>> images, labels = draw(20, seed=0)
    >>> images.shape, sorted(labels.tolist()) == sorted(2 * list(range(10)))
    ((20, 3, 32, 32), True)
    """
    images, labels, _ = draw_with_motifs(count, seed, size)
    return images, labels


def draw_with_motifs(
    count: int, seed: int, size: int = 32
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return what `draw` returns, and which pixels belong to the motif, `(N, size, size)` bool.

    >>> images, labels, motifs = draw_with_motifs(20, seed=0)
    >>> bool((images == draw(20, seed=0)[0]).all()), motifs.shape, 0.3 < float(motifs.mean()) < 0.4
    (True, (20, 32, 32), True)
    """
    if count < 1 or size < 8:
        raise ValueError(
            f"Cannot draw {count} images of {size} x {size} pixels: ask for at least one image of at least 8 x 8."
        )
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(count, dtype=np.int64) % len(CLASSES))
    images = np.empty((count, 3, size, size), np.uint8)
    motifs = np.zeros((count, size, size), np.bool_)
    for label, height in enumerate(PATTERNS.values()):
        of_class = np.flatnonzero(labels == label)
        if len(of_class):
            canvas = new_canvas(len(of_class), size, generator)
            coverage = cover(height(canvas), generator)
            images[of_class], motifs[of_class] = paint(coverage, generator), coverage > 0.5
    return images, labels, motifs


def new_canvas(count: int, size: int, generator: np.random.Generator) -> Canvas:
    """Return the coordinates of `count` pictures with random origins in the middle half, tilts and periods."""
    per_picture = (count, 1, 1)
    tilt = np.radians(uniform(generator, (-TILT, TILT), per_picture))
    origin = uniform(generator, (0.25 * size, 0.75 * size), (2, *per_picture))
    pixels = np.arange(size, dtype=np.float32)
    right, down = pixels[None, None, :] - origin[0], pixels[None, :, None] - origin[1]
    rigid_x = right * np.cos(tilt) + down * np.sin(tilt)
    rigid_y = down * np.cos(tilt) - right * np.sin(tilt)
    bend = WARP * smooth_noise((2 * count, size, size), WARP_LENGTH, generator).reshape(2, count, size, size)
    return Canvas(
        x=rigid_x + bend[0],
        y=rigid_y + bend[1],
        rigid_x=rigid_x,
        rigid_y=rigid_y,
        period=uniform(generator, PERIOD, per_picture),
        generator=generator,
    )


def cover(height: FloatArray, generator: np.random.Generator) -> FloatArray:
    """Return coverage `(N, H, W)` in 0..1: the highest pixels of each picture, a random share, with soft edges."""
    count = len(height)
    shares = uniform(generator, COVERED_SHARE, (count,))
    ascending = np.sort(height.reshape(count, -1), axis=1)
    rank = ((1 - shares) * ascending.shape[1]).astype(np.int64)
    level = ascending[np.arange(count), rank][:, None, None]
    down, right = np.gradient(height, axis=(1, 2))
    slope = np.hypot(down, right)  # turns heights into pixels from the edge
    # Flat spots have no edge, and where two motifs' cells meet the height jumps.
    slope = slope.clip(1e-6, 1.5 * slope.mean(axis=(1, 2), keepdims=True))
    covered: FloatArray = 0.5 + 0.5 * np.tanh((height - level) / (slope * EDGE_WIDTH * 2))
    return covered


def paint(coverage: FloatArray, generator: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Return images `(N, 3, H, W)` uint8: two random colors mixed by coverage `(N, H, W)`, with light noise.

    The two colors are exchangeable, so that a pattern is as often brighter than its ground as darker.
    """
    per_picture = (len(coverage), 3, 1, 1)
    towards_light = generator.choice(np.array([-1, 1], np.float32), (len(coverage), 1, 1, 1))
    direction = towards_light + HUES * generator.standard_normal(per_picture, dtype=np.float32)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    contrast = uniform(generator, CONTRAST, (len(coverage), 1, 1, 1))
    middle = uniform(generator, (0.3, 0.7), per_picture)
    images = middle + direction * contrast * (coverage[:, None] - np.float32(0.5))
    images += NOISE * generator.standard_normal(images.shape, dtype=np.float32)
    painted: npt.NDArray[np.uint8] = np.rint(255 * images.clip(0, 1)).astype(np.uint8)
    return painted


def smooth_noise(shape: tuple[int, ...], length: FloatArray | float, generator: np.random.Generator) -> FloatArray:
    """Return random fields `(N, H, W)` of mean square one per picture, correlated over about `length` pixels."""
    size = shape[-1]
    spectrum = np.fft.rfft2(generator.standard_normal(shape, dtype=np.float32))
    radius = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size))  # cycles per pixel
    field = np.fft.irfft2(spectrum * np.exp(-((np.pi * radius * length) ** 2)), s=(size, size))
    scaled: FloatArray = (field / np.sqrt((field**2).mean(axis=(1, 2), keepdims=True))).astype(np.float32)
    return scaled


def uniform(generator: np.random.Generator, bounds: tuple[float, float], shape: tuple[int, ...]) -> FloatArray:
    """Return independent numbers between two bounds."""
    low, high = bounds
    drawn: FloatArray = low + (high - low) * generator.random(shape, dtype=np.float32)
    return drawn
