"""The steps of all processes of a training, merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from spatialprobe.errors import SpatialProbeError, StorageError, describe_error
from spatialprobe.statistics.distributed import join_peers
from spatialprobe.statistics.reducer import Factory, create_reducers
from spatialprobe.storage.restricted_pickle import RestrictedPickle
from spatialprobe.training.step import Step

_Steps = dict[int, Step]
_Packed = list[tuple[int, dict[str, dict[str, object]], dict[str, dict[str, object]]]]


def merge_ranks(steps: Sequence[Step], factories: Mapping[str, Factory], timeout: float) -> list[Step]:
    """Return the steps of all processes, in their order, those of one number merged; every process must call this.

    Raises:
        SweepError: a process did not come within so many seconds, failed, or could not write its reducers.
    """
    with join_peers(timeout) as others:
        merged = others.merge_all({step.number: step for step in steps}, _merge, _StepsFormat(factories))
    return [merged[number] for number in sorted(merged)]


def _merge(mine: _Steps, theirs: _Steps) -> None:
    for number, step in theirs.items():
        if number in mine:
            mine[number].merge(step)
        else:
            mine[number] = step


class _StepsFormat:
    """The serialization of steps, in which bytes can create only objects of the reducers' own classes."""

    def __init__(self, factories: Mapping[str, Factory]) -> None:
        self._pickle = RestrictedPickle(create_reducers(dict(factories)).values())

    def dumps(self, steps: _Steps) -> bytes:
        try:
            return self._pickle.dumps([(number, step.values, step.gradients) for number, step in steps.items()])
        except StorageError as error:
            raise SpatialProbeError(f"a reducer {describe_error(error)}") from error

    def loads(self, data: bytes) -> _Steps:
        packed: _Packed = self._pickle.loads(data)
        return {number: Step(number, values, gradients) for number, values, gradients in packed}  # type: ignore[arg-type]
