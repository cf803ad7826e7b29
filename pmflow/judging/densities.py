"""What can be judged at all: fits that have a density."""

from __future__ import annotations

from typing import Any

from pmflow.errors import ParameterError, UnsupportedError

__all__ = ["check_densities"]


def check_densities(approx: Any, what: str) -> None:
    """Refuse what has no log p or no log q, before anything is drawn.

    Raises
    ------
    ParameterError
        If it is no approximation.
    UnsupportedError
        If the approximation has no density, or what the model observes in minibatches is no sum
        over rows.
    """
    if not hasattr(approx, "sample"):
        raise ParameterError(
            f"{what} needs an approximation, but got an object of type {type(approx).__name__}. "
            "Pass what pmflow.fit or NFVI(...).fit returned, the .approx of an inference."
        )
    if not getattr(approx, "has_logq", True):
        raise UnsupportedError(
            f"{what} needs the density of the approximation, but a group of it has none "
            "(PyMC's Empirical). Use a flow for all variables: "
            'approx = pmf.NFVI("scale-hh*2-loc", model=model).fit().'
        )
    if not hasattr(approx, "log_prob"):
        raise UnsupportedError(
            f"{what} needs log_p and log_q of each draw, but the draws of {type(approx).__name__} "
            "come without. Fit with pmflow: the family of pm.fit(method='advi') is "
            'approx = pmf.fit(method="nfvi=scale-loc", model=model), that of fullrank_advi is '
            '"nfvi=tril-loc".'
        )
    if approx.facts.minibatches:
        _ = approx.whole_density  # says why, where the log density is no sum over all rows
