"""What a layer may know of the model: its latent vector, and which coordinates of it meet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pmflow.records import State, Triangle

__all__ = ["Latent", "LatentGraph"]

type Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LatentGraph(State):
    """Which coordinates meet: the second derivative of the log density by both can be other than 0.

    Attributes
    ----------
    pointers, indices : ndarray
        For each coordinate the others that it meets, itself included, as in a `csr_array`.
    triangle : Triangle
        The Cholesky factor of a matrix with these entries, in an order that keeps it sparse.
    """

    pointers: Integers
    indices: Integers
    triangle: Triangle


@dataclass(frozen=True, eq=False)
class Latent:
    """The latent vector of a model, as a layer may know it: see `AbstractLayer.bind`.

    Attributes
    ----------
    dim : int
    blocks : dict of str to slice
        Where each value variable is; transformed ones by their PyMC name, such as ``tau_log__``.
    dims : dict of str to tuple
        Names of the dimensions of each, as far as they are known.
    coords : dict of str to tuple
        Labels along these dimensions, where the model has some.
    """

    dim: int
    blocks: dict[str, slice]
    dims: dict[str, tuple[str | None, ...]]
    coords: dict[str, tuple[Any, ...]]
    _read: Callable[[], LatentGraph] = field(repr=False)

    def graph(self) -> LatentGraph:
        """Which coordinates meet in the model; read when first asked for.

        Raises
        ------
        UnsupportedError, ParameterError
            If it can't be read.
        """
        return self._graph

    @cached_property
    def _graph(self) -> LatentGraph:
        return self._read()

    @property
    def known_graph(self) -> LatentGraph | None:
        """The same, None where nobody has asked for it."""
        return self.__dict__.get("_graph")
