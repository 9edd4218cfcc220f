"""Results on the meta device without torch: of the shape, the strides and the dtype of those that torch makes."""

from __future__ import annotations

import pytest
import torch

from spatialprobe.fields.shortcuts import _SHORTCUTS, find_result

aten = torch.ops.aten


def meta(*shape, dtype=torch.float32):
    return torch.empty(shape, dtype=dtype, device="meta")


FORMS = {
    "contiguous": meta(2, 4, 3, 5),
    "double": meta(2, 4, 3, 5, dtype=torch.float64),
    "half": meta(2, 4, 3, 5, dtype=torch.float16),
    "integers": meta(2, 4, 3, 5, dtype=torch.int64),
    "channels last": meta(2, 4, 3, 5).contiguous(memory_format=torch.channels_last),
    "transposed": meta(2, 4, 5, 3).mT,
    "permuted": meta(3, 5, 2, 4).permute(2, 3, 0, 1),
    "every other": meta(2, 4, 6, 5)[:, :, ::2],
    "expanded": meta(2, 1, 3, 5).expand(2, 4, 3, 5),
    "of one sample": meta(1, 4, 1, 5),
    "empty": meta(0, 4, 3, 5),
    "tokens": meta(2, 3, 4),
    "matrix": meta(3, 4),
    "turned matrix": meta(4, 3).T,
    "a number": meta(),
}


def calls_of(values):
    """Calls of every operator that has a shortcut, as torch makes them, on values of one form."""
    channels = values.new_empty(4)
    last = values.new_empty(values.shape[-1:])
    width = values.shape[-1] if values.ndim else 1
    yield aten.native_batch_norm.default, (values, channels, channels, channels, channels, False, 0.1, 1e-5)
    yield aten.native_batch_norm.default, (values, None, None, channels, channels, False, 0.1, 1e-5)
    yield aten.native_batch_norm.default, (values, None, channels, channels, channels, True, 0.1, 1e-5)
    yield aten.native_batch_norm.default, (values, channels[:3], channels, channels, channels, False, 0.1, 1e-5)
    yield aten.native_layer_norm.default, (values, list(last.shape), last, last, 1e-5)
    yield aten.native_layer_norm.default, (values, list(values.shape[-2:]), None, None, 1e-5)
    yield aten.native_layer_norm.default, (values, [7], None, None, 1e-5)
    yield aten.addmm.default, (channels, values, values.new_empty(4, 4))
    yield (
        aten.addmm.default,
        (values.new_empty(6), values, values.new_empty(6, width).mT),
    )
    yield aten.addmm.default, (values.new_empty(1), values, values.new_empty(4, 6))
    yield aten.gelu.default, (values,)
    yield aten.silu.default, (values,)
    yield aten.silu_.default, (values,)
    for operator in (aten.add.Tensor, aten.mul.Tensor):
        yield operator, (values, values)
        yield operator, (values, values.new_empty(values.shape))
        yield operator, (values, values.mean() if values.is_floating_point() else values.new_empty(()))
        yield operator, (values, values.double())
        yield operator, (values, 2.0)


def form_of(made):
    tensors = made if isinstance(made, tuple) else (made,)
    return [(tuple(one.shape), one.stride(), one.dtype, one.device) for one in tensors]


@pytest.mark.parametrize("name", FORMS)
def test_results_are_those_of_torch(name):
    """Where there is a shortcut, its result has the form of torch's; where torch raises an error, there is none."""
    for operator, args in calls_of(FORMS[name]):
        found = find_result(operator, args, {})
        try:
            expected = operator(*args)
        except Exception:
            assert found is None, operator
        else:
            assert found is None or form_of(found) == form_of(expected), operator
            assert operator is not aten.silu_.default or found in (None, args[0]), operator


def test_every_shortcut_is_taken():
    """Each operator of the table has an ordinary call that takes its shortcut."""
    taken = {
        operator
        for values in FORMS.values()
        for operator, args in calls_of(values)
        if find_result(operator, args, {}) is not None
    }
    assert taken == set(_SHORTCUTS)


def test_arguments_by_name_are_left_to_torch():
    """A call with a factor is out of the ordinary."""
    values = FORMS["contiguous"]
    assert find_result(aten.add.Tensor, (values, values), {"alpha": 2}) is None
