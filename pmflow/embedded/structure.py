"""Which coordinates of a posterior meet, read from its graph and held against its gradient."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from pmflow.embedded.conditional import Conditional
from pmflow.embedded.globals import Held
from pmflow.embedded.wide import wide_of
from pmflow.graphs.sparsity import hessian_pattern
from pmflow.posterior.density import LogDensity
from pmflow.watch import piece, stage

__all__ = [
    "NoStructureError",
    "around",
    "check_affordable",
    "check_work",
    "read_pattern",
    "read_structure",
    "verify_pattern",
]

_MOST = 3_000_000
"""Entries of a pattern: more, and its factor may not fit into memory."""
_WORK = 3e11
"""Numbers that the density may go through for all second derivatives of a fit."""
_STEP = 1e-4
_AGREES = 1e-3
"""Of products by the pattern and by differences, relative to the largest of them."""

type Floats = NDArray[np.float64]


class NoStructureError(Exception):
    """The pattern can't be used; the message says why."""


def read_structure(density: LogDensity, start: Floats, seed: int) -> Held:
    """Which coordinates meet, by a pattern that is verified near a start of shape (dim,).

    Raises
    ------
    NoStructureError
        If it can't be read.
    """
    pattern = read_pattern(density)
    whole = Conditional(density, pattern, np.zeros(density.dim, dtype=bool))
    if pattern.nnz < density.dim**2:  # else there is none to miss
        verify_pattern(whole, around(start, seed), seed)
    places = {name: place for name, place, *_ in density.ordering.values()}
    return Held(whole, places, start)


def around(start: Floats, seed: int) -> Floats:
    """Two points near the start, where a pattern is verified."""
    rng = np.random.default_rng(seed)
    return start + 0.1 * rng.standard_normal((2, len(start)))


def check_affordable(conditional: Conditional, curvatures: int) -> None:
    """See whether so many curvatures can be had.

    Raises
    ------
    NoStructureError
        If they take too many gradients.
    """
    check_work(conditional.gradients, conditional.density.work, curvatures)


def check_work(gradients: int, work: int, times: int) -> None:
    """See whether so many gradients of so much work can be had so many times.

    Raises
    ------
    NoStructureError
    """
    if float(gradients) * work * times > _WORK:
        raise NoStructureError(f"its second derivatives take {gradients:,} gradients at each point")


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
