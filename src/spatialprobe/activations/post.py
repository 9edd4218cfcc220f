"""Find the nonlinearity that follows a layer: a module, a function or a method, in place or not.

While a `NonlinearityMode` is active it sees every torch function of its thread. It follows the tensors that layers
return, through normalization, dropout, padding and pooling, until a nonlinearity takes them. The nonlinearity's value
is the activation, unless it is half of a gate: see `descent`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from spatialprobe.activations.descent import ACTIVATED, OWN, Descent, collect_tensors, find_gates
from spatialprobe.errors import UnresolvedActivationError

_NONLINEARITIES = (
    "relu relu6 leaky_relu prelu rrelu elu selu celu gelu silu mish glu threshold clamp clamp_min clamp_max clip "
    "sigmoid logsigmoid tanh softplus softsign softmax log_softmax softmin gumbel_softmax "
    "hardtanh hardsigmoid hardswish tanhshrink softshrink hardshrink"
)
_PASSED_THROUGH = (
    "batch_norm instance_norm layer_norm group_norm rms_norm local_response_norm normalize "
    "dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout feature_alpha_dropout "
    "pad constant_pad_nd "
    "max_pool1d max_pool2d max_pool3d "
    "max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices "
    "avg_pool1d avg_pool2d avg_pool3d lp_pool1d lp_pool2d lp_pool3d "
    "adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d "
    "adaptive_max_pool1d_with_indices adaptive_max_pool2d_with_indices adaptive_max_pool3d_with_indices "
    "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d "
    "fractional_max_pool2d fractional_max_pool3d "
    "fractional_max_pool2d_with_indices fractional_max_pool3d_with_indices "
    # the same values on another device, in another memory layout or dtype
    "contiguous clone to type type_as float double half bfloat16 cpu cuda"
)
# Calls that read no value, and so do not count as uses of a layer's output.
_LOOKS = frozenset(
    {
        *("__get__", "__set__", "__len__", "dim", "size", "stride", "numel"),
        *("is_contiguous", "is_floating_point", "is_complex", "is_inference", "is_conj", "is_neg", "_is_zerotensor"),
        *("untyped_storage", "storage_offset", "element_size", "data_ptr"),
        *("detach", "requires_grad_", "retain_grad", "register_hook"),
    }
)


def _find_functions(names: str) -> frozenset[Callable[..., Any]]:
    """Return all torch functions and methods of these names, in place (`relu_`) or not."""
    owners = (F, torch, torch.Tensor, torch._C._nn)
    found = (getattr(owner, name + end, None) for owner in owners for name in names.split() for end in ("", "_"))
    return frozenset(function for function in found if function is not None)


NONLINEARITIES = _find_functions(_NONLINEARITIES)
PASSED_THROUGH = _find_functions(_PASSED_THROUGH)


@dataclass(eq=False)
class Trail:
    """The uses of one output of one layer by the functions of the model."""

    layer: str
    # Called with the value of the first nonlinearity as soon as it is computed; returns a function to call when it is
    # certain that this value is the activation, or None.
    keep: Callable[[torch.Tensor], Callable[[], None] | None]
    nonlinearities: list[str] = field(default_factory=list)  # those that took the output, by name
    others: list[str] = field(default_factory=list)  # other functions that took it, by name
    mixed_by: str | None = None  # the function that took the nonlinearity's value together with the output itself

    def add_nonlinearity(self, name: str, value: torch.Tensor) -> Callable[[], None] | None:
        """Add a nonlinearity that took the output and computed this value; return what `keep` returns."""
        self.nonlinearities.append(name)
        return self.keep(value) if len(self.nonlinearities) == 1 else None

    def end(self) -> None:
        """Release `keep`, since nothing more will be kept."""
        self.keep = _keep_nothing

    def describe_reason(self) -> str | None:
        """Return why the layer is left out, a sentence; None if one nonlinearity follows it."""
        problem = self.describe_problem()
        return problem and f"No single nonlinearity follows it: {problem.removeprefix(f'{self.layer!r}: ')}."

    def describe_problem(self) -> str | None:
        """Return why no single nonlinearity follows the layer; None if one does."""
        if self.mixed_by is not None:
            part = self.nonlinearities[0]
            return (
                f"{self.layer!r}: its own {part} is only part of a gate: {self.mixed_by} took it with the output itself"
            )
        if len(self.nonlinearities) == 1:
            return None
        if self.nonlinearities:
            return f"{self.layer!r}: {len(self.nonlinearities)} took its output: {', '.join(self.nonlinearities)}"
        takers = ", ".join(dict.fromkeys(self.others)) or "nothing"
        return f"{self.layer!r}: its output was taken by {takers}"


class NonlinearityMode(TorchFunctionMode):
    """A mode that watches the torch functions of one thread, and adds to each trail the uses of its tensor."""

    def __init__(self) -> None:
        super().__init__()
        self._followed: dict[int, tuple[weakref.ref[torch.Tensor], int | None, list[Trail]]] = {}
        self._descent: Descent[Trail] = Descent(NONLINEARITIES)
        self._unsure: list[tuple[Trail, Callable[[], None]]] = []

    def follow(self, tensor: torch.Tensor, trails: list[Trail]) -> None:
        """Add uses of this tensor to these trails from now on."""
        alive = self._trails_of(tensor)
        self._followed[id(tensor)] = (weakref.ref(tensor), _version(tensor), [*alive, *trails])
        self._descent.add(tensor, dict.fromkeys(trails, OWN))

    def forget(self) -> None:
        """Stop following all tensors."""
        self._followed.clear()
        self._descent.clear()
        self._unsure.clear()

    def settle(self, *, over: bool = False) -> None:
        """Complete the trails whose outputs are freed, or all if the pass is `over`: their activations are certain."""
        unsure, self._unsure = self._unsure, []
        for trail, then in unsure:
            if not over and self._descent.has_own(trail):
                self._unsure.append((trail, then))
            elif trail.describe_problem() is None:
                then()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the function unchanged, and note which followed tensors it took."""
        kwargs = kwargs or {}
        if self._descent.is_empty:
            return func(*args, **kwargs)
        if self._unsure:
            self.settle()
        name = getattr(func, "__name__", str(func))
        tensors = collect_tensors((*args, kwargs) if kwargs else args)
        taken = [(tensor, trails) for tensor in tensors if (trails := self._trails_of(tensor))]
        origins = self._descent.origins_of_arguments(name, tensors)
        if not (taken or origins):
            return func(*args, **kwargs)
        for trail in find_gates(origins):
            trail.mixed_by = trail.mixed_by or name
        result = func(*args, **kwargs)
        outcomes = collect_tensors((result,))
        self._descent.propagate(func, name, origins, tensors[:1] if result is None else outcomes)
        if name not in _LOOKS:
            for tensor, trails in taken:
                self._record_use(func, name, tensor, trails, outcomes)
        return result

    def _trails_of(self, tensor: torch.Tensor) -> list[Trail]:
        reference, version, trails = self._followed.get(id(tensor), (None, None, []))
        if reference is None:
            return []
        if reference() is tensor and version == _version(tensor):
            return trails
        del self._followed[id(tensor)]
        return []

    def _record_use(
        self,
        func: Callable[..., Any],
        name: str,
        tensor: torch.Tensor,
        trails: list[Trail],
        outcomes: list[torch.Tensor],
    ) -> None:
        """Add the use of a followed tensor by a function to the tensor's trails."""
        outcome = outcomes[0] if outcomes else None  # a pooling with indices returns the values first
        if func in NONLINEARITIES and outcome is not None:
            for trail in trails:
                then = trail.add_nonlinearity(name.rstrip("_"), outcome)
                if then is not None:
                    self._unsure.append((trail, then))
            self._descent.add(outcome, dict.fromkeys(trails, ACTIVATED))
        elif func in PASSED_THROUGH and outcome is not None:
            if outcome is tensor:
                self._followed.pop(id(tensor), None)
            self.follow(outcome, trails)
        else:
            for trail in trails:
                trail.others.append(name)
        if (outcome is tensor and func not in PASSED_THROUGH) or name == "__setitem__":
            self._followed.pop(id(tensor), None)


def unresolved_error(trails: Iterable[Trail]) -> UnresolvedActivationError | None:
    """Return the error that names each layer that no single nonlinearity follows; None if there is no such layer."""
    problems = list(dict.fromkeys(filter(None, (trail.describe_problem() for trail in trails))))
    if not problems:
        return None
    return UnresolvedActivationError(
        "at='post_activation' needs exactly one nonlinearity that takes the layer's output, directly or through "
        "normalization, dropout, padding or pooling. There is none for\n  "
        + "\n  ".join(problems)
        + "\nLeave these layers out of layers= (a probe does so with missing='ignore'), or pass the module that "
        "computes the activation, with at='output'."
    )


def _keep_nothing(value: torch.Tensor) -> None:
    """Ignore a value: the `keep` of a trail that has ended."""


def _version(tensor: torch.Tensor) -> int | None:
    """Return a tensor's version counter; None under `inference_mode`, where there is none."""
    return None if tensor.is_inference() else tensor._version
