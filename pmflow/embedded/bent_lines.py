"""Straight lines with soft bends."""

from __future__ import annotations

from typing import Any

__all__ = ["bent_lines"]

_WIDTH = 0.5
"""Of a bend, in sds."""


def bent_lines(y: Any, places: tuple[float, ...], xp: Any) -> list[Any]:
    """What functions are made of that bend at some places and go on straight far out.

    Parameters
    ----------
    y : array_like, shape (..., size)
        Standardised variables.
    places : tuple of float
        Where each of them may bend.
    xp : module
        Of the array: `numpy` or `pytensor.tensor`.

    Returns
    -------
    list of array_like
        A 1, the variables, and for each place what bends there: shapes (..., 1) and (..., size).
    """
    bends = [_WIDTH * xp.logaddexp(0.0, (y - place) / _WIDTH) for place in places]
    return [xp.ones_like(y[..., :1]), y, *bends]
