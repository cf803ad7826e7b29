"""Strict triangles: packed, multiplied and solved, for the dense linear layers."""

from __future__ import annotations

import numpy as np
import pytensor.tensor as pt
from pytensor.tensor.variable import TensorVariable

__all__ = ["add_product", "n_packed", "solve_triangle", "strict_triangle"]


def n_packed(dim: int) -> int:
    """How many entries lie below the diagonal of a matrix."""
    return dim * (dim - 1) // 2


def strict_triangle(packed: TensorVariable, dim: int, *, lower: bool) -> TensorVariable:
    r"""A matrix with `packed` :math:`/ \sqrt{d}` on one side of its diagonal, zero elsewhere."""
    # constants: PyTensor looks at each number of an index array in Python
    rows, columns = map(pt.constant, np.tril_indices(dim, -1))
    if not lower:
        rows, columns = columns, rows
    packed = packed / np.sqrt(dim).astype(packed.dtype)
    return pt.zeros((dim, dim), dtype=packed.dtype)[rows, columns].set(packed)


def add_product(z: TensorVariable, strict: TensorVariable) -> TensorVariable:
    """``(I + strict) z`` for every point of a batch."""
    return z + z @ strict.T


def solve_triangle(strict: TensorVariable, z: TensorVariable, *, lower: bool) -> TensorVariable:
    """``(I + strict)^-1 z`` for every point of a batch."""
    columns = z.reshape((-1, z.shape[-1])).T
    solved = pt.linalg.solve_triangular(
        strict, columns, lower=lower, unit_diagonal=True, check_finite=False
    )
    return solved.T.reshape(z.shape)
