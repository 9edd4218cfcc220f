"""Follow every operator that torch runs: from what its arguments see to what its results see."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch._ops import OpOverload
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from spatialprobe.errors import ArgumentError, told
from spatialprobe.fields.constants import Constants
from spatialprobe.fields.memory import Memory
from spatialprobe.fields.reach import Reach, constant, union
from spatialprobe.fields.rules import Operation, Rule, rule_for
from spatialprobe.fields.taps import Ints

_COMPARISONS = "eq ne lt le gt ge logical_not logical_and logical_or logical_xor isnan isinf"
_MAKES_MASKS = frozenset((*_COMPARISONS.split(), "masked_fill", "where", "tril", "triu"))
_READS_VALUES = frozenset({torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.item, torch.Tensor.__array__})


@dataclass(frozen=True, slots=True)
class _Traits:
    """What an operator's schema says, read once."""

    operator: OpOverload
    name: str
    arguments: tuple[tuple[str, Any], ...]  # name and default
    written: tuple[str, ...]  # arguments that it writes into
    reshapes_in_place: bool
    makes_masks: bool

    @property
    def rule(self) -> Rule | None:
        """Asked for anew each time: somebody may have registered one."""
        return rule_for(self.operator)


@lru_cache(maxsize=4096)
def _traits(operator: OpOverload) -> _Traits:
    schema = operator._schema
    written = tuple(a.name for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write)
    looks_again = torch.Tag.inplace_view in operator.tags or schema.name == "aten::as_strided"
    base = schema.name.removeprefix("aten::").removesuffix("_")
    arguments = tuple((argument.name, argument.default_value) for argument in schema.arguments)
    return _Traits(operator, schema.name, arguments, written, looks_again, base in _MAKES_MASKS)


