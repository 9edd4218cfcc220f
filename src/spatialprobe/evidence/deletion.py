"""Whether the channels that an attribution names carry the answer: remove them, beside as many random ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from spatialprobe.arguments import as_int, make_generator
from spatialprobe.attribution.ablation import scores_without
from spatialprobe.attribution.forwards import Forwards
from spatialprobe.attribution.observing import Chosen, observe
from spatialprobe.attribution.result import Attribution
from spatialprobe.attribution.run import Run
from spatialprobe.attribution.samples import count_samples
from spatialprobe.errors import ArgumentError
from spatialprobe.evidence.result import Averaged, Floats
from spatialprobe.html_table import format_html_table
from spatialprobe.model.batch import BatchReader
from spatialprobe.model.evaluation import EvaluationMode
from spatialprobe.model.forward import called_by
from spatialprobe.model.select import check_model, select
from spatialprobe.model.settings import leave_inference_mode
from spatialprobe.model.undo import undo_block
from spatialprobe.statistics.progress import Silent
from spatialprobe.text import format_count, format_table, kind_of

_HEADINGS = ("without", "the score falls by", "spread over images")
_DRAWS = 16  # sets of random channels for each image
SAMPLED = _DRAWS + 2  # times that each image runs without some of its channels
_SHARE = 10  # one of so many channels is removed by default
_ERRORS = 2.0  # standard errors that a difference must exceed
_NEAR = 1e-4  # of the largest score: how far the scores may be from those of the attribution
_NEAR_IN_HALVES = 0.02  # the same, in dtypes of 16 bits


@dataclass(frozen=True, eq=False)
class ChannelDeletion(Averaged):
    """How far the score of each image falls without the channels that contribute most to it.

    `values` (N,) are the falls, in units of the score; `random` and `lowest` those without as many other channels.

    >>> import torch, spatialprobe as sp
    >>> from torch import nn
    >>> _ = torch.manual_seed(0)
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    >>> images = torch.rand(16, 3, 16, 16)
    >>> found = sp.attribute(model, images)["0"]
    >>> deletion = sp.evidence.channel_deletion(model, images, found, k=2)
    >>> deletion.n, deletion.mean > float(deletion.random.mean()), deletion.better
    (16, True, True)
    """

    layer: str
    call: int  # the layer's runs, counted from 0
    k: int  # channels that were removed
    channels: int  # of how many
    random: Floats  # (n,): the mean fall over `draws` sets of k random channels
    random_spread: Floats  # (n,): the standard deviation of the fall over these sets
    lowest: Floats  # (n,): the fall without the k channels that contribute least
    draws: int  # sets of random channels for each image
    seed: int  # of the random channels

    @property
    def margin(self) -> float:
        """How much further the score falls than without random channels, on average over images."""
        return float((self.values - self.random).mean())

    @property
    def better(self) -> bool:
        """Whether the margin is more than chance: above two standard errors of a random choice of channels."""
        error = np.sqrt((self.random_spread**2).mean() * (1 + 1 / self.draws) / self.n)
        return self.margin > _ERRORS * float(error)

    def words(self, sample: int | None = None) -> str:
        """Return the result in a sentence or two, for one image or on average over all."""
        values = [self.values, self.random, self.lowest]
        top, random, lowest = (float(one.mean() if sample is None else one[sample]) for one in values)
        of = f"on average over {format_count(self.n, 'image')}" if sample is None else "of this image"
        found = (
            f"Checked by removal: without the {self.k} of {format_count(self.channels, 'channel')} that contribute "
            f"most, the score {of} falls by {top:.3g}; without as many random ones by {random:.3g}, without "
            f"the lowest by {lowest:.3g}."
        )
        return found if self.better else f"{found} Over all images this is no better than random channels."

    def __repr__(self) -> str:
        return "\n".join([format_table(self._title(), [_HEADINGS, *self._rows()], (1, 2)), self._verdict()])

    def _repr_html_(self) -> str:
        """The table for a notebook."""
        return format_html_table(self._title(), _HEADINGS, self._rows(), flush_right=(1, 2), remarks=[self._verdict()])

    def _title(self) -> str:
        run = f", run {self.call}" if self.call else ""
        return (
            f"ChannelDeletion: {self.k} of {format_count(self.channels, 'channel')} of layer {self.layer!r}{run}, "
            f"{format_count(self.n, 'image')}"
        )

    def _rows(self) -> list[tuple[str, ...]]:
        falls = {
            f"the top {self.k}": self.values,
            f"{self.k} at random, {self.draws} sets": self.random,
            f"the lowest {self.k}": self.lowest,
        }
        return [(name, f"{one.mean():.3g}", f"{one.std():.2g}") for name, one in falls.items()]

    def _verdict(self) -> str:
        """Return whether the attribution does better than random channels, a sentence."""
        more = f"The score falls by {self.margin:.3g} more than without random channels"
        return f"{more}." if self.better else f"{more}: no better than random channels."


def channel_deletion(
    model: nn.Module, images: object, attribution: Attribution, *, k: int | None = None, seed: int = 0
) -> ChannelDeletion:
    """Return how the scores fall without each image's own top channels, beside random ones and its lowest.

    The channels of the attribution's run of its layer are set to its baseline, in evaluation mode; the score is that of
    the attribution. An attribution whose channels are no better than random ones says nothing about the answer. It is
    no proof that a fall is large: removing channels can take the model where it was never trained.

    Args:
        model: the model that the attribution is of.
        images: the images that it is of, the same batch.
        attribution: of one run of one layer, by any method.
        k: how many channels are removed; a tenth of them if left out, at least one.
        seed: of the random channels, of which 16 sets are drawn for each image.

    Raises:
        ArgumentError: there are not more than k channels, or model and images are not those of the attribution.
        ForwardError: the model raises an error on the images.

    >>> import torch, spatialprobe as sp
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    >>> images = torch.rand(4, 3, 16, 16)
    >>> found = sp.attribute(model, images, target=3)["0"]
    >>> sp.evidence.channel_deletion(model, images, found, k=2).values.shape
    (4,)
    """
    check_model(model)
    if not isinstance(attribution, Attribution):
        raise ArgumentError(
            f"attribution is {kind_of(attribution)}: pass that of one layer, sp.attribute(model, images)['conv1']."
        )
    count, channels = attribution.channels.shape
    removed = _count_removed(k, attribution)
    given = count_samples(images, BatchReader.of(model, attribution._question.forward))
    if given != count:
        raise ArgumentError(
            f"There are {format_count(given, 'image')}, and the attribution is of {count}: pass the same images."
        )
    order = attribution.channels.argsort(dim=1, descending=True, stable=True)
    generator = make_generator(seed)
    drawn = torch.rand((_DRAWS, count, channels), generator=generator, device="cpu").argsort(dim=2)
    chosen = torch.cat([order[None, :, :removed], order[None, :, -removed:], drawn[:, :, :removed]])
    masks = torch.zeros((len(chosen), count, channels), dtype=torch.bool, device="cpu").scatter(2, chosen, True)
    falls = score_falls(model, images, attribution, masks)
    random = falls[2:]
    return ChannelDeletion(
        values=falls[0],
        layer=attribution.layer,
        call=attribution.call,
        k=removed,
        channels=channels,
        random=random.mean(axis=0),
        random_spread=random.std(axis=0, ddof=1),
        lowest=falls[1],
        draws=_DRAWS,
        seed=as_int(seed, "seed"),
    )


def _count_removed(k: int | None, attribution: Attribution) -> int:
    """Return the number of channels to remove.

    Raises:
        ArgumentError: nothing would be left to compare with.
    """
    channels = attribution.channels.shape[1]
    found = max(1, channels // _SHARE) if k is None else as_int(k, "k", least=1)
    if found >= channels:
        raise ArgumentError(
            f"k={found} leaves no other channels to compare with: layer {attribution.layer!r} has "
            f"{format_count(channels, 'channel')}."
        )
    return found


def score_falls(
    model: nn.Module, images: object, attribution: Attribution, masks: torch.Tensor, bar: Silent | None = None
) -> Floats:
    """Return how far the scores fall, (M, N), without the masked channels (M, N, C).

    Raises:
        ArgumentError: model and images are not those of the attribution.
        ForwardError: the model raises an error on the images.
    """
    question = attribution._question
    (layer,) = select(model, attribution.layer or model, "attribution.layer")
    with undo_block() as undo:
        leave_inference_mode(undo)
        with EvaluationMode(called_by(model, question.forward)) as mode:
            forwards = Forwards(mode, images, question.forward, question.target)
            chosen = Chosen([layer], frozenset([layer.name]))
            runs, scores, _ = observe(forwards, chosen, attribution.at, attribution.layout, gradients=False)
            mode.reset()
            _check_same(scores, attribution)
            run = _run_of(runs, attribution)
            forwards = replace(forwards, bar=bar or Silent())
            left = scores_without(forwards, run, masks, question.baseline)
    falls: Floats = (scores.cpu().double() - left.double()).numpy()
    return falls


def _run_of(runs: list[Run], attribution: Attribution) -> Run:
    """Return the run that an attribution is of.

    Raises:
        ArgumentError: there is none of so many channels.
    """
    for run in runs:
        if run.call == attribution.call and run.channels == attribution.channels.shape[1]:
            return run
    raise ArgumentError(
        f"Layer {attribution.layer!r} has no run {attribution.call} of {attribution.channels.shape[1]} channels here: "
        "pass the model that the attribution is of."
    )


def _check_same(scores: torch.Tensor, attribution: Attribution) -> None:
    """Check that the scores are those that the attribution explains.

    Raises:
        ArgumentError: they are others.
    """
    now, before = scores.cpu().double(), attribution.score.double()
    near = _NEAR if scores.dtype in (torch.float32, torch.float64) else _NEAR_IN_HALVES
    far = (now - before).abs() > near * before.abs().max()
    if far.any():
        image = int(far.nonzero()[0])
        raise ArgumentError(
            f"The score of image {image} is {float(now[image]):.5g}, and that of the attribution "
            f"{float(before[image]):.5g}: pass the model and the images that it is of, or attribute again."
        )
