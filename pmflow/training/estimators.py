"""What a step's gradient is made of: the operator, and where the draws come from."""

from __future__ import annotations

from typing import Any

from pymc.variational.operators import KL
from pymc.variational.opvi import ObjectiveFunction
from pytensor.tensor.variable import TensorVariable

from pmflow.errors import ParameterError

__all__ = ["ESTIMATORS", "PathKL", "best_estimator", "check_estimator", "objective_for"]

ESTIMATORS = ("total", "path")
"""Of the gradient of the ELBO."""


class PathKL(KL):
    r"""The divergence of `pymc`'s KL, with the gradient along the draws only.

    Roeder et al. (2017), Sticking the landing, https://arxiv.org/abs/1703.09194.

    .. math:: \nabla_\theta \approx \frac1n \sum_i \Bigl(\frac{\partial z_i}{\partial\theta}
              \Bigr)^{\!\top} \bigl(\beta\,\nabla_z \log q(z_i) - \nabla_z \log p(z_i)\bigr)

    The part of the total derivative that is left out, the derivative of :math:`\log q` by its
    parameters at a fixed point, is zero on average.
    """

    def apply(self, f: Any) -> TensorVariable:
        """As KL's, for groups that have a `symbolic_path_logq`."""
        logq = self.approx.path_logq / self.approx.symbolic_normalizing_constant
        return -self.datalogp_norm + self.beta * (logq - self.varlogp_norm)


def check_estimator(estimator: str, approx: Any) -> None:
    """Check that an approximation has the gradient that is asked for.

    Raises
    ------
    ParameterError
        If `estimator` is unknown, or ``"path"`` for an approximation with a group without a flow.
    """
    if estimator not in ESTIMATORS:
        raise ParameterError(
            f"estimator must be one of {', '.join(ESTIMATORS)}, but is {estimator!r}."
        )
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


def best_estimator(approx: Any) -> str:
    """The path estimator where every group has it."""
    has_path = all(hasattr(type(g), "symbolic_path_logq") for g in approx.groups)
    return "path" if has_path else "total"


def objective_for(objective: ObjectiveFunction, estimator: str) -> ObjectiveFunction:
    """The objective with the gradient asked for; `objective` is PyMC's, of the total gradient."""
    if estimator == "total":
        return objective
    return PathKL(objective.op.approx, beta=objective.op.beta)(None)
