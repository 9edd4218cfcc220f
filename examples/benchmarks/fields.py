"""The cost of the receptive fields of all modules relative to one forward pass on meta tensors without values.

All of torchvision's models for classification, segmentation and video are measured, in CPU time. TorchLens is the peer
that answers for branched networks: it traces real values. Beside its cost stands how many sizes and strides of
convolutions are right, by the gradients of a copy of the model in which nothing cancels.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from operator import attrgetter
from statistics import median
from typing import Any

import torch
from benchmarks.method import Figure, Table
from torch import nn
from torch.overrides import TorchFunctionMode

import spatialprobe as sp

SHAPE = (1, 3, 224, 224)
VIDEO = (1, 3, 16, 224, 224)  # a Swin takes twice as many frames
WORST = 8  # models that are listed
BOUNDS = {
    "times a meta forward": "The highest are models of a few operators, whose meta forward takes two or three "
    "milliseconds: of their fields' time about two fifths follow the operators, a fifth collects the results, and a "
    "sixth saves and restores the model. A trace of real values, as TorchLens takes, costs ten times as much.",
    "seconds of one core": "Most of what the slowest take goes into the layouts of their tokens, for which steps of "
    "the pass are repeated.",
}
PEER_MODELS = ("vgg16", "resnet18", "densenet121")


def measure(quick: bool) -> Iterator[Table]:
    """Yield the tables of torchvision's architectures by kind, with the slowest, and of the peer on three of them."""
    torch.set_num_threads(1)
    rounds = 1 if quick else 3
    yield from summarize(
        {kind: [cost_of(name, rounds) for name in names[: 2 if quick else None]] for kind, names in kinds().items()}
    )
    yield peers(PEER_MODELS[1:2] if quick else PEER_MODELS)


def summarize(costs: Mapping[str, list[Cost]]) -> Iterator[Table]:
    """Yield two tables, of ratios and of seconds: quartiles over the models of each kind, and the slowest."""
    every = [cost for found in costs.values() for cost in found]
    for unit, part in (("times a meta forward", "ratio"), ("seconds of one core", "seconds")):
        figures = [
            Figure.of(f"median of {len(found)} models, {kind}", [getattr(cost, part) for cost in found], remark(found))
            for kind, found in ({"all": every} | dict(costs)).items()
        ]
        slowest = sorted(every, key=attrgetter(part), reverse=True)[:WORST]
        figures += [Figure.of(cost.name, [getattr(cost, part)], remark([cost])) for cost in slowest]
        title = "receptive fields of every module: quartiles over models, then the slowest"
        yield Table(title, unit, tuple(figures), bound=BOUNDS[unit], last="exact fields")


def kinds() -> dict[str, list[str]]:
    """Return the names of torchvision's models by what they are for."""
    from torchvision import models

    return {
        "classification": models.list_models(models),
        "segmentation": models.list_models(models.segmentation),
        "video": models.list_models(models.video),
    }


class Uninitialized(TorchFunctionMode):
    """Parameters keep the memory that they get: of fields only their shapes count, and drawing values takes long."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Return the parameter that a function of torch would fill, as it is; run any other function."""
        name, options = getattr(func, "__name__", ""), kwargs or {}
        filled = args[0] if args else options.get("tensor")
        if name.endswith("_") and not name.endswith("__") and isinstance(filled, nn.Parameter):
            return filled
        return func(*args, **options)


def built(name: str) -> nn.Module:
    """Return an architecture with random weights, in evaluation mode."""
    from torchvision.models import get_model

    plain: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        plain = {"aux_logits": False, "init_weights": False}
    elif name in kinds()["segmentation"]:
        plain = {"weights_backbone": None}
    return get_model(name, weights=None, **plain).eval()


@dataclass(frozen=True)
class Cost:
    """What the fields of one model cost."""

    name: str
    ratio: float  # to a forward on meta tensors, the median of some pairs
    seconds: float  # of CPU time, the median
    exact: int  # fields
    fields: int


def cost_of(name: str, rounds: int) -> Cost:
    """Return one model's time for fields, beside its forward pass with parameters and input on the meta device."""
    with Uninitialized():  # of memory that nothing has touched a copy costs nothing either
        model, shapes_only = built(name), built(name).to("meta")
    shape = SHAPE if name not in kinds()["video"] else (1, 3, 32, 224, 224) if name.startswith("swin") else VIDEO
    image = torch.empty(shape, device="meta")
    ratios, seconds = [], []
    for _ in range(rounds + 1):
        start = time.process_time()
        with torch.no_grad():
            shapes_only(image)
        between = time.process_time()
        fields = sp.receptive_fields(model, shape)
        seconds.append(time.process_time() - between)
        ratios.append(seconds[-1] / (between - start))
    every = [field for layer in fields for field in fields.calls(layer)]
    return Cost(name, median(ratios[1:]), median(seconds[1:]), sum(field.exact for field in every), len(every))


