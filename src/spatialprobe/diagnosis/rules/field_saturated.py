"""Layers that have nothing left to see, since what they take sees the whole image already."""

from __future__ import annotations

from torch import nn

from spatialprobe.diagnosis.evidence import Evidence
from spatialprobe.diagnosis.finding import Finding, NotApplicable, Outcome, Rule
from spatialprobe.diagnosis.pictures import bars
from spatialprobe.fields.result import ReceptiveField
from spatialprobe.text import format_count


def find_saturated_fields(evidence: Evidence) -> Outcome:
    """Return a finding for each convolution whose input sees the whole image."""
    fields = {name: field for name in evidence.ran if (field := _spatial_field(evidence, name)) is not None}
    if not fields:
        raise NotApplicable("No convolution over more than one pixel has an exact field.")
    size = evidence.image_size
    before = {name: input_size(evidence.modules[name], field) for name, field in fields.items()}
    names = list(before)
    over = [at for at, name in enumerate(names) if all(a >= b for a, b in zip(before[name], size, strict=True))]
    title = "Field of what each convolution takes, over the size of the image"
    shares = [min(a / b for a, b in zip(before[name], size, strict=True)) for name in names]
    return [
        Finding(
            RULE.name,
            "note",
            names[at],
            measured=shares[at],
            limit=1,
            evidence=f"What it takes sees {_by(before[names[at]])} pixels already, and the image has {_by(size)}: it "
            "adds "
            "no context.",
            advice="For images of this size a network that ends before would do, or a smaller stride at its beginning.",
            source=RULE.reason,
            picture=bars(names, shares, over, [1.0], title, "times the size of the image", log=True),
        )
        for at in over
    ] or f"The input of {format_count(len(names), 'convolution')} sees at most {max(shares):.0%} of the image's side."


def _spatial_field(evidence: Evidence, name: str) -> ReceptiveField | None:
    """Return the exact field of a convolution over more than one pixel, else None."""
    module = evidence.modules.get(name)
    if not isinstance(module, nn.modules.conv._ConvNd) or module.transposed or max(module.kernel_size) == 1:
        return None
    field = evidence.exact_field(name)
    return field if field is not None and set(field.period) == {1} else None


def input_size(module: nn.Module, field: ReceptiveField) -> tuple[int, ...]:
    """Return the size of the field of what a convolution takes, from that of its output: without its own taps."""
    assert isinstance(module, nn.modules.conv._ConvNd)
    axes = zip(field.size, field.stride, module.kernel_size, module.dilation, module.stride, strict=True)
    return tuple(round(size - (kernel - 1) * dilation * jump / step) for size, jump, kernel, dilation, step in axes)


def _by(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes))


RULE = Rule(
    "field_saturated",
    find_saturated_fields,
    "note",
    "layers whose input already sees the whole image",
    "Exact, from the receptive fields: layers behind the border layer do not improve what is learned [Richter et al. "
    "2021]. Norms over the image and gates that weigh channels do not count as seeing it.",
    "the field of what each convolution takes",
)
