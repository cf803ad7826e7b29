"""Which few variables of a model govern the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from pmflow.embedded.conditional import Conditional, along
from pmflow.watch import tick

__all__ = ["choose_globals", "held_start"]

_LARGEST = 10
"""Entries of a variable that may be global."""
_MOST = 12
"""Entries of all global variables together: they are integrated over by weighted draws."""
_MOST_ASKED = 64
"""Entries whose influence is measured: of the variables that meet the most others."""
_INFLUENCE = 0.005
"""Nats, below which a variable may as well be local: its mode is off by 0.1 sd then."""
_CURVATURES = 30

type Floats = NDArray[np.float64]


def choose_globals(
    whole: Conditional, places: Mapping[str, slice], start: Floats
) -> NDArray[np.bool_]:
    """The variables whose change changes how curved the density is along others.

    A scale of a hierarchy does: no one Gaussian is right for the others at all of its values. A
    coefficient of a linear predictor hardly does, and stays local. Influence is what one
    conditional sd of the variable makes of two Gaussians with independent coordinates: their
    divergence, and by how much the volume of the others moves the mode of the variable itself. The
    variable of most influence is taken, then the next one given that it is held, and so on.

    Parameters
    ----------
    whole : Conditional
        Of all coordinates, none of them global.
    places : mapping of str to slice
        Where each value variable is in the latent vector.
    start : ndarray, shape (dim,)

    Returns
    -------
    ndarray of bool, shape (dim,)
    """
    chosen = np.zeros(whole.density.dim, dtype=bool)
    candidates = _candidates(whole.pattern, places)
    z = held_start(whole, places, start)
    changes = dict(zip(candidates, _changes(whole, candidates, z), strict=True))
    while changes:
        values = [_nats(change[:, ~chosen]) for change in changes.values()]
        best = int(np.argmax(values))
        place = list(changes)[best]
        if values[best] < _INFLUENCE or chosen.sum() + (place.stop - place.start) > _MOST:
            break
        chosen[place] = True
        del changes[place]
    return chosen


def held_start(whole: Conditional, places: Mapping[str, slice], start: Floats) -> Floats:
    """Where the other variables are at their mode, those held that may be global."""
    small = np.zeros(whole.density.dim, dtype=bool)
    for place in _candidates(whole.pattern, places):
        small[place] = True
    if small.all():
        return start
    inner = Conditional(whole.density, whole.pattern, small)
    inner.measure(start)
    return inner.modes(start[None], _CURVATURES).z[0]


def _candidates(pattern: csr_array, places: Mapping[str, slice]) -> list[slice]:
    degrees = np.diff(pattern.indptr)
    small = [place for place in places.values() if 0 < place.stop - place.start <= _LARGEST]
    small.sort(key=lambda place: -int(degrees[place].max()))
    entries = np.cumsum([place.stop - place.start for place in small])
    return small[: np.searchsorted(entries, _MOST_ASKED, side="right")]


def _changes(whole: Conditional, places: Sequence[slice], z: Floats) -> list[Floats]:
    """Relative changes of the diagonal of the curvature, by variable: (entries, dim) each."""
    whole.measure(z)
    sds = np.minimum(whole.sds, 1.0)
    here = whole.diagonals(z[None])
    found = []
    for place in places:
        tick()
        at = np.arange(place.start, place.stop)
        steps = along(at, sds[at], len(sds))
        ahead, behind = whole.diagonals(z + steps), whole.diagonals(z - steps)
        found.append((_relative(ahead, here) - _relative(behind, here)) / 2)
    return found


def _nats(changes: Floats) -> float:
    """Influence of a variable, given relative changes of curvatures, shape (entries, others)."""
    divergence = (changes**2).sum(1) / 4
    moved = (changes.sum(1) / 2) ** 2 / 2
    return float((divergence + moved).max())


def _relative(there: Floats, here: Floats) -> Floats:
    size = np.abs(there) + np.abs(here)
    return 2 * (there - here) / np.where(size > 0, size, 1.0)
