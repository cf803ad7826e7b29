"""Which rows stand for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from pmflow.posterior.rows.streamed import Chosen, RowSum

__all__ = ["any_rows", "chosen_by_size", "remainders"]

_INNER = 0.25
"""Of the way to a draw: there a row's first and second derivative are told by differences."""

type Floats = NDArray[np.float64]


def any_rows(number: int, rows: int, rng: np.random.Generator) -> Chosen:
    """Some of all rows, one at random of each of so many parts of equal length.

    Of memory it takes that of those chosen. A row of a part weighs as much as the part has rows.
    """
    number = min(number, rows)
    ends = np.arange(number + 1) * rows // number
    lengths = np.diff(ends)
    return Chosen(ends[:-1] + rng.integers(lengths), lengths.astype(float))


def remainders(
    rows: RowSum, centre: Floats, steps: Floats, some: Chosen | None = None
) -> Iterator[Floats]:
    """How far each row is from its own expansion to second order, in nats.

    Parameters
    ----------
    rows : RowSum
    centre : ndarray, shape (dim,)
        Where it is expanded.
    steps : ndarray, shape (n, dim)
        From there to draws of the posterior, as far as it is known.
    some : Chosen, optional
        All rows by default.

    Yields
    ------
    ndarray, shape (rows,)
        The root mean square over steps ahead and back, a block of rows at a time.
    """
    ways = np.array([0.0, 1.0, -1.0, _INNER, -_INNER])
    points = centre + np.concatenate([np.zeros((1, len(centre))), *(w * steps for w in ways[1:])])
    for terms in rows.terms(points, some):
        (middle,), *sides = np.split(terms, [1, *(1 + len(steps) * np.arange(1, 4))])
        ahead, back, near_ahead, near_back = sides
        odd = (ahead - back) / 2 - (near_ahead - near_back) / (2 * _INNER)
        even = (ahead + back) / 2 - middle
        even -= ((near_ahead + near_back) / 2 - middle) / _INNER**2
        with np.errstate(invalid="ignore"):
            size = np.sqrt((odd**2 + even**2).mean(0))
        yield np.nan_to_num(size, nan=np.inf, posinf=np.inf)  # without a density it must be seen


def chosen_by_size(
    sizes: Iterable[Floats], least: float, number: int, rng: np.random.Generator
) -> Chosen:
    """Rows by priority sampling: in one pass, the larger a row the likelier.

    Of each row the priority is its size over a uniform number. Those of the highest are kept, each
    with the weight max(1, threshold / size), where the threshold is the highest priority of the
    others: so sums over all rows are estimated without bias, with close to the least variance that
    a choice of so many can have (Duffield, Lund & Thorup, 2007,
    https://doi.org/10.1145/1314690.1314696).

    Parameters
    ----------
    sizes : iterable of ndarray
        Of consecutive rows; of memory a block is needed at a time.
    least : float
        Above 0: added to every size.
    number : int
        How many, at most.
    rng : Generator

    Returns
    -------
    Chosen
    """
    index, size, priority = np.empty(0, dtype=int), np.empty(0), np.empty(0)
    seen, threshold = 0, 0.0
    for block in sizes:
        index = np.concatenate([index, seen + np.arange(len(block))])
        size = np.concatenate([size, block + least])
        priority = np.concatenate([priority, (block + least) / (1.0 - rng.random(len(block)))])
        seen += len(block)
        if len(index) > number:
            order = np.argpartition(-priority, number)
            threshold = max(threshold, float(priority[order[number]]))
            kept = np.sort(order[:number])
            index, size, priority = index[kept], size[kept], priority[kept]
    return Chosen(index, np.maximum(1.0, threshold / size))
