"""The errors that the library raises.

They form one tree, so that the root catches all of them::

    SpatialProbeError
    ├── ArgumentError              (ValueError)          an argument that cannot be used
    ├── LayerNotFoundError         (KeyError)            no such layer in the model, or none captured
    ├── LayerNotRunError           (KeyError)            the layer did not run, or not so often
    ├── AmbiguousCallError         (LookupError)         the layer ran more than once: which run?
    ├── UnresolvedActivationError  (RuntimeError)        no single nonlinearity follows the layer
    ├── UnsupportedOutputError     (TypeError)           the layer's output is not one plain tensor
    ├── MutatedActivationError     (RuntimeError)        a shared value was modified in place and is lost
    ├── MemoryBudgetError          (MemoryError)         what is kept would exceed max_bytes
    ├── ForwardError               (RuntimeError)        the model raised an error on the inputs
    ├── NonFiniteActivationError   (FloatingPointError)  a layer's values or gradients are infinite or NaN
    ├── StorageError               (ValueError)          a file is damaged, foreign or of a newer version
    ├── SweepError                 (RuntimeError)        a sweep ended early: data, model or reducer raised
    └── ProbeStateError            (RuntimeError)        a probe used in the wrong order, or without gradients

In parentheses is the builtin from which each also derives; then when it is raised.

A message says what happened, where, and what to do about it.
"""

from __future__ import annotations

_LONGEST = 800  # characters of another library's message

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
    """The base class of all errors that this library raises.

    >>> import torch, spatialprobe as sp
    >>> try:
    ...     sp.Probe(torch.nn.Conv2d(1, 1, 1), "conv1")
    ... except sp.SpatialProbeError as error:
    ...     print(type(error).__name__)
    LayerNotFoundError
    """

    def __str__(self) -> str:
        # KeyError would show the message as a quoted repr; and terminals and logs cannot encode lone surrogates.
        return Exception.__str__(self).encode("utf-8", "backslashreplace").decode()


class ArgumentError(SpatialProbeError, ValueError):
    """An argument has a value or a type that cannot be used.

    >>> import torch, spatialprobe as sp
    >>> sp.Probe(torch.nn.Conv2d(1, 1, 1), at="input")
    Traceback (most recent call last):
    spatialprobe.errors.ArgumentError: at must be one of 'output', 'post_activation', not 'input'.
    """


class LayerNotFoundError(SpatialProbeError, KeyError):
    """A selector or a name matches no layer.

    >>> import spatialprobe as sp
    >>> from torch import nn
    >>> sp.Probe(nn.ModuleDict({"conv1": nn.Conv2d(3, 6, 3), "conv2": nn.Conv2d(6, 12, 3)}), "covn1")
    Traceback (most recent call last):
    spatialprobe.errors.LayerNotFoundError: No layer named 'covn1'. Did you mean 'conv1' or 'conv2'? Its layers: ...
    """


class LayerNotRunError(SpatialProbeError, KeyError):
    """A requested layer did not run, or did not run often enough.

    >>> import torch, spatialprobe as sp
    >>> with sp.Probe(torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1))):
    ...     pass  # the model does not run
    Traceback (most recent call last):
    spatialprobe.errors.LayerNotRunError: These layers never ran inside the block: '0'. Run the model inside it, ...
    """


class AmbiguousCallError(SpatialProbeError, LookupError):
    """A single record was requested of a layer that ran more than once.

    Not a `KeyError`, so that `Mapping.get` does not turn it into a default.

    >>> import torch, spatialprobe as sp
    >>> conv = torch.nn.Conv2d(1, 1, 1)
    >>> twice = torch.nn.Sequential(conv, conv)
    >>> sp.capture(twice, torch.rand(1, 1, 4, 4))["0"]
    Traceback (most recent call last):
    spatialprobe.errors.AmbiguousCallError: Layer '0' ran 2 times. Use probe['0', i] for one run (i from 0 to 1), ...
    """


class UnresolvedActivationError(SpatialProbeError, RuntimeError):
    """No single nonlinearity takes the output of a layer.

    >>> import torch, spatialprobe as sp
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.Flatten())
    >>> sp.capture(model, torch.rand(1, 1, 4, 4), at="post_activation")
    Traceback (most recent call last):
    spatialprobe.errors.UnresolvedActivationError: ...
    """


