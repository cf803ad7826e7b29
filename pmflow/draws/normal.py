"""Base draws of a step that are independent of each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytensor.tensor as pt
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.tensor.variable import TensorVariable

__all__ = ["NormalDraws", "noise_lengths"]


class NormalDraws:
    """Standard normal numbers for some draws of all groups.

    Attributes
    ----------
    replacements : dict of TensorVariable to TensorVariable
        What is to be put in the place of each group's normal numbers.
    generators : dict of TensorVariable to shared variable
        The random generator behind each of them.
    """

    def __init__(self, groups: Sequence[Any], draws: int) -> None:
        self.replacements: dict[TensorVariable, TensorVariable] = {}
        self.generators: dict[TensorVariable, SharedVariable] = {}
        for group, length in zip(groups, noise_lengths(groups), strict=True):
            rng = pt.random.shared_rng(seed=None)
            initial = group.symbolic_initial
            _, noise = pt.random.normal(
                size=(draws, length), dtype=initial.dtype, rng=rng, return_next_rng=True
            )
            self.replacements[initial], self.generators[noise] = noise, rng


def noise_lengths(groups: Sequence[Any]) -> list[int]:
    """How many normal numbers each group needs for one draw."""
    lengths = [g.symbolic_initial.type.shape[-1] for g in groups]
    # groups of PyMC's own take one number a dimension, which PyMC 6.3 does not say
    return [g.ddim if n is None else n for g, n in zip(groups, lengths, strict=True)]
