"""What does not depend on the input: weights, buffers, what a forward makes by itself; their values, where known."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import Enum, auto
from math import prod
from typing import Any, TypeAlias

import torch
from torch._ops import OpOverload
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._pytree import tree_map

from spatialprobe.fields.deferred import Deferred, run_on_values, run_with, tensors_among
from spatialprobe.fields.memory import has_storage, unfollowed

_LARGEST = 2**22  # elements of a result that is computed beside its stand-in
_SWEEP = 512  # new storages, until the dead ones are forgotten

Layout: TypeAlias = tuple[tuple[int, ...], tuple[int, ...], int]  # sizes, strides, offset

_NOWHERE: Layout = ((), (), 0)  # of values that are not known


class UnseenConstant(BaseException):
    """A constant's values are needed that was made where no operator shows it: of a list, on the meta device.

    No `except Exception` of a model can swallow it.
    """


class Kind(Enum):
    """What is known of a constant's values."""

    KNOWN = auto()
    WEIGHT = auto()  # any that training may lead to, none of them special
    FROZEN = auto()  # of a parameter that is not trained: a layer's weight, or else a mask; known
    UNKNOWN = auto()
    UNSEEN = auto()  # made where no operator shows it


@dataclass(slots=True)
class _Held:
    """One storage that is alive, or was, and, for one of the meta device, its real counterpart."""

    storage: StorageWeakRef | None  # None: it lives as long as the pass
    kind: Kind
    source: torch.Tensor | Deferred | None  # a tensor with the values, or what makes them
    layout: Layout  # where they lie in the storage
    owned: bool  # whether they may be written to: they are no tensor of the model's
    number: int = 0  # of the result of what makes them
    flat: torch.Tensor | None = None  # the storage's elements in their order, on the CPU


