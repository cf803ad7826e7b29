"""What can be judged at all: fits that have a density, of models whose density is exact."""

from __future__ import annotations

from typing import Any

from pmflow.errors import ParameterError, UnsupportedError

__all__ = ["check_densities"]


def check_densities(approx: Any, what: str) -> None:
    """Refuse what has no exact log p or no log q, before anything is drawn.

    Raises
    ------
    ParameterError
        If it is no approximation.
    UnsupportedError
        If the approximation has no density, or log p is an estimate from a minibatch.
    """
    if not hasattr(approx, "sample"):
        raise ParameterError(
            f"{what} needs an approximation, but got an object of type {type(approx).__name__}. "
            "Pass what pmflow.fit or NFVI(...).fit returned, the .approx of an inference."
        )
    if not getattr(approx, "has_logq", True):
        raise UnsupportedError(
            f"{what} needs the density of the approximation, but a group of it has none "
            "(PyMC's Empirical). Use a flow for all variables, such as "
            'pmflow.NFVI("scale-hh*2-loc").'
        )
    if not hasattr(approx, "log_prob"):
        raise UnsupportedError(
            f"{what} needs log_p and log_q of each draw, but the draws of {type(approx).__name__} "
            "come without. Fit with pmflow: the family of pm.fit(method='advi') is "
            'pmflow.fit(method="nfvi=scale-loc"), that of fullrank_advi is "nfvi=tril-loc".'
        )
    names = _minibatches(approx.model)
    if names:
        raise UnsupportedError(
            f"{what} needs the log density of the model on all data, but {', '.join(names)} "
            f"{'is' if len(names) == 1 else 'are'} observed in minibatches, so that log_p is an "
            "estimate: neither k-hat nor evidence can be had from it. Make the same model with all "
            "of the data, give it the fitted parameters, "
            "full = pmflow.NormalizingFlow(approx.formula, model=full_model); "
            "[new.set_value(old.get_value()) for new, old in zip(full.params, approx.params)], "
            "and ask about `full`."
        )


def _minibatches(model: Any) -> list[str]:
    """Names of what is observed in minibatches."""
    from pymc.data import MinibatchOp
    from pymc.variational.minibatch_rv import MinibatchRandomVariable
    from pytensor.graph.traversal import ancestors

    found = []
    for rv in model.observed_RVs:
        graph = ancestors([rv, model.rvs_to_values[rv]])
        if any(
            isinstance(getattr(v.owner, "op", None), MinibatchOp | MinibatchRandomVariable)
            for v in graph
        ):
            found.append(rv.name)
    return found
