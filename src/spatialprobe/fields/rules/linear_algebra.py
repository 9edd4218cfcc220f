"""Rules of the linear algebra of small matrices: decompositions, inverses, determinants, distances."""

from __future__ import annotations

from spatialprobe.fields.reach import Reach, union
from spatialprobe.fields.rules.operation import Operation
from spatialprobe.fields.rules.table import rule


@rule("linalg_inv_ex", "_linalg_det", "_linalg_slogdet", "linalg_lu_factor_ex", "linalg_cholesky_ex")
@rule("_linalg_svd", "_linalg_eigh", "linalg_qr", "_linalg_solve_ex")
def _decompose(operation: Operation) -> list[Reach]:
    """All numbers of a matrix have a say in every number of the results; some of these are zero or do not see some."""
    matrices = [one.reduced([-2, -1]) for one in operation.reaches() if len(one.shape) > 1]
    vectors = [one.reduced([-1]) for one in operation.reaches() if len(one.shape) == 1]
    batch = max((one.shape for one in matrices), key=len)
    seen = union([*matrices, *vectors], batch)
    made = []
    for result in operation.results:
        shape = tuple(result.shape)
        alike = shape[: len(batch)] == batch
        over = seen.reshaped((*batch, *(1,) * (len(shape) - len(batch)))) if alike else seen
        made.append(over.expanded(shape).inexact() if alike else seen.everything(shape).inexact())
    return made


@rule("_euclidean_dist", "_cdist_forward")
def _measure_distances(operation: Operation) -> Reach:
    """The distance of every row (..., P, M) to every row (..., R, M)."""
    first, second = (one.reduced([-1], keepdim=True) for one in operation.reaches("x1", "x2"))
    order = [*range(len(second.shape) - 2), len(second.shape) - 1, len(second.shape) - 2]
    return union([first, second.permuted(order)], operation.shape)


@rule("_trilinear")
def _multiply_three(operation: Operation) -> Reach:
    """Products of three tensors that are given further dimensions, summed over some of them."""
    parts = []
    for name, expand in (("i1", "expand1"), ("i2", "expand2"), ("i3", "expand3")):
        seen = operation.reach(name)
        sizes = list(seen.shape)
        for dim in sorted(operation[expand]):
            sizes.insert(dim, 1)
        parts.append(seen.reshaped(sizes))
    whole = [max(sizes) for sizes in zip(*(part.shape for part in parts), strict=True)]
    return union(parts, whole).reduced(operation["sumdim"])
