"""Sweeps over batches of any form equal the sweep over plain tensors of the same images, or loops by hand."""

from __future__ import annotations

import dataclasses
from collections import UserDict, namedtuple
from functools import partial

import pytest
import torch
from sweeps import images, small_model
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import spatialprobe as sp

REDUCERS = {"moments": sp.Moments, "top": partial(sp.Exemplars, k=3)}
quiet = partial(sp.sweep, reducers=REDUCERS, progress=False, batch_size=4)
COUNT = 10
Pair = namedtuple("Pair", "image label")


class Vision(nn.Module):
    """A model whose forward names its inputs, as those of Hugging Face do, and returns a mapping."""

    def __init__(self):
        super().__init__()
        self.body = small_model()

    def forward(self, pixel_values, scale=None, labels=None, return_dict=True):
        assert labels is None
        logits = self.body(pixel_values if scale is None else pixel_values * scale[:, None, None, None])
        return {"logits": logits, "nothing": None}


@dataclasses.dataclass(frozen=True)
class Sample:
    pixel_values: torch.Tensor
    label: int
    note: object = None


class Samples(Dataset):
    """Numbered images in a form of the test's choice."""

    def __init__(self, form):
        self.form = form

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        return self.form(images(COUNT)[index], index)


def assert_as_plain(result):
    """Check that a sweep of `Vision`, or of the plain model, is that over a plain tensor."""
    plain = quiet(small_model(), images(COUNT))
    assert [name.removeprefix("body.") for name in result] == list(plain)
    for name, one in result.items():
        other = plain[name.removeprefix("body.")]
        assert result.samples == COUNT
        assert torch.equal(one["moments"].mean, other["moments"].mean)
        assert torch.equal(one["moments"].variance, other["moments"].variance)
        assert torch.equal(one["top"].values, other["top"].values)
        assert torch.equal(one["top"].samples, other["top"].samples)
        assert torch.equal(one["top"].positions, other["top"].positions)


NAMED = {
    "a mapping": lambda image, i: {"label": i, "pixel_values": image, "path": f"{i}.png"},
    "a mapping of the user's": lambda image, i: UserDict(pixel_values=image, labels=i),
    "a dataclass": lambda image, i: Sample(image, i),
    "a mapping and a label": lambda image, i: ({"pixel_values": image}, i),
    "entries of several sizes": lambda image, i: {"boxes": torch.zeros(i, 4), "pixel_values": image},
}
PLAIN = {
    "a tensor": lambda image, i: image,
    "a tuple": lambda image, i: (image, i, None),
    "a named tuple": lambda image, i: Pair(image, i),
    "an array": lambda image, i: image.numpy(),
}


