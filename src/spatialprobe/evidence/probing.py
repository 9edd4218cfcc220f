"""How much of the answer can be read off a layer by a linear classifier."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import torch
import torch.nn.functional as F
from torch import nn

from spatialprobe.activations.records import At
from spatialprobe.arguments import as_float, as_int
from spatialprobe.errors import ArgumentError, ForwardError, UnsupportedOutputError
from spatialprobe.evidence.layer import layout_for, outputs
from spatialprobe.evidence.result import Averaged
from spatialprobe.fields.images import check_images
from spatialprobe.model.evaluation import EvaluationMode
from spatialprobe.model.layout import Layout, LayoutChoice
from spatialprobe.model.select import select_one
from spatialprobe.model.settings import enable_gradients


@dataclass(frozen=True, eq=False)
class LinearProbe(Averaged):
    """How well a linear classifier on a layer does: `mean` is its accuracy, `values` 1 for each right answer.

    >>> import torch, spatialprobe as sp
    >>> bright = torch.arange(40) % 2
    >>> images = torch.rand(40, 1, 8, 8) / 2 + bright[:, None, None, None] / 2
    >>> conv = torch.nn.Conv2d(1, 4, 3)
    >>> sp.evidence.linear_probe(conv, images, bright, "", test_images=images, test_labels=bright)
    LinearProbe('', 4 features: accuracy 100.0% on 40 images, 100.0% on the 40 it learnt from)
    """

    layer: str
    features: int  # pooled activations that the classifier sees
    train_n: int  # images that it learnt from
    train_accuracy: float  # on those, 0 to 1
    unseen: int = 0  # test images of classes that it learnt nothing of, and so got wrong

    @property
    def accuracy(self) -> float:
        """The share of right answers on the test images, 0 to 1."""
        return self.mean

    def __repr__(self) -> str:
        return (
            f"LinearProbe({self.layer!r}, {self.features} features: accuracy {self.mean:.1%} on {self.n} images, "
            f"{self.train_accuracy:.1%} on the {self.train_n} it learnt from"
            + (f"; {self.unseen} of classes it learnt nothing of)" if self.unseen else ")")
        )


def linear_probe(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    layer: str | nn.Module,
    *,
    test_images: torch.Tensor,
    test_labels: torch.Tensor,
    at: At = "output",
    grid: int = 1,
    penalty: float = 1e-3,
    batch_size: int = 256,
    layout: LayoutChoice = "auto",
) -> LinearProbe:
    """The accuracy, on test images, of a linear classifier on a layer's pooled activations [Alain and Bengio 2016].

    Each channel is averaged over its whole map, or over the cells of a grid, and standardised; a multinomial logistic
    regression, fitted to the end, does the rest, so that there is no chance in the result. The model runs in evaluation
    mode, no further than the layer, and is restored afterwards.

    Layers differ in the number of features, which alone makes a difference: compare with the same layer of an untrained
    network.

    Args:
        model: any module that takes images.
        images: (N, C, *spatial), to learn from.
        labels: int64 (N,), class numbers from 0.
        layer: its name, or the module itself; of several runs the first counts. Outputs (N, C) are taken as they are.
        test_images: (M, C, *spatial), to be judged on.
        test_labels: int64 (M,). Of a class that `labels` lacks no image can be named right; `unseen` counts them.
        at: "output" or "post_activation", as for `Probe`.
        grid: cells along each axis of the map, at most its units.
        penalty: on the squared weights, half of it times their sum is added to the mean cross-entropy.
        batch_size: images that run at once.
        layout: of the layer's output: "channels_first", (N, C, *units); "channels_last", (N, *units, C); or "auto", as
            `receptive_fields` finds it.

    Raises:
        ArgumentError: images, labels or another argument cannot be used.
        LayerNotFoundError: no such layer; the message names the nearest.
        UnsupportedOutputError: the layer hands on neither (N, C) nor (N, C, *units) over the images' one to three axes.
        ForwardError: the layer hands on values that are infinite or no number.

    >>> import torch, spatialprobe as sp
    >>> from torch import nn
    >>> bright = torch.arange(200) % 2
    >>> images = torch.rand(200, 3, 8, 8) / 2 + bright[:, None, None, None] / 2
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    >>> halves = dict(test_images=images[100:], test_labels=bright[100:])
    >>> sp.evidence.linear_probe(model, images[:100], bright[:100], "0", **halves).accuracy
    1.0
    """
    chosen = select_one(model, layer)
    name = chosen.name
    for some, truth, kind in ((images, labels, ""), (test_images, test_labels, "test_")):
        check_images(some, f"{kind}images")
        _check_labels(some, truth, f"{kind}labels")
    grid = as_int(grid, "grid", least=1)
    batch_size = as_int(batch_size, "batch_size", least=1)
    penalty = as_float(penalty, "penalty")
    if not (penalty > 0 and isfinite(penalty)):
        raise ArgumentError(f"penalty must be above 0, and finite, not {penalty}.")
    known, answers = torch.unique(labels.cpu(), return_inverse=True)
    if len(known) < 2:
        raise ArgumentError("All labels are alike: telling classes apart takes two.")
    with EvaluationMode(model) as mode:
        found = layout_for(model, images, chosen, layout)
        learnt, judged = (_features(mode, some, name, at, found, grid, batch_size) for some in (images, test_images))
    center, scale = learnt.mean(dim=0), learnt.std(dim=0, correction=0)
    scale[scale < 1e-12] = 1  # a feature that never varies says nothing
    learnt, judged = ((some - center) / scale for some in (learnt, judged))
    weights, bias = _fitted(learnt, answers, len(known), penalty)
    right, right_learnt = (
        (known[(some @ weights + bias).argmax(dim=1)] == truth.cpu()).double()
        for some, truth in ((judged, test_labels), (learnt, labels))
    )
    unseen = int((~torch.isin(test_labels.cpu(), known)).sum())
    return LinearProbe(right.numpy(), name, learnt.shape[1], len(learnt), float(right_learnt.mean()), unseen)


def _features(
    mode: EvaluationMode,
    images: torch.Tensor,
    layer: str,
    at: At,
    layout: Layout | None,
    grid: int,
    batch_size: int,
) -> torch.Tensor:
    """The pooled activations, float64 (N, channels * cells), on the CPU."""
    parts = (outputs(mode, some, layer, at=at, layout=layout) for some in torch.split(images, batch_size))
    made = torch.cat([_pooled(part, layer, grid, images.ndim).cpu() for part in parts])
    if not made.isfinite().all():
        raise ForwardError(f"Layer {layer!r} hands on values that are infinite or no number: nothing can be fitted.")
    return made


def _pooled(activation: torch.Tensor, layer: str, grid: int, image_axes: int) -> torch.Tensor:
    """From (N, C, *units), with as many axes as the images, or (N, C)."""
    if activation.ndim == 2:
        return activation.double()
    pools = {3: F.adaptive_avg_pool1d, 4: F.adaptive_avg_pool2d, 5: F.adaptive_avg_pool3d}
    if activation.ndim not in pools or activation.ndim != image_axes:
        raise UnsupportedOutputError(
            f"Layer {layer!r} handed on {tuple(activation.shape)} for images of {image_axes} axes: a linear probe "
            "reads (N, C), or maps (N, C, *units) over the images' axes. Of tokens (N, tokens, channels) nobody knows "
            "which axis is which: take a layer that comes before or after them."
        )
    if grid > min(activation.shape[2:]):
        raise ArgumentError(
            f"grid={grid} asks for more cells than the maps of layer {layer!r} have units, "
            f"{' x '.join(map(str, activation.shape[2:]))}: take at most {min(activation.shape[2:])}."
        )
    return pools[activation.ndim](activation.double(), grid).flatten(1)


def _fitted(
    features: torch.Tensor, labels: torch.Tensor, classes: int, penalty: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weights (features, classes) and bias (classes,) of least penalized cross-entropy, a convex problem.

    Solved along the principal axes of the features, each divided by the root of about how steep the problem is along
    it: channels are so alike that along their own axes it takes a hundred times as many steps.
    """
    with enable_gradients():
        return _solved(features.clone(), labels.clone(), classes, penalty)  # tensors made for inference have no graph


