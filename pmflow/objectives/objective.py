"""What a fit makes small, as a value."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from pymc.variational.opvi import ObjectiveFunction

__all__ = ["AbstractObjective", "Measure"]


class Measure(Protocol):
    """What two states of a fit are compared by, and by how much one is better."""

    name: str
    """What the mean of the values is called."""

    def values(self, seed: int) -> NDArray[np.float64]:
        """A number for each of some draws, in nats, shape (draws,): a larger mean is better.

        The same seed has the same draws, so that two states are compared draw by draw.
        """


class AbstractObjective(ABC):
    """What a fit makes small: a new one is a file with a subclass.

    Nothing in it changes. What it says is asked in this order: `why_not`, `function`, `measure`.
    """

    uses_model: ClassVar[bool] = True
    """Whether the log density of the model is part of the loss."""

    takes_draws: ClassVar[bool] = True
    """Whether it takes draws of the flow: then ``estimator`` and ``qmc`` say how."""

    @abstractmethod
    def why_not(self, approx: Any, beta: float, how: Mapping[str, Any]) -> str:
        """Why it can't be made small, and what to do; empty where it can.

        Parameters
        ----------
        approx : Approximation
        beta : float
            Weight of the divergence from the prior.
        how : mapping of str to object
            The options ``estimator``, ``anneal`` and ``qmc``.
        """

    @abstractmethod
    def function(
        self, approx: Any, beta: float, *, draws: int, estimator: str, anneal: bool
    ) -> ObjectiveFunction:
        """The loss as PyMC has it: a graph of the parameters and of the base draws of a step.

        Parameters
        ----------
        approx : Approximation
        beta : float
        draws : int
            How many draws are evaluated at once.
        estimator : str
        anneal : bool
        """

    @abstractmethod
    def measure(self, approx: Any, beta: float) -> Measure:
        """What states of a fit are compared by."""
