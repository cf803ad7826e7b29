"""Which coordinates of a posterior meet, read from its graph and held against its gradient."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from pmflow.embedded.conditional import Conditional
from pmflow.embedded.wide import wide_of
from pmflow.graphs.sparsity import hessian_pattern
from pmflow.posterior.density import LogDensity
from pmflow.watch import piece, stage

__all__ = ["NoStructureError", "read_pattern", "verify_pattern"]

_MOST = 3_000_000
"""Entries of a pattern: more, and its factor may not fit into memory."""
_STEP = 1e-4
_AGREES = 1e-3
"""Of products by the pattern and by differences, relative to the largest of them."""

type Floats = NDArray[np.float64]


class NoStructureError(Exception):
    """The pattern can't be used; the message says why."""


def read_pattern(density: LogDensity) -> csr_array:
    """The pattern of second derivatives, symmetric and with its diagonal.

    Where few sums make many variables meet, of the others: see `Wide`. Where it can't be told, and
    there are not too many, of variables that all meet.

    Raises
    ------
    NoStructureError
        If it is too dense.
    """
    with stage("Reading the model"), piece("reading which variables meet"):
        wide = wide_of(density)
        pattern = hessian_pattern(*density.graph) if wide is None else wide.pattern
    if pattern is None and density.dim**2 <= _MOST:
        return csr_array(np.ones((density.dim, density.dim), dtype=bool))
    if pattern is None or pattern.nnz > _MOST:
        raise NoStructureError("nearly all of its variables meet")
    return pattern


def verify_pattern(conditional: Conditional, z: Floats, seed: int) -> None:
    """Hold products of the precision with random vectors against differences of gradients.

    Parameters
    ----------
    conditional : Conditional
        By the pattern.
    z : ndarray, shape (n, dim)
        Where.
    seed : int

    Raises
    ------
    NoStructureError
        If they disagree: the pattern has missed an entry.
    """
    density, inner = conditional.density, conditional.locals
    conditional.measure(z[0])
    sds = conditional.sds
    rng = np.random.default_rng(seed)
    for point in z:
        direction = np.zeros(density.dim)
        direction[inner] = sds * rng.standard_normal(len(inner))
        _, gradient = density.value_and_gradient(
            np.stack([point - _STEP * direction, point + _STEP * direction])
        )
        wanted = (gradient[0] - gradient[1])[inner] / (2 * _STEP)
        found = conditional.times(point, direction[inner])
        size = np.abs(wanted) * sds
        if np.abs((found - wanted) * sds).max() > _AGREES * max(size.max(), 1.0):
            raise NoStructureError("the pattern of its second derivatives has missed some")
