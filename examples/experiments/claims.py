"""The seven claims: the conditions of each, and the sentences and tables of its numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

from experiments.measures import MOST, PIXEL
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
        "In every seed, changing one pixel changes exactly the units whose receptive field contains it, and these are "
        "fewer than a quarter of the layer. In the fully connected control it changes every hidden unit.",
        {
            "the units that changed are those predicted": equal,
            "fewer than a quarter of the units changed": small < 0.25,
            "every hidden unit of the control changed": whole,
        },
        [
            f"The pixel in row {PIXEL[0]}, column {PIXEL[1]} was changed in "
            f"{findings.of_seed[0]['footprint']['conv1']['n']} test images.",
            f"At most {percent([small])} of a convolution's units changed in any seed.",
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
        "In every seed, shifting the image by a multiple of a layer's stride shifts its maps by as many units: away "
        f"from the border their relative error is below {ROUNDING:g}. The hidden units of the fully connected control "
        "have no such order: even if each is compared with the unit that matches it best, the error is above 0.1.",
        {
            f"errors at multiples of the stride are below {ROUNDING:g}": most < ROUNDING,
            "the control's error is above 0.1": min(error["mlp"]) > 0.1,
        },
        [
            f"At multiples of the stride the largest error in any seed is {most:.1g}.",
            f"Between multiples the error of conv2 is {number(error['conv2, between'])}: the max-pooling before it "
            "keeps one position of two, and a shift by one pixel changes which.",
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
        "Trained and tested on images whose pixels are all rearranged in one fixed way, the CNN loses more accuracy "
        "than the MLP (the fully connected control), which has no use for the arrangement. The MLP has to be better "
        "than chance, or it could not lose anything.",
        {},
        [
            f"Trained on permuted pixels instead, the CNN goes from {percent(cnn)} to {percent(permuted)}, the MLP "
            f"from {percent(mlp)} to {percent(mlp_permuted)}; chance is {percent([chance])}.",
            "To the MLP both tasks are equally hard, since permuting the weights of its first layer in the same way "
            "undoes the permutation; its two accuracies differ only because training starts from other weights.",
            *_describe_untrained(permuted, chance, findings.test_images),
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
            ("CNN", percent(cnn), percent(permuted), percent(loss, "points")),
            ("MLP (control)", percent(mlp), percent(mlp_permuted), percent(loss_mlp, "points")),
        ],
    )


def _describe_untrained(permuted: tuple[float, ...], chance: float, images: int) -> list[str]:
    """Return a sentence where no CNN on permuted pixels is better than chance by twice the sampling error."""
    error = 2 * (chance * (1 - chance) / images) ** 0.5
    if max(permuted) > chance + error:
        return []
    return [
        "On permuted pixels the CNN stays at chance in every seed: it does not begin to learn in so few steps. So the "
        "loss also holds what training longer might win back."
    ]


def pattern_in_kernel(findings: Findings) -> Verdict:
    """Return the verdict on: the pattern inside the kernel matters."""
    kept, averaged, shuffled = (findings.accuracy(kind) for kind in HEADS)
    whole = findings.accuracy(CNN)
    rows = [
        ("kernels of both convolutions", "head as it was", "a new head, trained on them"),
        ("unchanged (control)", percent(whole), percent(kept)),
        (
            "weights averaged, for each input channel",
            percent(findings.each("surgery", "mean, both")),
            percent(averaged),
        ),
        ("weights shuffled", percent(findings.each("surgery", "shuffle, both")), percent(shuffled)),
    ]
    single = ", ".join(
        f"{percent(findings.each('surgery', f'{how}, {layer}'))} with {layer}'s {words}"
        for how, words in (("mean", "averaged"), ("shuffle", "shuffled"))
        for layer in ("conv1", "conv2")
    )
    return decided(
        "The pattern inside the kernel matters",
        "Each kernel's weights are replaced by their average, or shuffled, which keeps their sum. A new head (the two "
        "fully connected layers), trained on such kernels, does worse than a new head on the unchanged ones. The old "
        "head would not show it, since it was never trained on what changed kernels output.",
        {},
        [
            f"A new head reaches {percent(kept)} on the trained kernels, {percent(averaged)} on averaged and "
            f"{percent(shuffled)} on shuffled ones.",
            f"The old head, with the kernels of one layer changed, reaches {single}.",
        ],
        [
            findings.between("a new head on unchanged less averaged kernels", kept, averaged),
            findings.between("a new head on unchanged less shuffled kernels", kept, shuffled),
        ],
        rows,
    )


def training_shapes(findings: Findings) -> Verdict:
    """Return the verdict on: training shapes the kernels."""
    chosen = {name: findings.each("selectivity", name) for name in ("trained", "random", "permuted")}
    kept, random = findings.accuracy(HEADS[0]), findings.accuracy(RANDOM)
    layers = list(findings.of_seed[0]["similarity"]["random"])
    alike = {
        name: ", ".join(f"{number(findings.each('similarity', name, layer, layer))} in {layer}" for layer in layers)
        for name in findings.of_seed[0]["similarity"]
    }
    return decided(
        "Training shapes the kernels",
        "conv1 of the trained network is more selective for orientation than before training, and than conv1 of a "
        "network trained on permuted pixels. A new head does better on trained kernels than on random ones.",
        {},
        [
            "Selectivity is 0 for a channel that responds to gratings of every orientation alike, and 1 for one that "
            f"responds to a single orientation. The mean over conv1's channels is {number(chosen['trained'])} after "
            f"training, {number(chosen['random'])} before, and {number(chosen['permuted'])} after training on "
            "permuted pixels.",
            f"A new head reaches {percent(kept)} on frozen trained kernels and {percent(random)} on frozen random "
            "ones.",
            "How far training has moved each layer shows in its similarity (linear CKA: 1 means equal but for rotation "
            f"and scale) to the same network before training: {alike['random']}. To its twin trained on permuted "
            f"pixels it is {alike['permuted']}.",
            *([f"For comparison, networks trained from two seeds have {alike['seed']}."] if "seed" in alike else []),
        ],
        [
            Difference("selectivity, trained less untrained", minus(chosen["trained"], chosen["random"])),
            Difference("selectivity, trained less permutation-trained", minus(chosen["trained"], chosen["permuted"])),
            findings.between("a new head on trained less random kernels", kept, random),
        ],
        [
            ("kernels", "orientation selectivity of conv1", "accuracy of a new head"),
            ("trained", number(chosen["trained"]), percent(kept)),
            ("random (control)", number(chosen["random"]), percent(random)),
            ("trained on permuted pixels (control)", number(chosen["permuted"]), "not applicable"),
        ],
    )


def nameable(findings: Findings) -> Verdict:
    """Return the verdict on: channels detect something nameable."""
    layers = list(findings.of_seed[0]["coherence"]["trained"])
    differences = [
        Difference(
            f"{layer}, top patches less random patches",
            minus(*(findings.each("coherence", "trained", layer, which) for which in ("exemplars", "random"))),
        )
        for layer in layers
    ]
    differences += [
        Difference(
            f"{layer}, overlap with own motifs less those of other images",
            minus(*(findings.each("alignment", "trained", layer, which) for which in ("own", "others"))),
        )
        for layer in layers
    ]
    return decided(
        "Channels detect something nameable",
        "In every convolution a channel's nine top-activating patches resemble each other more than random patches of "
        "the same size do. And on drawn patterns, whose motifs (stripes, dots, crosses, ...) are known pixel by pixel, "
        "a channel's most active units coincide with its best motif, which is chosen on other images, more than with "
        "the motifs of other images.",
        {},
        [
            "The resemblance of patches is their mean correlation; the overlap of active units and motif is their "
            "intersection over union. The motifs name arrangements of pixels only: a channel that responds to a color "
            "has no name among them.",
            *_synthesis_sentences(findings),
            "The patches of an untrained network resemble each other as well, as those of any filter do: the claim is "
            "about what channels detect, not about training.",
        ],
        differences,
        [
            ("layer and network", "top patches", "random patches (control)", "own motif", "other images' (control)"),
            *(_names_row(findings, layer, which) for layer in layers for which in ("trained", "untrained")),
        ],
    )


def _names_row(findings: Findings, layer: str, which: str) -> tuple[str, ...]:
    """Return the row of a layer's patches and motifs, in the trained or the untrained network."""
    return (
        layer if which == "trained" else f"{layer}, {which}",
        *(number(findings.each("coherence", which, layer, what)) for what in ("exemplars", "random")),
        *(percent(findings.each("alignment", which, layer, what)) for what in ("own", "others")),
    )


