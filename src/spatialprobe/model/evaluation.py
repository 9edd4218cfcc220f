"""Put a model temporarily into evaluation mode, and restore everything that forward passes change in it."""

from __future__ import annotations

import inspect
from types import TracebackType
from typing import TypeVar

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from spatialprobe.errors import ArgumentError
from spatialprobe.model.placement import check_whole, is_offloaded
from spatialprobe.model.select import model_name
from spatialprobe.model.settings import RandomState, set_gradients
from spatialprobe.model.snapshot import Snapshot
from spatialprobe.model.undo import Block, Leaving, Undo
from spatialprobe.text import kind_of

_Self = TypeVar("_Self", bound="Restored")


class Restored(Block):
    """A block that restores a model when it ends, also after an exception.

    Parameters, buffers, modes, hooks and plain attributes are restored, as far as `Snapshot` follows them, and the
    random states of Python, numpy and torch.

    Args:
        model: any module.
        values: whether the values of parameters and registered buffers are saved; not needed if the model runs on
            other tensors in their place.

    Raises:
        ArgumentError: on entering; weights of the model are not initialized yet, or sharded over processes.

    >>> class Counts(nn.Module):
    ...     calls = 0
    ...     def forward(self, x):
    ...         self.calls += 1
    >>> model = Counts()
    >>> with Restored(model) as block:
    ...     model(torch.zeros(1))
    ...     block.reset()  # the next run begins in the same state
    ...     model(torch.zeros(1))
    ...     print(model.calls)
    1
    >>> model.calls
    0
    """

    def __init__(self, model: nn.Module, *, values: bool = True) -> None:
        self.model = model
        self._values = values

    def __enter__(self: _Self) -> _Self:
        undo = self._begin()
        try:
            self._change(undo)
            self._random_state = RandomState({tensor.device for tensor in self._tensors()})
            undo.add(self._random_state.restore)
            self._snapshot = Snapshot(self.model, values=self._values)
            undo.add(self._snapshot.restore)
            return self
        except BaseException:
            undo.run()
            raise

    @Leaving
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._active is not None:
            self._active.run()

    def reset(self) -> None:
        """Restore the model and all random states to those at the beginning of the block; call it after a run."""
        self._snapshot.restore(thorough=False)
        self._random_state.restore()

    def _change(self, undo: Undo) -> None:
        """Change the settings of the block, adding to `undo` how to restore each of them before it is changed."""
        check_whole(self.model)
        if any(map(is_lazy, self._tensors())):
            raise ArgumentError(
                f"Some weights of the {model_name(self.model)} are not initialized yet: run it once on an input."
            )

    def _tensors(self) -> list[torch.Tensor]:
        return [*self.model.parameters(), *self.model.buffers()]


class EvaluationMode(Restored):
    """A block in which a model is in evaluation mode, on one device; everything is restored when it ends.

    Modes are set module by module, since `eval()` may be overridden with something that `train()` does not undo.

    Args:
        model: any module.
        device: the device of its parameters and buffers until the block ends; None does not move them.
        gradients: whether operators record gradients in the block.
        values: as for `Restored`.

    Raises:
        ArgumentError: on entering; weights of the model are not initialized yet, or are on the meta device although
            `values` is True.

    >>> model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Dropout())
    >>> with EvaluationMode(model):
    ...     print(model[1].training, torch.is_grad_enabled())
    False False
    >>> model[1].training
    True
    """

    def __init__(
        self, model: nn.Module, *, device: torch.device | None = None, gradients: bool = False, values: bool = True
    ) -> None:
        super().__init__(model, values=values)
        self._device = device
        self._gradients = gradients

    def _change(self, undo: Undo) -> None:
        super()._change(undo)
        if self._values and any(tensor.is_meta for tensor in self._tensors()) and not is_offloaded(self.model):
            raise ArgumentError(
                f"Weights of the {model_name(self.model)} are on the meta device, where tensors have no values: create "
                "it on a real one, or load its weights first."
            )
        set_gradients(undo, self._gradients)
        training = modules_in_training(self.model)
        undo.add(_set_training, training, True)
        _set_training(training, False)
        for tensor in self._tensors() if self._device is not None else ():
            if tensor.device != self._device and not tensor.is_meta:
                undo.add(setattr, tensor, "data", tensor.data)
                tensor.data = tensor.data.to(self._device)


def modules_in_training(model: nn.Module) -> list[nn.Module]:
    """Return the modules that are in training mode, without those that have no mode.

    Raises:
        ArgumentError: the mode of one cannot be changed.
    """
    found = []
    for name, module in model.named_modules():
        if getattr(module, "training", False):
            if isinstance(inspect.getattr_static(module, "training", None), property):
                _check_settable(name, module)
            found.append(module)
    return found


def _check_settable(name: str, module: nn.Module) -> None:
    """Check that the mode of a module can be set where `training` is a property."""
    try:
        module.training = True
    except AttributeError as error:
        raise ArgumentError(
            f"The mode of layer {name or '(model)'!r}, {kind_of(module)}, cannot be set: its attribute `training` is "
            "read-only, and the library runs models in evaluation mode. Add a setter for `training` to the class."
        ) from error


def _set_training(modules: list[nn.Module], mode: bool) -> None:
    for module in modules:
        module.training = mode
