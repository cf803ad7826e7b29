"""Draws of blocks of local variables, chosen by their weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pmflow.draws.standard import means_of_pairs, mirrored_draws
from pmflow.embedded.blocks import chosen, relative_weights
from pmflow.embedded.conditional import Conditional
from pmflow.embedded.given import Given

__all__ = ["CHOICES", "Chosen", "chosen_at"]

CHOICES = 32
"""Draws of each block of local variables of which one is chosen."""

type Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Chosen:
    """Draws of local variables by weights.

    Attributes
    ----------
    z : ndarray, shape (n, dim)
    deviation, weights : ndarray, shape (choices, locals)
        The draws that they are chosen from, from the middle, and the weights of their blocks, with
        means of 1.
    log_weights : ndarray, shape (choices, blocks)
        Relative to the middle.
    """

    z: Floats
    deviation: Floats
    weights: Floats
    log_weights: Floats

    @property
    def lost(self) -> Floats:
        """What weights of few pairs lose of what is averaged, times how many these are.

        To first order: it is taken off, and what is left is less, as a rule. Shape (choices,
        locals).
        """
        return np.asarray(self.weights * np.tile(means_of_pairs(self.weights), (2, 1)))

    @property
    def mean(self) -> Floats:
        """Of the local variables by their weights, from the middle, shape (locals,)."""
        return np.asarray((self.weights * self.deviation).mean(0))


def chosen_at(
    conditional: Conditional,
    given: Given,
    number: int,
    rng: np.random.Generator,
    choices: int = CHOICES,
) -> Chosen:
    """Draws at one place, each block of local variables by its weights.

    Means by weights of few mirrored pairs are off by the covariance of the weights of pairs with
    what is averaged, over the number of pairs: that is taken off by the weights themselves.
    """
    inner, blocks = conditional.locals, conditional.apart
    e = mirrored_draws(choices // 2, len(inner), rng)
    deviation, log_weights = blocks.log_weights(
        conditional.value_and_slope, given.z[0], inner, given.factor, e
    )
    weights = relative_weights(log_weights)
    of_pairs = np.tile(means_of_pairs(weights), (2, 1))
    weights *= 1 + (of_pairs - (of_pairs**2).mean(0)) / (choices // 2)
    z = np.repeat(given.z, number, axis=0)
    places = chosen(weights, number, rng)[:, blocks.labels]
    z[:, inner] += np.take_along_axis(deviation, places, axis=0)
    return Chosen(z, deviation, weights[:, blocks.labels], log_weights)
