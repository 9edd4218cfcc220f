"""One image through layers, depths or checkpoints: side by side, and as an animation."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias, cast

import numpy as np

from spatialprobe.activations.collection import Activations, as_records
from spatialprobe.activations.records import Activation, with_layout
from spatialprobe.arguments import as_float, as_texts
from spatialprobe.errors import ArgumentError
from spatialprobe.model.layout import LayoutChoice
from spatialprobe.render.gif import gif
from spatialprobe.render.maps import Order, chosen_channels, count_words, maps_of, order_words, slice_words
from spatialprobe.render.marks import Marks
from spatialprobe.render.mosaic import ColorBar, Mosaic
from spatialprobe.render.palette import palette
from spatialprobe.render.picture import picture_path
from spatialprobe.render.scale import Extremes, Scale, ScaleChoice, Values, choose_scale, share_words
from spatialprobe.render.steps import Step, in_columns, in_frames, in_panels
from spatialprobe.storage.files import write_bytes
from spatialprobe.text import format_count

EvolutionScale: TypeAlias = Literal["auto", "all"] | ScaleChoice


@dataclass(frozen=True, eq=False, repr=False)
class Evolution(Mosaic):
    """The maps of one image in several steps; a `Mosaic` of them side by side that can also be an animation.

    >>> import torch, spatialprobe as sp
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 8, 3))
    >>> evolution = sp.evolution(sp.capture(model, torch.rand(1, 1, 16, 16)))
    >>> evolution, len(evolution.frames)
    (Evolution('...', ... pixels), 2)
    >>> evolution.to_gif()[:6]
    b'GIF89a'
    """

    frames: tuple[Mosaic, ...] = ()  # one a step, all of one size

    suffixes: ClassVar[tuple[str, ...]] = (*Mosaic.suffixes, ".gif")

    def with_source(self, source: str) -> Evolution:
        """The same pictures, whose title and text chunks also name where the data come from."""
        named = super().with_source(source)
        return replace(self, title=named.title, metadata=named.metadata)

    def to_gif(self, seconds: float = 0.8) -> bytes:
        """An animated GIF that shows each step for so long, the last twice, and begins again.

        Raises:
            ArgumentError: `seconds` is not between 0.02 and 600.
        """
        seconds = as_float(seconds, "seconds")
        if not 0.02 <= seconds <= 600:
            raise ArgumentError(f"seconds must be between 0.02 and 600, not {seconds}.")
        return gif([(frame.pixels, frame.colors) for frame in self.frames], seconds, f"{self.title}. {self.caption}")

    def save(self, path: str | os.PathLike[str], *, seconds: float = 0.8) -> Path:
        """Write the sheet of all steps as any picture is saved, or, where the name ends in .gif, the animation.

        Raises:
            ArgumentError: the name has another suffix, `seconds` is not between 0.02 and 600, or no file can be
                written there.
            StorageError: writing failed, since the disk is full, say.
        """
        target = picture_path(path, self.suffixes)
        moving = target.suffix.lower() == ".gif"
        write_bytes(target, self.to_gif(seconds) if moving else self._encode(target.suffix.lower()))
        return target


def evolution(
    records: Sequence[Activation] | Mapping[str, Activation],
    *,
    names: Sequence[str] | None = None,
    sample: int = 0,
    channels: Sequence[int] | None = None,
    order: Order = "index",
    limit: int | None = None,
    scale: EvolutionScale = "robust",
    layout: LayoutChoice = "auto",
) -> Evolution:
    """The maps of one image in several steps: layers, depths or training checkpoints.

    Where all steps have the same maps, as checkpoints of one layer have, each channel is a row and each step a column;
    otherwise each step is a panel. `.save("steps.png")` writes the sheet, `.save("steps.gif")` an animation.

    Args:
        records: of the steps, in their order: a sequence, or a mapping from the steps' names, or a probe.
        names: what the steps are called; the mapping's keys, or the layers' names, if left out.
        sample: which image of the batch.
        channels: which channels, and in which order; all if left out.
        order: "index"; "max" or "mean": the strongest first, over all steps where these are columns.
        limit: how many to show at most in each step.
        scale: "robust", one range for all steps of one layer, or one for each step where layers differ, up to the
            99.5th percentile of the magnitudes; "auto", the same up to the largest; "all", one range for all steps in
            any case; "layer", one for each step; "map", one for each map; or (low, high). Colors diverge around zero
            in all steps if values are signed in one.
        layout: of the layers' outputs: "channels_first", (N, C, *units); "channels_last", (N, *units, C);
            `sp.Tokens(height, width, leading)`, (N, tokens, C) as a grid, drawn without its leading tokens; or "auto",
            each record's own `layout`.

    Raises:
        ArgumentError: no records, one without maps, or an argument that does not fit them.

    >>> import torch, spatialprobe as sp
    >>> steps = {}
    >>> for epoch in range(3):  # stands for training
    ...     conv = torch.nn.Conv2d(1, 4, 3)
    ...     steps[f"epoch {epoch}"] = sp.capture(conv, torch.ones(1, 1, 16, 16))[""]
    >>> pictures = sp.evolution(steps)
    >>> len(pictures.frames), pictures.caption.split(". ")[0]
    (3, 'Steps: epoch 0, epoch 1, epoch 2')
    """
    runs, names = _named(records, names)
    runs = [with_layout(run, layout) for run in runs]
    maps = [maps_of(run, sample) for run in runs]
    extremes = [Extremes.of(item) for item in maps]
    scales, scale_words = _scales(maps, extremes, names, scale, one_layer=len({run.layer for run in runs}) == 1)
    alike = len({item.shape for item in maps}) == 1
    known = [_over_all(extremes)] * len(maps) if alike else extremes
    picked = [
        chosen_channels(one, maps if alike else [item], run.layer, channels, order, limit)
        for one, item, run in zip(known, maps, runs, strict=True)
    ]
    steps = [Step.of(*parts) for parts in zip(names, maps, scales, extremes, picked, strict=True)]
    colors, one_bar = palette(scales[0].signed), _color_bar(scales)
    sheet = in_columns(steps) if alike else in_panels(steps, legends=one_bar is None)
    return Evolution(
        pixels=sheet.pixels,
        labels=tuple(sheet.labels),
        title=f"{_common_layer(runs)}sample {sample} in {len(runs)} step{'s' * (len(runs) > 1)}",
        caption=" ".join(
            [
                f"Steps: {', '.join(names)}.",
                _counts(steps, order, channels),
                scale_words if alike or one_bar else _below_words(scales),
                *_remarks(maps, steps),
            ]
        ),
        color_bar=one_bar,
        metadata=_metadata(runs, sample, steps, scale_words, extremes),
        colors=colors,
        frames=tuple(
            Mosaic(frame.pixels, name, scale_words, colors=colors, labels=tuple(frame.labels))
            for frame, name in zip(in_frames(steps), names, strict=True)
        ),
    )


def _named(
    records: Sequence[Activation] | Mapping[str, Activation], names: Sequence[str] | None
) -> tuple[list[Activation], list[str]]:
    """The records in their order, and what each step is called."""
    runs = as_records(records, "evolution()")
    plain = isinstance(records, Mapping) and not isinstance(records, Activations)
    called: list[object] = list(records) if plain else [run.layer for run in runs]
    words = list(map(str, called)) if names is None else as_texts(names, "names")
    if len(words) != len(runs):
        raise ArgumentError(
            f"{format_count(len(runs), 'step')}, but {format_count(len(words), 'name')}: pass a name for each step."
        )
    if len(set(words)) < len(words):
        words = [f"{number} {name}".strip() for number, name in enumerate(words, start=1)]
    return runs, [name or run.module_type for name, run in zip(words, runs, strict=True)]


def _over_all(extremes: Sequence[Extremes]) -> Extremes:
    """Those of each channel over all steps."""
    low, high, bad = ([getattr(item, name) for item in extremes] for name in ("low", "high", "nonfinite"))
    return Extremes(np.fmin.reduce(low), np.fmax.reduce(high), np.any(bad, axis=0), extremes[0].units)


def _as_one(extremes: Sequence[Extremes]) -> Extremes:
    """Those of all maps of all steps, as if they were one map."""
    low, high, bad = (
        np.concatenate([getattr(item, name) for item in extremes]) for name in ("low", "high", "nonfinite")
    )
    units = sum(item.units * len(item.low) for item in extremes)
    return Extremes(
        np.fmin.reduce(low, keepdims=True), np.fmax.reduce(high, keepdims=True), np.array([bad.any()]), units
    )


def _scales(
    maps: Sequence[Values],
    extremes: Sequence[Extremes],
    names: Sequence[str],
    choice: EvolutionScale,
    *,
    one_layer: bool,
) -> tuple[list[Scale], str]:
    """A scale for each step, all signed or none, and the words that say how to read them."""
    if isinstance(choice, str) and (choice in ("layer", "map") or (choice in ("robust", "auto") and not one_layer)):
        each = _full(choice)
        scales = [choose_scale(item, each, known) for item, known in zip(maps, extremes, strict=True)]
        if any(one.signed for one in scales):
            scales = [replace(one, signed=True, low=-one.high) for one in scales]
        return scales, scales[0].words() if choice == "map" else _each_words(names, scales)
    whole = np.concatenate([item.ravel() for item in maps])[None]
    one = choose_scale(whole, _full(choice), _as_one(extremes))
    return [one.of(np.zeros(len(item), np.int64)) for item in maps], one.words("all steps")


def _full(choice: EvolutionScale) -> ScaleChoice:
    """Return the scale of maps that "all" and "auto" stand for."""
    return "layer" if isinstance(choice, str) and choice in ("all", "auto") else cast(ScaleChoice, choice)


def _each_words(names: Sequence[str], scales: Sequence[Scale]) -> str:
    """The range of each step, with what lies beyond it."""
    words = []
    for name, one in zip(names, scales, strict=True):
        beyond = f" ({share_words(one.beyond)} beyond)" if one.beyond else ""
        words.append(f"{name} {one.low[0]:.4g} to {one.high[0]:.4g}{beyond}")
    return f"One scale for each step: {', '.join(words)}."


def _below_words(scales: Sequence[Scale]) -> str:
    """Return the sentences for the ranges, and for the share beyond them."""
    beyond = max(one.beyond for one in scales)
    most = f"; at most {share_words(beyond)} of a step's values lie beyond its ends" if beyond else ""
    return f"Below each step stands its own scale{most}."


def _color_bar(scales: Sequence[Scale]) -> ColorBar | None:
    """Return the color bar of the one scale of all steps, None where there are several."""
    bars = {ColorBar.of(scale) for scale in scales}
    return bars.pop() if len(bars) == 1 else None


def _common_layer(runs: Sequence[Activation]) -> str:
    """The layer that all steps are of, with a comma; nothing where they differ."""
    layers = {(run.layer or run.module_type, run.at.replace("_", " ")) for run in runs}
    return "{}, {}, ".format(*layers.pop()) if len(layers) == 1 else ""


def _counts(steps: Sequence[Step], order: Order, channels: Sequence[int] | None) -> str:
    """Return the words for how many channels are shown; where steps differ, each says it above its maps."""
    counts = {(len(step.channels), step.total) for step in steps}
    if len(counts) == 1:
        return count_words(*counts.pop(), order, channels)
    return f"How many of its channels are shown stands above each step{order_words(order, channels)}."


def _once(names: Sequence[str], counts: Sequence[str]) -> list[str]:
    """Return the words of each step; once, where they are the same for all."""
    if len(set(counts)) == 1:
        return [counts[0]]
    return [f"{name}: {count}" for name, count in zip(names, counts, strict=True)]


def _remarks(maps: Sequence[Values], steps: Sequence[Step]) -> list[str]:
    """Return the sentences for the tiles, and for how many of all steps are marked."""
    kinds = ("dead", "constant", "nonfinite")
    marks = Marks(*(np.concatenate([getattr(step.marks, kind) for step in steps]) for kind in kinds))
    slices = _once([step.name for step in steps], [" ".join(slice_words(item)) for item in maps])
    return [*filter(None, slices), *marks.words()]


def _metadata(
    runs: Sequence[Activation], sample: int, steps: Sequence[Step], scale: str, extremes: Sequence[Extremes]
) -> dict[str, str]:
    """Return the metadata of a file that is seen on its own."""
    names = [step.name for step in steps]
    return {
        "Software": "spatialprobe",
        "Layer": ", ".join(dict.fromkeys(f"{run.layer} ({run.module_type}), {run.at}" for run in runs)),
        "Sample": str(sample),
        "Steps": ", ".join(names),
        "Channels": "; ".join(_once(names, [" ".join(map(str, step.channels.tolist())) for step in steps])),
        "Scale": scale,
        "Value range": _as_one(extremes).words(),
    }
