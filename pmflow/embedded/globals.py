"""Which few variables of a model govern the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from pmflow.draws.standard import mirrored_draws
from pmflow.embedded.blocks import Blocks
from pmflow.embedded.conditional import Conditional
from pmflow.embedded.dense import conditional_of
from pmflow.embedded.given import Given
from pmflow.embedded.influence import Diagonals, changes_along, changes_off_diagonal

__all__ = ["FEW", "MOST", "Held", "choose_globals", "is_gaussian", "with_hubs"]

_LARGEST = 32
"""Entries of a variable that may be global, and that is held where a Gaussian over all variables
begins. At the mode of all of them the scales of a hierarchy are 0, twenty scales of as many slopes
too."""
FEW, MOST, _STRONG = 12, 32, 0.2
"""Entries of all global variables together: they are integrated over by weighted draws. Beyond a
few, only those variables are taken whose entries have an influence of so many nats on average:
scales of slopes and factors of covariances have 0.3 and more, effects that are estimated well less
than 0.05 (35 models of the public catalogue)."""
_MOST_ASKED = 64
"""Entries whose influence is measured: of the variables that meet the most others."""
_INFLUENCE = 0.005
"""Nats for each entry, below which a variable may as well be local: its mode is off by 0.1 sd
then, and each global one makes the others harder to integrate over."""
_FEW_ENTRIES = 4
"""Entries of a variable, up to which its own skewness is a reason to hold it."""
_CURVATURES = 30
_PAIRS, _CURVED = 8, 1e-5
"""Mirrored pairs of draws, and the variance of log weights for each local variable below which they
are Gaussian."""
_FEWEST_LEFT = 20
"""Local variables that are independent, below which no others are made global for it."""
_MOSTLY = 30.0
"""How many times those on the diagonal the changes of a curvature are where a correlation makes
them: other variables change both alike."""

type Floats = NDArray[np.float64]


class Held:
    """A model whose variables that may be global are held.

    Parameters
    ----------
    whole : Conditional
        Of all coordinates, none of them global.
    places : mapping of str to slice
        Where each value variable is in the latent vector.
    start : ndarray, shape (dim,)
    """

    def __init__(self, whole: Conditional, places: Mapping[str, slice], start: Floats) -> None:
        self.whole, self.places, self.start = whole, dict(places), start
        self.candidates = _candidates(whole.pattern, places)

    @cached_property
    def inner(self) -> Conditional | None:
        """All other variables given these; None where there are no others."""
        return self._given(self.candidates)

    def _given(self, held: Sequence[slice]) -> Conditional | None:
        whole = self.whole
        is_held = np.zeros(whole.density.dim, dtype=bool)
        for place in held:
            is_held[place] = True
        return None if is_held.all() else conditional_of(whole.density, whole.pattern, is_held)

    @property
    def entries(self) -> int:
        """How many entries the variables have that may be global."""
        return sum(place.stop - place.start for place in self.candidates)

    @property
    def gradients(self) -> int:
        """How many gradients the diagonal of a curvature takes, the cheaper way."""
        one_by_one = np.inf if self.inner is None else self.inner.gradients + 2 * self.entries
        return int(min(one_by_one, self.whole.gradients))

    @cached_property
    def z(self) -> Floats:
        """Where the others are at their mode, shape (dim,)."""
        return self._at_mode(self.inner)

    @cached_property
    def changes(self) -> list[Floats]:
        """Relative changes of the curvature by each that may be global: (entries, dim) each."""
        return changes_along(self._diagonals, self.candidates, self.z)

    @cached_property
    def off_diagonal(self) -> list[Floats]:
        """Squares of the changes of all others' entries, where most are not on the diagonal."""
        sds = np.minimum(self._diagonals.sds, 1.0)
        every = changes_off_diagonal(self.whole.density, self.candidates, self.z, sds)
        is_inner = np.ones(len(self.z), dtype=bool)
        for place in self.candidates:
            is_inner[place] = False
        on = [(change[:, is_inner] ** 2).sum(1) for change in self.changes]
        return [
            np.where(all_of_it > _MOSTLY * diagonal, all_of_it, 0.0)
            for all_of_it, diagonal in zip(every, on, strict=True)
        ]

    @cached_property
    def _diagonals(self) -> Diagonals:
        found = Diagonals(self.whole, self.inner)
        found.measure(self.z)
        return found

    @cached_property
    def of_larger(self) -> Floats:
        """Where the variables are at their mode that are larger than scales are, shape (dim,)."""
        held = _small(self.places)
        if len(held) == len(self.candidates):  # which are some of them
            return self.z
        return self._at_mode(self._given(held))

    def _at_mode(self, inner: Conditional | None) -> Floats:
        if inner is None:
            return self.start
        inner.measure(self.start)
        return inner.modes(self.start[None], _CURVATURES).z[0]


