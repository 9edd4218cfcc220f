"""A checkup: one pass for all rules, which leaves the model as it was, and says what it could not examine."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sweeps import together
from torch import nn
from torch.utils.data import Dataset

import spatialprobe as sp
from spatialprobe import diagnosis
from spatialprobe.diagnosis.survey import fingerprint

IMAGES = torch.rand(128, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def network(**options):
    """Convolutions with a batch norm and dropout, in evaluation mode."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(6, 4, 3), nn.ReLU()]
    return nn.Sequential(*layers, **options).eval()


def check(model, data=IMAGES, **options):
    return sp.checkup(model, data, progress=False, **options)


def nothing_is_wrong(evidence):
    """A rule that passes without a word."""
    return []


def too_few_samples(evidence):
    """A rule of a user."""
    if evidence.samples < 1000:
        return [sp.Finding("other_name", "note", measured=evidence.samples, limit=1000, evidence="Few.")]
    return "There are enough samples."


def does_not_apply(evidence):
    raise diagnosis.NotApplicable("There is nothing to measure.")


def falls_over(evidence):
    raise KeyError("conv1")


def test_each_rule_is_in_exactly_one_place():
    """Rules of a user find, pass, are skipped or raise beside those of the table; each is told once."""
    rules = ["nonfinite", nothing_is_wrong, too_few_samples, does_not_apply, falls_over]
    found = check(network(), rules=rules)
    assert [one.rule for one in found.findings] == ["too_few_samples"]
    assert list(found.passed) == ["nonfinite", "nothing_is_wrong"]
    assert found.skipped["does_not_apply"] == "There is nothing to measure."
    assert found.skipped["falls_over"] == "The rule raised KeyError: 'conv1'"
    places = [{one.rule for one in found.findings}, set(found.passed), set(found.skipped)]
    assert sum(map(len, places)) == len(set.union(*places)) == len(rules)
    assert found.of("too_few_samples") == found.findings
    assert found.of("nonfinite") == ()
    with pytest.raises(sp.ArgumentError, match="had no rule 'dead_channels', but too_few_samples, nonfinite"):
        found.of("dead_channels")


def test_all_rules_of_the_table_are_asked():
    """Left out, `rules` are those of the table, and each of them is told."""
    found = check(network())
    told = {one.rule for one in found.findings} | found.passed.keys() | found.skipped.keys()
    assert told == diagnosis.TABLE.keys()
    assert all(rule.reason.endswith(".") and rule.question for rule in diagnosis.TABLE.values())


def test_every_rule_is_in_the_reference_with_its_reason():
    """The table of the reference says what each rule finds, why its limit is what it is, and what its picture shows."""
    page = (Path(__file__).parents[2] / "docs" / "api" / "checkup.md").read_text()
    for rule in diagnosis.TABLE.values():
        assert f"| `{rule.name}` | {rule.severity} | {rule.question} | {rule.reason} | {rule.picture} |" in page


class Fuse(Dataset):
    """Images of which each process takes a share."""

    def __len__(self):
        return 70

    def __getitem__(self, index):
        return IMAGES[index]


def checked_in_a_process(folder):
    """The checkup of one of several processes, as text."""
    found = check(network(), Fuse(), batch_size=16)
    return [(one.rule, one.layer, one.measured) for one in found], dict(found.passed), found.samples


def test_several_processes_return_the_same(tmp_path):
    """Each of two processes takes its share, and both return what one returns."""
    alone = checked_in_a_process(tmp_path)
    both = together(checked_in_a_process, tmp_path, 2)
    for found in both:
        assert found[1:] == alone[1:]
        for one, other in zip(found[0], alone[0], strict=True):
            assert one[:2] == other[:2]
            assert one[2] == pytest.approx(other[2], rel=1e-6)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (["dead_channel"], "There is no rule 'dead_channel'. Did you mean 'dead_channels'\\? Rules: nonfinite, "),
        ("nonfinite", "rules must be a list of names and functions"),
        ([], "rules is empty: there is nothing to examine"),
        ([3], "rules holds 3, which is neither the name of a rule nor a function"),
        (["nonfinite", "nonfinite"], "rules names 'nonfinite' twice"),
    ],
)
def test_rules_that_cannot_be_used(rules, message):
    """Rules are named or functions."""
    with pytest.raises(sp.ArgumentError, match=message):
        check(network(), rules=rules)


