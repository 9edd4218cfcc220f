"""The HTML file: template, style, script, data and still pictures put together; every text in it escaped."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from urllib.parse import quote

import spatialprobe
from spatialprobe.render.palette import LEVELS, colors, palette
from spatialprobe.render.palette import NONFINITE as NONFINITE_COLOR
from spatialprobe.report.coded_maps import NONFINITE, STEPS
from spatialprobe.report.contributions import Score
from spatialprobe.report.exemplar_images import StoredImages
from spatialprobe.report.inputs import Inputs, InputSize
from spatialprobe.report.over_input import Overlay
from spatialprobe.report.payload import PackedLayer, over_data, script_safe, signal_data, signal_ranges
from spatialprobe.report.script import loader, packed_script, page_script, read_part
from spatialprobe.report.stills import Still, still
from spatialprobe.text import as_html, escape_surrogates, format_count


@dataclass(frozen=True, eq=False)
class Page:
    """All that goes into the file."""

    title: str
    model: str  # the model's class
    at: str  # "output" or "post_activation"
    inputs: Inputs
    layers: tuple[PackedLayer, ...]
    stills: tuple[Still, ...]  # one a layer, of the first image
    left_out: tuple[str, ...] = ()  # layers that have no maps, a sentence each
    doubts: tuple[str, ...] = ()  # what of the sweep does not fit the model, a sentence each
    max_bytes: int | None = None  # of the file
    images: StoredImages | None = None  # of the exemplars, None where the data set is not known
    score: Score | None = None  # that the layers' channels contribute to
    overlays: tuple[Overlay, ...] = ()
    classes: tuple[str, ...] = ()  # the names of the model's outputs
    versions: tuple[str, ...] = ()  # of each layer, which follow one another: two models, and their difference
    checkup: str = ""  # the panel of a checkup, as HTML

    def html(self) -> str:
        """The file."""
        style = _packed_part("page.css")
        return _filled(
            _packed_part("page.html"),
            {
                "policy": _policy(style, loader(), page_script()),
                "title": _text(self.title),
                "about": _text(self._about()),
                "doubts": "".join(f'<p class="doubt"><bdi>{_text(doubt)}</bdi></p>\n' for doubt in self.doubts),
                "checkup": self.checkup,
                "style": style,
                "script": packed_script(),
                "loader": loader(),
                "data": script_safe(self._data()),
                "stills": "\n".join([self._input_still(), *map(_still, self.layers, self.stills)]),
                "remarks": "".join(f"<li>{_text(remark)}</li>" for remark in self.remarks()),
                "reduced": _reduced(self.missing, self.reduced, self.max_bytes),
                "version": _text(spatialprobe.__version__),
            },
        )

    @property
    def reduced(self) -> tuple[str, ...]:
        """The parts that the page does not hold, a sentence each."""
        kept, of = len(self.inputs.images), self.inputs.of
        images = [f"{kept} of {of} images kept, the first."] if kept < of else []
        layers = [f"{one.layer.name}: {'; '.join(told)}." for one in self.layers if (told := one.layer.left_out())]
        exemplars = self.images.left_out() if self.images else []
        return (*self.left_out, *images, *exemplars, *layers)

    @property
    def missing(self) -> str:
        """The parts that the page does not hold, in one line; empty where it holds everything."""
        kept, of = len(self.inputs.images), self.inputs.of
        channels = sum(len(one.layer.channels) for one in self.layers), sum(one.layer.of for one in self.layers)
        told = [one.layer.left_out() for one in self.layers]
        halved = sum(one.layer.coarse > 0 for one in self.layers)
        patches = sum(any("exemplar" in words for words in one) for one in told)
        made = sum(one.layer.synthesized is not None and bool(one.layer.synthesized.left_out()) for one in self.layers)
        kernels = sum(one.layer.kernels_left_out for one in self.layers)
        parts = [
            f"{format_count(len(self.left_out), 'layer')} without maps" if self.left_out else "",
            f"{of - kept} of {format_count(of, 'image')}" if kept < of else "",
            f"{channels[1] - channels[0]:,} of {channels[1]:,} channels" if channels[0] < channels[1] else "",
            f"half the resolution of {format_count(halved, 'layer')}" if halved else "",
            f"exemplar patches of {format_count(patches, 'layer')}" if patches else "",
            f"{self.images.of - len(self.images.pictures):,} of {self.images.of:,} images of the exemplars"
            if self.images and self.images.left_out()
            else "",
            f"synthesized images of {format_count(made, 'layer')}" if made else "",
            f"kernels of {format_count(kernels, 'layer')}" if kernels else "",
        ]
        return ", ".join(part for part in parts if part)

    def remarks(self) -> list[str]:
        """Return the sentences that say how to read the page."""
        return [
            "Each map is stored in 8 bits between its own least and greatest value, so a value read here is at most "
            "0.2 % of its map's range from the model's. Least, greatest and mean are exact.",
            *self.inputs.remarks,
        ]

    def _about(self) -> str:
        shown = self.layers[:: len(self.versions) or 1]
        channels = sum(packed.layer.of for packed in shown)
        images = format_count(len(self.inputs.images), ("signal", "image", "volume")[self.inputs.axes - 1])
        where = " after their nonlinearity" if self.at == "post_activation" else ""
        layers = format_count(len(shown), "layer")
        return f"{self.model}: {layers}{where}, {format_count(channels, 'channel')}, {images}"

    def _data(self) -> dict[str, object]:
        return {
            "at": self.at,
            "input": self._input(self.inputs.sizes[0]),
            "sizes": [
                {"input": self._input(size), "layers": [packed.grid(number) for packed in self.layers]}
                for number, size in enumerate(self.inputs.sizes)
                if number
            ],
            "images": [
                {"name": one.name, "answer": one.answer, "size": self.inputs.sizes.index(one.size)}
                | ({"signal": signal_data(one.signal)} if one.signal else {})
                for one in self.inputs.images
            ],
            "palettes": {
                name: base64.b64encode(colors(signed).tobytes()).decode()
                for name, signed in (("signed", True), ("plain", False))
            },
            "crimson": palette(False)[NONFINITE_COLOR].tolist(),
            "codes": {"steps": STEPS, "nonfinite": NONFINITE, "levels": LEVELS},
            "samples": self.images.pictures if self.images else None,
            "versions": self.versions,
            "signals": signal_ranges([one.signal for one in self.inputs.images if one.signal]),
            "score": self.score and self._score(self.score),
            "overlays": [
                {"name": one.name, "reach": one.reach, "over": over_data(one.over, len(self.inputs.images))}
                for one in self.overlays
            ],
            "layers": [packed.data() for packed in self.layers],
        }

    def _input(self, size: InputSize) -> dict[str, object]:
        """The size of an input, and what its darkest and brightest pixels stand for."""
        return {**vars(size), "low": self.inputs.stretch.low, "high": self.inputs.stretch.high}

    def _score(self, score: Score) -> dict[str, object]:
        """The score of each image, and what it is of, in words."""
        count = len(self.inputs.images)
        names = {number: f" ({name})" for number, name in enumerate(self.classes)}
        words = ["the score" if one < 0 else f"the score of class {one}{names.get(one, '')}" for one in score.targets]
        return {"words": words[:count], "values": score.values[:count], "reach": score.reach}

    def _input_still(self) -> str:
        """The input images: the page's script draws from these very pictures."""
        return "".join(
            f'<figure class="input"><img class="input" src="{one.picture}" alt="{_text(f"Input image {one.name}")}" '
            f'width="{one.shown[1]}" height="{one.shown[0]}">'
            f"<figcaption><bdi>{_text(one.name)}</bdi></figcaption></figure>"
            for one in self.inputs.images
        )


