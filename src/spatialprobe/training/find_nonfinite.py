"""Find the layer at which infinite values or NaN first arise, in one forward and one backward pass."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.autograd.graph import Node

from spatialprobe.arguments import check_function, check_keywords
from spatialprobe.errors import ArgumentError, ProbeStateError, describe_error
from spatialprobe.model.batch import tensors_of
from spatialprobe.model.evaluation import Restored
from spatialprobe.model.forward import forward_error
from spatialprobe.model.hooks import ProbeHook, attach
from spatialprobe.model.inputs import copy_inputs
from spatialprobe.model.outputs import describe_leaves
from spatialprobe.model.select import Layer, all_layers, check_model, takes_hooks, unwrap
from spatialprobe.model.settings import disable_gradients, enable_gradients
from spatialprobe.model.stop import Stopped, stop_forward
from spatialprobe.model.undo import Undo, undo_block
from spatialprobe.statistics.intake import all_finite
from spatialprobe.text import kind_of
from spatialprobe.training.nonfinite import (
    NonFiniteOrigin,
    are_weights_finite,
    count_nonfinite,
    first_sample,
    is_finite,
    plain_tensors,
)
from spatialprobe.training.own_passes import own_pass

Loss = Callable[[Any], torch.Tensor]
_REENTRANT = "CheckpointFunctionBackward"  # the autograd node of torch's reentrant checkpoints


def find_nonfinite(
    model: nn.Module, *inputs: Any, kwargs: Mapping[str, Any] | None = None, loss: Loss | None = None
) -> NonFiniteOrigin | None:
    """Return where the first infinite value or NaN of a forward pass arises, and of a backward pass; None if nowhere.

    The model runs once, in its present mode and under autocast as it is called, on copies of the inputs, and is
    restored afterwards: buffers, gradients, hooks, random states. The first layer whose output is not finite is the
    answer; if what it took was not finite either, the values arise in code between the layers before it, or in the
    inputs.

    Args:
        model: any module.
        inputs: the model's positional arguments.
        kwargs: the model's keyword arguments.
        loss: a function of the model's output that returns a loss, a single number. If it is passed, the backward pass
            is looked at too: the gradients of values and those of parameters.

    In the backward pass the layer is the one in whose own operators the first gradient that is not finite is computed;
    `input_finite` says whether the gradient that came to it was. What happens inside the backward pass of a reentrant
    checkpoint or of a custom function counts as one operator.

    Raises:
        ArgumentError: an argument cannot be used, or the loss raised, or is not a single real number.
        ForwardError: the model raised, and no such value was found before.
        ProbeStateError: the loss does not depend on any parameter or input that requires a gradient.

    >>> import torch, spatialprobe as sp
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> print(sp.find_nonfinite(model, torch.rand(4, 2), loss=lambda output: output.mean()))
    None
    >>> with torch.no_grad():
    ...     _ = model[2].bias.fill_(0), model[2].weight.fill_(0)
    >>> origin = sp.find_nonfinite(model, torch.rand(4, 2), loss=lambda output: output.sum().sqrt())
    >>> origin.layer, origin.direction, origin.input_finite
    (None, 'backward', True)
    """
    check_model(model)
    check_keywords(kwargs)
    check_function(loss, "loss", "lambda output: F.cross_entropy(output, labels)")
    inner = unwrap(model)  # a forward of DistributedDataParallel would wait for the other processes
    with own_pass(), Restored(inner), disable_gradients() if loss is None else enable_gradients():
        search = _Search(inner)
        output = search.run(copy_inputs((inputs, dict(kwargs or {}))))
        if search.found is not None or loss is None:
            return search.found
        return search.look_backwards(_compute_loss(loss, output))


class _Running(NamedTuple):
    """A layer that runs."""

    layer: Layer
    input_finite: bool
    begun: int  # autograd's sequence number


@dataclass(frozen=True)
class _Span:
    """The sequence numbers of the autograd nodes that were created while a layer ran."""

    layer: Layer
    begin: int
    end: int


class _Search:
    """The forward pass with hooks on all modules, and the graph that it leaves."""

    def __init__(self, model: nn.Module) -> None:
        self.found: NonFiniteOrigin | None = None
        self._model = model
        self._running: list[_Running] = []
        self._spans: list[_Span] = []
        self._known: dict[int, tuple[weakref.ref[torch.Tensor], int | None, bool]] = {}  # tensors that were looked at

    def run(self, arguments: tuple[tuple[Any, ...], dict[str, Any]]) -> Any:
        """Return the model's output; None if the forward ended at an origin."""
        args, kwargs = arguments
        self._inputs = [tensor for tensor in tensors_of(arguments) if tensor.requires_grad]
        layers = [layer for layer in all_layers(self._model) if takes_hooks(layer.module)]
        with undo_block() as undo:
            begins = [(layer.module, ProbeHook(self._begin, layer)) for layer in layers]
            ends = [(layer.module, ProbeHook(self._end, undo, layer)) for layer in layers]
            attach(undo, ends, self._model, ProbeHook(_nothing), ProbeHook(_nothing), before=begins)
            try:
                return self._model(*args, **kwargs)
            except Stopped:
                return None
            except Exception as error:
                if self.found is None:
                    hint = "Pass the inputs as the model takes them, further ones as kwargs=."
                    raise forward_error(self._model, arguments, error, hint) from error
                return None

    def look_backwards(self, loss: torch.Tensor) -> NonFiniteOrigin | None:
        """Return the origin in the loss, or in its backward pass; None if all is finite."""
        if not all_finite(loss.detach()):
            return NonFiniteOrigin(None, "forward", count_nonfinite(loss.detach()), None, True, None, loss.dtype)
        leaves = [one for one in (*self._model.parameters(), *self._inputs) if one.requires_grad]
        if not loss.requires_grad or not leaves:
            raise ProbeStateError(
                "The loss does not depend on a parameter or input that requires a gradient, so there is no backward "
                "pass. Let one require gradients, or leave loss= out to look at the forward pass alone."
            )
        parameters = {id(one) for one in self._model.parameters()}
        nodes = list(_nodes_of(loss.grad_fn))
        for node in nodes:
            node.register_hook(partial(self._look_at, node, parameters))
        if any(node.name() == _REENTRANT for node in nodes):  # which torch refuses to run but by backward()
            for leaf in leaves:
                leaf.grad = None  # restored with the model
            loss.backward()  # type: ignore[no-untyped-call]
        else:  # this runs none of the hooks that are called when a gradient is accumulated
            torch.autograd.grad(loss, leaves, allow_unused=True)
        return self.found

    def _begin(self, layer: Layer, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Note whether the inputs of a layer are finite, before it may modify them; its forward pre-hook."""
        finite = all(map(self._is_finite, tensors_of((args, kwargs))))
        self._running.append(_Running(layer, finite, torch._C._autograd._get_sequence_nr()))

    def _end(self, undo: Undo, layer: Layer, module: nn.Module, args: Any, output: Any) -> None:
        """Look at the output of a layer; its forward hook."""
        running = self._running.pop()
        self._spans.append(_Span(layer, running.begun, torch._C._autograd._get_sequence_nr()))
        wrong = next((one for one in tensors_of(output) if not self._is_finite(one)), None)
        if wrong is None or self.found is not None:
            return
        (values,) = plain_tensors(wrong)
        self.found = NonFiniteOrigin(
            layer=layer.name,
            direction="forward",
            count=count_nonfinite(values),
            sample=first_sample(values),
            input_finite=running.input_finite,
            weights_finite=are_weights_finite(module),
            dtype=values.dtype,
        )
        stop_forward(self._model, undo)

    def _is_finite(self, tensor: torch.Tensor) -> bool:
        """Return whether a tensor is finite; each is looked at once, unless it was modified in place since."""
        version = None if tensor.is_inference() else tensor._version
        reference, seen, finite = self._known.get(id(tensor), (None, None, False))
        if version is None or reference is None or reference() is not tensor or seen != version:
            finite = is_finite(tensor)
            self._known[id(tensor)] = weakref.ref(tensor), version, finite
        return finite

    def _look_at(
        self,
        node: Node,
        parameters: set[int],
        computed: tuple[torch.Tensor | None, ...],
        came: tuple[torch.Tensor | None, ...],
    ) -> None:
        """Look at the gradients that an operator has computed; a hook of its autograd node."""
        if self.found is not None:
            return
        for (following, _), gradient in zip(node.next_functions, computed, strict=False):
            if gradient is None or is_finite(gradient):
                continue
            (values,) = plain_tensors(gradient)
            layer = self._layer_of(node._sequence_nr())
            self.found = NonFiniteOrigin(
                layer=None if layer is None else layer.name,
                direction="backward",
                count=count_nonfinite(values),
                sample=None if _leads_to(following, parameters) else first_sample(values),
                input_finite=is_finite(came),
                weights_finite=None if layer is None else are_weights_finite(layer.module),
                dtype=values.dtype,
            )
            return

    def _layer_of(self, number: int) -> Layer | None:
        """Return the innermost layer that ran when a node was created; None if it was after the model."""
        around = [span for span in self._spans if span.begin <= number < span.end]
        return min(around, key=lambda span: span.end - span.begin).layer if around else None


def _nodes_of(start: Node | None) -> Iterator[Node]:
    """Yield every node of a graph."""
    waiting, seen = [start], {start}
    while waiting:
        node = waiting.pop()
        if node is None:
            continue
        yield node
        new = {following for following, _ in node.next_functions} - seen
        seen |= new
        waiting.extend(new)


def _leads_to(node: Node | None, parameters: set[int]) -> bool:
    """Return whether the gradient that goes to a node is one of a parameter, possibly reshaped or converted."""
    while node is not None and len(node.next_functions) == 1:
        node = node.next_functions[0][0]
    return id(getattr(node, "variable", None)) in parameters


def _compute_loss(function: Loss, output: Any) -> torch.Tensor:
    try:
        loss: Any = function(output)
    except Exception as error:
        raise ArgumentError(f"loss= raised {describe_error(error)} on {describe_leaves(output)}.") from error
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1 or not loss.is_floating_point():
        what = f"a tensor {tuple(loss.shape)} of {loss.dtype}" if isinstance(loss, torch.Tensor) else kind_of(loss)
        raise ArgumentError(f"loss= returned {what}: return a single number, such as the mean over the batch.")
    return loss


def _nothing(*args: Any) -> None:
    """A hook that does nothing."""