@pytest.mark.parametrize("returned", [None, [3]])
def test_a_rule_that_returns_something_else_is_skipped(returned):
    """A rule must return findings or a sentence."""
    found = check(network(), rules=[lambda evidence: returned])
    assert "The rule raised ArgumentError: it returned" in found.skipped["<lambda>"]


def test_data_and_models_that_cannot_be_used():
    """Errors say what was given, and what to do."""
    with pytest.raises(sp.ArgumentError, match="the data is empty"):
        check(network(), torch.zeros(0, 3, 12, 12))
    with pytest.raises(sp.ArgumentError, match="the data is empty"):
        check(network(), iter([]))
    with pytest.raises(sp.ForwardError, match=r"\(16, 1, 12, 12\)"):
        check(network(), torch.zeros(20, 1, 12, 12))
    with pytest.raises(sp.LayerNotFoundError, match="conv9"):
        check(network(), layers="conv9")
    with pytest.raises(sp.ArgumentError, match="severity must be one of 'error', 'warning', 'note', not 'fatal'"):
        sp.Finding("rule", "fatal")
    with pytest.raises(sp.ArgumentError, match="layer must be a string, not 3"):
        sp.Finding("rule", "note", 3)
    with pytest.raises(sp.ArgumentError, match="channels must be integers"):
        sp.Finding("rule", "note", channels="all")
    with pytest.raises(sp.ArgumentError, match="measured must be a number, not 'much'"):
        sp.Finding("rule", "note", measured="much")
    assert sp.Finding("rule", "note", channels=[1, 2], measured=torch.tensor(2.5)).measured == 2.5


