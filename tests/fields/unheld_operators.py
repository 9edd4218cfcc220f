"""Operators of torch's database that are not held against perturbation, and why."""

_EMPTY = "memory that nothing has been written into"
_SPARSE = "returns a sparse tensor, which has no units to compare"
_CUDA = "runs on CUDA devices only"
_LAST_BIT = "changes the last bit, which rounding does too"

UNHELD = {
    "empty_like": _EMPTY,
    "new_empty": _EMPTY,
    "new_empty_strided": _EMPTY,
    "to_sparse": _SPARSE,
    "sparse.sampled_addmm": _SPARSE,
    "jiterator_unary": _CUDA,
    "jiterator_binary": _CUDA,
    "jiterator_binary_return_by_ref": _CUDA,
    "jiterator_4inputs_with_extra_args": _CUDA,
    "jiterator_2inputs_2outputs": _CUDA,
    "nextafter": _LAST_BIT,
    "nn.functional.rrelu": "draws as many random numbers as there are negative elements",
    "nn.functional.multi_head_attention_forward": "made of products and a softmax that are held; its samples saturate",
}
