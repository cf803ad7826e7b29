r"""Carrying the score of a density through a map, :math:`s' = J^{-\top} (s - \nabla\log|\det J|)`.

What the layers' `forward_with_score` are made of. Nothing here takes an inverse map.
"""

from __future__ import annotations

from collections.abc import Callable

import pytensor.tensor as pt
from pytensor.gradient import disconnected_grad
from pytensor.tensor.variable import TensorVariable

__all__ = ["gradient", "solve_jacobian", "through_transformer", "with_triangular_jacobian"]

type Map = Callable[[TensorVariable], TensorVariable]


def gradient(
    total: TensorVariable, z: TensorVariable, held: TensorVariable | None = None
) -> TensorVariable:
    """Gradient of a sum over points by the points: zeros where it does not depend on them.

    What depends on `z` through the variable `held` is left out.
    """
    return pt.grad(
        total,
        z,
        consider_constant=None if held is None else [held],
        disconnected_inputs="ignore",
        return_disconnected="zero",
    )


def solve_jacobian(
    forward: Map, z: TensorVariable, covector: TensorVariable, *, is_lower: bool = False
) -> TensorVariable:
    r""":math:`J^{-\top} c` at every point, with the dense Jacobian of `forward` by autodiff.

    Every point is copied `dim` times, and one gradient of all copies, each with another unit vector
    as its weights, gives all rows of all Jacobians: no loop over draws or rows.

    Parameters
    ----------
    forward : callable
        ``z -> z_new`` for points of shape (n, dim).
    z, covector : TensorVariable, shape (*batch, dim)
    is_lower : bool
        Whether the Jacobian is lower-triangular: then it is solved by substitution.

    Returns
    -------
    TensorVariable, shape (*batch, dim)
    """
    dim, known = z.shape[-1], z.type.shape[-1]
    points = pt.specify_shape(z.reshape((-1, dim)), (None, known))
    n = points.shape[0]
    unit = pt.eye(dim, dtype=z.dtype)
    copies = (points[:, None, :] + pt.zeros_like(unit)).reshape((n * dim, dim))
    copies = pt.specify_shape(copies, (None, known))
    weights = (pt.zeros_like(points)[:, None, :] + unit).reshape((n * dim, dim))
    rows = gradient((forward(copies) * weights).sum(), copies)
    transposed = rows.reshape((n, dim, dim)).transpose(0, 2, 1)
    right = covector.reshape((n, dim))
    if is_lower:
        solved = pt.linalg.solve_triangular(
            transposed, right, lower=False, b_ndim=1, check_finite=False
        )
    else:
        solved = pt.linalg.solve(transposed, right, b_ndim=1, check_finite=False)
    return solved.reshape(z.shape)


def with_triangular_jacobian(
    forward: Callable[..., tuple[TensorVariable, TensorVariable]],
    z: TensorVariable,
    params: object,
    score: TensorVariable,
) -> tuple[TensorVariable, TensorVariable, TensorVariable]:
    """A layer's `forward_with_score`, where the Jacobian of its `forward` is lower-triangular."""
    z_new, log_det = forward(z, params)
    covector = score - gradient(log_det.sum(), z)
    score = solve_jacobian(lambda x: forward(x, params)[0], z, covector, is_lower=True)
    return z_new, log_det, score


def through_transformer(
    moved: tuple[TensorVariable, TensorVariable, TensorVariable, TensorVariable],
    given: tuple[TensorVariable, TensorVariable],
) -> tuple[TensorVariable, TensorVariable]:
    r"""Carry a score through a map of some coordinates, shaped by others that stay.

    With :math:`b' = T(b; a)`, increasing in each coordinate with slopes :math:`t`, the Jacobian is
    block-triangular and

    .. math::

        s_b' = (s_b - \nabla_b \textstyle\sum\log t) / t, \qquad
        s_a' = s_a - \nabla_a \textstyle\sum\log t - (\partial b' / \partial a)^\top s_b'

    Parameters
    ----------
    moved : tuple of TensorVariable, each of shape (*batch, n)
        ``b``, ``b'``, the logs of the slopes, and the score by ``b``.
    given : tuple of TensorVariable, each of shape (*batch, m)
        ``a``, and the score by ``a``.

    Returns
    -------
    score_moved, score_given : TensorVariable
        By ``b'`` and by ``a``.
    """
    b, b_new, log_slope, score_b = moved
    a, score_a = given
    # a pair of couplings: the second one is shaped by what the first made of b
    score_b = (score_b - gradient(log_slope.sum(), b, held=a)) * pt.exp(-log_slope)
    total = log_slope.sum() + (b_new * disconnected_grad(score_b)).sum()
    return score_b, score_a - gradient(total, a)
