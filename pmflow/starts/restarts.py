"""Fits from several starts: how far they agree, and what is made of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from pymc.util import RandomState

from pmflow.checks import checked_count
from pmflow.errors import NonFiniteError, ParameterError, UnsupportedError
from pmflow.family.approximation import Approximation, NormalizingFlow
from pmflow.family.flow_group import Captured
from pmflow.posterior.export import Samples
from pmflow.records import FitState
from pmflow.starts.agreement import starts_agreement

__all__ = ["COMBINE", "Stack", "check_restarts", "fit_from_starts", "sample_starts"]

_log = logging.getLogger("pmflow")

COMBINE = ("best", "stack")

_DRAWS = 2000
"""Of each start, to compare them by."""


def check_restarts(approx: Any, restarts: int, combine: str) -> None:
    """Check what a fit from several starts was asked for.

    Raises
    ------
    ParameterError
    """
    checked_count("restarts", restarts, 1)
    if combine not in COMBINE:
        raise ParameterError(
            f"combine must be one of {', '.join(map(repr, COMBINE))}, but is {combine!r}."
        )
    if restarts > 1 and not isinstance(approx, NormalizingFlow):
        raise ParameterError(
            "restarts needs one flow over all variables, but this is an approximation of "
            f"{len(approx.groups)} groups. Use pmflow.NFVI with a formula."
        )


def fit_from_starts(
    approx: NormalizingFlow,
    moves: Sequence[Callable[[], None]],
    combine: str,
    fit_once: Callable[[], None],
) -> Approximation:
    """Fit from several starts, one after the other, by one compiled function.

    Parameters
    ----------
    approx : NormalizingFlow
        The first start is where it is.
    moves : sequence of callable
        Each takes `approx` to a further start.
    combine : {"best", "stack"}
    fit_once : callable
        Trains `approx` from where it is.

    Returns
    -------
    Approximation
        `approx` at the best one, or a `Stack`; `starts` says how far the fits agree. After an
        interrupt, of the starts so far.

    Raises
    ------
    NonFiniteError
        If no start had a finite loss; a start that fails beside others is left out.
    """
    if not moves:
        fit_once()
        return approx
    group = approx.groups[0]
    captured: list[Captured] = []
    states: list[FitState | None] = []
    draws: list[xr.DataTree] = []
    for number, move in enumerate((None, *moves)):
        try:
            if move is not None:
                move()
            fit_once()
            draws.append(approx.sample(_DRAWS))
        except NonFiniteError as error:
            if number == len(moves) and not captured:
                raise
            _log.warning("Start %d is left out: %s", number, error)
            continue
        except KeyboardInterrupt:
            if not captured:
                raise
            _log.warning("Interrupted at start %d; the fits before it are kept.", number)
            break
        captured.append(group.capture())
        states.append(approx.fit_state)
        if approx.fit_state is not None and approx.fit_state.ended == "interrupted":
            break
    if len(captured) < 2:
        group.restore(captured[0])
        approx.fit_state = states[0]
        return approx
    starts = starts_agreement(draws)
    group.restore(captured[starts.best])
    approx.fit_state, approx.starts = states[starts.best], starts
    approx.captured_starts = captured
    if combine == "best" or len(set(starts.modes)) == 1:
        return approx
    return Stack(approx, captured)


def sample_starts(approx: NormalizingFlow, draws: int, random_seed: RandomState) -> xr.DataTree:
    """Draws of the fit from each start, the start as the chain."""
    if not approx.captured_starts:
        raise ParameterError(
            "There is one start only. Fit with restarts=4 to have a chain for each start."
        )
    trees = _at_each(
        approx, approx.captured_starts, lambda: approx.sample(draws, random_seed=random_seed)
    )
    joined = {
        name: xr.concat([tree[name].to_dataset() for tree in trees], dim="chain").assign_coords(
            chain=np.arange(len(trees))
        )
        for name in ("posterior", "sample_stats")
    }
    rest = {name: child for name, child in trees[0].children.items() if name not in joined}
    tree = xr.DataTree.from_dict({**joined, **rest})
    tree.attrs = dict(trees[0].attrs)
    return tree


def _at_each[T](
    approx: NormalizingFlow, captured: Sequence[Captured], fn: Callable[[], T]
) -> list[T]:
    """What a function gives while the flow is at each of its states; it goes back after that."""
    group, found = approx.groups[0], []
    here = group.capture()
    try:
        for state in captured:
            group.restore(state)
            found.append(fn())
    finally:
        group.restore(here)
    return found


class Stack(Approximation):
    """A mixture of fits from several starts, one for each mode, by their evidence.

    Made by ``fit(restarts=4, combine="stack")``. It draws and has a density as any approximation;
    it is not trained further.

    Parameters
    ----------
    approx : NormalizingFlow
        With `starts`.
    captured : sequence of Captured
        The state of each start.

    Attributes
    ----------
    weights : ndarray, shape (modes,)
        Share of each mode.

    References
    ----------
    Yao, Vehtari & Gelman (2022), Stacking for non-mixing Bayesian computations,
    https://jmlr.org/papers/v23/20-1426.html
    """

    def __init__(self, approx: NormalizingFlow, captured: Sequence[Captured]) -> None:
        assert approx.starts is not None
        super().__init__(approx.groups, model=approx.model)
        self._flow, self.starts = approx, replace(approx.starts, stacked=True)
        self.fit_state, self.hist = approx.fit_state, approx.hist
        modes = [(start, weight) for start, weight in approx.starts.of_modes if weight > 0]
        self._captured = [captured[start] for start, _ in modes]
        weights = np.array([weight for _, weight in modes])
        self.weights: NDArray[np.float64] = weights / weights.sum()

    @property
    def formula(self) -> Any:
        """The formula of each component."""
        return self._flow.formula

    @property
    def ordering(self) -> Any:
        """Place of each variable in the latent vector."""
        return self._flow.ordering

    def set_size_and_deterministic(self, *_: Any, **__: Any) -> Any:
        """Not available: a mixture of fits is no one graph, so it is not trained either."""
        raise UnsupportedError(
            "A Stack is several fits of one flow, not one graph: it can't be trained, and nodes "
            "can't be evaluated at its draws. Use its `sample`, `log_prob` and `state`, or "
            "combine='best'."
        )

    symbolic_sample_over_posterior = sample_node = set_size_and_deterministic

    def log_prob(self, z: ArrayLike) -> NDArray[np.float64]:
        """Log density of the mixture at points of shape (n, dim) or (dim,), unconstrained."""
        parts = _at_each(self._flow, self._captured, lambda: self._flow.log_prob(z))
        weights = np.log(self.weights).reshape(-1, *np.ones(parts[0].ndim, dtype=int))
        return np.asarray(np.logaddexp.reduce(np.stack(parts) + weights, axis=0))

    def _draw(self, draws: int, random_seed: RandomState) -> Samples:
        rng = np.random.default_rng(self._seed(random_seed))
        # as many of each as its share says, up to one: less noise than independent choices
        ends = np.cumsum(self.weights) * draws
        counts = np.diff(np.floor(np.concatenate([[0], ends[:-1], [draws]]) + rng.random()))
        counts[-1] += draws - counts.sum()
        sizes, seeds = iter(counts.astype(int)), iter(rng.integers(2**30, size=len(counts)))

        def draw() -> Samples | None:
            size, seed = int(next(sizes)), int(next(seeds))
            return self._flow._draw(size, seed) if size else None

        parts = [part for part in _at_each(self._flow, self._captured, draw) if part]
        order = rng.permutation(draws)

        def joined(of: Callable[[Samples], dict[str, Any]]) -> dict[str, Any]:
            names = list(of(parts[0]))
            return {n: np.concatenate([of(part)[n] for part in parts])[order] for n in names}

        unconstrained = joined(lambda part: part.unconstrained)
        latent = np.concatenate(
            [unconstrained[name].reshape(draws, -1) for name in self._flow.ordering], axis=1
        )
        return Samples(
            log_q=self.log_prob(latent),
            log_p=np.concatenate([part.log_p for part in parts])[order],
            unconstrained=unconstrained,
            constrained=joined(lambda part: part.constrained),
        )
