"""Hold the rules of operators against torch's own database of operators and samples, by perturbation in float64.

    python tests/fields/operator_database.py [--operators NAME ...] [--samples 6] [--largest 30] [--share 0/1]

Each sample of each operator is made a model: one of its tensors is the input, and all others are constants that the
model holds. Then each element of the input is changed, again and again from other values, and what changes in the
outputs is compared with their boxes. A box may never be too small; one that is said to be exact may not be too wide.
What fails is printed, with totals; the exit status tells whether anything did. The whole database takes some twenty
minutes of one core; `--share 1/4` is every fourth operator, from the second.

The database is private to torch (`torch.testing._internal.common_methods_invocations`), and needs `expecttest`. Its
import changes settings of torch for the rest of the process.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

sys.path.insert(0, str(Path(__file__).parents[1]))  # as pytest finds what tests share

import spatialprobe as sp
from fields.perturbation import hulls
from fields.unheld_operators import UNHELD

ROUNDS = 3  # with every input
MOST_ROUNDS = 1000  # where a box that is said to be exact has not been filled
MOST_RUNS = 2000  # in all rounds together, where that leaves enough
STEPS = (0.37, -0.29, 3.0, -3.0, 1e-4, 40.0, -40.0, 1e5, -1e5)  # by which an element is changed
VALUES = (0.0, 1.0, -1.0, float("inf"), float("nan"))  # that it becomes
SHOWN = 3  # faults of one operator
NOISE = 1e-9  # what rounding may change, in float64, relative to the largest value


@dataclass(frozen=True)
class Case:
    """A sample of an operator, one of whose tensors is the input."""

    operator: str  # "nn.functional.conv2d"
    function: object
    number: int  # of the sample
    leaf: int  # of the tensors among its arguments
    leaves: tuple  # all arguments
    form: object  # how arguments are arranged

    @property
    def input(self):
        return self.leaves[self.leaf]

    def __str__(self):
        return f"{self.operator} sample {self.number} tensor {self.leaf} {tuple(self.input.shape)}"


@dataclass(frozen=True)
class Fault:
    """What is wrong with one output of one case."""

    case: Case
    kind: str  # "too small", "too wide" or "error"
    text: str


class Sampled(nn.Module):
    """A case as a model: an image (1, 1, *shape) becomes one of the sample's tensors; outputs are (1, 1, *shape)."""

    def __init__(self, case):
        super().__init__()
        self.case = case
        for place, leaf in enumerate(case.leaves):
            if isinstance(leaf, torch.Tensor):
                self.register_buffer(f"leaf{place}", leaf.detach())
        self.outputs = nn.ModuleList(nn.Identity() for _ in self.results(case.input))

    def results(self, x):
        """The tensors that the operator returns, for an input in the shape that it takes."""
        case = self.case
        leaves = [
            getattr(self, f"leaf{place}").clone() if isinstance(leaf, torch.Tensor) else leaf
            for place, leaf in enumerate(case.leaves)
        ]
        leaves[case.leaf] = x
        args, kwargs = tree_unflatten(leaves, case.form)
        torch.manual_seed(0)
        return [one for one in tree_leaves(case.function(*args, **kwargs)) if isinstance(one, torch.Tensor)]

    def forward(self, image):
        x = image[0, 0] if self.case.input.ndim else image[0, 0, 0]
        for output, result in zip(self.outputs, self.results(x), strict=True):
            output(result[None, None])
        return image


def operators(names=()):
    """The operators of the database, or those of these names; `name.variant` where an operator has variants."""
    from torch.testing._internal.common_methods_invocations import op_db

    found = {}
    for one in op_db:
        name = f"{one.name}.{one.variant_test_name}" if one.variant_test_name else one.name
        if not names or name in names or one.name in names:
            found[name] = one
    return found


def cases(name, operator, most, largest) -> Iterator[Case]:
    """Cases of an operator: of its samples at float64 so many, evenly spread, for each of their tensors."""
    torch.manual_seed(0)
    samples = list(operator.sample_inputs("cpu", torch.float64, requires_grad=False))
    numbers = sorted({int(place) for place in np.linspace(0, len(samples) - 1, min(most, len(samples)))})
    for number in numbers:
        sample = samples[number]
        leaves, form = tree_flatten(((sample.input, *sample.args), sample.kwargs))
        for place, leaf in enumerate(leaves):
            if is_input(leaf, largest):
                yield Case(name, operator.op, number, place, tuple(leaves), form)