def _still(packed: PackedLayer, picture: Still) -> str:
    words = _text(picture.words)
    return (
        f'<figure><a href="#{quote(escape_surrogates(packed.layer.name), safe="")}/{packed.layer.channels[0]}">'
        f'<img src="{picture.picture}" alt="{_text(picture.name)}" '
        f'width="{picture.width}" height="{picture.height}"></a>'
        f"<figcaption>{words}</figcaption></figure>"
    )


def _reduced(missing: str, sentences: Sequence[str], max_bytes: int | None) -> str:
    """Return one line that says what is missing, and unfolds to the whole list."""
    if not sentences:
        return ""
    listed = "".join(f"<li>{_text(sentence)}</li>" for sentence in sentences)
    limit = f'<p class="quiet">The file was to take no more than {max_bytes:,} bytes.</p>' if max_bytes else ""
    summary = f"<summary>Not on this page: {_text(missing)}.</summary>"
    return f'<details id="reduced">{summary}{limit}<ul>{listed}</ul></details>'


def _policy(style: str, *scripts: str) -> str:
    """A content security policy: this style, these scripts, pictures that are part of the page, and nothing else."""
    return "; ".join(
        [
            "default-src 'none'",
            f"style-src '{_digest(style)}'",
            "script-src " + " ".join(f"'{_digest(script)}'" for script in scripts),
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _packed_part(name: str) -> str:
    """Return the page's template or style without indentation and empty lines, a style without idle spaces."""
    lines = (line.strip() for line in read_part(name).splitlines())
    if name.endswith(".css"):
        lines = (re.sub(r"(?<=[:;,{]) | (?=[{}])|;(?= ?})", "", line) for line in lines)
    return "\n".join(line for line in lines if line)


def _filled(template: str, texts: Mapping[str, str]) -> str:
    """The template with each {{name}} replaced once, so that texts may hold braces."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: texts[found[1]], template)


def _text(text: str) -> str:
    return as_html(text)


def stills_of(layers: Sequence[PackedLayer], inputs: Inputs) -> tuple[Still, ...]:
    """The still picture of each layer for the first image."""
    image = inputs.images[0].name
    return tuple(still(one.layer, image) for one in layers)