def choose_globals(held: Held, most: int = MOST) -> NDArray[np.bool_]:
    """The variables whose change changes how curved the density is along others.

    A scale of a hierarchy does: no one Gaussian is right for the others at all of its values. A
    coefficient of a linear predictor hardly does, and stays local. Influence is what one
    conditional sd of the variable makes of two Gaussians with independent coordinates: their
    divergence, and by how much the volume of the others moves the mode of the variable itself. The
    variable of most influence is taken, then the next one given that it is held, and so on.

    Parameters
    ----------
    held : Held
    most : int
        Entries of all of them.

    Returns
    -------
    ndarray of bool, shape (dim,)
    """
    chosen = np.zeros(held.whole.density.dim, dtype=bool)
    changes = dict(
        zip(held.candidates, map(_of_others, held.candidates, held.changes), strict=True)
    )
    beside = dict(zip(held.candidates, held.off_diagonal, strict=True))
    while changes:
        nats = [_nats(change[:, ~chosen]) + beside[at] / 4 for at, change in changes.items()]
        best = int(np.argmax([each.max() for each in nats]))
        place = list(changes)[best]
        entries = place.stop - place.start
        if nats[best].max() < entries * _INFLUENCE or chosen.sum() + entries > most:
            break
        chosen[place] = chosen.sum() + entries <= FEW or nats[best].mean() > _STRONG
        del changes[place]
    return chosen


def with_hubs(
    pattern: csr_array, places: Mapping[str, slice], chosen: NDArray[np.bool_], most: int = FEW
) -> NDArray[np.bool_]:
    """The global variables, and those by which the others meet, if few more set them apart.

    Then each of the others, or each small block of them, can be integrated over by itself. What was
    given, where they would be too many or leave too few.

    Parameters
    ----------
    pattern : csr_array, shape (dim, dim)
    places : mapping of str to slice
    chosen : ndarray of bool, shape (dim,)
    most : int
        Entries of all global variables.
    """
    more = chosen.copy()
    for place in _candidates(pattern, places):  # those that meet the most others come first
        if _are_apart(pattern, ~more):
            break
        more[place] = True
    is_enough = (~more).sum() > _FEWEST_LEFT and _are_apart(pattern, ~more)
    return more if is_enough and more.sum() <= most else chosen


def _are_apart(pattern: csr_array, is_inner: NDArray[np.bool_]) -> bool:
    inner = np.flatnonzero(is_inner)
    return Blocks.of_pattern(csr_array(pattern[inner][:, inner])) is not None


def is_gaussian(conditional: Conditional, start: Floats) -> bool:
    """Whether the local variables are Gaussian, given the global ones as they are at the start."""
    conditional.measure(start)
    modes = conditional.modes(start[None], _CURVATURES)
    if not np.isfinite(modes.log_marginal[0]):
        return False
    inner = conditional.locals
    e = mirrored_draws(_PAIRS, len(inner), np.random.default_rng(0))
    z, _, log_q = Given(modes.z, modes.factors, modes.log_marginal).drawn(e, inner)
    log_p, _ = conditional.value_and_slope(z)
    return bool((log_p - log_q).var() < _CURVED * len(inner))


def _small(places: Mapping[str, slice]) -> list[slice]:
    return [place for place in places.values() if 0 < place.stop - place.start <= _LARGEST]


def _candidates(pattern: csr_array, places: Mapping[str, slice]) -> list[slice]:
    degrees = np.diff(pattern.indptr)
    small = _small(places)
    small.sort(key=lambda place: -int(degrees[place].max()))
    entries = np.cumsum([place.stop - place.start for place in small])
    return small[: np.searchsorted(entries, _MOST_ASKED, side="right")]


def _of_others(place: slice, changes: Floats) -> Floats:
    """Changes without those that each of many entries makes of its own curvature: it is skewed.

    It is so as a local variable too, and the others of its kind as well.
    """
    entries = place.stop - place.start
    if entries <= _FEW_ENTRIES:
        return changes
    others = changes.copy()
    others[np.arange(entries), np.arange(place.start, place.stop)] = 0.0
    return others


def _nats(changes: Floats) -> Floats:
    """Influence of each entry, given relative changes of curvatures, shape (entries, others)."""
    divergence = (changes**2).sum(1) / 4
    moved = (changes.sum(1) / 2) ** 2 / 2
    return np.asarray(divergence + moved)