class Constants:
    """What is known of each constant's values, kept by the memory that tensors share.

    On the meta device tensors have no values: what a model computes of constants is computed beside it. On a real
    device they have, and all that is kept is which are weights, or stand for values that nobody has given.
    """

    def __init__(self, *, meta: bool, watched: bool) -> None:
        self._meta = meta
        self.kind_of_masks = Kind.UNKNOWN if meta else Kind.KNOWN  # made of weights: by those that the model has now
        self._watched = watched  # whether Python is watched too: what is unseen all the same is unknown
        self._held: dict[int, _Held] = {}
        self._since_sweep = 0
        self.waiting: list[Deferred] = []  # what has not been asked for yet
        self.missed = False  # whether values were needed of a constant that nobody has seen being made

    def weigh(self, tensor: torch.Tensor, frozen: torch.Tensor | None = None, *, lasting: bool = False) -> None:
        """Note a weight, with its values if it is not trained; and whether the tensor outlives the pass."""
        self._hold(tensor, Kind.WEIGHT if frozen is None else Kind.FROZEN, frozen, lasting=lasting)

    def know(self, tensor: torch.Tensor, values: torch.Tensor, *, owned: bool = False, lasting: bool = False) -> None:
        """Note the values of a tensor on the meta device."""
        if values._is_zerotensor():  # it has no memory to be looked at
            values = torch.zeros(values.shape, dtype=values.dtype, device="cpu")
        self._hold(tensor, Kind.KNOWN, values, owned, lasting=lasting)

    def doubt(self, tensor: torch.Tensor) -> None:
        """Note that nobody knows the values of a tensor."""
        self._hold(tensor, Kind.UNKNOWN)

    def overwritten(self, tensor: torch.Tensor) -> None:
        """Note that something that is no constant was written into a tensor's memory."""
        if tensor.untyped_storage()._cdata in self._held:
            self.doubt(tensor)

    def holds(self, tensor: torch.Tensor) -> bool:
        """Return whether something is noted of this tensor's memory."""
        return tensor.untyped_storage()._cdata in self._held

    def kind(self, tensor: torch.Tensor) -> Kind:
        """Return what is known of a constant's values.

        Raises:
            UnseenConstant: a pass that watches Python, too, would know more.
        """
        kind = self._kind(tensor)
        if kind is not Kind.UNSEEN:
            return kind
        if not self._watched:
            self.missed = True
            raise UnseenConstant
        return Kind.UNKNOWN

    def values(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """Return a constant's values on the CPU, not to be written to; None if they are not known."""
        held = self._held.get(tensor.untyped_storage()._cdata)
        if held is None or (held.kind is Kind.FROZEN and not tensor.is_meta):
            if tensor.is_meta:
                return None if tensor.numel() else torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
            return tensor.detach().cpu()
        if isinstance(held.source, Deferred):
            self._fetch(held)
        return None if held.source is None else _looked(held, tensor)

    def defer(self, results: list[torch.Tensor], numbers: list[int], deferred: Deferred) -> None:
        """Note of new tensors on the meta device what makes their values, which are computed when they are needed."""
        self.waiting.append(deferred)
        for tensor, number in zip(results, numbers, strict=True):
            self._hold(tensor, Kind.KNOWN, deferred, owned=True).number = number
        if not deferred.waits(self._depth_of):
            self.fetch_all()

    def before_writing(self, written: Iterable[torch.Tensor]) -> None:
        """Compute what waits, if constants are about to be written to."""
        if any(map(self.holds, written)):
            self.fetch_all()

    def fetch_all(self) -> None:
        """Compute what waits."""
        for held in [one for one in self._held.values() if isinstance(one.source, Deferred)]:
            self._fetch(held)
        self.waiting.clear()

    def _fetch(self, held: _Held) -> None:
        assert isinstance(held.source, Deferred)
        held.source = held.source.result(held.number, self.values)
        if held.source is None:
            held.kind = Kind.UNKNOWN

    def _depth_of(self, tensor: torch.Tensor) -> int:
        held = self._held.get(tensor.untyped_storage()._cdata)
        source = None if held is None else held.source
        return source.depth if isinstance(source, Deferred) and not source.done else 0

    def compute(self, operator: OpOverload, args: Any, kwargs: dict[str, Any], free: Collection[int] = ()) -> Any:
        """Return an operator's result on known values; None if some are not, or if it fails.

        Args:
            operator: one that writes nothing.
            args: its arguments.
            kwargs: its other arguments.
            free: the tensors among them of which only the shape counts, by identity.
        """
        return run_on_values(operator, args, kwargs, self.values, free)

    def to_meta(self, tensor: torch.Tensor, *, lasting: bool = False) -> torch.Tensor:
        """Return the shape of a tensor without its values, which are noted if they are known."""
        if not has_storage(tensor):
            raise unfollowed(tensor, "an input or a buffer")
        shape = torch.empty_like(tensor, device="meta")
        values = self.values(tensor)
        if values is None:
            self.doubt(shape)
        else:
            self.know(shape, values, lasting=lasting)
        return shape

    def stand_in(self, real: Any) -> Any:
        """Return a result of known values as the meta device has it; numbers are numbers there too."""
        return tree_map(lambda leaf: self._shape_of(leaf) if isinstance(leaf, torch.Tensor) else leaf, real)

    def note_results(self, results: Iterable[torch.Tensor], kind: Kind, real: Iterable[torch.Tensor] | None) -> None:
        """Note what is known of new tensors: their values, where they were computed; else of which kind they are."""
        if real is not None:
            for tensor, values in zip(results, real, strict=True):
                self.know(tensor, values, owned=True)
            return
        for tensor in results:
            of_this = self._of_dtype(kind, tensor)
            if of_this in (Kind.KNOWN, Kind.FROZEN):  # on a real device it has its values
                if tensor.is_meta:
                    self.doubt(tensor)
            else:
                self._hold(tensor, of_this)

    def note_written(self, tensor: torch.Tensor, kind: Kind, *, replaced: bool) -> None:
        """Note what is known of a tensor after values of this kind were written into it, instead of its own or not."""
        kind = self._of_dtype(kind, tensor)
        kinds = {kind} if replaced and covers(tensor) else {kind, self._kind(tensor)}
        if len(kinds) > 1:
            kind = Kind.UNSEEN if Kind.UNSEEN in kinds else Kind.UNKNOWN
        if kind in (Kind.KNOWN, Kind.FROZEN) and not tensor.is_meta:
            self._held.pop(tensor.untyped_storage()._cdata, None)
        else:
            self._hold(tensor, Kind.UNKNOWN if kind is Kind.KNOWN else kind)

    def write(
        self, operator: OpOverload, args: Any, kwargs: dict[str, Any], written: list[torch.Tensor], *, replaced: bool
    ) -> bool:
        """Run an operator that writes into constants of the meta device on their values; False if that cannot be."""
        taken: dict[int, torch.Tensor] = {}
        for tensor in written:
            values = self._writable(tensor, replaced=replaced)
            if values is None:
                return False
            taken[id(tensor)] = values
        for tensor in tensors_among((args, kwargs)):
            values = taken[id(tensor)] if id(tensor) in taken else self.values(tensor)
            if values is None:
                return False
            taken[id(tensor)] = values
        return run_with(operator, args, kwargs, taken) is not None

    def kinds(self, tensors: Iterable[torch.Tensor]) -> set[Kind]:
        """Return what is known of the values of each of these.

        Raises:
            UnseenConstant: as `kind` does.
        """
        return {self.kind(tensor) for tensor in tensors}

    def _of_dtype(self, kind: Kind, tensor: torch.Tensor) -> Kind:
        """A kind, which no whole numbers or truth values made of weights share."""
        special = kind is Kind.WEIGHT and not (tensor.is_floating_point() or tensor.is_complex())
        return self.kind_of_masks if special else kind

    def _kind(self, tensor: torch.Tensor) -> Kind:
        held = self._held.get(tensor.untyped_storage()._cdata)
        if held is not None:
            return held.kind
        return Kind.UNSEEN if tensor.is_meta and tensor.numel() else Kind.KNOWN

    def _shape_of(self, real: torch.Tensor) -> torch.Tensor:
        shape = torch.empty_like(real, device="meta")
        self.know(shape, real, owned=True)
        return shape

    def _writable(self, tensor: torch.Tensor, *, replaced: bool) -> torch.Tensor | None:
        """The values of a constant of the meta device, to be written to."""
        held = self._held.get(tensor.untyped_storage()._cdata)
        if not tensor.is_meta or tensor.numel() > _LARGEST:
            return None
        if held is not None and isinstance(held.source, Deferred):
            self._fetch(held)
        if held is None or held.source is None:
            if not (replaced and covers(tensor)):
                return None
            self.know(
                tensor,
                torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device="cpu"),
                owned=True,
            )
            held = self._held[tensor.untyped_storage()._cdata]
        if _looked(held, tensor) is None or held.flat is None:
            return None
        if not held.owned:
            held.flat, held.owned = held.flat.clone(), True
        held.kind = Kind.KNOWN
        return _looked(held, tensor)

    def _hold(
        self,
        tensor: torch.Tensor,
        kind: Kind,
        source: torch.Tensor | Deferred | None = None,
        owned: bool = False,
        *,
        lasting: bool = False,
    ) -> _Held:
        if not has_storage(tensor):
            return _Held(None, kind, source, _NOWHERE, owned)  # kept by nothing
        storage = tensor.untyped_storage()
        layout = _NOWHERE
        if source is not None:
            layout = tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset())
        reference = None if lasting else StorageWeakRef(storage)  # type: ignore[no-untyped-call]
        held = self._held[storage._cdata] = _Held(reference, kind, source, layout, owned)
        self._since_sweep += not lasting
        if self._since_sweep > _SWEEP:
            self._since_sweep = 0
            self._held = {key: one for key, one in self._held.items() if not (one.storage and one.storage.expired())}  # type: ignore[no-untyped-call]
            self.waiting = [one for one in self.waiting if not one.done]
        return held


