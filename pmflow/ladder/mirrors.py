"""Mirror images of fits: they are known exactly, so one of them is fitted and all are returned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pmflow.family.approximation import Approximation
from pmflow.family.normalizing_flow import NormalizingFlow
from pmflow.family.stack import Stack
from pmflow.family.symmetrized import Symmetrized
from pmflow.posterior.density import LogDensity
from pmflow.posterior.find_symmetry import Symmetries, find_symmetries
from pmflow.posterior.start import LatentStart
from pmflow.posterior.symmetry import MOST_IMAGES
from pmflow.records import Images
from pmflow.watch import stage

__all__ = ["Mirrors", "WhichImages"]

_POINTS, _DRAWS, _AROUND = 3, 200, 0.1
"""Points at which a symmetry must hold, and draws that tell where a fit is; how far from the start
such points are, unconstrained."""
_APART = 1.0
"""Squared distance, in sds of both, from which on two modes are two."""

type WhichImages = Literal["all", "one"]
type Floats = NDArray[np.float64]


class Mirrors:
    """The symmetries of a model, found when a first fit asks for them.

    Parameters
    ----------
    asked : {"all", "one"}
        Which images are to be returned.
    seed : int
    """

    def __init__(self, asked: WhichImages, seed: int) -> None:
        self.asked, self.seed = asked, seed
        self._known: Symmetries | None = None

    def whole(self, fit: Approximation) -> Approximation:
        """A fit with its images; the fit itself where it has none, or one is to be returned.

        It is told of those that it leaves out.
        """
        if isinstance(fit, Symmetrized) or fit.is_resampled:
            return fit
        symmetries = self._of(fit)
        if not symmetries.kinds:
            return fit
        symmetry = symmetries.moving(_modes(fit, _DRAWS, self.seed))
        if symmetry is None:
            return fit
        if self.asked == "all" and symmetry.is_whole and isinstance(fit, NormalizingFlow | Stack):
            return Symmetrized(fit, symmetry, fit.report)
        number = symmetry.number if symmetry.is_whole else MOST_IMAGES
        images = Images(number, not symmetry.is_whole, self.asked == "one")
        fit.receive(replace(fit.report, images=images))
        return fit

    def aligned(self, flow: NormalizingFlow, draws: Sequence[Floats]) -> list[Floats]:
        """Draws of several fits, each as the image of it that is nearest to one before it."""
        return _aligned(self._of(flow), draws)

    def look(self, density: LogDensity, draws: Floats) -> None:
        """Look for symmetries of a density that has those of the model, before any fit asks.

        Parameters
        ----------
        density : LogDensity
        draws : ndarray, shape (n, dim)
            At which it is finite, as those of a fit are.
        """
        with stage("Looking for symmetries"):
            self._known = find_symmetries(density, draws[:_POINTS])

    def distinct(self, draws: Sequence[Floats]) -> list[int]:
        """Which of some modes are no images of one before, by draws of each: after `look`."""
        assert self._known is not None
        images = _aligned(self._known, draws)
        found: list[int] = []
        for number, one in enumerate(images):
            if all(_distance(one, images[known]) > _APART for known in found):
                found.append(number)
        return found

    def _of(self, fit: Approximation) -> Symmetries:
        if self._known is None:
            density = fit.joint_density
            if density is None:
                return Symmetries(np.full(fit.ddim, -1))
            with stage("Looking for symmetries"):
                self._known = find_symmetries(density, self._points(fit, density))
        return self._known

    def _points(self, fit: Approximation, density: LogDensity) -> Floats:
        """Points without any pattern at which the density is finite."""
        if fit.is_nested:  # its draws take longer than all the rest
            start = LatentStart(fit.model, fit.model.free_RVs, None)(self.seed)
            rng = np.random.default_rng(self.seed)
            near = start + rng.normal(0.0, _AROUND, (_POINTS, len(start)))
            if np.isfinite(density.value(near)).all():
                return near
        return _modes(fit, _POINTS, self.seed)[0]


def _aligned(symmetries: Symmetries, draws: Sequence[Floats]) -> list[Floats]:
    first, *others = draws
    found = [first]
    symmetry = symmetries.moving([first]) if symmetries.kinds else None
    if symmetry is None or not symmetry.is_whole:
        return [first, *others]
    for one in others:
        images = list(symmetry.images(one))
        distances = [min(_distance(image, known) for known in found) for image in images]
        found.append(images[int(np.argmin(distances))])
    return found


def _modes(fit: Approximation, draws: int, seed: int) -> list[Floats]:
    """Draws of each mode by itself, each of shape (draws, dim)."""
    if isinstance(fit, Stack):
        return [samples.latent for samples in fit.drawn_of_each(draws, seed)]
    return [fit.draw(draws, seed).latent]


def _distance(a: Floats, b: Floats) -> float:
    """Between the centres of two fits, in sds of both."""
    sd = np.sqrt(a.var(0) + b.var(0))
    return float((((a.mean(0) - b.mean(0)) / np.where(sd > 0, sd, 1.0)) ** 2).sum())
