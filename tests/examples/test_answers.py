"""The study's section on the channels that answers rest on: curves are plain loops, and words follow from them."""

from __future__ import annotations

import torch
from experiments import answers
from experiments.verdicts import Findings
from simple_cnn import SimpleCNN

import spatialprobe as sp


def test_curves_are_plain_loops():
    """Without the top channels, without all: what a loop over images and channels finds, from no channel on."""
    torch.manual_seed(0)
    cnn, images = SimpleCNN().eval(), torch.rand(5, 3, 32, 32)
    found = answers.deletions(cnn, images, seed=0)
    scores, classes = cnn(images).detach().max(dim=1)
    for layer, channels in (("conv1", 6), ("conv2", 12)):
        order = sp.attribute(cnn, images, layers=layer)[layer].channels.argsort(dim=1, descending=True, stable=True)
        for k in (0, 2, channels):
            falls = []
            for image in range(5):
                with sp.edited(cnn, {layer: sp.ablate(order[image, :k].tolist())}), torch.no_grad():
                    falls.append(scores[image] - cnn(images[image : image + 1])[0, classes[image]])
            assert abs(found[layer]["top"][k] - float(torch.stack(falls).mean())) < 1e-5
        assert found[layer]["top"][-1] == found[layer]["random"][-1] == found[layer]["lowest"][-1]
        assert 0 <= found[layer]["better"] < channels


def test_words_follow_from_the_numbers():
    """The table has the scores that are left at half of the channels; where random is as good, the section says so."""
    one = {
        "score": 4.0,
        "top": [0.0, 3.0, 5.0, 4.0, 4.0],
        "random": [0.0, 1.0, 2.0, 3.0, 4.0],
        "lowest": [0.0, -1.0, 0.0, 1.0, 4.0],
        "better": 2,
        "largest": 0.5,
        "images": 64,
        "leaders": 3,
    }
    findings = Findings((0, 1), [{"answers": {"conv1": one, "conv2": one | {"better": 3}}}] * 2, [], 64, 10)
    text = "\n".join(answers.section(findings))
    assert "| conv1 | 4 | 4.00 ± 0.00 | -1.00 ± 0.00 | 2.00 ± 0.00 | 4.00 ± 0.00 | 0.00 ± 0.00 |" in text
    assert "the score falls by 3.00 ± 0.00, without a random one by 1.00 ± 0.00; the difference is 2.00" in text
    assert text.count("no better") == 2  # in what the control is for, and of conv1
    assert answers.section(Findings((0,), [{}], [], 64, 10)) == []
    assert len(answers.curves(findings, "data").axes) == 2
