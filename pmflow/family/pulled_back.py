"""A posterior as a model over the space that a map takes to it."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.replace import graph_replace
from pytensor.graph.traversal import graph_inputs
from pytensor.tensor.variable import TensorVariable

from pmflow.family.transport import Transport
from pmflow.flows.bases import standard_normal_logp
from pmflow.graphs.evaluate import GLOBAL_STATE
from pmflow.posterior.density import LogDensity

__all__ = ["BASE", "LATENT", "pulled_back"]

BASE = "base"
"""The free variable, in the space that the map takes."""
LATENT = "latent"
"""The deterministic that is the latent vector of the model itself."""

_LONG = 1_000_000
"""Numbers of an array that is no constant: compilers go through those one by one."""


def pulled_back(transport: Transport, density: LogDensity) -> pm.Model:
    r"""The model whose log density is :math:`\log p(T(u)) + \log |\det T'(u)|`.

    Parameters
    ----------
    transport : Transport
        T.
    density : LogDensity
        log p, over the latent space.

    Returns
    -------
    pymc.Model
        With the free variable `BASE`, which is u, and the deterministic `LATENT`.
    """
    at, logp = density.graph
    base = pt.vector(BASE, shape=(transport.dim,))
    z, log_det = transport.forward(base)
    z = pt.specify_shape(z, (transport.dim,))
    (logp,) = graph_replace([logp], {at: z}, strict=False)
    logp = logp + log_det - standard_normal_logp(base)
    with GLOBAL_STATE, pm.Model() as model:  # PyMC changes PyTensor's flags
        u = pm.Normal(BASE, shape=transport.dim)
        z, logp = graph_replace([z, logp], {base: u, **_held([z, logp])}, strict=False)
        pm.Deterministic(LATENT, z)
        pm.Potential("posterior", logp)
    return model


def _held(graphs: list[TensorVariable]) -> dict[SharedVariable, TensorVariable]:
    """Constants in the place of numbers that would be set anew: a sampler compiles them sooner.

    What is long stays shared, by a name of its own, since samplers find it by name.
    """
    found = dict.fromkeys(v for v in graph_inputs(graphs) if isinstance(v, SharedVariable))
    values = {v: v.get_value(borrow=True) for v in found}
    return {
        v: pt.constant(value)
        if np.size(value) <= _LONG
        else pytensor.shared(value, f"number_{k}", shape=np.shape(value))
        for k, (v, value) in enumerate(values.items())
    }