class Mapped(nn.Module):
    """A model of a mapping of two inputs."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, pixels, scale):
        return F.relu(self.conv(pixels)) * scale.view(-1, 1, 1, 1)


def test_batches_of_any_form():
    """Mappings, a function that calls the model, one-shot iterators and loaders give the same measurement."""
    torch.manual_seed(0)
    model, scale = Mapped().eval(), torch.ones(len(IMAGES))
    batches = [{"pixels": IMAGES[i : i + 32], "scale": scale[i : i + 32]} for i in range(0, 128, 32)]
    expected = F.relu(model.conv(IMAGES)).double().mean(dim=(0, 2, 3))
    seen = []

    def look(evidence):
        seen.append(evidence.layers["conv"])
        return []

    check(model, batches, rules=[look])
    check(model, iter(batches), rules=[look])
    check(model, [(one,) for one in batches], rules=[look], forward=lambda model, batch: model(**batch[0]))
    for one in seen:
        assert one.samples == 128
        assert one.nonlinearity == "relu"
        assert one.at == "post_activation"
        assert torch.allclose(one.moments.mean, expected, rtol=1e-5)
        assert one.units == 100


def test_layers_without_a_nonlinearity_are_measured_at_their_output():
    """Where no single nonlinearity follows, the output is measured; layers that do not run are left out, and named."""
    model = network()
    model.add_module("unused", nn.Conv2d(3, 3, 1))
    model.forward = lambda x: model[4](model[0](x))
    seen = []

    def look(evidence):
        seen.append({name: one.at for name, one in evidence.layers.items()})
        return []

    found = check(model, rules=[look])
    assert seen == [{"0": "output", "4": "output"}]
    assert dict(found.left_out) == {"unused": "It did not run on the first samples."}
    with pytest.raises(sp.LayerNotRunError, match="'unused' did not run"):
        check(model, layers="unused")


def everything(model):
    """All that a checkup could change."""
    return {
        "state": {name: value.clone() for name, value in model.state_dict().items()},
        "objects": [id(value) for value in (*model.parameters(), *model.buffers())],
        "training": [module.training for module in model.modules()],
        "gradients": [(p.requires_grad, p.grad) for p in model.parameters()],
        "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()],
        "random": (torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()),
        "enabled": torch.is_grad_enabled(),
    }


@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_as_before(fails):
    """Weights, buffers, modes, gradients, hooks and random states are as before, also after an error."""
    model = network()
    model.train()
    model[1].eval()
    model[4].weight.requires_grad_(False)
    images = IMAGES[:70].clone()
    before, data = everything(model), [images[:35], torch.zeros(3)] if fails else images
    if fails:
        with pytest.raises(sp.SweepError, match="batch 1"):
            check(model, data)
    else:
        check(model, data)
    after = everything(model)
    for (key, one), other in zip(before.items(), after.values(), strict=True):
        if key == "state":
            assert all(torch.equal(one[name], other[name]) for name in one)
        elif key == "random":
            assert torch.equal(one[0], other[0])
            assert one[1:] == other[1:]
        else:
            assert one == other, key
    assert torch.equal(images, IMAGES[:70])


def test_written_out(tmp_path):
    """Table, notebook, Markdown, page and JSON hold every finding; names stay text."""
    model = nn.Sequential()
    model.add_module("<b>|`*", nn.Conv2d(3, 6, 3))
    model.add_module("relu", nn.ReLU())
    model[0].bias.data[:] = 1.0
    model[0].bias.data[2] = -9.0
    found = check(model.eval(), rules=["dead_channels", "training_mode", does_not_apply])
    assert found.findings[0].channels == (2,)
    assert "warning   dead_channels  <b>|`*" in repr(found)
    assert "Skipped: does_not_apply; .skipped says why." in repr(found)
    for text in (found._repr_html_(), found.save(tmp_path / "found.html").read_text()):
        assert "&lt;b&gt;|`*" in text
        assert "<b>" not in text
        assert "never above zero" in text
    page = (tmp_path / "found.html").read_text()
    assert "default-src 'none'" in page
    assert page.count("data:image/png;base64,") == 1
    text = found.to_markdown()
    assert text == found.save(tmp_path / "found.md").read_text()
    assert "## warning: dead\\_channels in `` <b>|`* ``" in text
    data = json.loads(found.save(tmp_path / "found.json").read_text())
    assert data["findings"][0]["channels"] == [2]
    assert data["skipped"] == {"does_not_apply": "There is nothing to measure."}
    assert found.findings[0].plot().get_size_inches()[0] > 1
    with pytest.raises(sp.ArgumentError, match="saved as .html, .md, .json, not as 'found.pdf'"):
        found.save(tmp_path / "found.pdf")
    with pytest.raises(sp.ArgumentError, match="has no picture"):
        sp.Finding("rule", "note").plot()


def test_long_tables_are_cut_and_say_so():
    """A table shows six findings of one rule, the worst first, and counts the rest."""

    def many(evidence):
        return [sp.Finding("many", "error" if i == 8 else "note", f"layer{i}") for i in range(9)]

    found = check(network(), rules=[many])
    assert found.findings[0].layer == "layer8"
    assert repr(found).count("note ") == 5
    assert "3 more of many; .findings has all." in repr(found)
    assert len(list(found)) == len(found) == 9


def test_fingerprints_tell_values_apart():
    """The estimated change is 0 for equal values, near the true one for others, and knows NaN and permutations."""
    generator = torch.Generator().manual_seed(1)
    value = torch.randn(16, 40, generator=generator)
    other = value + 0.1 * torch.randn(16, 40, generator=generator)
    prints = [fingerprint(one, 16, {}) for one in (value, other, value.flip(1), value.clone())]
    true = (other - value).norm(dim=1) / value.norm(dim=1)
    assert 0.3 < prints[0].change(prints[1]).max() / true.max() < 3
    assert prints[0].change(prints[2]).max() > 0.3
    assert prints[0].change(prints[3]).max() == 0
    broken = value.clone()
    broken[3, 2] = torch.nan
    broken = fingerprint(broken, 16, {})
    assert not broken.is_finite
    assert broken.change(broken).max() == 0
    assert broken.change(prints[0]).max() == torch.inf
