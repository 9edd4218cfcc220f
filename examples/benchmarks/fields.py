"""The cost of the receptive fields of all modules relative to one forward pass on meta tensors without values.

TorchLens is the peer that answers for branched networks: it traces real values. Beside its cost stands how many sizes
and strides of convolutions are right, by the gradients of a copy of the model in which nothing cancels.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from statistics import median

import torch
from benchmarks.method import Figure, Table, paired
from torch import nn

import spatialprobe as sp

SHAPE = (1, 3, 224, 224)
MODELS = (
    "alexnet",
    "vgg16",
    "resnet18",
    "resnet50",
    "densenet121",
    "googlenet",
    "mobilenet_v2",
    "efficientnet_b0",
    "shufflenet_v2_x1_0",
    "regnet_y_400mf",
    "convnext_tiny",
    "vit_b_16",
)
PEER_MODELS = ("vgg16", "resnet18", "densenet121")


def measure(quick: bool) -> Iterator[Table]:
    """Yield the tables of twelve architectures of torchvision, then of the peer on three of them."""
    torch.set_num_threads(1)
    names, rounds = (MODELS[1:3], 5) if quick else (MODELS, 15)
    figures = [beside_meta_forward(name, rounds) for name in names]
    low, middle, high = (median(part) for part in zip(*((f.low, f.median, f.high) for f in figures), strict=True))
    together = Figure("median of these", low, middle, high)
    yield Table(f"receptive fields of every module, input {SHAPE}", "times a meta forward", (*figures, together))
    yield peers(PEER_MODELS[1:2] if quick else PEER_MODELS)


def built(name: str) -> nn.Module:
    """Return an architecture with random weights, in evaluation mode."""
    from torchvision.models import get_model

    plain = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    return get_model(name, weights=None, **plain).eval()


def beside_meta_forward(name: str, rounds: int) -> Figure:
    """Return one model's time for fields over its forward pass with parameters and input on the meta device."""
    model = built(name)
    shapes_only, image = copy.deepcopy(model).to("meta"), torch.empty(SHAPE, device="meta")

    @torch.no_grad()
    def forward() -> None:
        shapes_only(image)

    (figure,) = paired(forward, {name: lambda: sp.receptive_fields(model, SHAPE)}, rounds)
    fields = sp.receptive_fields(model, SHAPE)
    every = [field for layer in fields for field in fields.calls(layer)]
    exact = sum(field.exact for field in every)
    return Figure(name, figure.low, figure.median, figure.high, f"{exact} of {len(every)} exact")


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
