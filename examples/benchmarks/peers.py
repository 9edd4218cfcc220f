"""Other ways to keep layers' outputs: `run()` of each gives the tensors of one pass by layer name.

Those that are not installed are left out and named. Baukit is in no package index: its way of retaining outputs is
written out here, with and without its `clone` option.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec

import torch
from torch import nn

Run = Callable[[], Mapping[str, torch.Tensor]]


def capture_peers(model: nn.Module, images: torch.Tensor, layers: Mapping[str, nn.Module]) -> dict[str, Run | None]:
    """Return each peer's way to get the outputs of these layers; None for a peer that is not installed or cannot."""
    return {
        "baukit-style trace": lambda: _traced(model, images, layers, clone=False),
        "baukit-style trace, clone": lambda: _traced(model, images, layers, clone=True),
        "torchvision feature_extraction": _torchvision(model, images, layers),
        "captum LayerActivation": _captum(model, images, layers),
        "TorchLens record": _torchlens(model, images, layers),
    }


def _traced(
    model: nn.Module, images: torch.Tensor, layers: Mapping[str, nn.Module], *, clone: bool
) -> dict[str, torch.Tensor]:
    """Return the outputs, kept by one retaining hook a layer, all in one context."""
    with _retained(layers, clone=clone) as outputs:
        model(images)
    return outputs


@contextmanager
def _retained(layers: Mapping[str, nn.Module], *, clone: bool) -> Iterator[dict[str, torch.Tensor]]:
    outputs: dict[str, torch.Tensor] = {}

    def retain(name: str) -> Callable[[nn.Module, object, torch.Tensor], None]:
        def hook(module: nn.Module, args: object, output: torch.Tensor) -> None:
            outputs[name] = output.clone() if clone else output

        return hook

    handles = [layer.register_forward_hook(retain(name)) for name, layer in layers.items()]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _torchvision(model: nn.Module, images: torch.Tensor, layers: Mapping[str, nn.Module]) -> Run | None:
    """Return the model traced once into a graph that returns the layers' outputs; only the graph's run is timed.

    None where it cannot name the layers, as those of a ConvNeXt.
    """
    from torchvision.models.feature_extraction import create_feature_extractor

    try:
        extractor = create_feature_extractor(model, return_nodes=list(layers))
    except ValueError:
        return None
    return lambda: extractor(images)


def _captum(model: nn.Module, images: torch.Tensor, layers: Mapping[str, nn.Module]) -> Run | None:
    if find_spec("captum") is None:
        return None
    from captum.attr import LayerActivation

    method = LayerActivation(model, list(layers.values()))
    return lambda: dict(zip(layers, method.attribute(images), strict=True))


def _torchlens(model: nn.Module, images: torch.Tensor, layers: Mapping[str, nn.Module]) -> Run | None:
    """Return the convolutions' results in order of execution, the order of the layers in the models measured."""
    if find_spec("torchlens") is None:
        return None
    import torchlens

    def run() -> dict[str, torch.Tensor]:
        recording = torchlens.record(model, images, save=torchlens.func("conv2d"))
        return {name: record.ram_payload for name, record in zip(layers, recording, strict=True)}

    return run
