"""What fits are described by: how training ended, whether starts agree, all that is known.

All are frozen, and each is a `State`: what a file keeps is the fields of such values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ended", "FitState", "Images", "Outcome", "Report", "Starts", "State"]

type Ended = Literal["converged", "limit", "steps", "interrupted", "time", "callback", "failed"]

_WORDS: dict[str, str] = {
    "converged": "converged",
    "limit": "stopped at the limit of its schedule before it had settled",
    "steps": "did the steps asked for; whether it converged was not asked",
    "interrupted": "interrupted by the user",
    "time": "out of the seconds given",
    "callback": "ended by a callback",
    "failed": "failed",
}

_RHAT = 1.01  # Vehtari et al. (2021), https://doi.org/10.1214/20-BA1221
_WASSERSTEIN = 0.15
"""Largest distance in units of the pooled sd: two means 0.15 sd apart, or two sds 19 % apart."""


class State:
    """A frozen dataclass of numbers, texts, arrays and other such values.

    Whatever keeps a state gives it as one of these, and takes it back. `pmflow.saving.states` turns
    any of them into a file by its fields. A class is known by its name, once it is imported.
    """

    kinds: ClassVar[dict[str, type[State]]] = {}
    """Every class of states by name."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        State.kinds[cls.__name__] = cls


@dataclass(frozen=True)
class FitState(State):
    """How training ended.

    Attributes
    ----------
    steps : int
        Steps done by the last call, those without effect included.
    skipped : int
        Steps whose loss or gradient was not finite: they changed no parameter.
    ended : {"converged", "limit", "steps", "interrupted", "time", "callback", "failed"}
        Fits without a number of steps end ``"converged"`` when they have settled, and ``"limit"``
        when they reach the last stage of the schedule and still gain. ``"steps"`` means that the
        fit did the number of steps asked for, which says nothing about convergence.
    message : str
        What there is to add, in words.
    by : str
        Who trained it: ``"NFVI"``, or ``"fit"`` for the families that `pmflow.fit` climbs by
        itself; empty where nobody said so.
    """

    steps: int
    skipped: int
    ended: Ended
    message: str = ""
    by: str = ""

    def __str__(self) -> str:
        skipped = f", {self.skipped:,} of them skipped" if self.skipped else ""
        added = f" ({self.message})" if self.message else ""
        return f"{self.steps:,} steps{skipped}: {_WORDS[self.ended]}{added}"