def is_input(leaf, largest):
    """Whether an argument may be what is followed."""
    dense = isinstance(leaf, torch.Tensor) and leaf.dtype == torch.float64 and leaf.layout == torch.strided
    return dense and 0 < leaf.numel() <= largest


def faults(case: Case) -> list[Fault]:
    """What is wrong with the fields of a case."""
    model = Sampled(case)
    if not any(one.numel() for one in model.results(case.input)):
        return []
    x = case.input.detach()
    shape = (1, 1, *(x.shape or (1,)))
    try:
        fields = sp.receptive_fields(model, torch.empty(shape, dtype=x.dtype, device="meta"), layers="outputs.*")
    except Exception as error:
        return [Fault(case, "error", f"{type(error).__name__}: {str(error)[:600]}")]
    found = [fields[f"outputs.{place}"] for place in range(len(model.outputs))]
    boxes = [field.boxes() for field in found]
    truth = seen(model, x, found, boxes)
    made = []
    for place, (field, box, changed) in enumerate(zip(found, boxes, truth, strict=True)):
        kind = compared(box, changed, exact=field.exact)
        if kind:
            made.append(Fault(case, kind[0], f"output {place}: {kind[1]} {', '.join(field.unknown)}"))
    return made


def compared(found, changed, *, exact):
    """How boxes (*units, 2 * axes) are wrong, and for which unit; None if they are right."""
    axes = found.shape[-1] // 2
    if found.shape[:-1] != changed.shape[: changed.ndim - axes] or not found.size:
        return None  # the shape depends on values, or on the device: results that nobody asked for are empty on the CPU
    truth = hulls(changed, axes)
    inside = ((found[..., :axes] <= truth[..., :axes]) & (truth[..., axes:] <= found[..., axes:])).all(-1)
    small = ~inside & truth.any(-1)
    wide = (found != truth).any(-1) & exact
    for kind, wrong in (("too small", small), ("too wide", wide)):
        if wrong.any():
            unit = tuple(map(int, np.argwhere(wrong)[0]))
            return kind, f"unit {unit} of {found.shape[:-1]} sees {truth[unit].tolist()}, box {found[unit].tolist()}"
    return None


