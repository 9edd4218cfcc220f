"""The traits of an operator, read once from its schema and its name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tag
from torch._ops import OpOverload

from spatialprobe.fields.handling import Handling, handling_of, split_names
from spatialprobe.fields.rules import Rule, rule_for
from spatialprobe.fields.rules.elementwise import CONSTANTS
from spatialprobe.fields.unused import LEAVING_OUT

# Their result, or its shape, depends on values outside the autograd graph; torch tags most, but not in every release.
_READING = split_names(
    "_local_scalar_dense item equal allclose is_nonzero _choose_qparams_per_tensor nonzero masked_select "
    "_unique _unique2 unique_dim unique_consecutive unique_dim_consecutive bincount repeat_interleave one_hot "
    "argwhere _pack_padded_sequence _pad_packed_sequence segment_reduce to_sparse _to_sparse _coalesce"
)
_READING_TAGS = [getattr(Tag, name) for name in ("data_dependent_output", "dynamic_output_shape") if hasattr(Tag, name)]
_GENERIC = split_names(
    "rand rand_like randn randn_like normal normal_functional uniform exponential cauchy bernoulli dropout "
    "native_dropout"
)
_MASKING = split_names(
    "where masked_fill tril triu floor ceil round trunc frac sign sgn heaviside index_fill index_put scatter "
    "masked_scatter constant_pad_nd nan_to_num one_hot"
)
_OVERWRITING = split_names("copy fill zero uniform normal random exponential bernoulli")


@dataclass(frozen=True, slots=True)
class Traits:
    """An operator: its arguments, what it writes, whether it reveals values, and how it treats constants."""

    operator: OpOverload
    name: str  # "aten::add_"
    base: str  # "add"
    arguments: tuple[tuple[str, Any], ...]  # name and default
    written: tuple[str, ...]  # arguments that it writes into
    overwrites: bool  # it does not read the arguments that it writes into
    reshapes_in_place: bool
    reads: bool  # its result, or its shape, reveals values
    makes_constants: bool  # whatever values its arguments have
    makes_empty: bool  # its result is uninitialized memory
    looks: bool  # its result is a view of an argument's memory
    random: bool
    generic: bool  # random values that are neither indices nor large; random dropout counts as dropping nothing
    makes_masks: bool  # even from a weight: its zeros are intended
    may_leave_unused: bool  # an argument, depending on the others
    handling: Handling

    @property
    def rule(self) -> Rule | None:
        """The operator's rule, looked up each time: one may have been registered since."""
        return rule_for(self.operator)


@lru_cache(maxsize=4096)
def traits_of(operator: OpOverload) -> Traits:
    """Return what is known of an operator by its schema and its name."""
    schema = operator._schema
    written = tuple(a.name for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write)
    base = schema.name.partition("::")[2].removesuffix("_")
    known = schema.name.startswith("aten::")
    return Traits(
        operator,
        schema.name,
        base,
        tuple((argument.name, argument.default_value) for argument in schema.arguments),
        written,
        base in _OVERWRITING or (bool(written) and all(a.kwarg_only for a in schema.arguments if a.name in written)),
        torch.Tag.inplace_view in operator.tags or schema.name == "aten::as_strided",
        (known and base in _READING)
        or schema.name == "torchvision::nms"
        or any(tag in operator.tags for tag in _READING_TAGS),
        known and (base in CONSTANTS or base == "fill"),
        known and base.startswith(("empty", "new_empty")),
        any(a.alias_info is not None and not a.alias_info.is_write for a in schema.arguments),
        torch.Tag.nondeterministic_seeded in operator.tags,
        base in _GENERIC,
        base in _MASKING,
        known and base in LEAVING_OUT,
        handling_of(operator),
    )
