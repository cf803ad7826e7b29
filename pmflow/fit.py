"""Fitting a model in one call."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import pymc as pm
from pymc.util import RandomState
from pymc.variational.inference import Inference

from pmflow.checks import check_names, refuse_with
from pmflow.errors import MethodError, ParameterError
from pmflow.inference import NFVI
from pmflow.inference.guess import guessed_frame
from pmflow.ladder.automatic import fit_automatically
from pmflow.posterior.model import checked_model
from pmflow.posterior.rows.stored import with_rows
from pmflow.training.options import FitOptions

__all__ = ["fit"]

_PYMC_METHODS = ("advi", "fullrank_advi", "svgd", "asvgd")


def fit(
    n: int | None = None,
    method: str | Inference | None = None,
    model: pm.Model | None = None,
    random_seed: RandomState = None,
    start: Mapping[str, Any] | None = None,
    start_sigma: Mapping[str, Any] | None = None,
    inf_kwargs: Mapping[str, Any] | None = None,
    *,
    rows: Mapping[str, Any] | None = None,
    batch_size: int | None = None,
    **kwargs: Any,
) -> Any:
    """Fit a model in one call.

    Parameters
    ----------
    n : int, optional
        Steps. Left out, the fit knows for itself when it is done.
    method : str or Inference, optional
        ``'auto'``: the Gaussian nearest to the posterior first, then richer flows, each judged at
        fresh draws, until one is good (see :doc:`/auto`). ``'nfvi'``, ``'nfvi=<formula>'``, an
        inference object, or a method of `pymc.fit` such as ``'advi'``. Case does not matter. By
        default ``'auto'``, or ``'nfvi'`` where `n` is given.
    model : pymc.Model, optional
        Defaults to the model of the context.
    random_seed, start
        As for `NFVI`.
    start_sigma : dict of str to array_like, optional
        Standard deviations where it begins, by variable, in unconstrained space: the scale of
        PyMC's ``'advi'``; of a flow the diagonal frame that it is trained in, with 1 for those left
        out. ``'auto'`` finds them by itself.
    inf_kwargs : dict, optional
        Further arguments of the inference class, such as ``{"jitter": 1.0}``.
    rows : dict of str to array_like, data frame, ArrowRows or Rows, optional
        Rows of data for the model's `pymc.Data` of these names, which may be more than memory
        holds: memory maps, Zarr, Dask, Parquet. See `with_rows`.
    batch_size : int, optional
        Rows of a minibatch, where `rows` are given.
    **kwargs
        Passed on to its `fit`.

    Returns
    -------
    Approximation
        For ``'auto'`` the best one, with its `diagnosis` and the `ladder` of what was tried.

    Raises
    ------
    FormulaError
        If the formula is wrong.
    MethodError
        If there is no such method.
    ParameterError
        If an argument can't be honoured, such as a seed for an inference that exists already.

    Examples
    --------
    >>> import pymc as pm, pmflow as pmf
    >>> with pm.Model() as model:
    ...     x = pm.Normal("x")
    >>> approx = pmf.fit(
    ...     10, method="nfvi=planar*2", model=model, progressbar=False,
    ...     compile_kwargs={"mode": "FAST_COMPILE"},
    ... )
    >>> print(approx.formula)
    planar*2
    """
    _check_mappings(inf_kwargs=inf_kwargs, start_sigma=start_sigma)
    given = dict(inf_kwargs or {})
    chosen = {"start_sigma": start_sigma, **dict.fromkeys(given, True)}
    beside = {"random_seed": random_seed, "start": start}
    given |= {name: value for name, value in beside.items() if value is not None}
    if isinstance(method, Inference):
        taken = {**beside, **chosen, "model": model, "rows": rows, "batch_size": batch_size}
        refuse_with("an inference object, which exists already", taken)
        if n is None and not isinstance(method, NFVI):
            n = 10_000
        return method.fit(n, **kwargs)
    if rows is not None:
        model = with_rows(model, rows, batch_size)
    elif batch_size is not None:
        raise ParameterError(
            "batch_size is the length of minibatches of rows, but no rows= are given. Give them, "
            "or write the model with pm.Minibatch(..., batch_size=...)."
        )
    if method is None:
        method = "auto" if n is None else "nfvi"
    if not isinstance(method, str):
        raise ParameterError(
            "method must be 'auto', 'nfvi', 'nfvi=<formula>', a method of pymc.fit, or an "
            f"inference object, but is of type {type(method).__name__}."
        )
    name, has_formula, formula = method.partition("=")
    if method.strip().lower() == "auto":
        refuse_with("method='auto', which chooses them", chosen)
        return fit_automatically(model, n=n, random_seed=random_seed, start=start, **kwargs)
    if name.strip().lower() != "nfvi":
        if method.lower() not in _PYMC_METHODS:
            raise MethodError(
                "method must be 'auto', 'nfvi', 'nfvi=<formula>' or one of "
                f"{', '.join(map(repr, _PYMC_METHODS))}, but is {method!r}."
            )
        n = 10_000 if n is None else n
        kwargs |= {"model": checked_model(model), "start_sigma": start_sigma, "inf_kwargs": given}
        return pm.fit(n, method=method.lower(), **kwargs)
    check_names(given, list(inspect.signature(NFVI).parameters), "inf_kwargs")
    check_names(kwargs, FitOptions.names(), "fit")
    options = FitOptions(n=n, **kwargs)
    if has_formula:
        if "flow" in given:
            raise ParameterError(
                f"The formula is given twice: method={method!r} and "
                f"inf_kwargs['flow']={given['flow']!r}. Leave one out."
            )
        given["flow"] = formula
    if start_sigma is not None:
        refuse_with("start_sigma, which is a frame", {"frame": given.get("frame")})
        given["frame"] = guessed_frame(checked_model(model), given.pop("start", None), start_sigma)
    return NFVI(model=model, **given).carry_out(options)


def _check_mappings(**given: Any) -> None:
    for name, value in given.items():
        if value is not None and not isinstance(value, Mapping):
            raise ParameterError(
                f"{name} must be a dict, by argument of the inference class or by variable, but is "
                f"of type {type(value).__name__}."
            )
