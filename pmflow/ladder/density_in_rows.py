"""The log density of a model as a sum over rows, where that is worth it."""

from __future__ import annotations

import logging

import numpy as np
import pymc as pm

from pmflow.family.normalizing_flow import NormalizingFlow
from pmflow.graphs.minibatches import in_minibatches
from pmflow.posterior.density import StreamedDensity
from pmflow.posterior.rows.whole import long_rows, rows_of_all

__all__ = ["density_in_rows", "may_be_in_rows"]

_log = logging.getLogger("pmflow")

_LEAST, _FOR_EACH_DIMENSION = 250_000, 1_500
"""Rows of an observed variable from which on a fit on a few of them is sooner done than one on all,
and for each dimension: 30 times as many as are used."""
_STEP, _POINTS = 0.1, 2
"""How far from the start, and at how many points, the sum over rows is held against the density."""
_ROUNDING = 1e-9
"""By what share the two may differ."""


def may_be_in_rows(model: pm.Model) -> bool:
    """Whether it is worth a look: told from the lengths of data, before anything is made."""
    return bool(in_minibatches(model) or long_rows(model, _LEAST))


def density_in_rows(flow: NormalizingFlow) -> StreamedDensity | None:
    """The density of the flow's model by rows.

    Returns
    -------
    StreamedDensity or None
        None for a model without minibatches of which no observed variable has very many rows, or
        whose density is no sum over them.

    Raises
    ------
    UnsupportedError
        If the log density of minibatches is no sum over rows.
    """
    model, whole = flow.model, flow.groups[0].log_density
    if in_minibatches(model):
        assert isinstance(whole, StreamedDensity)
        return whole
    if whole.has_fewer_rows:
        return None
    terms = rows_of_all(model, max(_LEAST, _FOR_EACH_DIMENSION * flow.ddim))
    if terms is None:
        return None
    found = StreamedDensity(model, flow.ordering, terms=terms)
    start = flow.point.origin + flow.point.offset
    points = start + _STEP * np.random.default_rng(0).normal(size=(_POINTS, len(start)))
    wanted = whole.value(points)
    try:
        by_rows = found.value(points)
    except Exception as error:  # whatever an Op says of lengths that do not fit
        _log.debug("The density is not taken apart into rows: %s", error)
        return None
    if not np.isfinite(wanted).all() or not np.allclose(by_rows, wanted, rtol=_ROUNDING, atol=0):
        _log.debug("The density is no sum over rows: %s by these, %s by all", by_rows, wanted)
        return None
    return found
