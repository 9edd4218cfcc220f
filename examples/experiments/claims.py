"""The seven claims: the conditions of each, and the sentences and tables of its numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

from experiments.measures import PIXEL
from experiments.trials import CNN, HEADS, MLP_PERMUTED, MLP_PLAIN, PERMUTED, RANDOM
from experiments.verdicts import Difference, Findings, Verdict, decided, minus, number, percent

ROUNDING = 1e-4  # a relative error below is that of 32-bit sums


def small_window(findings: Findings) -> Verdict:
    """Return the verdict on: a unit sees only a small window."""
    layers = {"conv1": "conv1", "conv2": "conv2", "mlp": "hidden units of the MLP (control)"}
    rows = [("layer", "units that changed", "predicted by the field", "of all")]
    for key, words in layers.items():
        changed, predicted, units = (
            findings.each("footprint", key, what) for what in ("changed", "predicted", "units")
        )
        rows.append((words, _once(changed), _once(predicted), f"{units[0]:.0f}"))
    equal = all(
        findings.each("footprint", key, "equal")[i] for key in ("conv1", "conv2") for i in range(len(findings.seeds))
    )
    whole = findings.each("footprint", "mlp", "changed") == findings.each("footprint", "mlp", "units")
    small = max(
        changed / units
        for key in ("conv1", "conv2")
        for changed, units in zip(
            findings.each("footprint", key, "changed"), findings.each("footprint", key, "units"), strict=True
        )
    )
    return decided(
        "A unit sees only a small window",
        "In every seed one changed pixel moves exactly the units whose receptive field holds it, fewer than a quarter "
        "of "
        "the layer; and all hidden units of the fully connected control.",
        {
            "the units that changed are those predicted": equal,
            "fewer than a quarter of the units changed": small < 0.25,
            "every hidden unit of the control changed": whole,
        },
        [
            f"The pixel in row {PIXEL[0]}, column {PIXEL[1]} was changed in "
            f"{findings.of_seed[0]['footprint']['conv1']['n']} test images.",
            f"At most {small:.1%} of a convolution's units changed in any seed.",
        ],
        table=rows,
    )


def same_detector(findings: Findings) -> Verdict:
    """Return the verdict on: the same detector runs everywhere."""
    error = {key: findings.each("equivariance", key) for key in findings.of_seed[0]["equivariance"]}
    rows = [
        ("layer", "relative error after a shift"),
        ("conv1, a multiple of its stride", _small(error["conv1, multiple"])),
        ("conv2, a multiple of its stride", _small(error["conv2, multiple"])),
        ("conv2, between multiples", number(error["conv2, between"])),
        ("hidden units of the MLP (control), best match", number(error["mlp"])),
    ]
    most = max(max(error["conv1, multiple"]), max(error["conv2, multiple"]))
    return decided(
        "The same detector runs everywhere",
        f"In every seed the error inside the image is below {ROUNDING:g} at shifts by multiples of the stride, and "
        "that of "
        "the fully connected control, each unit held against the one that matches it best, is above 0.1.",
        {
            f"errors at multiples of the stride are below {ROUNDING:g}": most < ROUNDING,
            "the control's error is above 0.1": min(error["mlp"]) > 0.1,
        },
        [
            f"At multiples of the stride the largest error in any seed is {most:.1g}.",
            "Between multiples conv2, which sees every second position of conv1's maxima, errs by "
            f"{number(error['conv2, between'])}: "
            "subsampling is where the equality ends.",
        ],
        table=rows,
    )


def arrangement(findings: Findings) -> Verdict:
    """Return the verdict on: the arrangement of pixels matters to a CNN."""
    cnn, permuted = findings.accuracy(CNN), findings.accuracy(PERMUTED)
    mlp, mlp_permuted = findings.accuracy(MLP_PLAIN), findings.accuracy(MLP_PERMUTED)
    loss, loss_mlp = minus(cnn, permuted), minus(mlp, mlp_permuted)
    chance = 1 / findings.classes
    over_chance = findings.between("the MLP's accuracy over chance", mlp, [chance] * len(mlp))
    return decided(
        "The arrangement of pixels matters to a CNN",
        "Trained and tested on images under one fixed permutation of pixels, the CNN loses more accuracy than the "
        "MLP, to which "
        "the permuted problem is the same; and the MLP is above chance, or it could not lose.",
        {},
        [
            f"Retrained on permuted pixels the CNN goes from {percent(cnn)} to {percent(permuted)}, the MLP from "
            f"{percent(mlp)} to {percent(mlp_permuted)}; chance is {chance:.0%}.",
            "With its first weights permuted along, the MLP computes the same function on permuted images: an "
            "identity, "
            "which a test holds; what differs here is the beginning of training.",
        ],
        [
            over_chance,
            findings.between("what the CNN loses", cnn, permuted),
            Difference(
                "what the CNN loses beyond the MLP",
                minus(loss, loss_mlp),
                (2 * fmean(p * (1 - p) for p in (*cnn, *permuted, *mlp, *mlp_permuted)) * 2 / findings.test_images)
                ** 0.5,
            ),
        ],
        [
            ("network", "pixels in order", "pixels permuted", "loss"),
            ("CNN", percent(cnn), percent(permuted), percent(loss)),
            ("MLP (control)", percent(mlp), percent(mlp_permuted), percent(loss_mlp)),
        ],
    )


def pattern_in_kernel(findings: Findings) -> Verdict:
    """Return the verdict on: the pattern inside the kernel matters."""
    kept, averaged, shuffled = (findings.accuracy(kind) for kind in HEADS)
    whole = findings.accuracy(CNN)
    rows = [
        ("kernels of both convolutions", "head as it was", "a new head, trained on them"),
        ("unchanged (control)", percent(whole), percent(kept)),
        ("taps averaged, color kept", percent(findings.each("surgery", "mean, both")), percent(averaged)),
        ("taps shuffled", percent(findings.each("surgery", "shuffle, both")), percent(shuffled)),
    ]
    single = ", ".join(
        f"{layer} alone {percent(findings.each('surgery', f'{how}, {layer}'))} ({words})"
        for how, words in (("mean", "averaged"), ("shuffle", "shuffled"))
        for layer in ("conv1", "conv2")
    )
    return decided(
        "The pattern inside the kernel matters",
        "With kernels averaged, and with kernels shuffled, a new head trained on their outputs does worse than a "
        "new head on "
        "the unchanged kernels. (The old head alone would not show it: it meets values it was never trained on.)",
        {},
        [
            f"A new head reaches {percent(kept)} on the trained kernels, {percent(averaged)} on averaged and "
            f"{percent(shuffled)} on shuffled ones.",
            f"With the old head: {single}.",
        ],
        [
            findings.between("unchanged less averaged kernels, new heads", kept, averaged),
            findings.between("unchanged less shuffled kernels, new heads", kept, shuffled),
        ],
        rows,
    )


def training_shapes(findings: Findings) -> Verdict:
    """Return the verdict on: training shapes the kernels."""
    chosen = {name: findings.each("selectivity", name) for name in ("trained", "random", "permuted")}
    kept, random = findings.accuracy(HEADS[0]), findings.accuracy(RANDOM)
    layers = list(findings.of_seed[0]["similarity"]["random"])
    alike = {
        name: ", ".join(f"{number(findings.each('similarity', name, layer))} in {layer}" for layer in layers)
        for name in ("random", "permuted")
    }
    return decided(
        "Training shapes the kernels",
        "conv1 of the trained network is more selective for orientation than before training, and than conv1 trained "
        "on permuted "
        "pixels; and a new head does better on trained kernels than on random ones.",
        {},
        [
            f"Mean orientation selectivity of conv1: {number(chosen['trained'])} trained, {number(chosen['random'])} "
            "before "
            f"training, {number(chosen['permuted'])} trained on permuted pixels.",
            f"A new head reaches {percent(kept)} on frozen trained kernels and {percent(random)} on frozen random "
            "ones.",
            "On images in order the maps of the trained network resemble those of the same network before training "
            f"(linear CKA: {alike['random']}), and of its twin trained on permuted pixels ({alike['permuted']}): 1 "
            "would be the same but for rotation and scale, so this is how far training has moved what the layers tell.",
        ],
        [
            Difference("selectivity, trained less untrained", minus(chosen["trained"], chosen["random"])),
            Difference("selectivity, trained less permutation-trained", minus(chosen["trained"], chosen["permuted"])),
            findings.between("a new head on trained less random kernels", kept, random),
        ],
        [
            ("kernels", "orientation selectivity of conv1", "accuracy of a new head", "similarity to the trained"),
            ("trained", number(chosen["trained"]), percent(kept), "1"),
            ("random (control)", number(chosen["random"]), percent(random), alike["random"]),
            ("trained on permuted pixels (control)", number(chosen["permuted"]), "not applicable", alike["permuted"]),
        ],
    )


def nameable(findings: Findings) -> Verdict:
    """Return the verdict on: channels detect something nameable."""
    rows = [("layer", "exemplars", "random patches (control)", "exemplars, untrained network")]
    differences, sentences = [], []
    for layer in findings.of_seed[0]["coherence"]["trained"]:
        own, random, before = (
            findings.each("coherence", which, layer, what)
            for which, what in (("trained", "exemplars"), ("trained", "random"), ("untrained", "exemplars"))
        )
        rows.append((layer, number(own), number(random), number(before)))
        differences.append(Difference(f"{layer}, exemplars less random patches", minus(own, random)))
        sentences.append(
            f"{layer}: exemplars of a channel correlate by {number(own)}, random patches by {number(random)}."
        )
    aligned = _aligned(findings)
    return decided(
        "Channels detect something nameable",
        "In every convolution a channel's nine top-activating patches resemble each other more than random "
        "patches of the "
        "same size do; and where the data know the pixels of their motifs, the most active units of every convolution "
        "coincide "
        "with the motif that suits each channel best, chosen on other images, more than with motifs of other images.",
        {},
        [
            *sentences,
            *_alignment_sentences(findings),
            *_synthesis_sentences(findings),
            "Any filter's exemplars resemble what it multiplies with, so an untrained network's do as well: the claim "
            "is about "
            "what channels detect, not about training.",
        ],
        [*differences, *aligned],
        rows,
    )


def _aligned(findings: Findings) -> list[Difference]:
    """Return how much more channels coincide with motifs than with those of other images; empty without masks."""
    return [
        Difference(
            f"{layer}, overlap with own motifs less those of other images",
            minus(*(findings.each("alignment", "trained", layer, which) for which in ("own", "others"))),
        )
        for layer in findings.of_seed[0]["alignment"]["trained"]
    ]


def _alignment_sentences(findings: Findings) -> list[str]:
    """Return what is said of the overlap with motifs."""
    found = []
    for layer in findings.of_seed[0]["alignment"]["trained"]:
        own, others, before = (
            findings.each("alignment", which, layer, what)
            for which, what in (("trained", "own"), ("trained", "others"), ("untrained", "own"))
        )
        found.append(
            f"{layer}: active units overlap the pixels of a channel's best motif by {number(own)} (intersection over "
            f"union), those of other images by {number(others)}; in an untrained network by {number(before)}."
        )
    return found


def _synthesis_sentences(findings: Findings) -> list[str]:
    """Return what is said of synthesized images: whether they are what channels respond to most."""
    return [
        f"{layer}: a synthesized image drives {percent(findings.each('synthesis', layer))} of the channels beyond the "
        "best test image."
        for layer in findings.of_seed[0]["synthesis"]
    ]


def growing(findings: Findings) -> Verdict:
    """Return the verdict on: patterns grow with depth."""
    names = list(findings.layers[0])

    def each(layer: str, what: str) -> tuple[float, ...]:
        return tuple(float(found[layer][what]) for found in findings.layers)

    def side(layer: str) -> tuple[float, ...]:
        return tuple(float(found[layer]["effective"]["0.5"]) for found in findings.layers)

    rows = [
        ("layer", "field (pixels)", "half the effective field", "zeros after ReLU", "linear probe", "probe, untrained")
    ]
    rows += [
        (
            name,
            f"{each(name, 'field')[0]:.0f}",
            number(side(name)),
            percent(each(name, "sparsity")),
            percent(each(name, "probe")),
            percent(each(name, "untrained probe")),
        )
        for name in names
    ]
    first, last = names[0], names[-1]
    gain, gain_before = (minus(each(last, what), each(first, what)) for what in ("probe", "untrained probe"))
    return decided(
        "Patterns grow with depth",
        "From the first to the last convolution the receptive field and its effective half grow in every seed, and a "
        "linear "
        "probe reads more off the last layer than off the first, by more than in an untrained network.",
        {
            "the receptive field grows": min(minus(each(last, "field"), each(first, "field"))) > 0,
            "the effective field grows": min(minus(side(last), side(first))) > 0,
        },
        [
            f"The field grows from {each(first, 'field')[0]:.0f} to {each(last, 'field')[0]:.0f} pixels a side, and "
            "the square "
            f"that holds half of its effect from {number(side(first))} to {number(side(last))}.",
            f"A linear probe gains {percent(gain)} from {first} to {last}; in an untrained network "
            f"{percent(gain_before)}.",
        ],
        [
            Difference("what a probe gains with depth", gain),
            Difference("what it gains beyond an untrained network", minus(gain, gain_before)),
        ],
        rows,
    )


RULES: tuple[Callable[[Findings], Verdict], ...] = (
    small_window,
    same_detector,
    arrangement,
    pattern_in_kernel,
    training_shapes,
    nameable,
    growing,
)


def _once(values: Sequence[float]) -> str:
    """Return a number that is the same in every seed, or the range, as text."""
    low, high = min(values), max(values)
    return f"{low:.0f}" if low == high else f"{low:.0f} to {high:.0f}"


def _small(values: Sequence[float]) -> str:
    return f"at most {max(values):.1g}" if max(values) > 0 else "0"


def decide(findings: Findings) -> list[Verdict]:
    """Return the verdict on every claim, in the order of the study."""
    return [rule(findings) for rule in RULES]
