"""New rows for a fit: it is the prior of the next one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pymc as pm
import pytensor.tensor as pt
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.traversal import graph_inputs
from pytensor.tensor.variable import TensorVariable

from pmflow.errors import ParameterError, UnsupportedError
from pmflow.family.approximation import Approximation
from pmflow.family.normalizing_flow import NormalizingFlow
from pmflow.graphs.evaluate import GLOBAL_STATE
from pmflow.graphs.minibatches import in_minibatches
from pmflow.ladder.automatic import fit_automatically
from pmflow.posterior.copied import add_potential, copied, with_others
from pmflow.posterior.rows.stored import same_rows, with_rows
from pmflow.posterior.rows.surrogate import latent_of

__all__ = ["update"]

_DRAWS = 400
"""By whose mean the next fit begins."""


def update(
    approx: Approximation,
    rows: Mapping[str, Any],
    *,
    batch_size: int | None = None,
    **options: Any,
) -> Approximation:
    """Go on from a fit with new rows of data: the fit of the rows before is the prior of these.

    It is so in unconstrained space, as a potential. The rows before are not needed any more. What
    the fit got wrong is carried on, and no later verdict sees it: update what is *reliable*.

    Parameters
    ----------
    approx : NormalizingFlow or Resampled
        A fit of a model with `pymc.Data` for the rows, by ``rows=`` or not. Of a `Resampled` one
        the proposal is the prior, as its weights are no density of their own.
    rows : dict of str to array_like, data frame, ArrowRows or Rows
        The new rows, as of `with_rows`.
    batch_size : int, optional
        As of `with_rows`.
    **options
        As of `pmflow.fit` for ``method='auto'``.

    Returns
    -------
    Approximation
        Of a model with the new rows alone, which has the fit for its prior; its `diagnosis` is
        relative to that. Its evidence is that of the new rows given those before: log evidences add
        up. It can be updated again.

    Raises
    ------
    ParameterError
        As `with_rows`, or if `approx` is no approximation of pmflow.
    UnsupportedError
        If the density of the fit is no graph, or its layers have no inverse.

    References
    ----------
    Broderick et al. (2013), Streaming variational Bayes, https://arxiv.org/abs/1307.6769
    """
    if not isinstance(approx, Approximation):
        raise ParameterError(
            f"approx must be a fit of pmflow, but is of type {type(approx).__name__}."
        )
    model = _with_prior(with_rows(approx.model, rows, batch_size), approx.proposal)
    means = approx.sample(_DRAWS, random_seed=0).posterior.mean(("chain", "draw"))
    start = {rv.name: means[rv.name].values for rv in model.free_RVs}
    return fit_automatically(model, start=start, **options)


def _with_prior(model: pm.Model, fitted: Approximation) -> pm.Model:
    """The model's rows alone, with a fit in the place of everything else."""
    if not isinstance(fitted, NormalizingFlow):
        raise UnsupportedError(
            f"The density of a {type(fitted).__name__} is no graph, so that it can't be the prior "
            "of new rows. Fit all rows together; of mirror images fit one, symmetry='one'; or "
            "choose one flow, pmflow.fit(method='nfvi=scale-loc', model=model)."
        )
    density = _as_it_is(fitted.logq_at(latent_of(model, fitted.ordering)[None])[0])
    known = [rv.name for rv in model.observed_RVs if rv.name not in in_minibatches(model)]
    potentials = [potential.name for potential in model.potentials]
    with GLOBAL_STATE:  # PyMC changes PyTensor's flags as it makes variables
        made = copied(model, without={*known, *potentials})
        add_potential(made, "rows_before", density - model.logp(vars=model.free_RVs))
    return same_rows(model, made)


def _as_it_is(graph: TensorVariable) -> TensorVariable:
    """A graph with the numbers that its shared variables have now, whatever becomes of these."""
    shared = [x for x in graph_inputs([graph]) if isinstance(x, SharedVariable)]
    now = {x: pt.constant(x.get_value(), dtype=x.type.dtype) for x in shared}
    return with_others(graph, now)
