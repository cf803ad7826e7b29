"""What can be judged at all: fits that have a density, of models whose density is exact."""

from __future__ import annotations

from typing import Any

from pmflow.errors import ParameterError, UnsupportedError

__all__ = ["check_densities"]

_ON_ALL_DATA = 'approx.save("fit.safetensors"); full = pmf.load("fit.safetensors", full_model)'
"""A file keeps all of a fit but the model's data."""


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
    names = approx.facts.minibatches
    if names:
        raise UnsupportedError(
            f"{what} needs the log density of the model on all data, but {', '.join(names)} "
            f"{'is' if len(names) == 1 else 'are'} observed in minibatches, so that log_p is an "
            "estimate: neither k-hat nor evidence can be had from it. Make the same model with all "
            f"of the data, full_model, and give it the fitted parameters: {_ON_ALL_DATA}. Ask "
            "about `full`."
        )
