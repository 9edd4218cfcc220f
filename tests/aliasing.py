"""Random programs in which tensors share memory, and a slow interpreter that computes their gradients without sharing.

A program is a list of steps on tensors identified by numbers; number 0 is the model's input. As a model it runs in
torch, in place and with views. The interpreter represents memory as a value that is never modified: a write creates a
new value. Each layer output gets a perturbation of zeros, which is added to every value that is read through the tensor
the layer returned, and to the memory itself when it is written to. The gradient with respect to the perturbation is
that of the output.
"""

from __future__ import annotations

import random
from functools import partial
from typing import NamedTuple

import torch
from torch import nn

VIEWS = {
    "transpose": lambda t: t.transpose(0, -1),
    "tail": lambda t: t[1:] if len(t) > 1 else t[:],
    "every other": lambda t: t[..., ::2],
    "unsqueeze": lambda t: t.unsqueeze(0),
    "diagonal": lambda t: t.diagonal(0, 0, -1) if t.ndim > 1 else t[:1],
    "alias": lambda t: t.view_as(t),
}
WRITES = {
    "relu": (torch.Tensor.relu_, torch.relu),
    "scale": (lambda t: t.mul_(1.5), lambda t: t * 1.5),
    "shift": (lambda t: t.add_(0.25), lambda t: t + 0.25),
    "square": (lambda t: t.mul_(t), lambda t: t * t),
    "fill": (lambda t: t.fill_(0.5), lambda t: torch.full_like(t, 0.5)),
}
FRESH = {
    "tanh": torch.tanh,
    "affine": lambda t: t * 0.75 - 0.1,
    "copy": torch.clone,
}


class Step(NamedTuple):
    """One step of a program."""

    kind: str  # "view", "write", "fresh", "same", "read"; a layer or not
    name: str
    tensor: int  # the number of its operand
    is_layer: bool


def random_program(seed: int, length: int = 9) -> list[Step]:
    """Return a program that uses each of its tensors at the end."""
    choose = random.Random(seed)
    steps, count = [], 1
    for _ in range(length):
        kind = choose.choice(["view", "view", "write", "fresh", "same", "read"])
        table = {"view": VIEWS, "write": WRITES, "fresh": FRESH}.get(kind, {"": None})
        is_layer = kind != "read" and choose.random() < 0.6
        steps.append(Step(kind, choose.choice(list(table)), choose.randrange(count), is_layer))
        count += kind != "read"
    return steps