class TestForms:
    @pytest.mark.parametrize("form", NAMED.values(), ids=NAMED)
    @pytest.mark.parametrize("workers", [0, 1])
    def test_entries_that_forward_names(self, form, workers):
        """Of mappings and dataclasses the model is given what its forward names, without labels."""
        assert_as_plain(quiet(Vision(), Samples(form), num_workers=workers))

    @pytest.mark.parametrize("form", PLAIN.values(), ids=PLAIN)
    def test_first_entry(self, form):
        """Of other samples it is given the first entry."""
        assert_as_plain(quiet(small_model(), Samples(form)))

    def test_loader_of_mappings(self):
        """Batches of a loader are read alike, and those that it shuffles keep their positions."""
        loader = DataLoader(Samples(NAMED["a mapping"]), 3, shuffle=True)
        result, plain = quiet(Vision(), loader), quiet(small_model(), images(COUNT))
        assert torch.equal(result["body.3"]["top"].samples, plain["3"]["top"].samples)

    def test_stream_of_objects_like_a_tokenizers(self):
        """A `BatchEncoding` is a `UserDict`: its tensors are copied, and the caller's stay as they are."""
        given = images(COUNT)
        batches = [UserDict(pixel_values=given[:4], labels=[1]), UserDict(pixel_values=given[4:])]
        model = Vision()
        model.body.insert(0, nn.ReLU(inplace=True))
        quiet(model, batches)
        assert torch.equal(given, images(COUNT))

    def test_function_that_calls_the_model(self):
        """`forward=` is given whole batches, labels and all, and may call any method with any extra input."""
        scales = torch.linspace(0.5, 2, COUNT)
        found = quiet(
            Vision(),
            TensorDataset(images(COUNT), scales),
            forward=lambda model, batch: model(batch[0], scale=batch[1]),
        )
        plain = quiet(small_model(), images(COUNT) * scales[:, None, None, None])
        assert torch.equal(found["body.3"]["moments"].mean, plain["3"]["moments"].mean)

    def test_another_method_after_the_nonlinearity(self):
        """Post-activations are found where `forward=` calls another method than the model's forward."""

        class Encoder(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = nn.Conv2d(3, 4, 3)

            def encode(self, x):
                return self.conv(x).relu()

        model, given = Encoder(), images(COUNT)
        found = quiet(model, given, forward=lambda model, batch: model.encode(batch), at="post_activation")
        with torch.no_grad():
            mean = model.encode(given).double().mean((0, 2, 3))
        torch.testing.assert_close(found["conv"]["moments"].mean, mean)

    def test_tokens_of_a_mapping(self):
        """Where the layout is in doubt, the tensor of a mapping is followed as one alone is."""

        class Tokens(nn.Module):
            def __init__(self):
                super().__init__()
                self.embed, self.mix = nn.Conv2d(3, 5, 4, stride=4), nn.Linear(5, 7)

            def forward(self, pixel_values, offset=None):
                return self.mix(self.embed(pixel_values + offset).flatten(2).transpose(1, 2))

        model = Tokens()
        batches = [{"offset": torch.zeros(4, 1, 1, 1), "pixel_values": torch.rand(4, 3, 16, 16)}]
        assert quiet(model, batches, layers=nn.Linear)["mix"]["moments"].mean.shape == (7,)


class TestIdentity:
    def test_checkpoint_knows_the_function(self, tmp_path):
        """A checkpoint of another `forward=` is refused, one of the same code continues."""
        path = tmp_path / "state"
        data = TensorDataset(images(COUNT), torch.arange(COUNT))

        def run(factor):
            return quiet(Vision(), data, checkpoint=path, forward=lambda model, batch: model(batch[0] * factor))

        first = run(1)
        assert torch.equal(run(1)["body.0"]["top"].values, first["body.0"]["top"].values)
        with pytest.raises(sp.StorageError, match="forward"):
            run(2)

    def test_stream_of_mappings_continues(self, tmp_path):
        """Batches that are mappings are compared with those of the checkpoint, all that the model takes of them."""
        path, given = tmp_path / "state", images(COUNT)
        batches = [
            {"pixel_values": given[at : at + 4], "scale": torch.ones(len(given[at : at + 4]))} for at in (0, 4, 8)
        ]

        def torn():
            yield from batches[:2]
            raise OSError("gone")

        with pytest.raises(sp.SweepError, match="gone"):
            quiet(Vision(), torn(), checkpoint=path, checkpoint_seconds=0)
        other = [{**batches[0], "scale": batches[0]["scale"] * 2}, *batches[1:]]
        with pytest.raises(sp.StorageError, match="other data"):
            quiet(Vision(), other, checkpoint=path)
        assert_as_plain(quiet(Vision(), batches, checkpoint=path))


UNCLEAR = {
    "no entry is named": (
        lambda: small_model(),
        lambda: [{"image": images(4), "label": torch.arange(4)}],
        r"\['image'\] a tensor \(4, 3, 8, 8\).*Sequential.forward takes \(input\).*"
        r"forward=lambda model, batch: model\(batch\['image'\]\)",
    ),
    "only a label": (
        lambda: Vision(),
        lambda: [{"labels": images(4)}],
        "none of its entries that hold tensors is named",
    ),
    "a required entry is missing": (
        lambda: small_model(),
        lambda: [({"pixels": images(4)}, 3)],
        r"model\(batch\[0\]\['pixels'\]\)",
    ),
    "a list of samples": (
        lambda: Vision(),
        lambda: [[{"pixel_values": images(4)[0]}, {"pixel_values": images(4)[1]}]],
        "it is a list of samples",
    ),
    "nothing that comes first": (lambda: small_model(), lambda: [(None, images(4))], "no tensor that comes first"),
}


class TestUnclear:
    @pytest.mark.parametrize(("model", "data", "message"), UNCLEAR.values(), ids=UNCLEAR)
    def test_error_shows_what_to_write(self, model, data, message):
        """Where several readings are possible, or none, the error lists what was found and shows the line."""
        with pytest.raises(sp.ArgumentError, match=message):
            quiet(model(), data())

    def test_lists_in_a_model_of_two_kinds(self):
        """Three-axis tensors in a list are images or signals: a model with both convolutions cannot tell."""
        both = nn.ModuleList([nn.Conv1d(3, 4, 3), nn.Conv2d(3, 4, 3)])
        with pytest.raises(sp.ArgumentError, match="may be a list of images"):
            quiet(both, [[torch.zeros(3, 8, 8)]])

    def test_list_for_signals(self):
        """In a model of signals a list of tensors (N, C, L) is a batch and what goes with it."""
        given = torch.rand(COUNT, 3, 9)
        model = nn.Sequential(nn.Conv1d(3, 4, 3))
        found = quiet(model, DataLoader(TensorDataset(given), 4), layers="0")
        assert torch.equal(found["0"]["top"].values, quiet(model, given, layers="0")["0"]["top"].values)

    def test_what_is_no_function(self):
        """`forward=` must be callable."""
        with pytest.raises(sp.ArgumentError, match="forward"):
            quiet(small_model(), images(4), forward="model(batch)")

    def test_unstackable_images_for_a_model_of_tensors(self):
        """A model that takes no lists is told which sample differs."""
        sizes = Samples(lambda image, i: image[:, : 8 - i % 2])
        with pytest.raises(sp.SweepError, match=r"Sample 1 has shape \(3, 7, 8\), but sample 0.*batch_size=1"):
            quiet(small_model(), sizes)


class TestDetectors:
    def test_lists_of_several_sizes(self):
        """A detector's sweep equals looping by hand over its lists of images of different sizes."""
        detection = pytest.importorskip("torchvision.models.detection")
        torch.manual_seed(0)
        model = detection.fasterrcnn_mobilenet_v3_large_320_fpn(
            weights=None, weights_backbone=None, num_classes=3, min_size=64, max_size=96
        ).eval()
        sizes = [(40, 50), (64, 48), (50, 50), (33, 61), (48, 48)]
        photos = [torch.rand(3, *size, generator=torch.Generator().manual_seed(i)) for i, size in enumerate(sizes)]
        data = Photos([(photo, {"boxes": torch.zeros(i, 4)}) for i, photo in enumerate(photos)])
        layer = "backbone.body.0.0"
        by_hand = sp.Moments()
        with torch.no_grad():
            for at in (0, 2, 4):
                with sp.Probe(model, layer) as probe:
                    model(photos[at : at + 2])
                by_hand.update(probe[layer].tensor, torch.arange(at, min(at + 2, 5)))
        loader = DataLoader(data, 2, collate_fn=lambda batch: tuple(zip(*batch, strict=True)))
        streamed = [photos[at : at + 2] for at in (0, 2, 4)]
        for given in (data, loader, streamed):
            found = sp.sweep(model, given, {"moments": sp.Moments}, layers=layer, batch_size=2, progress=False)
            assert found.samples == 5
            torch.testing.assert_close(found[layer]["moments"].mean, by_hand.result().mean, rtol=0, atol=0)
            assert torch.equal(found[layer]["moments"].maximum, by_hand.result().maximum)


class Photos(Dataset):
    """Samples of any sizes."""

    def __init__(self, samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]