@dataclass(frozen=True, eq=False)
class Starts(State):
    """Whether fits from several starts agree.

    Only this can show a missed mode, and only one that some start has found.

    Attributes
    ----------
    elbo : ndarray, shape (R,)
        ELBO of each start. ``-inf`` where draws had no finite weight.
    elbo_se : ndarray, shape (R,)
        Its Monte Carlo standard error; NaN where the ELBO is ``-inf``.
    rhat : float
        The largest R-hat over all components of the free variables, each start being a chain: 1
        where all starts have the same distribution.
    wasserstein : ndarray, shape (R, R)
        The largest Wasserstein-1 distance between two starts over all components, in unconstrained
        space and units of the sd of all starts together.
    modes : tuple of int, length R
        The mode that each start found, counted from 0 in the order of first appearance.
    weights : ndarray, shape (R,)
        Evidence weights: how much of the probability that the starts found together belongs to
        each. Starts of one mode share what that mode has. They sum to 1.
    stacked : bool
        Whether all modes are in the approximation, as in a `Stack`: then none is missed.
    """

    elbo: NDArray[np.float64]
    elbo_se: NDArray[np.float64]
    rhat: float
    wasserstein: NDArray[np.float64]
    modes: tuple[int, ...]
    weights: NDArray[np.float64]
    stacked: bool = False

    @property
    def best(self) -> int:
        """The start with the highest ELBO."""
        return int(np.argmax(self.elbo))

    @property
    def of_modes(self) -> list[tuple[int, float]]:
        """The best start of each mode and the weight of the mode, in the order of `modes`."""
        modes = np.array(self.modes)
        found = []
        for mode in dict.fromkeys(self.modes):
            here = np.flatnonzero(modes == mode)
            found.append((int(here[np.argmax(self.elbo[here])]), float(self.weights[here].sum())))
        return found

    @property
    def missed(self) -> float:
        """Share of the evidence in modes that the approximation does not have, 0 to 1.

        It has that of the best start, or all of them where they are stacked.
        """
        if self.stacked:
            return 0.0
        here = np.array(self.modes) == self.modes[self.best]
        return float(np.clip(self.weights[~here].sum(), 0.0, 1.0))

    @property
    def agree(self) -> bool:
        """Whether all starts found the same distribution: R-hat and distances are small."""
        return bool(
            len(set(self.modes)) == 1
            and self.rhat < _RHAT
            and self.wasserstein.max() < _WASSERSTEIN
        )

    @property
    def summary(self) -> str:
        """Whether the starts agree, in one sentence."""
        number, modes = len(self.elbo), len(set(self.modes))
        distance = f"R-hat {self.rhat:.3f}, largest distance {self.wasserstein.max():.2f} sd"
        if modes > 1 and self.stacked:
            return f"{number} starts found {modes} modes, which are all kept ({distance})"
        if modes > 1:
            return (
                f"{number} starts found {modes} modes; {self.missed:.0%} of the evidence is in "
                f"others than that of the best start ({distance})"
            )
        if self.agree:
            return f"{number} starts agree ({distance})"
        return f"{number} starts found the same mode, but differ in detail ({distance})"

    def __str__(self) -> str:
        lines = [self.summary, "start        ELBO  (error)  mode  weight  distance from the best"]
        for i, (elbo, error, mode, weight) in enumerate(
            zip(self.elbo, self.elbo_se, self.modes, self.weights, strict=True)
        ):
            lines.append(
                f"{i:>5}  {elbo:>10.3f}  {error:>7.3f}  {mode:>4}  {weight:>6.1%}  "
                f"{self.wasserstein[self.best, i]:.2f} sd" + ("  (best)" if i == self.best else "")
            )
        return "\n".join(lines)

    __repr__ = __str__


@dataclass(frozen=True)
class Images(State):
    """Mirror images of a posterior of which a fit has one.

    Attributes
    ----------
    number : int
        How many there are, with the one that was fitted.
    is_least : bool
        Whether there are more.
    is_asked : bool
        Whether one was asked for.
    """

    number: int
    is_least: bool = False
    is_asked: bool = False

    def __str__(self) -> str:
        number = f"more than {self.number}" if self.is_least else f"{self.number}"
        return (
            f"the fit is one of {number} mirror images, which differ by exchanged entries or "
            "turned signs"
        )


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a run of steps returns.

    Attributes
    ----------
    losses : ndarray, shape (steps,) or (0,)
        Losses of this run and of those before it; empty where losses are not kept.
    steps, skipped : int
        Steps over all runs so far, and those among them without effect: their loss or gradient was
        not finite.
    fit_state : FitState or None
        How it ended; None before any run.
    """

    losses: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    steps: int = 0
    skipped: int = 0
    fit_state: FitState | None = None

    def then(self, other: Outcome) -> Outcome:
        """Add a run after it that began to count anew."""
        losses = np.concatenate([self.losses, other.losses])
        steps, skipped = self.steps + other.steps, self.skipped + other.skipped
        return Outcome(losses, steps, skipped, other.fit_state)


@dataclass(frozen=True, eq=False)
class Report(State):
    """What is known of an approximation beside its parameters.

    Attributes
    ----------
    hist : ndarray, shape (steps,)
        Loss of every step.
    fit_state : FitState or None
    starts : Starts or None
        Whether several starts agree, where there were several.
    points : tuple of State
        Where the flow was after the fit from each start.
    diagnosis : Diagnosis or None
        How good it is, where `pmflow.fit` has judged it.
    ladder : Ladder or None
        What `pmflow.fit` has tried.
    images : Images or None
        Of the posterior, where the fit has one of several.
    """

    hist: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    fit_state: FitState | None = None
    starts: Starts | None = None
    points: tuple[State, ...] = ()
    diagnosis: State | None = None
    ladder: State | None = None
    images: Images | None = None

    def __post_init__(self) -> None:
        if self.hist.ndim != 1:
            raise ValueError("hist is no list of losses")
