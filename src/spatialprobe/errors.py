"""Every error that the library raises, in one tree.

    SpatialProbeError
    ├── ArgumentError              (ValueError)    an argument that cannot be used
    ├── LayerNotFoundError         (KeyError)      no such layer in the model, or none captured
    ├── LayerNotRunError           (KeyError)      the layer exists, but did not run (so often)
    ├── AmbiguousCallError         (LookupError)   the layer ran more than once: which run?
    ├── UnresolvedActivationError  (RuntimeError)  no single nonlinearity follows the layer
    ├── UnsupportedOutputError     (TypeError)     the layer's output is not one plain tensor
    ├── MutatedActivationError     (RuntimeError)  a shared value was written over: it is gone, not wrong
    ├── MemoryBudgetError          (MemoryError)   what is kept would exceed max_bytes
    ├── ForwardError               (RuntimeError)  the model itself raised an error on the inputs given
    ├── NonFiniteActivationError   (FloatingPointError)  a layer handed on values that are infinite or no number
    ├── StorageError               (ValueError)    a file that was written is damaged, foreign or of a newer version
    ├── SweepError                 (RuntimeError)  a sweep ended early: the data, the model or a reducer raised
    └── ProbeStateError            (RuntimeError)  a probe used in the wrong order, or without gradients

A message says what happened, where, and what to do about it.
"""

from __future__ import annotations

__all__ = [
    "AmbiguousCallError",
    "ArgumentError",
    "ForwardError",
    "LayerNotFoundError",
    "LayerNotRunError",
    "MemoryBudgetError",
    "MutatedActivationError",
    "NonFiniteActivationError",
    "ProbeStateError",
    "SpatialProbeError",
    "StorageError",
    "SweepError",
    "UnresolvedActivationError",
    "UnsupportedOutputError",
]


class SpatialProbeError(Exception):
    """The root: catch it to catch everything that this library raises by itself."""

    def __str__(self) -> str:
        # KeyError would show the message as a quoted repr.
        return Exception.__str__(self)


class ArgumentError(SpatialProbeError, ValueError):
    """An argument has a value or a type that cannot be used."""


class LayerNotFoundError(SpatialProbeError, KeyError):
    """A selector or a name matches no layer."""


class LayerNotRunError(SpatialProbeError, KeyError):
    """A layer was asked for that did not run, or did not run so often."""


class AmbiguousCallError(SpatialProbeError, LookupError):
    """One record was asked for, but the layer ran more than once.

    Not a `KeyError`, so that `Mapping.get` does not turn it into a default.
    """


class UnresolvedActivationError(SpatialProbeError, RuntimeError):
    """No single nonlinearity takes the output of a layer."""


class UnsupportedOutputError(SpatialProbeError, TypeError):
    """A layer's output is not one plain tensor."""


class MutatedActivationError(SpatialProbeError, RuntimeError):
    """A record that shared its memory with the model was read after something had written over it."""


class MemoryBudgetError(SpatialProbeError, MemoryError):
    """Keeping a value would take more memory than `max_bytes` allows."""


class NonFiniteActivationError(SpatialProbeError, FloatingPointError):
    """A layer handed on values that are infinite or no number."""


class ForwardError(SpatialProbeError, RuntimeError):
    """A model that this library ran by itself raised an error on the inputs given; that error is the cause."""


class StorageError(SpatialProbeError, ValueError):
    """A file of records, statistics or progress cannot be read or written as it is."""


class SweepError(SpatialProbeError, RuntimeError):
    """A sweep ended early, because the data, the model, a reducer or another process failed; says where."""


class ProbeStateError(SpatialProbeError, RuntimeError):
    """A probe was used in an order that makes no sense, such as entered twice, or without gradients it needs."""


def told(error: BaseException) -> str:
    """An exception in one line: `ValueError: what it says`."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
