"""Models whose weights are elsewhere until they run: offloaded by accelerate, or sharded over processes by FSDP."""

from __future__ import annotations

from torch import nn

from spatialprobe.errors import ArgumentError
from spatialprobe.model.select import model_name
from spatialprobe.model.undo import Undo

_SHARDS = frozenset({"FullyShardedDataParallel", "FSDPModule"})  # of both versions; neither is imported for this


def is_offloaded(model: nn.Module) -> bool:
    """Return whether the model's weights are on the meta device until accelerate's hooks load them, layer by layer."""
    if not any("_hf_hook" in vars(module) for module in model.modules()):
        return False
    return any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))


def skip_loading(undo: Undo, model: nn.Module) -> None:
    """Let an offloaded model run on the weights that it holds, which have shapes and no values, until `undo` runs.

    Accelerate replaces the forward of modules by one that loads their weights first, and keeps the original.
    """
    if not is_offloaded(model):
        return
    for module in model.modules():
        attributes = vars(module)
        if "_hf_hook" in attributes and "_old_forward" in attributes and "forward" in attributes:
            undo.add(attributes.__setitem__, "forward", attributes["forward"])
            attributes["forward"] = attributes["_old_forward"]


def check_whole(model: nn.Module) -> None:
    """Check that the model's weights are not sharded.

    Raises:
        ArgumentError: they are.
    """
    if any(kind.__name__ in _SHARDS for module in model.modules() for kind in type(module).__mro__):
        raise ArgumentError(
            f"The weights of the {model_name(model)} are sharded over processes (FSDP), so that it can neither run on "
            "other tensors nor be restored. Probe and capture record it as it is; for everything else pass the model "
            "before it is sharded, with its full state dict loaded."
        )
