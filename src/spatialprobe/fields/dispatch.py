"""Follow every operator that torch runs: from what its arguments see to what its results see."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from spatialprobe.errors import ArgumentError, describe_error
from spatialprobe.fields.call import Call, tensors_in
from spatialprobe.fields.constant_calls import note_constants, note_result_of_any_values, run_on_meta
from spatialprobe.fields.constants import Constants, Kind
from spatialprobe.fields.masks import marked, named, settle
from spatialprobe.fields.memory import Memory, form_of, has_storage, unfollowed
from spatialprobe.fields.origins import Origins
from spatialprobe.fields.reach import Reach, constant, union
from spatialprobe.fields.rules import Operation
from spatialprobe.fields.sizes import SATURATES
from spatialprobe.fields.taps import Ints
from spatialprobe.fields.traits import Traits, traits_of
from spatialprobe.fields.unused import find_unused
from spatialprobe.fields.verdict import NOTHING, extremes, judge, solid


class IntervalMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is active, keeps what each tensor of its thread sees of the input.

    On the meta device tensors have no values: those of constants are computed beside it, since rules may need them. On
    a real device a model may read values. Whatever it does afterwards may depend on them: which operators it runs, on
    what, with which numbers. So all that comes after sees what has been read, too.
    """

    def __init__(self, *, meta: bool, watched: bool = True) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.memory = Memory()
        self.constants = Constants(meta=meta, watched=watched)
        self.origins = Origins(meta=meta)
        self.everything: Reach | None = None  # what something sees that may depend on all of the input
        self.read: Reach | None = None  # what the values that have left torch depend on
        self.within_torch = 0  # how many functions of torch are running that Python called
        self.scripted = False  # whether a part of the model is in TorchScript, which fills empty memory by itself
        self.refused: Exception | None = None  # the last error of an operator that meta tensors do not allow
        self._meta = meta
        self._asked_in_vain = False  # whether a rule has asked for values that nobody knows

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operator as it is, and follow it."""
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
        """What a tensor sees; everything, if its values come from outside torch."""
        if not has_storage(tensor):
            if self._meta:
                raise unfollowed(tensor, "its values")
            self._meet_elsewhere(tensor)
            return constant(tensor.shape)  # what it depends on counts as read
        if self.origins.is_strange(tensor):
            self._admit(tensor)
        return self.memory.read(tensor)

    def sees_now(self, tensor: torch.Tensor) -> Reach:
        """What a tensor sees that the model has picked by now, knowing the values that it has read."""
        return self._after_reading(self.reach_of(tensor))

    def note_read(self, tensors: Iterable[torch.Tensor], by: str) -> None:
        """These values have left torch: what comes next may depend on them."""
        for tensor in tensors:
            reach = self.reach_of(tensor)
            if not reach.is_constant:
                self._taint(reach, f"a value read into Python ({by})")

    def expose(self, tensor: torch.Tensor, by: str) -> None:
        """From now on Python may look at the memory of this tensor whenever it likes."""
        if has_storage(tensor):
            self.origins.expose(tensor)
            self.note_read([tensor], by)

    def read_everything(self, by: str) -> None:
        """All that depends on the input may leave torch, at any time, unseen."""
        if self.everything is not None:
            self._taint(self.everything, f"a value read into Python ({by})")

    def _on_meta(self, call: Call, elsewhere: list[torch.Tensor]) -> Any:
        """Run an operator on the meta device, which is that of all tensors that it makes."""
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
                raise unfollowed(elsewhere[0], call.traits.name)
        except Exception as error:
            self.refused = error
            if self.everything is not None:
                self._taint(self.everything, "an error that the model caught")
            raise
        self._keep(call, result)
        return result

    def _on_device(self, call: Call, elsewhere: list[torch.Tensor]) -> Any:
        """Run an operator for real: its results, or their shapes, may tell Python of values."""
        traits = call.traits
        lifted = traits.name == "aten::lift_fresh"  # what is made of Python's numbers, or of a numpy array
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
            self.note_read(_telling(call), {"_local_scalar_dense": "item"}.get(traits.base, traits.base))
        elif traits.rule is None and not traits.name.startswith("aten::"):
            for reach in call.reaches.values():
                self._taint(reach, traits.name)  # there may be as many results as values say
        if traits.base != "set":  # which gives a tensor memory from anywhere
            self.origins.start_with(tensors_in((result,)))
        self._keep(call, result)
        return result

    def _meet_elsewhere(self, tensor: torch.Tensor) -> None:
        """Note as read what a tensor without a storage of its own depends on, if no operator has shown it."""
        if type(tensor).__torch_dispatch__ is torch.Tensor.__torch_dispatch__:
            return  # an operator has made it
        names = tensor.__tensor_flatten__()[0] if hasattr(tensor, "__tensor_flatten__") else ()
        reaches = [self.reach_of(getattr(tensor, name)) for name in names] if names else [self.everything]
        for reach in reaches:
            if reach is not None and not reach.is_constant:
                self._taint(reach, f"values in {form_of(tensor)}")

    def _keep_elsewhere(self, call: Call, result: Any, elsewhere: list[torch.Tensor]) -> None:
        """Keep what an operator on tensors without a storage of their own sees: all that comes after sees it, too."""
        for tensor in elsewhere:
            self._meet_elsewhere(tensor)
        for reach in call.reaches.values():
            self._taint(reach, f"{call.traits.name} on {form_of(elsewhere[0])}")
        made = [one for one in (*tensors_in((result,)), *call.written) if has_storage(one)]
        self.origins.start_with(made)
        if self.read is None:
            return
        for tensor in made:
            self.constants.doubt(tensor)
            self.memory.write(tensor, self.read.expanded(tensor.shape))

    def _meet(self, call: Call) -> None:
        """Note what the arguments see that are no constants."""
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
        """The values of an argument that is a constant."""
        return self.constants.values(tensor) if call.is_constant(tensor) else None

    def _written_beside(self, call: Call, tensor: torch.Tensor, reach: Reach) -> tuple[float, float] | None:
        """The least and the largest of the constants that come to stand beside maps in the same memory."""
        if reach.spans and tensor._base is not None and tensor not in self.memory:
            return self._extremes(tensor._base)  # memory of a constant, part of which is written over
        if reach.spans or tensor not in self.memory:
            return None
        value = call.arguments.get("src", call.arguments.get("value"))
        if isinstance(value, torch.Tensor):
            return self._extremes(value)
        number = float(value) if isinstance(value, (int, float)) else 0.0
        return min(number, 0.0), max(number, 0.0)

    def _extremes(self, tensor: torch.Tensor) -> tuple[float, float]:
        return (0.0, 0.0) if self.constants.kind(tensor) is Kind.WEIGHT else extremes(self.constants.values(tensor))

    def _admit(self, tensor: torch.Tensor) -> None:
        """Note that the values of a tensor from outside torch may depend on everything."""
        if self.everything is not None and tensor.numel():
            self.origins.start_with([tensor])
            self.memory.write(tensor, self.everything.everything(tensor.shape).inexact("a tensor from outside torch"))

    def _taint(self, reach: Reach, cause: str) -> None:
        seen = reach.everything(()).inexact(cause)
        self.read = seen if self.read is None else union([self.read, seen], ())

    def _after_reading(self, reach: Reach) -> Reach:
        return reach if self.read is None else union([reach, self.read.expanded(reach.shape)], reach.shape)

    def _in_parts(self, func: OpOverload, args: Any, kwargs: dict[str, Any]) -> Any:
        """The result of a composite operator by the operators it is made of, which are followed in turn.

        Torch takes them apart by itself, but not inside a model that turns on `torch.inference_mode`.
        """
        with self:
            return func.decompose(*args, **kwargs)

    def _keep(self, call: Call, result: Any) -> None:
        """Keep what the results of an operator see, and what it has written into."""
        if call.traits.makes_empty and not self.scripted:
            self.origins.note_empty(tensors_in((result,)))
        if not call.reaches and self.read is None and not (call.of_any_values and call.traits.written):
            note_constants(call, self.constants, result)
            return
        written = {id(one): one for one in call.written}
        results = tuple(tensors_in((result,))) or tuple(written.values())
        if call.traits.reshapes_in_place or not results:
            return
        operation = self._operation(call, results)
        made = self._settled(call, operation)
        for tensor, reach in zip(results, made, strict=True):
            if written.pop(id(tensor), None) is not None:
                self._write(call, tensor, reach)
            else:
                self.memory.bind(tensor, reach)
        if call.traits.rule is None:
            for tensor in written.values():
                self._write(call, tensor, self._after_reading(_all_of(operation, tensor.shape)))
        if not any(reach.spans for reach in made):
            if call.traits.makes_constants:
                note_constants(call, self.constants, result)
            else:
                note_result_of_any_values(call, self.constants, list(results))

    def _write(self, call: Call, tensor: torch.Tensor, reach: Reach) -> None:
        beside = self._written_beside(call, tensor, reach)
        self.memory.write(tensor, reach)
        if beside is not None and max(-beside[0], beside[1]) >= SATURATES:
            self.memory.stand_beside(tensor, *beside)
        if reach.spans:
            self.constants.overwritten(tensor)
            if self.origins.is_exposed(tensor):
                self.note_read([tensor], "numpy")

    def _settled(self, call: Call, operation: Operation) -> list[Reach]:
        """What a rule says that the results see, with what constants hide, and with what Python has read."""
        self._asked_in_vain = False
        made = _made(call.traits, operation)
        if self._asked_in_vain:
            what = "a mask" if {"mask", "condition"} & operation.arguments.keys() else "an index"
            made = [reach.inexact(f"{operation.name} with {what} whose values are unknown") for reach in made]
        handling, verdict = call.traits.handling, NOTHING
        if handling.numbers or len(call.reaches) < len(call.tensors):
            verdict = judge(handling, call.arguments, self.constants, call.is_constant, call.unused)
        if verdict.acts or any(map(marked, call.reaches.values())) or any(map(marked, made)):
            inputs = [call.reaches[id(one)] for one in call.tensors if id(one) in call.reaches]
            beside = [one for one in call.tensors if call.is_constant(one) and one.is_floating_point()]
            full = handling.places and bool(beside) and all(solid(self.constants, one) for one in beside)
            made = [
                named(reach, settle(handling, verdict, inputs, reach, beside_is_solid=full), operation.name)
                for reach in made
            ]
        return made if self.read is None else [self._after_reading(reach) for reach in made]

    def _operation(self, call: Call, results: tuple[torch.Tensor, ...]) -> Operation:
        """The call as rules see it."""
        arguments, reaches = call.arguments, call.reaches
        if arguments.get("training", arguments.get("train")):
            arguments["statistics_count"] = True

        def reach_of(tensor: torch.Tensor) -> Reach:
            return reaches.get(id(tensor)) or constant(tensor.shape)

        def values_of(tensor: torch.Tensor) -> Ints | None:
            return self._values(tensor) if call.is_constant(tensor) else None

        return Operation(call.traits.name, arguments, results, reach_of, values_of)

    def _values(self, tensor: torch.Tensor) -> Ints | None:
        """The values of a constant index."""
        values = self.constants.values(tensor)
        if values is not None:
            return values.numpy()
        self.constants.kind(tensor)  # a pass that watches Python too may know them
        self._asked_in_vain = True
        if self._meta:
            self.refused = RuntimeError("the values of an index are not known on the meta device")
        return None


def _telling(call: Call) -> list[torch.Tensor]:
    """The arguments whose values Python learns of by a result, or by its shape."""
    if call.traits.base != "index":
        return call.tensors
    return [one for one in tensors_in(call.args[1]) if one.dtype in (torch.bool, torch.uint8)]


def _made(traits: Traits, operation: Operation) -> list[Reach]:
    """What a rule says that each result sees. One that tells of the first alone tells of others of its shape too."""
    results = operation.results
    if not any(one.numel() for one in results):
        return [constant(one.shape) for one in results]
    if traits.rule is None:
        return [_all_of(operation, one.shape) if one.numel() else constant(one.shape) for one in results]
    try:
        made = traits.rule(operation)
        if not isinstance(made, Reach):
            return [reach if one.numel() else constant(one.shape) for one, reach in zip(results, made, strict=True)]
    except Exception as error:
        if operation.name.startswith("aten::"):
            raise
        raise ArgumentError(f"The rule of {operation.name!r} raised {describe_error(error)}.") from error
    if made.shape != operation.shape:
        raise ArgumentError(
            f"The rule of {operation.name!r} returned a reach of shape {made.shape} for a result of shape "
            f"{operation.shape}: they must be the same."
        )
    return [made if tuple(t.shape) == made.shape else made.everything(t.shape) for t in results]


def _all_of(operation: Operation, shape: torch.Size) -> Reach:
    """All that the arguments see, for an operator without a rule: never too small."""
    seeing = [reach.everything(shape) for reach in operation.reaches() if not reach.is_constant]
    return union(seeing, shape).inexact(operation.name) if seeing else constant(shape)