def seen(model, x, fields, boxes):
    """For each output bool (*units, *pixels): which elements change when one of the input does."""
    changed = None
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for turn in range(min(MOST_ROUNDS, max(16, MOST_RUNS // max(1, x.numel())))):
            changed = look(model, based(model.case, turn), turn, changed)
            if turn + 1 >= ROUNDS and changed is not None and filled(changed, fields, boxes):
                break
    pixels = tuple(x.shape or (1,))
    return changed or [np.zeros((*box.shape[:-1], *pixels), bool) for box in boxes]


def filled(changed, fields, boxes):
    """Whether more rounds would show nothing new."""
    return all(
        not field.exact or compared(box, one, exact=True) is None
        for one, field, box in zip(changed, fields, boxes, strict=True)
    )


def based(case, turn):
    """Other values for an input: as they are, in another order, moved about, or those of another argument."""
    x, generator = case.input.detach(), torch.Generator().manual_seed(turn)
    if turn < 2:
        return x.clone()
    noise = torch.randn(x.shape, dtype=x.dtype, generator=generator)
    if turn % 4 == 2:
        return x.reshape(-1)[torch.randperm(x.numel(), generator=generator)].reshape(x.shape)
    if turn % 4 == 3:
        others = [one for place, one in enumerate(case.leaves) if place != case.leaf and is_alike(one, x)]
        others += [torch.zeros_like(x), torch.ones_like(x)]
        return cut(others[turn // 4 % len(others)], x.shape, turn // 4 // len(others))
    return x + 2 * noise if turn % 4 else 0.2 * noise


def is_alike(leaf, x):
    """Whether numbers of an argument may be taken for those of the input."""
    return isinstance(leaf, torch.Tensor) and leaf.layout == torch.strided and leaf.dtype == x.dtype and leaf.numel()


def cut(other, shape, turn):
    """A tensor's numbers in another shape, as broadcasting holds them against each other where it can."""
    while other.ndim > len(shape):
        turn, place = divmod(turn, other.shape[0])
        other = other[place]
    for dim in range(-other.ndim, 0):
        if shape[dim] == 1 < other.shape[dim]:
            turn, place = divmod(turn, other.shape[dim])
            other = other.narrow(dim, place, 1)
    try:
        return other.detach().expand(shape).clone()
    except RuntimeError:  # shapes that have nothing to do with each other
        return other.detach().reshape(-1)[:1].expand(shape).clone()


def look(model, base, turn, changed):
    """Note what changes from here when each element does."""
    step, value = STEPS[turn % len(STEPS)], VALUES[turn // 2 % len(VALUES)] if turn % 2 and turn > 2 else None
    try:
        before = [values_of(one) for one in model.results(base.clone())]
    except Exception:  # outside of what the operator takes
        return changed
    if changed is None:
        changed = [np.zeros((*one.shape, *(base.shape or (1,))), bool) for one in before]
    if any(one.shape[: old.ndim] != old.shape for one, old in zip(changed, before, strict=True)):
        return changed  # other values make other shapes
    for pixel in product(*map(range, base.shape or (1,))):
        moved = base.clone()
        place = pixel if base.shape else ()
        moved[place] = moved[place] + step if value is None else value
        try:
            after = [values_of(one) for one in model.results(moved)]
        except Exception:
            continue
        for one, old, new in zip(changed, before, after, strict=True):
            one[(..., *pixel)] |= differs(old, new) if old.shape == new.shape else True
    return changed


def values_of(result):
    """Values as numpy has them."""
    if result.dtype in (torch.bfloat16, torch.complex32):
        result = result.to(torch.complex64 if result.is_complex() else torch.float32)
    return result.detach().resolve_conj().resolve_neg().numpy().copy()


def differs(old, new):
    if old.dtype.kind not in "fc":
        return old != new
    with np.errstate(all="ignore"):
        size = np.where(np.isfinite(old), abs(old), 0)
        far = abs(new - old) > NOISE * (1e-3 + size + size.max(initial=0) * 1e-3)
        both_nan = np.isnan(old) & np.isnan(new)
        same = (old == new) | both_nan
        return ~same & (far | ~np.isfinite(new - old))


@dataclass
class Totals:
    """How many operators and cases were held, and what came of them."""

    operators: int = 0
    cases: int = 0
    unheld: int = 0


def held(name, operator, most, largest, totals) -> Iterator[Fault]:
    """Hold one operator, unless the table says why not."""
    if name in UNHELD or operator.name in UNHELD:
        totals.unheld += 1
        return
    counted = False
    for case in cases(name, operator, most, largest):
        if not counted:
            totals.operators, counted = totals.operators + 1, True
        totals.cases += 1
        yield from faults(case)


def hold_all(chosen, most, largest):
    """Hold these operators, and print what fails; how many faults of each kind, and in which operators."""
    totals, kinds, wrong = Totals(), Counter(), Counter()
    for name, operator in chosen.items():
        try:
            for fault in held(name, operator, most, largest, totals):
                kinds[fault.kind] += 1
                wrong[name] += 1
                if wrong[name] <= SHOWN:
                    print(f"{fault.kind}: {fault.case}: {fault.text}", flush=True)
        except Exception as error:  # of the database: a sample that this machine or this release cannot make
            print(f"not held: {name}: {type(error).__name__}: {str(error)[:300]}", flush=True)
            kinds["not held"] += 1
            wrong[name] += 1
    print(f"{totals.operators} operators held in {totals.cases} cases, {totals.unheld} left out with a reason")
    print(f"faults: {dict(kinds)} in {len(wrong)} operators: {dict(wrong)}")
    return kinds


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--operators", nargs="*", default=(), help="names; all if left out")
    parser.add_argument("--samples", type=int, default=6, help="of each operator at most")
    parser.add_argument("--largest", type=int, default=30, help="elements of an input at most")
    parser.add_argument("--share", default="0/1", help="K/N: every N-th operator, from the K-th")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    part, parts = map(int, asked.share.split("/"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = list(operators(asked.operators).items())[part::parts]
        chosen = {name: one for name, one in names if one.supports_dtype(torch.float64, "cpu")}
        return 1 if hold_all(chosen, asked.samples, asked.largest) else 0


if __name__ == "__main__":
    raise SystemExit(main())
