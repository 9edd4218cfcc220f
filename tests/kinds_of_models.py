"""Models as libraries wrap, convert and run them, each with a plain twin of which the same results are expected."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.ao.nn.quantized as quantized
import torch.ao.quantization as quantization
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint

IMAGES = torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(1))


@dataclass(frozen=True)
class Kind:
    """A model, its plain twin, and how both are called."""

    model: nn.Module
    twin: nn.Module
    prefix: str = ""  # of the model's names, before those of the twin
    tolerance: float = 0.0
    layers: Any = nn.Conv2d
    images: torch.Tensor = field(default_factory=lambda: IMAGES)
    forward: Callable[[nn.Module, Any], Any] | None = None  # of the model
    around: Callable[[], AbstractContextManager[Any]] = nullcontext
    exact: bool = True  # whether its fields are exact
    geometry: nn.Module | None = None  # a model of the same fields, in place of the twin


def net() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, stride=2), nn.ReLU()
        return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)).eval()


def changed(change: Callable[[nn.Sequential], object], **options: Any) -> Kind:
    """Return a network after a change in place, with a twin of the weights that it computes."""
    model, twin = net(), net()
    change(model)
    model.train()(IMAGES)  # spectral norms and observers need a forward
    model.eval()(IMAGES)
    for place in (0, 2):
        twin[place].weight.data = model[place].weight.detach().clone()
    return Kind(model, twin, **options)


class Codec(nn.Module):
    """A model that is called by another method than `forward`, as a VAE's `encode` and timm's `forward_features`."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = net(), nn.Linear(5, 3)

    def encode(self, x):
        return self.encoder(x)

    def forward(self, x):
        return self.decoder(self.encode(x))


class Checkpointed(nn.Module):
    """A model whose second half is recomputed in the backward pass."""

    def __init__(self):
        super().__init__()
        self.body = net()

    def forward(self, x):
        x = checkpoint(self.body[2:4], self.body[:2](x), use_reentrant=False)
        return self.body[4:](x)


class Octave(nn.Module):
    """A block that takes and returns a list of two resolutions, as octave convolutions do."""

    def __init__(self):
        super().__init__()
        self.high, self.low = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1)

    def forward(self, maps):
        return [self.high(maps[0]).relu(), self.low(maps[1]).relu()]


class OctaveNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.block, self.head = Octave(), nn.Conv2d(4, 5, 1)

    def forward(self, x):
        high, low = self.block([x, F.avg_pool2d(x, 2)])
        return self.head(high + F.interpolate(low, scale_factor=2)).relu().mean((2, 3))


class Plain(OctaveNet):
    """The same without a list."""

    def forward(self, x):
        high, low = self.block.high(x).relu(), self.block.low(F.avg_pool2d(x, 2)).relu()
        return self.head(high + F.interpolate(low, scale_factor=2)).relu().mean((2, 3))


class Replicated(nn.DataParallel):
    """Replicas of two halves of the batch in threads of their own, as on two accelerators."""

    def forward(self, x):
        found = {}

        def run(place, half):
            modules = list(self.module.modules())
            replicas = {module: module._replicate_for_data_parallel() for module in modules}
            for module, replica in replicas.items():
                for name, child in module._modules.items():
                    replica._modules[name] = replicas[child]
                for name, weight in module._parameters.items():
                    replica._parameters.pop(name, None)
                    setattr(replica, name, weight.view_as(weight))
            found[place] = replicas[self.module](half)

        threads = [threading.Thread(target=run, args=part) for part in enumerate(x.chunk(2))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return torch.cat([found[place] for place in sorted(found)])


def offload(model: nn.Module) -> nn.Module:
    """Return a model whose weights are on the meta device but while their layer runs, as accelerate offloads them."""
    for module in model.modules():
        weights = {name: value for name, value in module._parameters.items() if value is not None}
        if not weights:
            continue
        empty = {name: nn.Parameter(value.to("meta"), requires_grad=False) for name, value in weights.items()}

        def run(*args, module=module, weights=weights, empty=empty):
            for name, value in weights.items():
                module._parameters[name] = type(module._parameters[name])(value.detach(), requires_grad=False)
            try:
                return module._old_forward(*args)
            finally:
                module._parameters.update(empty)

        module._hf_hook, module._old_forward, module.forward = object(), module.forward, run
        module._parameters.update(empty)
    return model


class Quantizable(nn.Module):
    def __init__(self):
        super().__init__()
        self.before, self.after = quantization.QuantStub(), quantization.DeQuantStub()
        self.conv, self.relu, self.last = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 1)

    def forward(self, x):
        return self.after(self.last(self.relu(self.conv(self.before(x))))).relu().mean((2, 3))


