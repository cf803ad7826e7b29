"""The ELBO, and the ways to have its gradient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, override

import numpy as np
import pytensor
from pymc.pytensorf import floatX
from pymc.variational.operators import KL
from pymc.variational.opvi import ObjectiveFunction
from pytensor.tensor.variable import TensorVariable

from pmflow.checks import check_flags
from pmflow.errors import ParameterError
from pmflow.graphs.minibatches import in_minibatches
from pmflow.objectives.fresh import DrawnElbo, FreshElbo
from pmflow.objectives.objective import AbstractObjective, Measure

__all__ = [
    "ESTIMATORS",
    "AnnealedKL",
    "PathKL",
    "ReverseKL",
    "best_estimator",
    "check_anneal",
    "check_estimator",
    "check_estimator_name",
]

ESTIMATORS = ("total", "path")
"""Ways to estimate the gradient of the ELBO."""


class PathKL(KL):
    r"""The divergence of `pymc`'s KL, with the gradient along the draws only.

    Roeder et al. (2017), Sticking the landing, https://arxiv.org/abs/1703.09194.

    .. math:: \nabla_\theta \approx \frac1n \sum_i \Bigl(\frac{\partial z_i}{\partial\theta}
              \Bigr)^{\!\top} \bigl(\beta\,\nabla_z \log q(z_i) - \nabla_z \log p(z_i)\bigr)

    The part of the total derivative that is left out, the derivative of :math:`\log q` by its
    parameters at a fixed point, is zero on average.
    """

    @property
    def logq_norm(self) -> TensorVariable:
        """The same as in KL, from the `symbolic_path_logq` of the groups."""
        return self.approx.path_logq / self.approx.symbolic_normalizing_constant


def check_estimator_name(estimator: Any) -> None:
    """Check that there is such an estimator.

    Raises
    ------
    ParameterError
    """
    if estimator not in ESTIMATORS:
        raise ParameterError(
            f"estimator must be one of {', '.join(ESTIMATORS)}, but is {estimator!r}."
        )


def check_estimator(estimator: str, approx: Any) -> None:
    """Check that an approximation has the gradient that is asked for.

    Raises
    ------
    ParameterError
        If `estimator` is unknown, or ``"path"`` for an approximation with a group without a flow.
    """
    check_estimator_name(estimator)
    if estimator == "total":
        return
    others = [str(g) for g in approx.groups if not hasattr(type(g), "symbolic_path_logq")]
    if others:
        raise ParameterError(
            f"estimator='path' needs a flow for every group of variables, but "
            f"{', '.join(others)} {'is' if len(others) == 1 else 'are'} none. Use "
            "estimator='total', or 'scale-loc' in the place of mean field and 'tril-loc' in that "
            "of full rank."
        )


def check_anneal(anneal: bool, approx: Any) -> None:  # noqa: FBT001
    """Check that an approximation knows where it began.

    Raises
    ------
    ParameterError
    """
    check_flags(anneal=anneal)
    if anneal and (
        len(approx.groups) > 1 or not hasattr(type(approx.groups[0]), "symbolic_start_logp")
    ):
        raise ParameterError(
            "anneal=True needs one flow over all variables, but this approximation has other "
            "groups. Use pmflow.NFVI with a formula, or anneal=False."
        )


def best_estimator(approx: Any) -> str:
    """The path estimator where every group has it."""
    has_path = all(hasattr(type(g), "symbolic_path_logq") for g in approx.groups)
    return "path" if has_path else "total"


class AnnealedKL(KL):
    """The divergence from a path of densities between the start and the posterior.

    At temperature t in the sense of a share: ``t log p + (1 - t) log start``, the normal
    distribution where the flow began. At t = 1 it is the divergence from the posterior.

    Parameters
    ----------
    approx : Approximation
    beta : float
    estimator : str
    """

    def __init__(self, approx: Any, beta: float, estimator: str) -> None:
        super().__init__(approx, beta=beta)
        self.share = pytensor.shared(floatX(np.asarray(1.0)), "pmflow_annealed")
        self.kl = (PathKL if estimator == "path" else KL)(approx, beta=beta)

    def apply(self, f: Any) -> TensorVariable:
        """The same as in KL, moved towards the `symbolic_start_logp` of the groups."""
        logp = self.datalogp_norm + self.beta * self.varlogp_norm
        start = self.approx.start_logp / self.approx.symbolic_normalizing_constant
        logq = self.beta * self.kl.logq_norm
        return -self.share * logp - (1 - self.share) * start + logq


@dataclass(frozen=True)
class ReverseKL(AbstractObjective):
    """The divergence from the flow to the posterior, minus the ELBO: from draws of the flow."""

    @override
    def why_not(self, approx: Any, beta: float, how: Mapping[str, Any]) -> str:
        """It can be made small for every approximation; its options have checks of their own."""
        return ""

    @override
    def function(
        self, approx: Any, beta: float, *, draws: int, estimator: str, anneal: bool
    ) -> ObjectiveFunction:
        """PyMC's KL, with the gradient and the target that are asked for."""
        if anneal:
            return AnnealedKL(approx, beta, estimator)(None)
        return (PathKL if estimator == "path" else KL)(approx, beta=beta)(None)

    @override
    def measure(self, approx: Any, beta: float) -> Measure:
        """The ELBO at fresh draws."""
        if beta == 1 and not in_minibatches(approx.model):
            return DrawnElbo(approx)
        return FreshElbo(approx, beta=beta)