def remark(costs: Sequence[Cost]) -> str:
    """Return how many fields are exact."""
    return f"{sum(cost.exact for cost in costs):,} of {sum(cost.fields for cost in costs):,} exact"


def peers(names: tuple[str, ...]) -> Table:
    """Return TorchLens's time over ours: a trace of real values, and its table of modules."""
    if find_spec("torchlens") is None:
        return Table("other calculators", "times sp.receptive_fields", (), ("TorchLens",))
    figures = []
    for name in names:
        model = built(name)
        truth = by_gradients(model)
        ours, theirs = ours_of(model), torchlens_of(model)
        shares = [sum(found.get(layer) == value for layer, value in truth.items()) for found in (ours, theirs)]
        ratios = [elapsed(torchlens_of, model) / elapsed(ours_of, model) for _ in range(3)]
        remark = f"right: {shares[1]} of {len(truth)}; here {shares[0]} of {len(truth)}"
        figures.append(Figure(f"TorchLens, {name}", min(ratios), median(ratios), max(ratios), remark))
    return Table(
        "other calculators (least and most of three for quartiles)", "times sp.receptive_fields", tuple(figures)
    )


def elapsed(run: Callable[[nn.Module], object], model: nn.Module) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    run(model)
    return time.perf_counter() - start


Geometry = tuple[tuple[int, ...], tuple[float, ...]]  # size and stride, of rows and columns


def ours_of(model: nn.Module) -> dict[str, Geometry]:
    """Return each module's size and stride."""
    fields = sp.receptive_fields(model, SHAPE, layers=nn.Conv2d)
    return {layer: (field.size, field.stride) for layer, field in fields.items()}


def torchlens_of(model: nn.Module) -> dict[str, Geometry]:
    """Return each module's size and stride, from a trace of TorchLens."""
    import torchlens

    with torch.no_grad():
        frame = torchlens.trace(model, torch.rand(SHAPE)).receptive_fields(level="module").frame
    rows = zip(frame["name"], frame["size"], frame["jump"], strict=True)
    return {name: (tuple(size), tuple(map(int, jump))) for name, size, jump in rows if size and jump}


def by_gradients(model: nn.Module) -> Mapping[str, Geometry]:
    """Return the sizes and strides of all convolutions whose fields fit, by the gradients of two neighboring units.

    Weights are positive, nonlinearities and norms let everything pass, and maxima are means: no gradient cancels. The
    units are those in the middle; layers whose fields the border cuts are left out.
    """
    plain = copy.deepcopy(model).double()
    for module in plain.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
        setattr(module, "inplace", False)  # noqa: B010 (modules of any kind)
    swap(plain)
    found: dict[str, Geometry] = {}
    image = torch.rand(SHAPE, dtype=torch.float64).requires_grad_()
    records = sp.capture(plain, image, keep_graph=True)
    for layer, record in records.items():
        size = record.shape[2] // 2
        hulls = []
        for place in (size, size + 1):
            unit = record.tensor[0, :, min(place, record.shape[2] - 1), size].sum()
            moved = torch.autograd.grad(unit, image, retain_graph=True)[0][0].abs().sum(0)
            rows, columns = moved.sum(1).nonzero().flatten(), moved.sum(0).nonzero().flatten()
            hulls.append((int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1))
        (top, bottom, left, right), (below, last, _, _) = hulls
        if min(top, left) > 0 and max(last, right) < SHAPE[2]:
            found[layer] = ((bottom - top, right - left), (below - top, below - top))
    return found


def swap(model: nn.Module) -> None:
    """Replace norms and nonlinearities by identities, max-pools by average pools of the same window."""
    for name, child in model.named_children():
        if isinstance(child, (nn.ReLU, nn.ReLU6, nn.BatchNorm2d, nn.Dropout)):
            setattr(model, name, nn.Identity())
        elif isinstance(child, nn.MaxPool2d):
            pool = nn.AvgPool2d(child.kernel_size, child.stride, child.padding, child.ceil_mode)
            setattr(model, name, pool)
        else:
            swap(child)
