"""Which variables of a model meet, for its user."""

from __future__ import annotations

import pymc as pm

from pmflow.embedded.globals import choose_globals
from pmflow.embedded.outline import Structure
from pmflow.embedded.structure import NoStructureError, read_structure
from pmflow.errors import UnsupportedError
from pmflow.family.normalizing_flow import NormalizingFlow
from pmflow.ladder.structured import density_at_start

__all__ = ["structure"]


def structure(model: pm.Model | None = None) -> Structure:
    """Read which variables of a model meet, and which govern the others.

    This is what `pmflow.fit` goes by for large models, see :doc:`/large_models`. More than twelve
    global numbers are local in a fit if the others are not Gaussian given them.
    `pmflow.plots.plot_structure` draws it.

    Parameters
    ----------
    model : pymc.Model, optional
        Defaults to the model of the context.

    Returns
    -------
    Structure

    Raises
    ------
    UnsupportedError
        If it can't be read: nearly all of its coordinates meet, or a shape or an end depends on
        them.

    Examples
    --------
    >>> import numpy as np, pymc as pm, pmflow as pmf
    >>> with pm.Model():
    ...     tau = pm.HalfNormal("tau", 1)
    ...     u = pm.Normal("u", 0, tau, shape=100)
    ...     y = pm.Poisson("y", pm.math.exp(u), observed=np.arange(100) % 5)
    ...     found = pmf.structure()
    >>> print(found)
    101 dimensions, 301 pairs that meet (2.95% of all)
      tau_log__         1  global
      u               100  local
    """
    flow = NormalizingFlow("scale-loc", model=model, random_seed=0, jitter=0.0)
    try:
        held = read_structure(*density_at_start(flow), 0)
        is_global = choose_globals(held)
    except NoStructureError as error:
        raise UnsupportedError(f"The structure of the model can't be read: {error}.") from error
    return Structure.of(held.whole.pattern, held.places, is_global, held.whole.sums)
