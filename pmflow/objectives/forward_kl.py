"""The divergence from the posterior to the flow, from draws of the posterior."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, override

import numpy as np
import pytensor
import pytensor.tensor as pt
import xarray as xr
from numpy.typing import NDArray
from pymc.pytensorf import floatX
from pymc.variational.opvi import ObjectiveFunction, Operator
from pytensor.tensor.variable import TensorVariable

from pmflow.graphs.evaluate import compile_once
from pmflow.objectives.objective import AbstractObjective, Measure
from pmflow.posterior.given import given_draws
from pmflow.watch import piece, tick

__all__ = ["ForwardKL"]

_KEPT_ASIDE = 5
"""One draw of so many is not fitted: states of the fit are compared by these."""
_MOST_KEPT_ASIDE = 2000
_AT_ONCE = 500


class ForwardKL(AbstractObjective):
    r"""Fit a flow to draws of the posterior by maximum likelihood: a density out of a NUTS run.

    .. math:: \mathrm{KL}(p \| q) = \mathrm{const} - \mathrm{E}_{p} \log q(z)
              \approx \mathrm{const} - \frac1n \sum_i \log q(z_i)

    Each step takes `obj_n_mc` of the draws at random. One draw of five is kept aside, and a fit
    that chooses its own end compares its states by them. Unlike a fit by the ELBO, one by this
    covers all modes that the draws have, and is too wide rather than too narrow where the flow
    can't follow the posterior; it is as good as the draws are. Their mistakes are seen afterwards:
    weights p / q (`diagnose`) compare the flow with the model, not with the draws.

    Parameters
    ----------
    draws : DataTree or Dataset
        With dimensions ``chain`` and ``draw``, in constrained space: what `pymc.sample` returns,
        or its group ``posterior``. All free variables of the model must be there.

    Raises
    ------
    ParameterError
        By `fit`: if they are no draws of its model, or an option is about draws of the flow.

    References
    ----------
    Papamakarios et al. (2021), Normalizing flows for probabilistic modeling and inference, section
    2.3.1, https://jmlr.org/papers/v22/19-1028.html

    Examples
    --------
    >>> import pymc as pm, pmflow as pmf
    >>> with pm.Model() as model:
    ...     x = pm.Normal("x", 3, 2)
    >>> nuts = pm.sample(model=model)  # doctest: +SKIP
    >>> approx = pmf.fit(
    ...     method="nfvi=coupling*2-scale-loc", model=model, objective=pmf.ForwardKL(nuts),
    ...     inf_kwargs={"frame": pmf.Frame.of_draws(nuts, model)},
    ... )  # doctest: +SKIP
    """

    uses_model: ClassVar[bool] = False
    takes_draws: ClassVar[bool] = False

    def __init__(self, draws: xr.DataTree | xr.Dataset) -> None:
        self.draws = draws
        self._known: tuple[Any, list[str], NDArray[np.float64]] | None = None

    @override
    def why_not(self, approx: Any, beta: float, how: Mapping[str, Any]) -> str:
        """It needs densities of flows, and draws that are given."""
        others = [str(g) for g in approx.groups if not hasattr(g, "logq_at")]
        if others:
            return (
                f"ForwardKL needs a flow for every group of variables, but {', '.join(others)} "
                "has none. Use 'scale-loc' in the place of mean field."
            )
        if beta != 1:
            return "ForwardKL knows no prior apart from the draws. Leave beta at 1."
        for name, value in how.items():
            if value and value != "total":
                return (
                    f"{name}={value!r} is about draws of the flow, but ForwardKL takes those that "
                    f"are given. Leave {name} out."
                )
        self._latent(approx)
        return ""

    @override
    def function(
        self, approx: Any, beta: float, *, draws: int, estimator: str, anneal: bool
    ) -> ObjectiveFunction:
        """Minus the mean log density of the flow at some of the draws, chosen anew at each step."""
        fitted, _ = self._parts(approx)
        return _AtDraws(approx, fitted, draws)(None)

    @override
    def measure(self, approx: Any, beta: float) -> Measure:
        """The log density at the draws that are kept aside."""
        return _KeptAside(approx, self._parts(approx)[1])

    def _parts(self, approx: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The draws that are fitted, and those that are kept aside."""
        latent = self._latent(approx)
        order = np.random.default_rng(0).permutation(len(latent))
        aside = min(max(1, len(latent) // _KEPT_ASIDE), _MOST_KEPT_ASIDE)
        return latent[order[aside:]], latent[order[:aside]]

    def _latent(self, approx: Any) -> NDArray[np.float64]:
        """The draws in the order of the groups, shape (draws, dim), unconstrained."""
        names = [name for group in approx.groups for name in group.ordering]
        if self._known is None or self._known[0] is not approx.model or self._known[1] != names:
            latent = given_draws(approx.model, names, self.draws)
            self._known = approx.model, names, latent  # three questions are asked of one fit
        return self._known[2]


class _AtDraws(Operator):
    """Minus the mean log density at random rows of the draws."""

    def __init__(self, approx: Any, latent: NDArray[np.float64], size: int) -> None:
        super().__init__(approx)
        self.beta = floatX(1.0)
        self._latent = pytensor.shared(floatX(latent), "given_draws", shape=latent.shape)
        self._size = size

    def apply(self, f: Any) -> TensorVariable:
        """The loss."""
        rng = pt.random.shared_rng(seed=None)
        shape = self._latent.type.shape
        _, rows = pt.random.integers(0, shape[0], size=self._size, rng=rng, return_next_rng=True)
        return -self.approx.logq_at(self._latent[rows]).mean()


class _KeptAside:
    """The log density of a flow at draws that it was not fitted to."""

    name = "mean log density"

    def __init__(self, approx: Any, latent: NDArray[np.float64]) -> None:
        self._latent = floatX(latent)
        with piece("compiling the density for NumPy"):
            points = pt.matrix("points", shape=(None, latent.shape[1]), dtype=self._latent.dtype)
            self._function = compile_once([points], [approx.logq_at(points)])

    def values(self, seed: int) -> NDArray[np.float64]:
        """Log densities, shape (draws,); the draws are the same for all seeds."""
        parts = []
        with np.errstate(all="ignore"), piece("evaluating the density", can_be_cut=True):
            for i in range(0, len(self._latent), _AT_ONCE):
                tick()
                parts.append(self._function(self._latent[i : i + _AT_ONCE])[0])
        values = np.concatenate(parts).astype(float)
        return np.where(np.isfinite(values), values, -np.inf)