def small(results: Iterable[torch.Tensor]) -> bool:
    """Return whether these are worth computing beside their stand-ins."""
    return all(tensor.numel() <= _LARGEST for tensor in results)


def _looked(held: _Held, tensor: torch.Tensor) -> torch.Tensor | None:
    """The real counterpart of a tensor; None where it does not look at memory as its owner does."""
    if held.flat is None and isinstance(held.source, torch.Tensor):
        held.flat, held.owned = _flattened(held.source.detach(), held.layout, owned=held.owned)
    flat = held.flat
    if flat is None or flat.dtype != tensor.dtype or tensor.is_conj() or tensor.is_neg():
        return None
    if _extent(tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset())) > flat.numel():
        return None
    return torch.as_strided(flat, tensor.size(), tensor.stride(), tensor.storage_offset())


def _flattened(source: torch.Tensor, layout: Layout, *, owned: bool) -> tuple[torch.Tensor, bool]:
    """A vector in which values lie as a layout says, and whether it is memory of our own."""
    values = source.cpu()
    if values.is_contiguous() and values.stride() == layout[1] and layout[2] == 0:
        return values.reshape(-1), owned or values is not source
    flat = values.new_zeros(_extent(*layout))
    torch.as_strided(flat, *layout).copy_(values)
    return flat, True


def _extent(sizes: tuple[int, ...], strides: tuple[int, ...], offset: int) -> int:
    """How many elements a storage has at least."""
    if not prod(sizes):
        return 0
    return offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True)) + 1


def covers(tensor: torch.Tensor) -> bool:
    """Return whether a tensor holds every element of its storage."""
    whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return whole and (tensor.numel() <= 1 or 0 not in tensor.stride())
