"""The accuracy of a linear classifier on the activations of a layer."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import torch
import torch.nn.functional as F
from torch import nn

from spatialprobe.activations.records import At
from spatialprobe.arguments import as_float, as_int
from spatialprobe.errors import ArgumentError, ForwardError, UnsupportedOutputError
from spatialprobe.evidence.layer import LayerLayout, compute_outputs
from spatialprobe.evidence.result import Averaged
from spatialprobe.fields.images import check_images
from spatialprobe.model.evaluation import EvaluationMode
from spatialprobe.model.forward import Forward, called_by
from spatialprobe.model.layout import LayoutChoice
from spatialprobe.model.select import select_one
from spatialprobe.model.settings import enable_gradients


@dataclass(frozen=True, eq=False)
class LinearProbe(Averaged):
    """The accuracy of a linear classifier on a layer: `values` are 1 for each right answer, `mean` is their share.

    >>> import torch, spatialprobe as sp
    >>> bright = torch.arange(40) % 2
    >>> images = torch.rand(40, 1, 8, 8) / 2 + bright[:, None, None, None] / 2
    >>> conv = torch.nn.Conv2d(1, 4, 3)
    >>> sp.evidence.linear_probe(conv, images, bright, "", test_images=images, test_labels=bright)
    LinearProbe('', 4 features: accuracy 100.0% on 40 images, 100.0% on the 40 it was trained on)
    """

    layer: str
    features: int  # pooled activations that the classifier sees
    train_n: int  # images that it was trained on
    train_accuracy: float  # on those, 0 to 1
    unseen: int = 0  # test images of classes without training images, which it therefore got wrong

    @property
    def accuracy(self) -> float:
        """The share of right answers on the test images, 0 to 1."""
        return self.mean

    def __repr__(self) -> str:
        return (
            f"LinearProbe({self.layer!r}, {self.features} features: accuracy {self.mean:.1%} on {self.n} images, "
            f"{self.train_accuracy:.1%} on the {self.train_n} it was trained on"
            + (f"; {self.unseen} of classes without training images)" if self.unseen else ")")
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
    forward: Forward | None = None,
) -> LinearProbe:
    """Return the test accuracy of a linear classifier on a layer's pooled activations [Alain and Bengio 2016].

    Each channel is averaged over its whole map, or over the cells of a grid, and standardized. A multinomial logistic
    regression is then fitted to convergence, so that the result is deterministic. The model runs in evaluation mode, no
    further than the layer, and is restored afterwards.

    Layers differ in the number of features, which alone changes the accuracy: compare with the same layer of an
    untrained network.

    Args:
        model: any module that takes images.
        images: (N, C, *spatial), the training images.
        labels: int64 (N,), class indices from 0.
        layer: its name, or the module itself; of several runs the first counts. Outputs (N, C) are taken as they are.
        test_images: (M, C, *spatial).
        test_labels: int64 (M,). Images of a class that `labels` lacks are always wrong; `unseen` counts them.
        at: "output" or "post_activation", as for `Probe`.
        grid: cells along each axis of the map, at most its units.
        penalty: the L2 penalty: half of it times the sum of squared weights is added to the mean cross-entropy.
        batch_size: images that run at once.
        layout: of the layer's output: "channels_first", (N, C, *units); "channels_last", (N, *units, C);
            `sp.Tokens(height, width, leading)`, a grid of tokens; or "auto", as `receptive_fields` finds it.
        forward: a function `(model, images) -> output` that calls the model, with further inputs, on a list, or by
            another method; by default the model is called on the images.

    Raises:
        ArgumentError: images, labels or another argument cannot be used.
        LayerNotFoundError: no such layer; the message names the nearest.
        UnsupportedOutputError: the layer's output is neither (N, C) nor (N, C, *units) over the images' one to three
            axes.
        ForwardError: the layer's output holds values that are infinite or NaN.

    >>> import torch, spatialprobe as sp
    >>> from torch import nn
    >>> bright = torch.arange(200) % 2
    >>> images = torch.rand(200, 3, 8, 8) / 2 + bright[:, None, None, None] / 2
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    >>> halves = dict(test_images=images[100:], test_labels=bright[100:])
    >>> sp.evidence.linear_probe(model, images[:100], bright[:100], "0", **halves).accuracy
    1.0
    """
    model = called_by(model, forward)
    chosen = select_one(model, layer)
    name = chosen.name
    for some, truth, kind in ((images, labels, ""), (test_images, test_labels, "test_")):
        check_images(some, f"{kind}images")
        _check_labels(some, truth, f"{kind}labels")
    grid = as_int(grid, "grid", least=1)
    batch_size = as_int(batch_size, "batch_size", least=1)
    penalty = as_float(penalty, "penalty")
    if not (penalty > 0 and isfinite(penalty)):
        raise ArgumentError(f"penalty must be above 0 and finite, not {penalty}.")
    known, answers = torch.unique(labels.cpu(), return_inverse=True)
    if len(known) < 2:
        raise ArgumentError("All labels are the same. Pass images of at least two classes.")
    with EvaluationMode(model) as mode:
        found = LayerLayout(model, chosen, layout)
        train, test = (
            _compute_features(mode, some, name, at, found, grid, batch_size) for some in (images, test_images)
        )
    center, scale = train.mean(dim=0), train.std(dim=0, correction=0)
    scale[scale < 1e-12] = 1  # a feature that never varies carries no information
    train, test = ((some - center) / scale for some in (train, test))
    weights, bias = _fit(train, answers, len(known), penalty)
    right, train_right = (
        (known[(some @ weights + bias).argmax(dim=1)] == truth.cpu()).double()
        for some, truth in ((test, test_labels), (train, labels))
    )
    unseen = int((~torch.isin(test_labels.cpu(), known)).sum())
    return LinearProbe(right.numpy(), name, train.shape[1], len(train), float(train_right.mean()), unseen)


def _compute_features(
    mode: EvaluationMode,
    images: torch.Tensor,
    layer: str,
    at: At,
    layouts: LayerLayout,
    grid: int,
    batch_size: int,
) -> torch.Tensor:
    """Return the pooled activations, float64 (N, channels * cells), on the CPU."""
    parts = (
        compute_outputs(mode, some, layer, at=at, layout=layouts.on(some)) for some in torch.split(images, batch_size)
    )
    features = torch.cat([_pool(part, layer, grid, images.ndim).cpu() for part in parts])
    if not features.isfinite().all():
        raise ForwardError(
            f"The output of layer {layer!r} holds values that are infinite or NaN, so no classifier can be fitted. "
            "Check the images and the model's weights, or choose another layer."
        )
    return features


def _pool(activation: torch.Tensor, layer: str, grid: int, image_axes: int) -> torch.Tensor:
    """Return features (N, channels * cells) of an output (N, C, *units), with as many axes as the images, or (N, C)."""
    if activation.ndim == 2:
        return activation.double()
    pools = {3: F.adaptive_avg_pool1d, 4: F.adaptive_avg_pool2d, 5: F.adaptive_avg_pool3d}
    if activation.ndim not in pools or activation.ndim != image_axes:
        raise UnsupportedOutputError(
            f"Layer {layer!r} returned {tuple(activation.shape)} for images of {image_axes} axes: a linear probe "
            "reads (N, C), or maps (N, C, *units) over the images' axes. The axes of tokens (N, tokens, channels) "
            "cannot be told apart. Choose a layer before or after them."
        )
    if grid > min(activation.shape[2:]):
        raise ArgumentError(
            f"grid={grid} is more cells than the maps of layer {layer!r} have units, "
            f"{' x '.join(map(str, activation.shape[2:]))}. Pass at most {min(activation.shape[2:])}."
        )
    return pools[activation.ndim](activation.double(), grid).flatten(1)


def _fit(
    features: torch.Tensor, labels: torch.Tensor, classes: int, penalty: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weights (features, classes) and bias (classes,) of least penalized cross-entropy, a convex problem.

    The problem is solved along the principal axes of the features, each divided by the square root of its approximate
    curvature: channels are so correlated that along their own axes it takes a hundred times as many steps.
    """
    with enable_gradients():
        return _solve(features.clone(), labels.clone(), classes, penalty)  # inference tensors cannot be in a graph


