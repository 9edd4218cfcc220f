"""Every error that the library raises, in one tree.

    SpatialProbeError
    ├── ArgumentError              (ValueError)    an argument that cannot be used
    ├── LayerNotFoundError         (KeyError)      no such layer in the model, or none captured
    ├── LayerNotRunError           (KeyError)      the layer exists, but did not run (so often)
    ├── AmbiguousCallError         (LookupError)   the layer ran more than once: which run?
    ├── UnresolvedActivationError  (RuntimeError)  no single nonlinearity follows the layer
    ├── UnsupportedOutputError     (TypeError)     the layer's output is not one plain tensor
    └── ProbeStateError            (RuntimeError)  a probe used in the wrong order

A message says what happened, where, and what to do about it.
"""

from __future__ import annotations

__all__ = [
    "AmbiguousCallError",
    "ArgumentError",
    "LayerNotFoundError",
    "LayerNotRunError",
    "ProbeStateError",
    "SpatialProbeError",
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


class ProbeStateError(SpatialProbeError, RuntimeError):
    """A probe was used in an order that makes no sense, such as entered twice at once."""
