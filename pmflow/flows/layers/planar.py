"""The planar layer: a bend along one direction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, override

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from pmflow.flows.base import AbstractLayer, Params, Shape
from pmflow.flows.constraints import SOFTPLUS_ONE
from pmflow.flows.kernels.planar_run import planar_run
from pmflow.flows.roots import solve_increasing

__all__ = ["Planar", "along", "along_prime"]


def along(xp: Any, s: Any, m: Any, b: Any) -> Any:
    """Where the layer takes a point, along ``w``: increasing in ``s = w.z``."""
    return s + m * xp.tanh(s + b)


def along_prime(xp: Any, s: Any, m: Any, b: Any) -> Any:
    """Derivative of `along` by ``s``."""
    return 1 + m * (1 - xp.tanh(s + b) ** 2)


@dataclass(frozen=True)
class Planar(AbstractLayer):
    r"""Planar flow (Rezende & Mohamed, 2015, https://arxiv.org/abs/1505.05770).

    .. math::

        z' = z + \hat u \tanh(w^\top z + b), \qquad
        \hat u = u + \bigl(m - w^\top u\bigr) \frac{w}{w^\top w}, \qquad
        m = -1 + \mathrm{softplus}(w^\top u)

    so that :math:`w^\top \hat u = m > -1` (appendix A.1), which makes the map invertible, and

    .. math::

        \log|\det J| = \log\bigl(1 + m\,(1 - \tanh^2)\bigr)
                     = \log\bigl(\tanh^2 + \mathrm{softplus}(w^\top u)\,(1 - \tanh^2)\bigr)

    The second form is a sum of positive terms: nothing cancels, however close :math:`m` is to -1.

    The inverse has no closed form. With :math:`s = w^\top z` the equation
    :math:`s + m \tanh(s + b) = w^\top z'` is increasing in :math:`s` and its root lies within
    :math:`|m|` of the right-hand side: one bracketed root per point gives :math:`z`. For
    :math:`m > 1` the bend is then :math:`\tanh = (w^\top z' - s) / m`: what rounding takes from
    the root is divided by :math:`m`, not multiplied by it.

    Parameters of the flow, all unconstrained: ``u`` and ``w``, shape ``(dim,)``, and ``b``, shape
    ``()``. They start at the identity, :math:`\hat u = 0`, with a random direction ``w`` and a
    random offset ``b``, so that no two layers see the same bend. ``b`` gets a gradient only once
    ``u`` has moved, hence a small positive `jitter` is worth having.
    """

    word: ClassVar[str] = "planar"
    mixes: ClassVar[bool] = True

    @override
    def param_shapes(self, dim: int) -> dict[str, Shape]:
        return {"b": (), "u": (dim,), "w": (dim,)}

    @override
    def init_params(
        self, dim: int, jitter: float, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        w = rng.standard_normal(dim)
        w /= np.linalg.norm(w)  # w.z has the spread of one coordinate of the base
        u = SOFTPLUS_ONE * w + jitter * rng.standard_normal(dim)
        return {"b": np.asarray(rng.standard_normal()), "u": u, "w": w}

    @override
    def forward(self, z: TensorVariable, params: Params) -> tuple[TensorVariable, TensorVariable]:
        u_hat, margin = self.constrain(params)
        bend = pt.tanh((z * params["w"]).sum(-1) + params["b"])  # (*batch,)
        log_det = pt.log(bend**2 + margin * (1 - bend**2))
        return z + u_hat * bend[..., None], log_det

    @override
    def forward_run(
        self, z: TensorVariable, params: Sequence[Params]
    ) -> tuple[TensorVariable, TensorVariable]:
        b, u, w = (pt.stack([layer[name] for layer in params]) for name in ("b", "u", "w"))
        u_hat, margin = self.constrain({"u": u, "w": w})
        return planar_run(z, u_hat, w, b, margin)

    @override
    def forward_with_score(
        self, z: TensorVariable, params: Params, score: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable, TensorVariable]:
        # Sherman-Morrison: J = I + h' u_hat w^T with h' = 1 - bend^2, of determinant D > 0
        u_hat, margin = self.constrain(params)
        bend = pt.tanh((z * params["w"]).sum(-1) + params["b"])  # (*batch,)
        slope = 1 - bend**2
        det = bend**2 + margin * slope  # no difference: exact however near to 0
        pull = (score * u_hat).sum(-1) + 2 * bend * (1 - margin) / det
        score = score - (slope * pull / det)[..., None] * params["w"]
        return z + u_hat * bend[..., None], pt.log(det), score

    @override
    def inverse(self, z: TensorVariable, params: Params) -> TensorVariable:
        u_hat, margin = self.constrain(params)
        b, m = params["b"], margin - 1
        target = (z * params["w"]).sum(-1)  # (*batch,)
        s = solve_increasing(
            along,
            along_prime,
            target,
            lower=target - abs(m),
            upper=target + abs(m),
            args=(m, b),
        )
        is_steep = m > 1
        # the rounding of s grows m-fold in u_hat * tanh(s + b), and m-fold again on the way forth
        bend = pt.switch(is_steep, (target - s) / pt.switch(is_steep, m, 1), pt.tanh(s + b))
        return z - u_hat * bend[..., None]

    @staticmethod
    def constrain(params: Params) -> tuple[TensorVariable, TensorVariable]:
        r"""The bent :math:`\hat u`, shape ``(*layers, dim)``, and :math:`1 + w^\top \hat u > 0`.

        The parameters may be those of one layer, or those of several along a leading axis. At
        ``w = 0``, where no bend is needed, the results are `u` and 1.
        """
        u, w = params["u"], params["w"]
        wu = (w * u).sum(-1, keepdims=True)
        length2 = (w**2).sum(-1, keepdims=True)
        is_zero = pt.eq(length2, 0)
        margin = pt.switch(is_zero, 1, pt.softplus(wu))
        u_hat = u + (margin - 1 - wu) / pt.switch(is_zero, 1, length2) * w
        return u_hat, margin[..., 0]