class UnsupportedOutputError(SpatialProbeError, TypeError):
    """A layer's output is not one plain tensor.

    >>> import torch, spatialprobe as sp
    >>> sp.capture(torch.nn.Sequential(torch.nn.LSTM(3, 4)), torch.rand(5, 3), layers="0")
    Traceback (most recent call last):
    spatialprobe.errors.UnsupportedOutputError: Layer '0' (LSTM) returned no single tensor but a tuple with ...
    """


class MutatedActivationError(SpatialProbeError, RuntimeError):
    """A record or its gradient was read after memory that it shares with the model had been modified in place.

    >>> import torch, spatialprobe as sp
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.ReLU(inplace=True))
    >>> sp.capture(model, torch.rand(1, 1, 4, 4), copy="never")["0"].tensor
    Traceback (most recent call last):
    spatialprobe.errors.MutatedActivationError: ...
    """


class MemoryBudgetError(SpatialProbeError, MemoryError):
    """Keeping a value would take more memory than `max_bytes` allows.

    >>> import torch, spatialprobe as sp
    >>> sp.capture(torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1)), torch.rand(1, 1, 4, 4), max_bytes=10)
    Traceback (most recent call last):
    spatialprobe.errors.MemoryBudgetError: ...
    """


class NonFiniteActivationError(SpatialProbeError, FloatingPointError):
    """A layer's output, or a gradient of it, is infinite or NaN.

    >>> import torch, spatialprobe as sp
    >>> images = torch.full((2, 1, 4, 4), torch.nan)
    >>> sp.sweep(torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1)), images, {"moments": sp.Moments})
    Traceback (most recent call last):
    spatialprobe.errors.NonFiniteActivationError: The output of layer '0' has 16 NaN and 0 infinite values ...
    """


class ForwardError(SpatialProbeError, RuntimeError):
    """A model that this library ran raised an error on the inputs; that error is the `__cause__`.

    >>> import torch, spatialprobe as sp
    >>> sp.receptive_fields(torch.nn.Conv2d(3, 6, 3), (1, 4, 32, 32))
    Traceback (most recent call last):
    spatialprobe.errors.ForwardError: Conv2d raised RuntimeError on an input of (1, 4, 32, 32): ...
    """


class StorageError(SpatialProbeError, ValueError):
    """A file of records, statistics or progress cannot be read or written as it is.

    >>> import pathlib, tempfile, spatialprobe as sp
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "records.safetensors")
    ...     _ = file.write_text("something else")
    ...     sp.load_activations(file)
    Traceback (most recent call last):
    spatialprobe.errors.StorageError: ...
    """

    def __init__(self, message: str = "", result: object = None) -> None:
        super().__init__(message)
        self.result = result  # of a sweep that was complete when the last write of its checkpoint failed


class SweepError(SpatialProbeError, RuntimeError):
    """A sweep ended early, since the data, the model, a reducer or another process failed; the message says where.

    >>> import torch, spatialprobe as sp
    >>> sp.sweep(torch.nn.Conv2d(3, 6, 3), torch.rand(2, 4, 32, 32), {"moments": sp.Moments})
    Traceback (most recent call last):
    spatialprobe.errors.SweepError: The model raised RuntimeError: ...
    """


class ProbeStateError(SpatialProbeError, RuntimeError):
    """A probe was used in an invalid order, such as entered twice, or without the gradients that it needs.

    >>> import torch, spatialprobe as sp
    >>> probe = sp.Probe(torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1)))
    >>> with probe, probe:
    ...     pass
    Traceback (most recent call last):
    spatialprobe.errors.ProbeStateError: This probe is already active: leave its block first, or make a second Probe.
    """


def describe_error(error: BaseException) -> str:
    """Return an exception as text, its type and its message: `ValueError: message`."""
    text = short_text(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def short_text(error: BaseException) -> str:
    """Return the message of an exception, cut off if it is long."""
    try:
        text = str(error)
    except Exception:  # the str() of a user's exception may raise any error
        return ""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def add_note(error: BaseException, note: str) -> None:
    """Add a note to an error, which tracebacks show; its type and message do not change.

    Before Python 3.11 errors have no notes; there the note becomes the message of an interrupt that has none.
    """
    if hasattr(error, "add_note"):
        error.add_note(note)
    elif isinstance(error, KeyboardInterrupt) and not error.args:
        error.args = (note,)
