"""The radial layer: an expansion or contraction about a point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, override

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from pmflow.flows.base import AbstractLayer, Params, Shape
from pmflow.flows.constraints import SOFTPLUS_ONE, norm

__all__ = ["Radial"]


@dataclass(frozen=True)
class Radial(AbstractLayer):
    r"""Radial flow (Rezende & Mohamed, 2015, https://arxiv.org/abs/1505.05770).

    .. math::

        z' = z + \frac{\beta}{\alpha + r}\,(z - z_{ref}), \qquad r = \lVert z - z_{ref} \rVert,
        \qquad \alpha = e^a, \qquad \beta = -\alpha + \mathrm{softplus}(b) > -\alpha

    With :math:`s = \alpha + \beta = \mathrm{softplus}(b)` the log-determinant of the paper
    (eq. 14 in its own parameters) becomes sums of positive terms, for any `dim` and any
    parameters:

    .. math::

        \log|\det J| = (d - 1)\,\log\frac{r + s}{r + \alpha}
                     + \log\frac{r^2 + 2 \alpha r + \alpha s}{(r + \alpha)^2}

    The inverse is closed: :math:`r' = r\,(r + s) / (r + \alpha)` is a quadratic in :math:`r`.

    Parameters of the flow, all unconstrained: ``a`` and ``b``, shape ``()``, and ``z_ref``, shape
    ``(dim,)``. They start at the identity, :math:`\beta = 0` with :math:`\alpha = 1`, and
    ``z_ref`` is a draw from the base, so that no two layers have the same centre.
    """

    word: ClassVar[str] = "radial"
    mixes: ClassVar[bool] = True

    @override
    def param_shapes(self, dim: int) -> dict[str, Shape]:
        return {"a": (), "b": (), "z_ref": (dim,)}

    @override
    def init_params(
        self, dim: int, jitter: float, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        return {
            "a": np.asarray(jitter * rng.standard_normal()),
            "b": np.asarray(SOFTPLUS_ONE + jitter * rng.standard_normal()),
            "z_ref": rng.standard_normal(dim),
        }

    @override
    def forward(self, z: TensorVariable, params: Params) -> tuple[TensorVariable, TensorVariable]:
        alpha, s = pt.exp(params["a"]), pt.softplus(params["b"])
        away = z - params["z_ref"]
        r = norm(away)  # (*batch,)
        log_outer = pt.log(r + alpha)
        # cast: an integer shape would make float64 of float32
        log_det = (z.shape[-1] - 1).astype(z.dtype) * (pt.log(r + s) - log_outer)
        log_det += pt.log(r**2 + 2 * alpha * r + alpha * s) - 2 * log_outer
        return z + ((s - alpha) / (r + alpha))[..., None] * away, log_det

    @override
    def forward_with_score(
        self, z: TensorVariable, params: Params, score: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable, TensorVariable]:
        # the Jacobian is symmetric: r' / r across, and dr' / dr along the way from the centre
        alpha, s = pt.exp(params["a"]), pt.softplus(params["b"])
        away = z - params["z_ref"]
        r = norm(away)  # (*batch,)
        direction = away / r[..., None]
        square = r**2 + 2 * alpha * r + alpha * s
        dim = z.shape[-1].astype(z.dtype)
        # of log_det, by r: the differences of fractions taken out, so that nothing cancels
        slope = ((dim - 1) / (r + s) + 2 * alpha / square) * (alpha - s) / (r + alpha)
        along = (score * direction).sum(-1)
        across = score - along[..., None] * direction
        score_along = (along - slope) * (r + alpha) ** 2 / square
        score = across * ((r + alpha) / (r + s))[..., None] + score_along[..., None] * direction
        return *self.forward(z, params), score

    @override
    def inverse(self, z: TensorVariable, params: Params) -> TensorVariable:
        alpha, s = pt.exp(params["a"]), pt.softplus(params["b"])
        away = z - params["z_ref"]
        r_new = norm(away)  # (*batch,)
        # r^2 + (s - r') r - alpha r' = 0; of its two forms each sign of the linear term takes
        # the one in which nothing cancels
        linear = s - r_new
        root = pt.sqrt(linear**2 + 4 * alpha * r_new)
        r = pt.switch(linear > 0, 2 * alpha * r_new / (abs(linear) + root), (root - linear) / 2)
        return params["z_ref"] + ((r + alpha) / (r + s))[..., None] * away
