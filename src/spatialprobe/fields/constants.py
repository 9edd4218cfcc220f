"""The constants of a pass, which do not depend on the input: weights, buffers, new tensors; with values, if known."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import torch
from torch._ops import OpOverload
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._pytree import tree_map

from spatialprobe.fields.constant_storage import NOWHERE, ConstantStorage, Kind, covers
from spatialprobe.fields.deferred import Deferred, run_on_values, run_with, tensors_among
from spatialprobe.fields.memory import has_storage, unfollowed_error
from spatialprobe.tensors import empty_on_meta

_LARGEST = 2**22  # elements of a result whose values are computed in addition to the meta tensor
_SWEEP = 512  # new storages after which freed ones are removed


class UnseenConstant(BaseException):
    """The values of a constant are needed that was created without an operator: from a list, on the meta device.

    It is a BaseException, so that no `except Exception` of a model can swallow it.
    """


class Constants:
    """The knowledge of each constant's values, stored by the memory that tensors share.

    On the meta device tensors have no values: the values of what a model computes from constants are computed here. On
    a real device tensors have values, and only two things are stored: which are weights, and which stand for an input
    of which only the shape is known.
    """

    def __init__(self, *, meta: bool, watched: bool) -> None:
        self._meta = meta
        self.kind_of_masks = Kind.UNKNOWN if meta else Kind.KNOWN  # computed from weights, by their present values
        self._watched = watched  # whether Python is watched too: what is still unseen is unknown
        self._held: dict[int, ConstantStorage] = {}
        self._since_sweep = 0
        self.waiting: list[Deferred] = []  # results that have not been needed yet
        self.missed = False  # whether values were needed of a constant that was created without an operator

    def note_weight(self, tensor: torch.Tensor, frozen: torch.Tensor | None = None, *, lasting: bool = False) -> None:
        """Note a weight, with its values if it is not trained; and whether the tensor outlives the pass."""
        self._hold(tensor, Kind.WEIGHT if frozen is None else Kind.FROZEN, frozen, lasting=lasting)

    def note_values(
        self, tensor: torch.Tensor, values: torch.Tensor, *, owned: bool = False, lasting: bool = False
    ) -> None:
        """Note the values of a tensor on the meta device."""
        if values._is_zerotensor():  # it has no memory to read
            values = torch.zeros(values.shape, dtype=values.dtype, device="cpu")
        self._hold(tensor, Kind.KNOWN, values, owned, lasting=lasting)

    def note_unknown(self, tensor: torch.Tensor) -> None:
        """Note that the values of a tensor are unknown."""
        self._hold(tensor, Kind.UNKNOWN)

    def note_overwritten(self, tensor: torch.Tensor) -> None:
        """Note that a value that depends on the input was written into a tensor's memory."""
        if tensor.untyped_storage()._cdata in self._held:
            self.note_unknown(tensor)

    def holds(self, tensor: torch.Tensor) -> bool:
        """Return whether anything is noted about this tensor's memory."""
        return tensor.untyped_storage()._cdata in self._held

    def kind(self, tensor: torch.Tensor) -> Kind:
        """Return what is known of a constant's values.

        Raises:
            UnseenConstant: a pass that also watches Python would know more.
        """
        kind = self._kind(tensor)
        if kind is not Kind.UNSEEN:
            return kind
        if not self._watched:
            self.missed = True
            raise UnseenConstant
        return Kind.UNKNOWN

    def values(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """Return a constant's values on the CPU, which must not be modified; None if they are not known."""
        held = self._held.get(tensor.untyped_storage()._cdata)
        if held is None or (held.kind is Kind.FROZEN and not tensor.is_meta):
            if tensor.is_meta:
                return None if tensor.numel() else torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
            return tensor.detach().cpu()
        if isinstance(held.source, Deferred):
            self._fetch(held)
        return None if held.source is None else held.view(tensor)

    def defer(self, results: list[torch.Tensor], numbers: list[int], deferred: Deferred) -> None:
        """Note for new tensors on the meta device the run that computes their values when they are needed."""
        self.waiting.append(deferred)
        for tensor, number in zip(results, numbers, strict=True):
            self._hold(tensor, Kind.KNOWN, deferred, owned=True).number = number
        if not deferred.waits(self._depth_of):
            self.fetch_all()

    def before_writing(self, written: Iterable[torch.Tensor]) -> None:
        """Compute all waiting results if constants are about to be modified."""
        if any(map(self.holds, written)):
            self.fetch_all()

    def fetch_all(self) -> None:
        """Compute all waiting results."""
        for held in [one for one in self._held.values() if isinstance(one.source, Deferred)]:
            self._fetch(held)
        self.waiting.clear()

    def _fetch(self, held: ConstantStorage) -> None:
        """Compute the values of a constant that waits."""
        assert isinstance(held.source, Deferred)
        held.source = held.source.result(held.number, self.values)
        if held.source is None:
            held.kind = Kind.UNKNOWN

    def _depth_of(self, tensor: torch.Tensor) -> int:
        """Return the length of the chain of results that a constant waits for."""
        held = self._held.get(tensor.untyped_storage()._cdata)
        source = None if held is None else held.source
        return source.depth if isinstance(source, Deferred) and not source.done else 0

    def compute(self, operator: OpOverload, args: Any, kwargs: dict[str, Any], free: Collection[int] = ()) -> Any:
        """Return an operator's result on known values; None if some are not, or if it fails.

        Args:
            operator: one that modifies none of its arguments.
            args: its arguments.
            kwargs: its other arguments.
            free: the tensors among them of which only the shape counts, by identity.
        """
        return run_on_values(operator, args, kwargs, self.values, free)

    def to_meta(self, tensor: torch.Tensor, *, lasting: bool = False) -> torch.Tensor:
        """Return a meta tensor of a tensor's shape; its values are noted if they are known."""
        if not has_storage(tensor):
            raise unfollowed_error(tensor, "an input or a buffer")
        shape = empty_on_meta(tensor)
        values = self.values(tensor)
        if values is None:
            self.note_unknown(shape)
        else:
            self.note_values(shape, values, lasting=lasting)
        return shape

    def to_stand_ins(self, real: Any) -> Any:
        """Return a result of known values with meta tensors in place of tensors; numbers stay as they are."""
        return tree_map(lambda leaf: self._shape_of(leaf) if isinstance(leaf, torch.Tensor) else leaf, real)

    def note_results(self, results: Iterable[torch.Tensor], kind: Kind, real: Iterable[torch.Tensor] | None) -> None:
        """Note the values of new tensors, if they were computed; else the kind."""
        if real is not None:
            for tensor, values in zip(results, real, strict=True):
                self.note_values(tensor, values, owned=True)
            return
        for tensor in results:
            of_this = self._of_dtype(kind, tensor)
            if of_this in (Kind.KNOWN, Kind.FROZEN):  # on a real device the tensor has its values
                if tensor.is_meta:
                    self.note_unknown(tensor)
            else:
                self._hold(tensor, of_this)

    def note_written(self, tensor: torch.Tensor, kind: Kind, *, replaced: bool) -> None:
        """Note that values of this kind were written into a tensor, and whether they replaced all of its own."""
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
        """Run an operator that modifies constants of the meta device on their values; return False if it cannot run."""
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
        """Return the kinds of these constants.

        Raises:
            UnseenConstant: as `kind` does.
        """
        return {self.kind(tensor) for tensor in tensors}

    def _of_dtype(self, kind: Kind, tensor: torch.Tensor) -> Kind:
        """Return a kind, or `kind_of_masks` for integers and booleans that are computed from weights."""
        special = kind is Kind.WEIGHT and not (tensor.is_floating_point() or tensor.is_complex())
        return self.kind_of_masks if special else kind

    def _kind(self, tensor: torch.Tensor) -> Kind:
        """Return what is known of a constant's values, or that it is unseen."""
        held = self._held.get(tensor.untyped_storage()._cdata)
        if held is not None:
            return held.kind
        return Kind.UNSEEN if tensor.is_meta and tensor.numel() else Kind.KNOWN

    def _shape_of(self, real: torch.Tensor) -> torch.Tensor:
        """Return a meta tensor of a tensor's shape, and note its values."""
        shape = empty_on_meta(real)
        self.note_values(shape, real, owned=True)
        return shape

    def _writable(self, tensor: torch.Tensor, *, replaced: bool) -> torch.Tensor | None:
        """Return the values of a constant of the meta device, which may be modified; None if they are not known."""
        held = self._held.get(tensor.untyped_storage()._cdata)
        if not tensor.is_meta or tensor.numel() > _LARGEST:
            return None
        if held is not None and isinstance(held.source, Deferred):
            self._fetch(held)
        if held is None or held.source is None:
            if not (replaced and covers(tensor)):
                return None
            self.note_values(
                tensor,
                torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device="cpu"),
                owned=True,
            )
            held = self._held[tensor.untyped_storage()._cdata]
        if held.view(tensor) is None or held.flat is None:
            return None
        if not held.owned:
            held.flat, held.owned = held.flat.clone(), True
        held.kind = Kind.KNOWN
        return held.view(tensor)

    def _hold(
        self,
        tensor: torch.Tensor,
        kind: Kind,
        source: torch.Tensor | Deferred | None = None,
        owned: bool = False,
        *,
        lasting: bool = False,
    ) -> ConstantStorage:
        """Note the kind of a tensor, and its values, or the run that computes them; remove freed storages at times."""
        if not has_storage(tensor):
            return ConstantStorage(None, kind, source, NOWHERE, owned)  # not stored
        storage = tensor.untyped_storage()
        layout = NOWHERE
        if source is not None:
            layout = tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset())
        reference = None if lasting else StorageWeakRef(storage)  # type: ignore[no-untyped-call]
        held = self._held[storage._cdata] = ConstantStorage(reference, kind, source, layout, owned)
        self._since_sweep += not lasting
        if self._since_sweep > _SWEEP:
            self._since_sweep = 0
            self._held = {key: one for key, one in self._held.items() if not (one.storage and one.storage.expired())}  # type: ignore[no-untyped-call]
            self.waiting = [one for one in self.waiting if not one.done]
        return held


def are_small(results: Iterable[torch.Tensor]) -> bool:
    """Return whether tensors are are_small enough to compute their values in addition to the meta tensors."""
    return all(tensor.numel() <= _LARGEST for tensor in results)
