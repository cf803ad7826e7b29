"""A fit on draws that stay the same: a loss without noise, for a quasi-Newton method.

For maps of few parameters: no step size, no schedule, a few dozen evaluations of the model.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pmflow.draws.standard import standard_draws
from pmflow.errors import NonFiniteError
from pmflow.posterior.density import LogDensity
from pmflow.records import Ended, FitState, Outcome
from pmflow.training.flow_map import Flow, map_of
from pmflow.watch import Stopped, grace, importing, piece, result_exists, stage, tick, why_stopped

__all__ = ["LEAST_EVALUATIONS", "fit_on_fixed_draws"]

_SCREENING_DRAWS, _BLOCKS = 2048, 16
_BY_CHANCE = 0.5
"""Share of the parameters that are fitted whose slope may be one by chance."""
_FEW = 100
"""Parameters with a few for each coordinate are all fitted where they are no more than these."""
_ROUNDS = 3
"""How often parameters are chosen: the nearer the flow, the less noise hides a slope."""
_DRAWS_A_PARAMETER = 16
_LEAST_DRAWS, _MOST_DRAWS, _FRESH_DRAWS = 1024, 8192, 1024
_EVALUATIONS = 60
LEAST_EVALUATIONS = _EVALUATIONS * _LEAST_DRAWS
"""Of the density, where a fit on the fewest draws goes on for as long as it may."""
_WORK = 2e9
"""Numbers that all evaluations of the model together may go through: a few seconds of NumPy."""
_GAIN = 1e-5
"""Nats a dimension: an iteration that gains less is the last."""
_OPTIMISM = 2e-3
"""Nats a dimension by which the loss at the draws of the fit may be below that at fresh ones."""

type Floats = NDArray[np.float64]


def fit_on_fixed_draws(flow: Flow, density: LogDensity, seed: int) -> Outcome:
    """Fit a flow from where it is, by L-BFGS on a fixed set of draws.

    The loss is the average of log q - log p over normal draws that space is filled with evenly
    (randomised quasi-Monte Carlo), pushed through the flow; it has no noise, and its gradient is
    exact. Of arrays of parameters that grow with the square of the dimension, only those are fitted
    along which the loss falls by more than the noise of its slope, the steepest first, so many that
    there are 16 draws for each. If fresh draws say that the draws were fitted and not the
    posterior, there are four times as many of them the next time.

    Parameters
    ----------
    flow : Flow
        Its parameters are set to the best that was found.
    density : LogDensity
        Of all of the model's variables, in the order of the flow.
    seed : int

    Returns
    -------
    Outcome
        The losses are those of each evaluation. Where the search was stopped, of those so far.

    Raises
    ------
    NonFiniteError
        If the loss is not finite where the flow begins.
    Stopped
        If it was stopped before the first evaluation.

    References
    ----------
    Burroni, Domke & Sheldon (2023), Sample average approximation for black-box VI,
    https://arxiv.org/abs/2304.06803

    Giordano, Ingram & Broderick (2024), Black box variational inference with a deterministic
    objective, https://jmlr.org/papers/v25/23-1015.html
    """
    with stage("Fitting on fixed draws"):
        return _FixedFit(flow, density, seed).go()


class _FixedFit:
    def __init__(self, flow: Flow, density: LogDensity, seed: int) -> None:
        self._map, self._density = map_of(flow), density
        self._dim, self._length = flow.ddim, flow.noise_length
        self._rng = np.random.default_rng(seed)
        self._losses: list[float] = []
        # an array of parameters is a product of matrices, which is quick
        work = density.work + len(self._map.values) / 2
        affordable = _WORK / (_EVALUATIONS * work)
        self._most = int(np.clip(affordable, _LEAST_DRAWS, _MOST_DRAWS))

    def go(self) -> Outcome:
        begin = self._map.values
        fresh = self._rng.standard_normal((_FRESH_DRAWS, self._length))
        terms = self._terms(begin, fresh)[0]
        if not np.isfinite(terms).all():
            raise NonFiniteError(
                "The log density of the model is not finite at draws of the flow where it begins."
            )
        result_exists()
        self._best, self._at_fresh, ended = begin, terms, self._ended("limit")
        chosen = np.array([], dtype=np.int64)
        try:
            for _ in range(_ROUNDS):
                known, before = len(chosen), self._best
                chosen = self._screened(chosen)
                if len(chosen) == known:
                    ended = self._ended("converged")
                    break
                ended = self._fitted(chosen, fresh)
                if self._best is before:
                    break
        except Stopped:
            ended = self._ended("interrupted")
        self._map.set(self._best)
        message = f"L-BFGS on {len(self._losses)} evaluations of fixed draws"
        state = FitState(len(self._losses), 0, ended, message, by="fit")
        return Outcome(np.array(self._losses), len(self._losses), 0, state)

    def _fitted(self, chosen: NDArray[np.int64], fresh: Floats) -> Ended:
        """Fit some of the parameters, with more draws where the first ones were fitted by heart."""
        draws = int(np.clip(_DRAWS_A_PARAMETER * len(chosen), _LEAST_DRAWS, self._most))
        while True:
            y = self._draws(draws)
            least, has_converged = self._go_on(chosen, y, fresh)
            optimism = float(self._at_fresh.mean()) - least
            if optimism < _OPTIMISM * self._dim or 4 * len(y) > self._most:
                return self._ended("converged" if has_converged else "limit")
            draws = 4 * len(y)

    def _go_on(self, chosen: NDArray[np.int64], y: Floats, fresh: Floats) -> tuple[float, bool]:
        """Go on from the best so far; what is no better at fresh draws is not kept.

        Returns the least loss at the draws, and whether L-BFGS came to its end.

        Raises
        ------
        Stopped
            If it was stopped; the best so far is kept all the same.
        """
        number = len(self._losses)
        least, at, has_converged = self._minimised(self._best, chosen, y)
        try:
            with grace():
                terms = self._terms(at, fresh)[0]
        except Stopped:
            # no time for other draws than those of the fit
            if least < np.inf and least < self._losses[number]:
                self._best = at
            raise
        gain = self._at_fresh - terms
        if np.isfinite(terms).all() and gain.mean() > 2 * gain.std() / len(gain) ** 0.5:
            self._best, self._at_fresh = at, terms
        return least, has_converged

    @staticmethod
    def _ended(otherwise: Ended) -> Ended:
        return why_stopped() or otherwise

    def _draws(self, size: int) -> Floats:
        with piece("making points that fill space evenly"):
            size = max(size, 2 * self._length + 2)
            return standard_draws(size, self._length, int(self._rng.integers(2**30)), whiten=True)

    def _terms(self, values: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Log q - log p at some draws, shape (n,), and the gradient of log p, shape (n, dim)."""
        z, logq = self._map.drawn(values, y)
        logp, slope = self._density.value_and_gradient(z)
        return logq - logp, slope

    def _loss(self, values: Floats, y: Floats) -> tuple[float, Floats]:
        """The loss at some draws, infinite where one has no density, and its gradient."""
        terms, slope = self._terms(values, y)
        if not np.isfinite(terms).all():
            return np.inf, np.zeros_like(values)
        return float(terms.mean()), self._map.gradient(values, y, slope)

    def _screened(self, known: NDArray[np.int64]) -> NDArray[np.int64]:
        """Places of the parameters that are worth fitting from here on, with those known before."""
        size = min(_SCREENING_DRAWS, 2 * self._most)
        blocks = np.array_split(self._rng.standard_normal((size, self._length)), _BLOCKS)
        slopes = np.stack([self._loss(self._best, y)[1] for y in blocks])
        error = slopes.std(0, ddof=1) / _BLOCKS**0.5
        score = np.abs(slopes.mean(0)) / np.where(error > 0, error, np.inf)
        with importing("scipy.stats"):
            from scipy import stats  # slow to import
        chance = stats.false_discovery_control(2 * stats.t.sf(score, _BLOCKS - 1))
        is_chosen, room = chance < _BY_CHANCE, self._most // _DRAWS_A_PARAMETER
        if self._map.is_of_few.sum() <= _FEW:
            is_chosen |= self._map.is_of_few
            score[self._map.is_of_few] = np.inf
        is_chosen[known], score[known] = True, np.inf
        steepest = np.argsort(np.where(is_chosen, -score, np.inf), kind="stable")
        return np.sort(steepest[: min(room, int(is_chosen.sum()))])

    def _minimised(
        self, begin: Floats, chosen: NDArray[np.int64], y: Floats
    ) -> tuple[float, Floats, bool]:
        """The least loss on the way of L-BFGS and where, and whether it had come to its end."""
        with importing("scipy.optimize"):
            from scipy.optimize import minimize  # slow to import
        least, at = np.inf, begin

        def loss(x: Floats) -> tuple[float, Floats]:
            nonlocal least, at
            tick(len(self._losses), height=f"ELBO {-least:,.4f}")
            values = begin.copy()
            values[chosen] = x
            value, gradient = self._loss(values, y)
            self._losses.append(value)
            if value < least:
                least, at = value, values
            return (value if np.isfinite(value) else 1e300), gradient[chosen]

        try:
            options = {
                "maxfun": _EVALUATIONS,
                # relative to the loss, which is there already, at other draws
                "ftol": _GAIN * self._dim / max(1.0, abs(float(self._at_fresh.mean()))),
                "gtol": 1e-4,
            }
            found = minimize(loss, begin[chosen], jac=True, method="L-BFGS-B", options=options)
        except Stopped:
            return least, at, False
        return least, at, bool(found.success)
