"""The mode that follows every operator of torch, from what its arguments see to what its results see."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy.typing as npt
import torch
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from spatialprobe.fields.call import Call, tensors_in
from spatialprobe.fields.constant_calls import note_constants, note_result_of_any_values, run_on_meta
from spatialprobe.fields.constant_storage import Kind
from spatialprobe.fields.constants import Constants
from spatialprobe.fields.masks import is_marked, name_cause, settle
from spatialprobe.fields.memory import Memory, form_of, has_storage, unfollowed_error
from spatialprobe.fields.origins import Origins
from spatialprobe.fields.reach import Reach, constant, union
from spatialprobe.fields.recording import FunctionStep, OperatorStep, Recording
from spatialprobe.fields.rule_results import apply_rule, see_all
from spatialprobe.fields.rules import Operation
from spatialprobe.fields.sizes import SATURATES
from spatialprobe.fields.taps import Ints
from spatialprobe.fields.traits import traits_of
from spatialprobe.fields.unused import find_unused
from spatialprobe.fields.verdict import NOTHING, find_extremes, is_solid, judge


class IntervalMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A mode that records what each tensor of its thread sees of the input.

    On the meta device tensors have no values: those of constants are computed separately, since rules may need them. On
    a real device a model may read values. Everything that it does afterwards may depend on them: which operators it
    runs, on which tensors, with which numbers. So all later results also see what has been read.
    """

    def __init__(self, *, meta: bool, watched: bool = True) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.memory = Memory()
        self.constants = Constants(meta=meta, watched=watched)
        self.origins = Origins(meta=meta)
        self.everything: Reach | None = None  # what a value sees that may depend on all of the input
        self.read: Reach | None = None  # what the values that Python has read depend on
        self.within_torch = 0  # the number of running functions of torch that Python has called
        self.scripted = False  # whether a part of the model is in TorchScript, which fills empty memory by itself
        self.refused: Exception | None = None  # the last error of an operator that meta tensors do not support
        self.recording: Recording | None = None  # of what is followed, if it is to be repeated from other layers
        self._meta = meta
        self._lacked_values = False  # whether a rule has requested values that are not known

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False: torch need not turn its compiler off at each operator, which costs as much as a simple rule.

        Compiled models run eagerly while fields are followed, so nothing is compiled in this mode.
        """
        return False

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operator unchanged, and follow it."""
        traits = traits_of(func)
        if torch.is_inference_mode_enabled() and traits.rule is None:
            parts = self._in_parts(func, args, kwargs or {})
            if parts is not NotImplemented:
                return parts
        tensors = list(tensors_in((*args, *(kwargs or {}).values())))
        call = Call(traits, args, kwargs or {}, [one for one in tensors if has_storage(one)])
        elsewhere = [one for one in tensors if not has_storage(one)] if len(call.tensors) < len(tensors) else []
        if self._meta:
            return self._on_meta(call, elsewhere)
        self.within_torch += 1
        try:
            return self._on_device(call, elsewhere)
        finally:
            self.within_torch -= 1

    def reach_of(self, tensor: torch.Tensor) -> Reach:
        """Return what a tensor sees; everything, if its values come from outside torch."""
        if not has_storage(tensor):
            if self._meta:
                raise unfollowed_error(tensor, "its values")
            self._meet_elsewhere(tensor)
            return constant(tensor.shape)  # what it depends on counts as read
        if self.origins.is_strange(tensor):
            self._admit(tensor)
        return self.memory.read(tensor)

    def sees_now(self, tensor: torch.Tensor) -> Reach:
        """Return what a tensor sees that the model has chosen by now, perhaps by the values that it has read."""
        return self._after_reading(self.reach_of(tensor))

    def note_read(self, tensors: Iterable[torch.Tensor], by: str) -> None:
        """Note that Python has read these values: all later results may depend on them."""
        for tensor in tensors:
            reach = self.reach_of(tensor)
            if not reach.is_constant:
                self._taint(reach, f"a value read into Python ({by})")

    def expose(self, tensor: torch.Tensor, by: str) -> None:
        """Note that Python may read the memory of this tensor at any time from now on."""
        if has_storage(tensor):
            self.origins.expose(tensor)
            self.note_read([tensor], by)

    def overwrite(
        self,
        inputs: Sequence[torch.Tensor],
        results: Sequence[torch.Tensor],
        follow: Callable[[Sequence[Reach]], Sequence[Reach]],
    ) -> None:
        """Note what tensors see that this library has made in place of operators, from what their inputs see."""
        for tensor, reach in zip(results, follow([self.reach_of(one) for one in inputs]), strict=True):
            self.memory.write(tensor, self._after_reading(reach))
            self.constants.note_overwritten(tensor)
        if self.recording is not None:
            self.recording.add(FunctionStep(inputs, results, follow))

    def read_everything(self, by: str) -> None:
        """Note that Python may read any value at any time, without an operator that shows it."""
        if self.everything is not None:
            self._taint(self.everything, f"a value read into Python ({by})")

    def _on_meta(self, call: Call, elsewhere: list[torch.Tensor]) -> Any:
        """Run an operator on the meta device, where it also creates its results."""
        filled_by_torch = call.traits.makes_empty and call.asks_for_cpu  # by TorchScript, without an operator
        if not call.tensors and call.kwargs.get("device") is not None and not filled_by_torch:
            call.kwargs = call.kwargs | {"device": torch.device("meta")}
        self._meet(call)
        if call.traits.written and self.constants.waiting:
            self.constants.before_writing(call.written)
        try:
            result = None if elsewhere else run_on_meta(call, self.constants)
            elsewhere += [one for one in tensors_in((result,)) if not has_storage(one)]
            if elsewhere:
                raise unfollowed_error(elsewhere[0], call.traits.name)
        except Exception as error:
            self.refused = error
            if self.everything is not None:
                self._taint(self.everything, "an error that the model caught")
            raise
        self._keep(call, result)
        return result

    def _on_device(self, call: Call, elsewhere: list[torch.Tensor]) -> Any:
        """Run an operator on a real device, where its results, or their shapes, may reveal values to Python."""
        traits = call.traits
        lifted = traits.name == "aten::lift_fresh"  # of a tensor made from Python's numbers, or from a numpy array
        if lifted and (self.within_torch > 1 or not call.tensors[0].untyped_storage().resizable()):
            self.origins.start_with(call.tensors)
        for tensor in call.tensors:
            if self.origins.is_foreign(tensor):
                self._admit(tensor)
        self._meet(call)
        result = call.run()
        elsewhere += [one for one in tensors_in((result,)) if not has_storage(one)]
        if elsewhere:
            self._keep_elsewhere(call, result, elsewhere)
            return result
        if traits.reads:
            self.note_read(_find_revealed(call), {"_local_scalar_dense": "item"}.get(traits.base, traits.base))
        elif traits.rule is None and not traits.name.startswith("aten::"):
            for reach in call.reaches.values():
                self._taint(reach, traits.name)  # the number of results may depend on values
        if traits.base != "set":  # its memory may come from anywhere
            self.origins.start_with(tensors_in((result,)))
        self._keep(call, result)
        return result

    def _meet_elsewhere(self, tensor: torch.Tensor) -> None:
        """Note as read what a tensor without a storage of its own depends on, if no operator has shown it."""
        if type(tensor).__torch_dispatch__ is torch.Tensor.__torch_dispatch__:
            return  # an operator has returned it
        names = tensor.__tensor_flatten__()[0] if hasattr(tensor, "__tensor_flatten__") else ()
        reaches = [self.reach_of(getattr(tensor, name)) for name in names] if names else [self.everything]
        for reach in reaches:
            if reach is not None and not reach.is_constant:
                self._taint(reach, f"values in {form_of(tensor)}")

    def _keep_elsewhere(self, call: Call, result: Any, elsewhere: list[torch.Tensor]) -> None:
        """Note as read what an operator on tensors without a storage of their own sees."""
        for tensor in elsewhere:
            self._meet_elsewhere(tensor)
        for reach in call.reaches.values():
            self._taint(reach, f"{call.traits.name} on {form_of(elsewhere[0])}")
        made = [one for one in (*tensors_in((result,)), *call.written) if has_storage(one)]
        self.origins.start_with(made)
        if self.read is None:
            return
        for tensor in made:
            self.constants.note_unknown(tensor)
            self.memory.write(tensor, self.read.expanded(tensor.shape))

    def _meet(self, call: Call) -> None:
        """Note what the arguments of a call see that are not constants."""
        for tensor in self.origins.met_empty(call):
            self._admit(tensor)
        for tensor in call.tensors:
            reach = self.memory.find(tensor)
            if reach is not None and reach.spans:
                call.reaches[id(tensor)] = reach
        if call.reaches and call.traits.may_leave_unused:
            left = find_unused(call.traits.base, call.arguments, partial(self._known_values, call))
            if left:
                call.leave_out(left)

    def _known_values(self, call: Call, tensor: torch.Tensor) -> torch.Tensor | None:
        """Return the values of an argument that is a constant; None if it is not, or if they are not known."""
        return self.constants.values(tensor) if call.is_constant(tensor) else None

    def _written_beside(self, call: Call, tensor: torch.Tensor, reach: Reach) -> tuple[float, float] | None:
        """Return the least and the largest of the constants that are placed beside maps in the same memory."""
        if reach.spans and tensor._base is not None and tensor not in self.memory:
            return self._extremes(tensor._base)  # memory of a constant, part of which is modified in place
        if reach.spans or tensor not in self.memory:
            return None
        value = call.arguments.get("src", call.arguments.get("value"))
        if isinstance(value, torch.Tensor):
            return self._extremes(value)
        number = float(value) if isinstance(value, (int, float)) else 0.0
        return min(number, 0.0), max(number, 0.0)

    def _extremes(self, tensor: torch.Tensor) -> tuple[float, float]:
        """Return the least and the largest of a constant's values and zero."""
        return (
            (0.0, 0.0) if self.constants.kind(tensor) is Kind.WEIGHT else find_extremes(self.constants.values(tensor))
        )

    def _admit(self, tensor: torch.Tensor) -> None:
        """Note that the values of a tensor from outside torch may depend on everything."""
        if self.everything is not None and tensor.numel():
            self.origins.start_with([tensor])
            self.memory.write(tensor, self.everything.everything(tensor.shape).inexact("a tensor from outside torch"))

    def _taint(self, reach: Reach, cause: str) -> None:
        """Note that Python has read something: all later results see it."""
        seen = reach.everything(()).inexact(cause)
        self.read = seen if self.read is None else union([self.read, seen], ())

    def _after_reading(self, reach: Reach) -> Reach:
        """Return a reach together with what the values that Python has read depend on."""
        return reach if self.read is None else union([reach, self.read.expanded(reach.shape)], reach.shape)

    def _in_parts(self, func: OpOverload, args: Any, kwargs: dict[str, Any]) -> Any:
        """Return the result of a composite operator by its decomposition, whose operators are followed in turn.

        Torch decomposes it by itself, but not inside a model that turns on `torch.inference_mode`.
        """
        with self:
            return func.decompose(*args, **kwargs)

    def _keep(self, call: Call, result: Any) -> None:
        """Record what the results of an operator see, and what it has modified in place."""
        if call.traits.makes_empty and not self.scripted:
            self.origins.note_empty(tensors_in((result,)))
        if not call.reaches and self.read is None and not (call.of_any_values and call.traits.written):
            note_constants(call, self.constants, result)
            return
        written = {id(one): one for one in call.written}
        results = tuple(tensors_in((result,))) or tuple(written.values())
        if call.traits.reshapes_in_place or not results:
            before = [(call.reaches[id(one)], one) for one in results if id(one) in call.reaches]
            if self.recording is not None and any(reach.shape != one.shape for reach, one in before):
                self.recording.is_whole = False  # a recorded tensor has changed its shape
            return
        operation = self._make_operation(call, results)
        made = self._settle_reaches(call, operation)
        for tensor, reach in zip(results, made, strict=True):
            if written.pop(id(tensor), None) is not None:
                self._write(call, tensor, reach)
            else:
                self.memory.bind(tensor, reach)
        if call.traits.rule is None:
            for tensor in written.values():
                self._write(call, tensor, self._after_reading(see_all(operation, tensor.shape)))
        if not any(reach.spans for reach in made):
            if call.traits.makes_constants:
                note_constants(call, self.constants, result)
            else:
                note_result_of_any_values(call, self.constants, list(results))

    def _write(self, call: Call, tensor: torch.Tensor, reach: Reach) -> None:
        """Record what a tensor sees that an operator has modified in place."""
        beside = self._written_beside(call, tensor, reach)
        self.memory.write(tensor, reach)
        if beside is not None and max(-beside[0], beside[1]) >= SATURATES:
            self.memory.stand_beside(tensor, *beside)
        if reach.spans:
            self.constants.note_overwritten(tensor)
            if self.origins.is_exposed(tensor):
                self.note_read([tensor], "numpy")

    def _settle_reaches(self, call: Call, operation: Operation) -> list[Reach]:
        """Return what the results see by the rule, by what constants hide, and by what Python has read."""
        self._lacked_values = False
        made = apply_rule(call.traits, operation)
        if self._lacked_values:
            what = "a mask" if {"mask", "condition"} & operation.arguments.keys() else "an index"
            made = [reach.inexact(f"{operation.name} with {what} whose values are unknown") for reach in made]
        handling, verdict = call.traits.handling, NOTHING
        if handling.numbers or len(call.reaches) < len(call.tensors):
            find_still = partial(_find_still, call, operation.shape)
            verdict = judge(
                handling, call.arguments, self.constants, call.is_constant, call.unused, operation.heeded, find_still
            )
        if verdict.acts or any(map(is_marked, call.reaches.values())) or any(map(is_marked, made)):
            inputs = [call.reaches[id(one)] for one in call.tensors if id(one) in call.reaches]
            beside = [one for one in call.tensors if call.is_constant(one) and one.is_floating_point()]
            full = handling.places and bool(beside) and all(is_solid(self.constants, one) for one in beside)
            made = [
                name_cause(reach, settle(handling, verdict, inputs, reach, beside_is_solid=full), operation.name)
                for reach in made
            ]
        return made if self.read is None else [self._after_reading(reach) for reach in made]

    def _make_operation(self, call: Call, results: tuple[torch.Tensor, ...]) -> Operation:
        """Return the call in the form that rules read; record it, if calls are recorded."""
        arguments, reaches = call.arguments, call.reaches
        if arguments.get("training", arguments.get("train")):
            arguments["statistics_count"] = True

        def reach_of(tensor: torch.Tensor) -> Reach:
            return reaches.get(id(tensor)) or constant(tensor.shape)

        def values_of(tensor: torch.Tensor) -> Ints | None:
            values = self._index_values(tensor) if call.is_constant(tensor) else None
            if step is not None:
                step.values[id(tensor)] = values
            return values

        step = None
        if self.recording is not None:
            used = [one for one in call.tensors if id(one) in reaches]
            step = OperatorStep(call.traits, arguments, used, results, call.written)
            self.recording.add(step)

        def fixed_of(tensor: torch.Tensor) -> npt.NDArray[Any] | None:
            if not call.is_constant(tensor) or self.constants.kind(tensor) is not Kind.KNOWN:
                return None
            values = self.constants.values(tensor)
            return None if values is None else values.numpy()

        return Operation(call.traits.name, arguments, results, reach_of, values_of, fixed_of)

    def _index_values(self, tensor: torch.Tensor) -> Ints | None:
        """Return the values of a constant index; None if they are not known."""
        values = self.constants.values(tensor)
        if values is not None:
            return values.numpy()
        self.constants.kind(tensor)  # a pass that also watches Python may know them
        self._lacked_values = True
        if self._meta:
            self.refused = RuntimeError("the values of an index are not known on the meta device")
        return None


def _find_still(call: Call, shape: tuple[int, ...]) -> list[int]:
    """Return the dimensions of a result, from -1 backwards, along which each argument's elements all see the same."""
    reaches = list(call.reaches.values())
    return [
        dim
        for dim in range(-len(shape), 0)
        if not any(-dim <= len(one.shape) and one.varies(dim % len(one.shape)) for one in reaches)
    ]


def _find_revealed(call: Call) -> list[torch.Tensor]:
    """Return the arguments whose values a result, or its shape, reveals to Python."""
    if call.traits.base == "segment_reduce":
        return list(tensors_in([call.arguments[name] for name in ("lengths", "indices", "offsets")]))
    if call.traits.base != "index":
        return call.tensors
    return [one for one in tensors_in(call.args[1]) if one.dtype in (torch.bool, torch.uint8)]
