"""The affine map from a flow's own units to the posterior's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pymc as pm
import xarray as xr
from numpy.typing import NDArray

from pmflow.errors import ParameterError
from pmflow.frames.scaling import AbstractScaling, DiagonalScaling, LowerScaling
from pmflow.posterior.given import given_draws
from pmflow.records import State

__all__ = ["Frame"]

type Floats = NDArray[np.float64]

_LEAST_LEFT = 1e-7
"""Share of a variable's sd that must not follow from others: below it is rounding."""


@dataclass(frozen=True, eq=False)
class Frame(State):
    r"""A fixed affine map :math:`z = \mu + L y` behind the last layer of a flow.

    With the mean and covariance of the posterior in it, the flow works near the identity.

    Parameters
    ----------
    loc : ndarray, shape (dim,)
        :math:`\mu`, unconstrained.
    factor : ndarray, shape (dim, dim) or (dim,)
        :math:`L`, lower triangular with a positive diagonal; or its diagonal, where the rest is 0.
    kind : str
        How it was found.
    note : str
        Why it is not what was asked for, empty if it is.

    Raises
    ------
    ParameterError
        If shapes do not fit, values are not finite, or the diagonal is not positive.
    """

    loc: Floats
    factor: Floats
    kind: str = "given"
    note: str = ""

    def __post_init__(self) -> None:
        try:
            loc, factor = (np.array(x, dtype=float) for x in (self.loc, self.factor))
        except (TypeError, ValueError):
            raise ParameterError(
                "A frame needs numbers: loc of shape (dim,) and factor of shape (dim, dim) or "
                f"(dim,), but they are of types {type(self.loc).__name__} and "
                f"{type(self.factor).__name__}."
            ) from None
        if loc.ndim != 1 or not loc.size or factor.shape not in (loc.shape, 2 * loc.shape):
            raise ParameterError(
                "A frame needs loc of shape (dim,) and factor of shape (dim, dim) or (dim,), "
                f"but they have shapes {loc.shape} and {factor.shape}."
            )
        diagonal = factor if factor.ndim == 1 else np.diag(factor)
        if not (np.isfinite(loc).all() and np.isfinite(factor).all() and (diagonal > 0).all()):
            raise ParameterError(
                "A frame needs finite numbers and a positive diagonal of its factor."
            )
        if factor.ndim == 2 and np.triu(factor, 1).any():
            raise ParameterError("The factor of a frame must be lower triangular.")
        loc.flags.writeable = factor.flags.writeable = False
        object.__setattr__(self, "loc", loc)
        object.__setattr__(self, "factor", factor)

    @classmethod
    def of_draws(cls, draws: xr.DataTree | xr.Dataset, model: pm.Model) -> Frame:
        """The frame that has mean and covariance of draws.

        Parameters
        ----------
        draws : DataTree or Dataset
            What `pymc.sample` returns: constrained, with dimensions ``chain`` and ``draw``. With
            fewer than two draws a dimension only their variances are taken.
        model : pymc.Model

        Raises
        ------
        ParameterError
            If they are no draws of this model, or do not differ in every direction.
        """
        names = [model.rvs_to_values[rv].name for rv in model.free_RVs]
        latent = given_draws(model, names, draws)
        if len(latent) < 2 * latent.shape[1]:
            return cls(latent.mean(0), latent.std(0), "draws")
        return cls(latent.mean(0), _factor(np.atleast_2d(np.cov(latent.T))), "draws")

    @property
    def dim(self) -> int:
        """Length of the latent vector."""
        return len(self.loc)

    @property
    def is_diagonal(self) -> bool:
        """Whether only the diagonal is kept."""
        return self.factor.ndim == 1

    @cached_property
    def _scaling(self) -> AbstractScaling:
        return DiagonalScaling(self.factor) if self.is_diagonal else LowerScaling(self.factor)

    @property
    def sds(self) -> Floats:
        """Standard deviations of :math:`z` where those of :math:`y` are 1, shape (dim,)."""
        return self._scaling.sds

    @property
    def log_det(self) -> float:
        """Log of the determinant of L."""
        return self._scaling.log_det

    @property
    def arrays(self) -> list[NDArray[Any]]:
        """All of its numbers: two frames that have the same ones are the same map."""
        return [self.loc, self.factor]

    def forward(self, y: Floats) -> Floats:
        """Points of shape (n, dim) from the flow's units to unconstrained space."""
        return self.loc + self._scaling.forward(y)

    def backward(self, z: Floats) -> Floats:
        """Points of shape (n, dim) from unconstrained space to the flow's units."""
        return self._scaling.backward(z - self.loc)

    def pull_gradient(self, gradient: Floats) -> Floats:
        """Gradients with respect to z, shape (n, dim), as gradients with respect to y."""
        return self._scaling.pulled(gradient)

    def moved(self, shift: Floats, inner: Floats) -> Frame:
        """The frame of ``y = shift + inner y'``: `inner` lower triangular, or a diagonal.

        Raises
        ------
        ParameterError
            If the factor is that of a sparse precision.
        """
        factor = self._scaling.times(inner)
        return Frame(self.forward(shift[None])[0], factor, self.kind, self.note)


def _factor(covariance: Floats) -> Floats:
    """The Cholesky factor of a covariance of draws."""
    sds = np.sqrt(np.diag(covariance))
    try:
        factor = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        factor = np.zeros_like(covariance)
    # what is left of a variable's sd, given those before it
    if not (np.diag(factor) > _LEAST_LEFT * sds).all():
        raise ParameterError(
            "draws must differ in every direction of the unconstrained space, but their "
            "covariance is singular: a variable is the same in all of them, or one follows from "
            "others. Give draws of this model that are not all at one place."
        )
    return factor
