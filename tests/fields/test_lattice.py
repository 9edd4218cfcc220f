"""The closed form of repeating intervals against plain lists, evaluated far beyond both ends."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from spatialprobe.fields import taps
from spatialprobe.fields.lattice import Lattice, aligned, merge, union
from spatialprobe.fields.taps import NONE

FAR = np.arange(-40, 60)


@st.composite
def lattices(draw, dims=1):
    """Small periods, any shift."""
    extents = [draw(st.integers(1, 4)) for _ in range(dims)]
    count = int(np.prod(extents))
    lo = np.array(draw(st.lists(st.integers(-5, 5), min_size=count, max_size=count))).reshape(extents)
    size = np.array(draw(st.lists(st.integers(1, 6), min_size=count, max_size=count))).reshape(extents)
    return Lattice(lo, lo + size, tuple(draw(st.integers(-4, 8)) for _ in range(dims)))


def at(lattice, index):
    """Lower and upper bounds of a lattice of one dimension at these indices, by its definition."""
    period = lattice.lo.shape[0]
    moved = {i: i // period * lattice.shift[0] for i in index}
    return [(int(lattice.lo[i % period]) + moved[i], int(lattice.hi[i % period]) + moved[i]) for i in index]


def hull(pairs):
    return min(lo for lo, _ in pairs), max(hi for _, hi in pairs)


TAPS = st.one_of(
    st.builds(taps.window, st.integers(1, 4), st.integers(1, 4), st.integers(0, 3), st.integers(1, 3)),
    st.builds(taps.transposed_window, st.integers(1, 5), st.integers(1, 4), st.integers(0, 3), st.integers(1, 3)),
    st.builds(taps.adaptive, st.integers(1, 12), st.integers(1, 12)),
    st.builds(taps.affine, st.integers(-5, 5), st.sampled_from([-2, -1, 1, 2, 3])),
    st.builds(
        lambda scale, centered: taps.nearest(scale, centered=centered),
        st.fractions(Fraction(1, 5), Fraction(4), max_denominator=7),
        st.booleans(),
    ),
    st.builds(
        lambda scale, cubic, align: taps.interpolated(scale, cubic=cubic, align_corners=align),
        st.fractions(Fraction(1, 5), Fraction(4), max_denominator=7),
        st.booleans(),
        st.booleans(),
    ),
)


@given(lattices(), TAPS)
def test_taps(lattice, chosen):
    """What a window, a transposed one or a resampling makes of a lattice is the union over its taps, everywhere."""
    made = lattice.tapped(0, chosen)
    expected = [
        hull(at(lattice, [int(tap) for tap in row if tap != NONE])) if any(row != NONE) else None
        for row in chosen.positions(FAR)
    ]
    for index, truth in zip(FAR, expected, strict=True):
        lo, hi = made.at(0, np.array([index]))
        assert (truth is None and lo[0] > hi[0]) or (int(lo[0]), int(hi[0])) == truth


@given(lattices(), lattices())
def test_union(one, other):
    """A union is one element by element where spacings agree, and contains both where they do not."""
    size = 12
    made = union([one, other], [size])
    for index, (a, b) in enumerate(zip(at(one, range(size)), at(other, range(size)), strict=True)):
        lo, hi = made.at(0, np.array([index]))
        truth = hull([a, b])
        assert int(lo[0]) <= truth[0]
        assert truth[1] <= int(hi[0])
        if one.shift[0] * other.lo.shape[0] == other.shift[0] * one.lo.shape[0]:
            assert (int(lo[0]), int(hi[0])) == truth


@given(lattices(), st.integers(0, 4), st.lists(st.integers(-3, 6), min_size=1, max_size=3))
def test_gridded(lattice, start, steps):
    """Windows, and windows of windows, hold what their positions hold, also beyond every end."""
    made = lattice.gridded(0, start, steps, [5] * len(steps))
    for index in itertools.product((-7, 0, 1, 4, 23), repeat=len(steps)):
        far = made
        for dim, one in enumerate(index):
            lo, hi = far.at(dim, np.array([one]))
            far = Lattice(lo, hi, (*far.shift[:dim], 0, *far.shift[dim + 1 :]))
        place = start + sum(step * one for step, one in zip(steps, index, strict=True))
        assert (int(far.lo.flat[0]), int(far.hi.flat[0])) == at(lattice, [place])[0]


@given(lattices(), st.integers(1, 5), st.integers(-4, 6), st.lists(st.integers(0, 9), min_size=1, max_size=4))
def test_regular_indices_go_on(lattice, advance, count, block):
    """Blocks of indices, each further on by as much, are a lattice that holds them all and goes on like them."""
    assume(lattice.shift[0])
    advance, count = advance * 10, abs(count) + 2
    index = np.concatenate([np.array(block) + advance * turn for turn in range(count)])
    listed = lattice.listed(0, index)
    assert at(listed, range(len(index))) == at(lattice, index.tolist())
    further = np.array(block) + advance * count
    assert at(listed, range(len(index), len(index) + len(block))) == at(lattice, further.tolist())


@given(st.integers(1, 4), st.integers(5, 20), st.integers(2, 6))
def test_measured_looks_past_seams(stride, units, copies):
    """Copies have the spacing of the first; two halves that changed places have that of the longer."""
    lo = np.arange(units) * stride
    repeated = Lattice(np.tile(lo, copies), np.tile(lo, copies) + 3, (0,)).measured(0)
    assert at(repeated, FAR.tolist()) == [(i * stride, i * stride + 3) for i in FAR.tolist()]
    lo = np.arange(40) * stride
    rolled = np.concatenate([lo[units:], lo[:units]])
    turned = Lattice(rolled, rolled + 3, (0,)).measured(0)
    moved = units if units <= 20 else units - 40
    assert at(turned, FAR.tolist()) == [((i + moved) * stride, (i + moved) * stride + 3) for i in FAR.tolist()]


@given(lattices(), st.integers(1, 5), st.integers(1, 5))
def test_split_and_merge(lattice, outer, inner):
    """A dimension split in two holds the same intervals in row-major order, and merging gives it back."""
    split = lattice.split(0, outer, inner)
    rows, columns = np.arange(outer), np.arange(inner)
    expected = np.array(at(lattice, range(outer * inner))).reshape(outer, inner, 2)
    lo, hi = split.at(0, rows)
    whole = Lattice(lo, hi, (0, split.shift[1]))
    lo, hi = whole.at(1, columns)
    assert np.array_equal(np.broadcast_to(lo, (outer, inner)), expected[..., 0])
    assert np.array_equal(np.broadcast_to(hi, (outer, inner)), expected[..., 1])
    merged = split.merged(0, outer, inner)
    assert at(merged, range(outer * inner)) == at(lattice, range(outer * inner))


@given(
    st.integers(-5, 5),
    st.integers(1, 4),
    st.tuples(st.integers(-3, 8), st.integers(-3, 8)),
    st.integers(2, 9),
    st.integers(2, 9),
)
def test_even_spacing_outlives_a_merge(lo, size, shift, outer, inner):
    """Two dimensions that are merged and split again, as a linear layer on maps does, keep their spacing."""
    lattice = Lattice(np.array([[lo]]), np.array([[lo + size]]), shift)
    again = lattice.merged(0, outer, inner).split(0, outer, inner)
    assert (again.lo.tolist(), again.hi.tolist(), again.shift) == ([[lo]], [[lo + size]], shift)


@given(lattices())
def test_simplified_is_the_same(lattice):
    """The shortest period stands for the same intervals, and no shorter one does."""
    simple = lattice.simplified(0)
    assert at(simple, FAR.tolist()) == at(lattice, FAR.tolist())
    assert simple.lo.shape[0] <= lattice.lo.shape[0]


@given(lattices(), st.integers(0, 3), st.integers(0, 3))
def test_measured_looks_past_borders(lattice, before, after):
    """A list with other values near its ends gives the lattice of its middle."""
    assume(lattice.shift[0] != 0)
    pairs = at(lattice, range(40))
    pairs[:before] = [(99, 100)] * before
    pairs[40 - after :] = [(-99, 100)] * after
    listed = Lattice(np.array([lo for lo, _ in pairs]), np.array([hi for _, hi in pairs]), (0,))
    assert at(listed.measured(0), FAR.tolist()) == at(lattice, FAR.tolist())


def test_aligned_keeps_what_agrees():
    """Two and three entries with one spacing become six each."""
    two = Lattice(np.array([0, 1]), np.array([1, 3]), (4,))
    three = Lattice(np.array([0, 1, 5]), np.array([2, 3, 6]), (6,))
    assert [one.lo.shape for one in aligned([two, three], 0, 12)] == [(6,), (6,)]
    assert [at(one, FAR.tolist()) for one in aligned([two, three], 0, 12)] == [
        at(two, FAR.tolist()),
        at(three, FAR.tolist()),
    ]


def test_long_unions_stay_apart():
    """Scores of queries by keys, listed by both, stay two lists; over all keys they are one, of the same bounds."""
    rng = np.random.default_rng(0)
    by_row, by_column = (rng.integers(0, 99, shape) for shape in ((300, 1), (1, 300)))
    parts = merge([Lattice(lo, lo + 2, (0, 0)) for lo in (by_row, by_column)], (300, 300))
    assert len(parts) == 2
    whole = union(parts, (300, 300))
    assert (whole.lo == np.minimum(by_row, by_column)).all()
    assert (whole.hi == np.maximum(by_row, by_column) + 2).all()
    (coarse,) = merge([part.coarse(1, 300) for part in parts], (300, 1))
    expected = whole.coarse(1, 300)
    assert (coarse.lo == expected.lo).all()
    assert (coarse.hi == expected.hi).all()