class Follower(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is active, keeps what each tensor of its thread sees of the input.

    On the meta device tensors have no values. Whole numbers that the model computes for itself are computed beside it,
    since rules may need them. On a real device a tensor that comes from outside torch after values were read may
    depend on anything.
    """

    def __init__(self, *, meta: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.memory = Memory()
        self.constants = Constants()
        self.everything: Reach | None = None  # what something sees that may depend on all of the input
        self._meta = meta
        self.values_read = False  # whether something that depends on the input has left torch
        self._born: dict[int, StorageWeakRef] = {}  # storages whose origin is known, on a real device

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operator as it is, and follow it."""
        kwargs = kwargs or {}
        traits = _traits(func)
        if torch.is_inference_mode_enabled() and traits.rule is None:
            parts = self._in_parts(func, args, kwargs)
            if parts is not NotImplemented:
                return parts
        tensors = list(_tensors((*args, *kwargs.values())))
        if self._meta and not tensors and kwargs.get("device") is not None:
            kwargs = kwargs | {"device": torch.device("meta")}
        if not self._meta and traits.name != "aten::lift_fresh":
            for tensor in tensors:
                self.reach_of(tensor)
        seen = any(tensor in self.memory for tensor in tensors)
        before = {id(tensor): self.memory.read(tensor) for tensor in tensors} if seen and traits.written else {}
        result = self._run(func, args, kwargs)
        if seen:
            self._follow(traits, args, kwargs, before, result)
        else:
            self._note_constant(func, traits, args, kwargs, result)
        if not self._meta:
            self.start_with(_tensors((result,)))
        return result

    def start_with(self, values: Iterable[Any]) -> None:
        """Tensors whose origin is known: parameters, inputs, and what operators return."""
        for value in values:
            if isinstance(value, torch.Tensor):
                storage = value.untyped_storage()
                if storage._cdata not in self._born:
                    self._born[storage._cdata] = StorageWeakRef(storage)  # type: ignore[no-untyped-call]

    def reach_of(self, tensor: torch.Tensor) -> Reach:
        """What a tensor sees; on a real device everything, if it came from outside torch: out of numpy, say."""
        strange = not self._meta and tensor.untyped_storage()._cdata not in self._born
        if strange and self.everything is not None:
            self.start_with([tensor])
            self.memory.write(tensor, self.everything.everything(tensor.shape))
        return self.memory.read(tensor)

    def _in_parts(self, func: OpOverload, args: Any, kwargs: dict[str, Any]) -> Any:
        """The result of a composite operator by the operators it is made of, which are followed in turn.

        Torch takes them apart by itself, but not inside a model that turns on `torch.inference_mode`.
        """
        with self:
            return func.decompose(*args, **kwargs)

    def _run(self, func: OpOverload, args: Any, kwargs: dict[str, Any]) -> Any:
        """The operator's result; on the meta device, tensors that the model kept elsewhere come along."""
        try:
            return func(*args, **kwargs)
        except (RuntimeError, NotImplementedError):
            strangers = {id(t): t for t in _tensors((*args, *kwargs.values())) if t.device.type != "meta"}
            if not self._meta or not strangers:
                raise
        moved = {key: self.to_meta(tensor) for key, tensor in strangers.items()}
        args, kwargs = tree_map(lambda leaf: moved.get(id(leaf), leaf), (args, kwargs))
        return func(*args, **kwargs)

    def to_meta(self, tensor: torch.Tensor) -> torch.Tensor:
        """The shape of a tensor without its values, which are remembered if they are few whole numbers."""
        shape = torch.empty_like(tensor, device="meta")
        self.constants.know(shape, tensor)
        return shape

    def _note_constant(self, func: OpOverload, traits: _Traits, args: Any, kwargs: dict[str, Any], result: Any) -> None:
        """An operator that takes nothing of the input."""
        if traits.makes_masks and isinstance(result, torch.Tensor):
            operation = self._operation(traits, args, kwargs, {}, (result,))
            made = traits.rule(operation) if traits.rule else constant(result.shape)
            if isinstance(made, Reach) and made.mask:
                self.memory.bind(result, made)
        if traits.name == "aten::lift_fresh" and self.values_read and self.everything is not None:
            self.memory.bind(result, self.everything.everything(result.shape))
        if not self._meta:
            return
        if traits.written:
            for tensor in _tensors((*args, *kwargs.values())):
                self.constants.forget(tensor)
        else:
            self.constants.compute(func, args, kwargs, result)

    def _follow(
        self, traits: _Traits, args: Any, kwargs: dict[str, Any], before: dict[int, Reach], result: Any
    ) -> None:
        results = tuple(_tensors((result,)))
        if traits.reshapes_in_place or not (results or traits.written):
            return
        operation = self._operation(traits, args, kwargs, before, results)
        written = {id(t): t for name in traits.written for t in _tensors((operation.arguments.get(name),))}
        if not results:
            results = tuple(written.values())
        for tensor, reach in zip(results, _reaches(traits, operation, results), strict=True):
            if id(tensor) in written:
                self.memory.write(tensor, reach)
                del written[id(tensor)]
            else:
                self.memory.bind(tensor, reach)
        if traits.rule is None:
            for tensor in written.values():
                self.memory.write(tensor, _all_of(operation, tensor.shape))

    def _operation(
        self, traits: _Traits, args: Any, kwargs: dict[str, Any], before: dict[int, Reach], results: Any
    ) -> Operation:
        arguments = {name: kwargs.get(name, default) for name, default in traits.arguments}
        arguments.update(zip(arguments, args, strict=False))
        if arguments.get("training", arguments.get("train")):
            arguments["statistics_count"] = True
        if before:
            return Operation(
                traits.name,
                arguments,
                results,
                lambda tensor: before.get(id(tensor)) or self.memory.read(tensor),
                self._values,
            )
        return Operation(traits.name, arguments, results, self.memory.read, self._values)

    def _values(self, tensor: torch.Tensor) -> Ints | None:
        """The values of a constant of whole numbers or truth values."""
        if not self.memory.read(tensor).is_constant:
            return None
        values = self.constants.values(tensor)
        return None if values is None else values.numpy()


class ReadingWatch(TorchFunctionMode):
    """Notes when values that depend on the input leave torch, which no operator shows."""

    def __init__(self, follower: Follower) -> None:
        super().__init__()
        self._follower = follower

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the function as it is."""
        if func in _READS_VALUES and not self._follower.reach_of(args[0]).is_constant:
            self._follower.values_read = True
        return func(*args, **(kwargs or {}))


def _reaches(traits: _Traits, operation: Operation, results: tuple[torch.Tensor, ...]) -> list[Reach]:
    """What each result sees. A rule that tells of the first alone tells of others of its shape too."""
    if not operation.results[0].numel() and len(operation.results) == 1:
        return [constant(operation.shape)]
    if traits.rule is None:
        return [_all_of(operation, tensor.shape) for tensor in results]
    try:
        made = traits.rule(operation)
        if not isinstance(made, Reach):
            return list(made)
    except Exception as error:
        if operation.name.startswith("aten::"):
            raise
        raise ArgumentError(f"The rule of {operation.name!r} raised {told(error)}.") from error
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


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)