def _solved(
    features: torch.Tensor, labels: torch.Tensor, classes: int, penalty: float
) -> tuple[torch.Tensor, torch.Tensor]:
    variances, axes = torch.linalg.eigh(features.T @ features / len(features))
    basis = axes / (variances.clamp(min=0) / classes + penalty).sqrt()
    turned = features @ basis
    weights = torch.zeros(features.shape[1], classes, dtype=torch.float64, requires_grad=True, device="cpu")
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True, device="cpu")
    optimizer = torch.optim.LBFGS(
        [weights, bias], max_iter=2000, tolerance_grad=1e-4, history_size=20, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        value: torch.Tensor = (
            F.cross_entropy(turned @ weights + bias, labels) + penalty / 2 * (basis @ weights).square().sum()
        )
        weights.grad, bias.grad = torch.autograd.grad(value, [weights, bias])
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    solved = basis @ weights.detach()
    return solved, bias.detach()


def _check_labels(images: torch.Tensor, labels: torch.Tensor, called: str) -> None:
    if not isinstance(labels, torch.Tensor) or labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        found = f"{labels.dtype} {tuple(labels.shape)}" if isinstance(labels, torch.Tensor) else type(labels).__name__
        raise ArgumentError(
            f"{called} must be int64 ({len(images)},), one for each image, not {found}: numbers of "
            "classes, such as torch.as_tensor(labels).long()."
        )
    if labels.min() < 0:
        raise ArgumentError(f"{called} are class numbers from 0: one is negative.")