def _solve(
    features: torch.Tensor, labels: torch.Tensor, classes: int, penalty: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weights and the bias, found by L-BFGS."""
    variances, axes = torch.linalg.eigh(features.T @ features / len(features))
    basis = axes / (variances.clamp(min=0) / classes + penalty).sqrt()
    rotated = features @ basis
    weights = torch.zeros(features.shape[1], classes, dtype=torch.float64, requires_grad=True, device="cpu")
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True, device="cpu")
    optimizer = torch.optim.LBFGS(
        [weights, bias], max_iter=2000, tolerance_grad=1e-4, history_size=20, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        value: torch.Tensor = (
            F.cross_entropy(rotated @ weights + bias, labels) + penalty / 2 * (basis @ weights).square().sum()
        )
        weights.grad, bias.grad = torch.autograd.grad(value, [weights, bias])
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    solved = basis @ weights.detach()
    return solved, bias.detach()


def _check_labels(images: torch.Tensor, labels: torch.Tensor, called: str) -> None:
    """Raise an error unless there is a class index for each image."""
    if not isinstance(labels, torch.Tensor) or labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        found = f"{labels.dtype} {tuple(labels.shape)}" if isinstance(labels, torch.Tensor) else type(labels).__name__
        raise ArgumentError(
            f"{called} must be int64 ({len(images)},), one class index for each image, not {found}. Pass class "
            "indices, such as torch.as_tensor(labels).long()."
        )
    if labels.min() < 0:
        raise ArgumentError(f"{called} must be class indices from 0, but one is negative.")
