"""Products with sparse unit triangles and their inverses as one Op, with kernels for each backend.

Written in PyTensor, a triangle is solved as a matrix of all of its zeros too: in 2,000 dimensions
that is 4 million numbers, of which a model with groups has some ten thousand.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.gradient import disconnected_type
from pytensor.graph.basic import Apply, Constant
from pytensor.graph.op import Op
from pytensor.tensor.variable import TensorVariable

from pmflow.flows.kernels.imports import with_kernels

__all__ = ["SparseTriangle", "sparse_triangle"]


@with_kernels("sparse_triangle")
class SparseTriangle(Op):
    r""":math:`T x`, :math:`T^\top x`, or a solution of one of these, for the columns of x.

    T is a unit lower triangle whose rows and columns stand in another order. Inputs: its entries
    beside the diagonal, shape (entries,); x, shape (dim, n); and, constant, row and column of each
    entry, such that the columns come in the order in which they are eliminated: what has been a
    column is no row any more.

    Parameters
    ----------
    solves : bool
        Whether the inverse of the matrix is applied.
    transposed : bool
    """

    __props__ = ("solves", "transposed")

    def __init__(self, *, solves: bool, transposed: bool) -> None:
        self.solves, self.transposed = solves, transposed

    def make_node(self, *inputs: Any) -> Apply:
        """Check dimensions and make the output."""
        entries, x, rows, columns = map(pt.as_tensor, inputs)
        if [v.ndim for v in (entries, x, rows, columns)] != [1, 2, 1, 1]:
            raise TypeError("SparseTriangle needs a vector of entries, a matrix, two vectors.")
        if not (isinstance(rows, Constant) and isinstance(columns, Constant)):
            raise TypeError("SparseTriangle needs constant rows and columns.")
        return Apply(self, [entries, x, rows, columns], [x.type()])

    def infer_shape(self, node: Apply, shapes: list[Any]) -> list[Any]:
        """That of x."""
        return [shapes[1]]

    def perform(self, node: Apply, inputs: list[Any], output_storage: list[Any]) -> None:
        """Do it by SciPy."""
        found = _applied(*inputs, solves=self.solves, transposed=self.transposed)
        output_storage[0][0] = np.ascontiguousarray(found, dtype=node.outputs[0].dtype)

    def pullback(self, inputs: list[Any], outputs: list[Any], cotangents: list[Any]) -> list[Any]:
        """The transposed map of the cotangent, and its products with what the entries meet."""
        entries, x, rows, columns = inputs
        (grad,) = cotangents
        pulled = SparseTriangle(solves=self.solves, transposed=not self.transposed)(
            entries, grad, rows, columns
        )
        # an entry adds T_ij x_j to row i of T x, and T_ij x_i to row j of T' x
        out, into = (columns, rows) if self.transposed else (rows, columns)
        if self.solves:
            of_entries = -(pulled[out] * outputs[0][into]).sum(1)
        else:
            of_entries = (grad[out] * x[into]).sum(1)
        return [of_entries, pulled, disconnected_type(), disconnected_type()]

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        """The gradient is by entries and x."""
        return [[True], [True], [False], [False]]


def sparse_triangle(
    entries: TensorVariable,
    x: TensorVariable,
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    *,
    solves: bool,
    transposed: bool,
) -> TensorVariable:
    """Such a triangle, its transpose or their inverses times points of shape (*batch, dim).

    Parameters
    ----------
    entries : TensorVariable, shape (entries,)
    x : TensorVariable, shape (*batch, dim)
    rows, columns : ndarray, shape (entries,)
    solves, transposed : bool
    """
    points = x if x.ndim == 2 else x.reshape((-1, x.shape[-1]))
    op = SparseTriangle(solves=solves, transposed=transposed)
    found = op(entries, points.T, pt.constant(rows), pt.constant(columns)).T
    return found if x.ndim == 2 else found.reshape(x.shape)


def _applied(
    entries: NDArray[Any],
    x: NDArray[Any],
    rows: NDArray[Any],
    columns: NDArray[Any],
    *,
    solves: bool,
    transposed: bool,
) -> NDArray[Any]:
    from scipy.sparse import coo_array, eye_array  # slow to import
    from scipy.sparse.linalg import spsolve_triangular

    size = len(x)
    if not solves:
        matrix = coo_array((entries, (rows, columns)), shape=(size, size))
        return np.asarray(x + (matrix.T if transposed else matrix) @ x)
    if not x.size:
        return x
    # columns without entries may be eliminated last
    order = np.array(list(dict.fromkeys([*columns.tolist(), *range(size)])))
    back = np.argsort(order)
    matrix = coo_array((entries, (back[rows], back[columns])), shape=(size, size)).tocsr()
    matrix = matrix + eye_array(size, dtype=entries.dtype, format="csr")
    matrix = matrix.T.tocsr() if transposed else matrix
    found = spsolve_triangular(matrix, x[order], lower=not transposed, unit_diagonal=True)
    return np.asarray(found[back])
