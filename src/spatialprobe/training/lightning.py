"""A callback for Lightning's Trainer, made where Lightning is installed; only then is it imported."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from spatialprobe.errors import describe_error

if TYPE_CHECKING:
    from spatialprobe.training.monitor import Monitor

LightningCallback = Any  # a `lightning.pytorch.Callback`


def make_callback(monitor: Monitor) -> LightningCallback:
    """Return a callback that enters a monitor when training starts, and leaves it when it ends.

    Raises:
        ImportError: neither lightning nor pytorch_lightning is installed.
    """
    base: Any = _callback_class()

    class MonitorCallback(base):  # type: ignore[misc]
        """The callback."""

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            monitor._merges_ranks = trainer.world_size > 1
            monitor.__enter__()

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            if monitor._is_active:
                monitor.__exit__(None, None, None)

        def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
            if monitor._is_active:
                monitor.__exit__(type(exception), exception, exception.__traceback__)

    return MonitorCallback()


def _callback_class() -> type:
    problems = []
    for package in ("lightning.pytorch", "pytorch_lightning"):
        try:
            found: type = import_module(package).Callback
            return found
        except ImportError as error:
            problems.append(describe_error(error))
    raise ImportError(f"monitor.lightning() needs Lightning: pip install lightning ({'; '.join(problems)}).")
