"""The study's rules, on made-up numbers: what speaks for a claim supports it, and what speaks against it does not."""

from __future__ import annotations

from copy import deepcopy

import pytest
from experiments import claims
from experiments.trials import CNN, HEADS, MLP_PERMUTED, MLP_PLAIN, PERMUTED, RANDOM
from experiments.verdicts import Findings

CLEAR = {
    "accuracy": {
        CNN: 0.6,
        PERMUTED: 0.4,
        MLP_PLAIN: 0.45,
        MLP_PERMUTED: 0.45,
        RANDOM: 0.4,
        HEADS[0]: 0.6,
        HEADS[1]: 0.2,
        HEADS[2]: 0.4,
    },
    "footprint": {
        "conv1": {"changed": 9, "predicted": 9, "units": 1024, "equal": True, "n": 32},
        "conv2": {"changed": 16, "predicted": 16, "units": 256, "equal": True, "n": 32},
        "mlp": {"changed": 30, "predicted": 30, "units": 30, "equal": True, "n": 32},
    },
    "equivariance": {"conv1, multiple": 0.0, "conv2, multiple": 1e-7, "conv2, between": 0.3, "mlp": 0.6},
    "surgery": {f"{how}, {layer}": 0.2 for how in ("mean", "shuffle") for layer in ("conv1", "conv2", "both")},
    "selectivity": {"trained": 0.5, "random": 0.2, "permuted": 0.2},
    "similarity": {
        which: {row: {"conv1": 0.7, "conv2": 0.2} for row in ("conv1", "conv2")}
        for which in ("random", "permuted", "seed")
    },
    "coherence": {
        which: {layer: {"exemplars": 0.5, "random": 0.0, "channels": 6} for layer in ("conv1", "conv2")}
        for which in ("trained", "untrained")
    },
    "alignment": {
        which: {layer: {"own": 0.1, "others": 0.02, "best": ["dots", None]} for layer in ("conv1", "conv2")}
        for which in ("trained", "untrained")
    },
    "synthesis": {"conv1": 1.0, "conv2": 1.0},
}
LAYERS = {
    "conv1": {"field": 3, "effective": {"0.5": 3}, "sparsity": 0.5, "probe": 0.3, "untrained probe": 0.25},
    "conv2": {"field": 8, "effective": {"0.5": 6}, "sparsity": 0.5, "probe": 0.5, "untrained probe": 0.3},
}
NAMES = ["window", "detector", "arrangement", "pattern", "training", "nameable", "growing"]


def verdicts(change=None, seeds=3, every=True):
    """Of the clear numbers, with one of them changed in every seed or in the last alone."""
    of_seed, layers = [deepcopy(CLEAR) for _ in range(seeds)], [deepcopy(LAYERS) for _ in range(seeds)]
    if change:
        *path, last, value = change
        for found in list(zip(of_seed, layers, strict=True))[0 if every else -1 :]:
            place = found[0] if change[0] in found[0] else found[1]
            for name in path:
                place = place[name]
            place[last] = value
    findings = Findings(tuple(range(seeds)), of_seed, layers, test_images=10_000, classes=10)
    return dict(zip(NAMES, claims.decide(findings), strict=True))


def test_clear_numbers_support_every_claim():
    """Each claim is supported, with its table and its sentences."""
    for verdict in verdicts().values():
        assert verdict.supported
        assert verdict.word == "Supported"
        assert not verdict.failed
        assert verdict.sentences
        assert len({len(row) for row in verdict.table}) == 1


@pytest.mark.parametrize("every", [True, False], ids=["in all seeds", "in one seed"])
@pytest.mark.parametrize(
    ("claim", "change"),
    [
        ("window", ("footprint", "conv2", "equal", False)),
        ("window", ("footprint", "conv1", "changed", 1000)),
        ("window", ("footprint", "mlp", "changed", 29)),
        ("detector", ("equivariance", "conv2, multiple", 0.01)),
        ("detector", ("equivariance", "mlp", 0.05)),
        ("arrangement", ("accuracy", PERMUTED, 0.6)),
        ("arrangement", ("accuracy", MLP_PERMUTED, 0.25)),
        ("arrangement", ("accuracy", MLP_PLAIN, 0.1)),
        ("pattern", ("accuracy", HEADS[1], 0.6)),
        ("pattern", ("accuracy", HEADS[2], 0.7)),
        ("training", ("selectivity", "random", 0.5)),
        ("training", ("selectivity", "permuted", 0.6)),
        ("training", ("accuracy", RANDOM, 0.6)),
        ("nameable", ("coherence", "trained", "conv2", "random", 0.5)),
        ("nameable", ("alignment", "trained", "conv2", "own", 0.02)),
        ("growing", ("conv2", "field", 3)),
        ("growing", ("conv2", "effective", {"0.5": 2})),
        ("growing", ("conv2", "probe", 0.3)),
        ("growing", ("conv2", "untrained probe", 0.45)),
    ],
)
def test_contrary_numbers_do_not(claim, change, every):
    """One number that speaks against a claim, in all seeds or in one, and it is not supported; the reason is given."""
    verdict = verdicts(change, every=every)[claim]
    assert not verdict.supported
    assert verdict.word == "Not supported"
    assert len(verdict.failed) >= 1


def test_an_mlp_at_chance_is_no_control():
    """Where the control has learnt nothing it cannot lose, and the claim that rests on it is not supported."""
    change = ("accuracy", {**CLEAR["accuracy"], MLP_PLAIN: 0.1, MLP_PERMUTED: 0.1})
    verdict = verdicts(change)["arrangement"]
    assert verdict.failed[0].startswith("the MLP's accuracy over chance: 0.000")
    assert len(verdict.failed) == 1


@pytest.mark.parametrize(("accuracy", "said"), [(0.1, True), (0.4, False)])
def test_a_cnn_that_does_not_begin_to_learn(accuracy, said):
    """Where the CNN on permuted pixels stays at chance, the report says what its loss of accuracy leaves open."""
    verdict = verdicts(("accuracy", PERMUTED, accuracy))["arrangement"]
    assert ("stays at chance in every seed" in " ".join(verdict.sentences)) == said
    assert verdict.supported


def test_two_seeds_are_too_few():
    """Claims about what varies take three seeds; those that hold by construction do not."""
    found = verdicts(seeds=2)
    assert [name for name, verdict in found.items() if verdict.supported] == ["window", "detector"]
    assert "2 seeds, and the rule takes 3" in found["growing"].failed[0]