class Layer(nn.Module):
    """One step as a module."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def forward(self, t):
        kind, name = self.step.kind, self.step.name
        if kind == "same":
            return t
        return {"view": VIEWS, "fresh": FRESH}[kind][name](t) if kind != "write" else WRITES[name][0](t)


class Program(nn.Module):
    """A program as a model; its output is the sum of all reads."""

    def __init__(self, steps, weight=None):
        super().__init__()
        self.layers = nn.ModuleList(Layer(step) for step in steps)
        self.weight = None if weight is None else nn.Parameter(weight)

    def forward(self, x):
        tensors = [x if self.weight is None else x * self.weight]
        total = torch.zeros((), dtype=x.dtype)
        for layer in self.layers:
            step = layer.step
            if step.kind == "read":
                total = total + reading(tensors[step.tensor])
            else:
                run = layer if step.is_layer else layer.forward
                tensors.append(run(tensors[step.tensor]))
        for tensor in tensors:
            total = total + reading(tensor)
        return total


def reading(t):
    """Return a scalar that depends on every element in a different way."""
    flat = t.reshape(-1)
    return (flat * torch.linspace(0.5, 1.5, flat.numel(), dtype=t.dtype)).square().sum()


class _Tensor:
    """A name for a part of a piece of memory."""

    def __init__(self, memory, parent=None, view=None, *, in_graph, is_alias=False):
        self.memory = memory
        self.parent = parent
        self.view = view  # maps the parent's value to this one
        self.in_graph = in_graph
        self.is_alias = is_alias  # or a view of one, in a graph that does not include the others in this memory
        self.root = self if parent is None or is_alias != parent.is_alias else parent.root
        self.pending = []  # perturbations added to reads through this tensor
        memory.tensors.append(self)

    def read(self):
        """Return the present value."""
        if not self.in_graph:
            return self.plain()
        value = self.memory.value if self.parent is None else self.view(self.parent.read())
        return value + sum(self.pending) if self.pending else value

    def plain(self):
        """Return the present value without the perturbations."""
        return self.memory.value.detach() if self.parent is None else self.view(self.parent.plain())

    def places(self):
        """Return the index in its memory of each element."""
        numbers = torch.arange(self.memory.value.numel()).view(self.memory.value.shape)
        return numbers if self.parent is None else self.view(self.parent.places())


class _Memory:
    """Values that several tensors share."""

    def __init__(self, value):
        self.value = value
        self.writes = 0
        self.tensors = []

    def write(self, tensor, function):
        """Replace the values of a tensor by a function of them, and move pending perturbations into the memory.

        Afterwards every tensor is a view of its root, whatever its parent was.
        """
        self.writes += 1
        value = self.value.reshape(-1)
        for one in self.tensors:
            for perturbation in one.pending:
                value = value.index_add(0, one.places().reshape(-1), perturbation.reshape(-1))
            one.pending = []
        for one, places in [(one, one.places()) for one in self.tensors if one is not one.root]:
            number = {place: n for n, place in enumerate(one.root.places().reshape(-1).tolist())}
            one.parent = one.root
            one.view = partial(
                _taken, places=torch.tensor([number[int(place)] for place in places.reshape(-1)]).view(places.shape)
            )
        self.value = value.view(self.value.shape)
        new = function(tensor.read()).reshape(-1)
        self.value = value.index_put((tensor.places().reshape(-1),), new).view(self.value.shape)


def _taken(whole, places):
    return whole.reshape(-1)[places]


def gradients_of(steps, x, weight=None, *, frozen=False):
    """Return the output of a program, and the gradient of the output of each of its layers, by step.

    With a weight the model is trained; without, the input is part of a graph, or of none if `frozen`.
    """
    perturbations = {}
    tensors = [_Tensor(_Memory(x.clone() if weight is None else x * weight), in_graph=not frozen)]
    total = torch.zeros((), dtype=x.dtype)
    for number, step in enumerate(steps):
        tensor = tensors[step.tensor]
        if step.kind == "read":
            total = total + reading(tensor.read())
            continue
        made = _apply(step, tensor)
        if step.is_layer:
            made = _returned(made, tensors, was_given=step.kind == "same")
            perturbations[number] = torch.zeros_like(made.plain(), requires_grad=True)
            made.pending.append(perturbations[number])
        tensors.append(made)
    total = sum((reading(tensor.read()) for tensor in tensors), total)
    if not total.requires_grad:
        return total, dict.fromkeys(perturbations)
    found = torch.autograd.grad(total, list(perturbations.values()), allow_unused=True)
    return total.detach(), dict(zip(perturbations, found, strict=True))


def _apply(step, tensor):
    """Return the tensor that a step creates or returns."""
    if step.kind == "same":
        return tensor
    if step.kind == "view":
        return _Tensor(tensor.memory, tensor, VIEWS[step.name], in_graph=tensor.in_graph, is_alias=tensor.is_alias)
    if step.kind == "write":
        tensor.memory.write(tensor, WRITES[step.name][1])
        return tensor
    return _Tensor(_Memory(FRESH[step.name](tensor.read())), in_graph=tensor.in_graph)


def _returned(tensor, others, *, was_given):
    """Return the output of a layer, in a graph: the tensor, or an alias if the tensor cannot represent the output."""
    root = tensor.memory.tensors[0]
    views = [one for one in others if one.memory is tensor.memory and one is not root and not one.is_alias]
    if not tensor.in_graph and all(one is tensor for one in views):
        root.in_graph = tensor.in_graph = True
    elif not tensor.in_graph:
        was_given = True
    if was_given:
        tensor = _Tensor(tensor.memory, tensor, VIEWS["alias"], in_graph=True, is_alias=not root.in_graph)
    return tensor