def _synthesis_sentences(findings: Findings) -> list[str]:
    """Return what is said of synthesized images: whether they are what channels respond to most."""
    shares = " and ".join(
        f"{percent(findings.each('synthesis', layer))} of {layer}'s channels"
        for layer in findings.of_seed[0]["synthesis"]
    )
    images = min(MOST, findings.test_images)
    return [f"Images synthesized by gradient ascent drive {shares} higher than any of {images:,} test images does."]


def growing(findings: Findings) -> Verdict:
    """Return the verdict on: patterns grow with depth."""
    names = list(findings.layers[0])

    def each(layer: str, what: str) -> tuple[float, ...]:
        return tuple(float(found[layer][what]) for found in findings.layers)

    def side(layer: str) -> tuple[float, ...]:
        return tuple(float(found[layer]["effective"]["0.5"]) for found in findings.layers)

    rows = [
        (
            "layer",
            "field (pixels)",
            "square with half of its effect",
            "zeros after ReLU",
            "linear probe",
            "probe, untrained",
        )
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
        "From the first to the last convolution the receptive field grows in every seed, and so does the square that "
        "holds half of its effect (the effective field). A linear classifier on a layer's outputs (a linear probe) is "
        "better on the last layer than on the first, and gains more than in an untrained network.",
        {
            "the receptive field grows": min(minus(each(last, "field"), each(first, "field"))) > 0,
            "the effective field grows": min(minus(side(last), side(first))) > 0,
        },
        [
            f"The side of the field grows from {each(first, 'field')[0]:.0f} to {each(last, 'field')[0]:.0f} pixels, "
            f"that of the square that holds half of its effect from {number(side(first))} to {number(side(last))}.",
            f"From {first} to {last} a linear probe gains {percent(gain, 'points')}, in an untrained network "
            f"{percent(gain_before, 'points')}.",
        ],
        [
            Difference("what a linear probe gains from the first layer to the last", gain),
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