def quantizable(config: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Quantizable()
    model.qconfig = config
    return model


def observed() -> Kind:
    """Return a model with observers, which change their state in every forward, and the one without."""
    model = quantizable(quantization.default_qconfig).eval()
    return Kind(quantization.prepare(model), model)


def quantization_aware() -> Kind:
    """Return a model in quantization-aware training, and a copy."""
    config = quantization.QConfig(quantization.default_fake_quant, quantization.default_weight_fake_quant)
    model = quantization.prepare_qat(quantizable(config).train())
    model(IMAGES)
    return Kind(model.eval(), copy.deepcopy(model), exact=False)  # scales depend on all values of the input


def int8() -> Kind:
    """Return a model of int8, and a copy."""
    model = quantization.prepare(quantizable(quantization.default_qconfig).eval())
    model(IMAGES)
    model = quantization.convert(model)
    kinds = quantized.Conv2d, quantized.DeQuantize, nn.Conv2d, quantization.DeQuantStub  # of the one, of the other
    return Kind(
        model, copy.deepcopy(model), layers=lambda _, one: isinstance(one, kinds), geometry=Quantizable().eval()
    )


def scripted() -> Kind:
    model, twin = net(), net()
    model[4] = torch.jit.script(model[4])
    return Kind(model, twin, layers=["0", "2"])


def halves() -> Kind:
    model = net().bfloat16()
    return Kind(model, copy.deepcopy(model), images=IMAGES.bfloat16())


def compiled_part() -> Kind:
    model, twin = net(), net()
    model[2] = torch.compile(model[2], backend="eager")
    model(IMAGES)
    return Kind(model, twin)


KINDS: dict[str, Callable[[], Kind]] = {
    "another method": lambda: Kind(Codec().eval(), net(), "encoder.", forward=lambda model, batch: model.encode(batch)),
    "parametrized": lambda: changed(lambda model: parametrizations.weight_norm(model[0]), tolerance=1e-5),
    "spectral norm": lambda: changed(lambda model: parametrizations.spectral_norm(model[2]), tolerance=1e-5),
    "old spectral norm": lambda: changed(lambda model: nn.utils.spectral_norm(model[0]), tolerance=1e-5),
    "pruned": lambda: changed(lambda model: prune.l1_unstructured(model[0], "weight", 0.5), exact=False),
    "checkpointed": lambda: Kind(Checkpointed().eval(), net(), "body."),
    "channels_last": lambda: Kind(
        net().to(memory_format=torch.channels_last),
        net(),
        images=IMAGES.contiguous(memory_format=torch.channels_last),
        tolerance=1e-5,
    ),
    "bfloat16": halves,
    "autocast": lambda: Kind(net(), net(), around=lambda: torch.autocast("cpu", dtype=torch.bfloat16)),
    "compiled": lambda: Kind(torch.compile(net(), backend="eager"), net()),
    "compiled part": compiled_part,
    "DataParallel": lambda: Kind(Replicated(net()).eval(), net()),
    "offloaded": lambda: Kind(offload(net()), net()),
    "lists": lambda: Kind(*_with_the_same_weights(OctaveNet().eval(), Plain().eval())),
    "observers": observed,
    "quantization-aware": quantization_aware,
    "int8": int8,
    "scripted part": scripted,
}


def _with_the_same_weights(model: nn.Module, twin: nn.Module) -> tuple[nn.Module, nn.Module]:
    twin.load_state_dict(model.state_dict())
    return model, twin
