"""The gradient of the log marginal of global variables, by draws of the local ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pmflow.embedded.blocks import BlockWeights
from pmflow.embedded.choices import Chosen, chosen_at
from pmflow.embedded.conditional import Conditional
from pmflow.embedded.given import Given
from pmflow.embedded.marginal import Centre

__all__ = ["Score", "Scorer"]

_STEP = 1e-2
"""Of differences along a global variable, in its standard deviation given the local ones."""

type Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Score:
    r"""What draws at one place say about the log density of the global variables there.

    Attributes
    ----------
    of_globals : ndarray, shape (globals,)
        Its gradient.
    pull : ndarray, shape (locals,)
        Precision of the local variables times the way from their middle to their mean.
    lost : ndarray, shape (locals,)
        How far off that mean is, in conditional sds, times the number of pairs of draws.
    missed : float
        Its value, less what it is by `Given`.
    unevenness : float
        Variance of the weights of a block, in units of their mean, on average.
    """

    of_globals: Floats
    pull: Floats
    lost: Floats
    missed: float
    unevenness: float


class Scorer:
    r"""Scores of global variables by Fisher's identity.

    The gradient of a log marginal is the mean of :math:`\nabla_\theta \log p(\theta, u)` over
    draws of :math:`p(u \mid \theta)`. By Stein's identity nothing is changed on average if the
    local variables are moved and widened along with the global ones: with
    :math:`v_k` the way of u along global variable k, :math:`v_k^\top \nabla_u \log p + \nabla_u
    \cdot v_k` is added. Where they are Gaussian the sum is the same for each draw, with
    :math:`v_k(u) = dm / d\theta_k - P^{-1} (dP / d\theta_k) (u - m) / 2`, m being their mode and P
    their precision.

    Parameters
    ----------
    conditional : Conditional
        Of blocks that are independent given the global variables.
    centre : Centre
        By which differences along the global variables have their units.
    """

    def __init__(self, conditional: Conditional, centre: Centre) -> None:
        self._conditional = conditional
        self._steps = _STEP * np.minimum(1 / np.sqrt(np.diag(centre.precision)), 1.0)

    def at(
        self, given: Given, number: int, rng: np.random.Generator, choices: int
    ) -> tuple[Chosen, Score]:
        """Draws at one place, so many, of so many choices, and the score by them."""
        conditional = self._conditional
        outer, inner, factor = conditional.globals, conditional.locals, given.factor
        made = chosen_at(conditional, given, number, rng, choices)
        value, gradient = conditional.density.value_and_gradient(np.concatenate([made.z, given.z]))
        slope = gradient[:-1, inner]
        away = made.z[:, inner] - given.z[:, inner]
        z, here, third = given.z[0], gradient[-1], conditional.third
        moved = factor.solve(third.crossed(z, self._steps))
        scores = gradient[:-1, outer] + slope @ moved.T
        scores -= third.products(z, here, factor.solve(slope), away, moved) / 2
        scores -= third.traces(z, here, factor, moved) / 2
        at_middle = given.log_density(np.zeros((1, len(inner))))[0]
        of_blocks = BlockWeights.of(made.log_weights[None]).missed()[0]
        score = Score(
            scores.mean(0),
            factor.slopes(factor.scaled(made.mean[None]))[0],
            (made.lost * (made.deviation - made.mean)).mean(0) / made.deviation.std(0),
            float(value[-1] - at_middle + of_blocks),
            float(made.weights.var(0).mean()),
        )
        return made, score
