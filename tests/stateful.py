"""A model whose forward pass changes all state that it can, and comparison of all state of a model."""

from __future__ import annotations

import random
import types
from collections import deque
from itertools import chain

import numpy as np
import torch
from torch import nn


class Memory:
    """A plain object in which a model stores state."""

    def __init__(self):
        self.count = 0
        self.shapes = []
        self.total = torch.zeros(2)


class Stateful(nn.Module):
    """A model whose forward changes its input, its weights and all of its state, but not its output.

    With `reads` it reads values, so that it does not run on meta tensors.
    """

    def __init__(self, *, reads=False, seed=0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.conv1 = nn.Conv2d(3, 4, 3)
            self.norm = nn.BatchNorm2d(4)
            self.conv2 = nn.Conv2d(4, 4, 3)
            self.hidden = [nn.BatchNorm2d(4)]
        self.reads = reads
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mask", torch.ones(3))
        self.register_buffer("lazy", None)
        self.calls = 0
        self.state = torch.zeros(3)
        self.array = np.zeros(3)
        self.history = []
        self.cache = {"shapes": [], "last": None}
        self.recent = deque(maxlen=2)
        self.memory = Memory()
        self.generator = torch.Generator().manual_seed(1)
        self.goes = "soon"
        self.norm.eval()
        self.conv1.weight.requires_grad_(False)

    def forward(self, x):
        x *= 2  # modifies the caller's tensor unless it was copied
        x -= 0.5
        if self.reads and x.sum().item() == 1234.5:
            x = x + 1
        self.change(x)
        x = self.conv2(self.norm(self.conv1(x)).relu_())
        self.cache["last"] = self.history[-1] = x
        return x

    def change(self, x):
        """Change all state of the model."""
        self.calls += 1
        self.state += 1
        self.array += 1
        self.steps += 1
        self.history.append(None)
        self.cache["shapes"].append(tuple(x.shape))
        self.recent.append(x.shape[0])
        self.memory.count += 1
        self.memory.shapes.append(x.shape)
        self.memory.total.add_(1)
        self.mask = torch.zeros(3)
        self.lazy = torch.ones(2)
        self.fresh = object()
        self.__dict__.pop("goes", None)
        self.hidden[0](torch.rand(2, 4, 3, 3, generator=self.generator))
        self.norm.train(self.norm.training)
        self.conv2.requires_grad_(False)
        with torch.no_grad():
            self.conv2.bias.clamp_(min=-10)
            self.conv1.weight.data = self.conv1.weight.data.clone()
        torch.rand(3), np.random.rand(3), random.random()


class Writes(Stateful):
    """A `Stateful` that also changes the values of its weights, and so its next output."""

    def change(self, x):
        super().change(x)
        self.conv1.bias.data.add_(0.25)
        with torch.no_grad():
            self.norm.weight.mul_(1.5)


def everything(model):
    """Return all state of a model and all random states, collected independently of the library, to be compared."""
    listed = {id(module) for module in model.modules()}  # each is described by itself
    return {
        "attributes": [describe(vars(module), listed) for module in model.modules()],
        "parameters": [(name, id(p), p.detach().clone()) for name, p in model.named_parameters()],
        "memory": [(p.data_ptr(), p.dtype, p.device) for p in chain(model.parameters(), model.buffers())],
        "buffers": [(name, id(b), b.clone()) for name, b in model.named_buffers()],
        "modes": [(id(module), module.training) for module in model.modules()],
        "gradients": [(p.requires_grad, None if p.grad is None else id(p.grad)) for p in model.parameters()],
        "graphs": [b.requires_grad for b in model.buffers()],
        "hooks": [
            (list(module._forward_hooks.items()), list(module._forward_pre_hooks.items())) for module in model.modules()
        ],
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state()[1].copy(),
        "python": repr(random.getstate()),
        "grad mode": torch.is_grad_enabled(),
    }


_LEAVES = (int, float, str, bytes, bool, complex, type(None), type, torch.dtype, torch.device, types.FunctionType)


def describe(value, seen):
    """Return the identity of a value, and copies of everything in it that can change."""
    if isinstance(value, _LEAVES):
        return value
    if id(value) in seen:
        return id(value)
    seen = seen | {id(value)}
    if isinstance(value, torch.Tensor):
        return id(value), tuple(value.shape), value.requires_grad, value.detach().clone()
    if isinstance(value, np.ndarray):
        return id(value), value.copy()
    if isinstance(value, dict):
        return id(value), [(key, describe(held, seen)) for key, held in value.items()]
    if isinstance(value, (set, frozenset)):
        return id(value), sorted(map(repr, value))
    if isinstance(value, (list, tuple, deque)):
        return id(value), [describe(held, seen) for held in value]
    if isinstance(value, torch.Generator):
        return id(value), value.get_state()
    if isinstance(value, np.random.Generator):
        return id(value), repr(value.bit_generator.state)
    if isinstance(value, np.random.RandomState):
        return id(value), repr(value.get_state())
    if isinstance(value, random.Random):
        return id(value), repr(value.getstate())
    slots = {name: getattr(value, name, None) for name in getattr(type(value), "__slots__", ())}
    held = getattr(value, "__dict__", {})
    return id(value), describe(dict(sorted(held.items())), seen)[1], describe(slots, seen)[1]


def same(one, other):
    """Return whether two descriptions are equal."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and bits(one) == bits(other)
    if isinstance(one, np.ndarray):
        return one.tobytes() == other.tobytes()
    if isinstance(one, (list, tuple)):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return one == other


def bits(tensor):
    """Return the shape and the bytes of a tensor."""
    flat = tensor.detach().contiguous().reshape(-1)
    return tuple(tensor.shape), flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
