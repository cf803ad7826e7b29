"""The Gaussian nearest to the posterior."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pmflow.draws.standard import standard_draws
from pmflow.frames.frame import Frame
from pmflow.frames.laplace import NoModeError, finite_numbers, lower_factor
from pmflow.posterior.density import LogDensity
from pmflow.watch import Stopped, piece, stage, tick

__all__ = ["gaussian_frame"]

_ROUNDS = 40
"""Of one set of draws."""
_QUIET, _QUIET_SCALE = 0.01, 0.04
"""Errors of the steps that their draws make, below which there are draws enough: of the mean in
sds, and of the largest change of the precision, relative."""
_DONE = 5e-3
"""Largest remaining step, in units of the posterior."""
_LARGEST_STEP = 0.7
_LEAST_STEP = 1e-3
_WORK = 4e9
"""Numbers that the density may go through in all rounds of one set of draws: some seconds."""
_NEAR = 0.3
"""In sds: nearer than this to a Gaussian that is known, a search would end there."""
_WIDEST = 1e4
"""Growth of a standard deviation that no posterior asks for."""

type Floats = NDArray[np.float64]


@finite_numbers()
def gaussian_frame(
    density: LogDensity, frame: Frame, seed: int, known: Sequence[Frame] = ()
) -> Frame:
    r"""Mean and covariance of the Gaussian of largest ELBO, by natural gradients.

    In units of the current Gaussian, with draws y and the residual score
    :math:`r = \nabla_y \log p + y`, which vanishes where the posterior is Gaussian, Stein's
    identity gives the natural gradient as :math:`E[r]` and :math:`R = E[y r^\top]`. The precision
    becomes :math:`I - \rho R + \rho^2 R^2 / 2`, positive definite for every :math:`\rho` (Lin et
    al., 2020, https://arxiv.org/abs/2002.10060). Draws are a scrambled Sobol set with exact mean
    and covariance: for a Gaussian posterior one step is exact, whatever their number. So it begins
    with few of them, and takes four times as many as long as the two halves of them disagree on the
    step.

    Parameters
    ----------
    density : LogDensity
    frame : Frame
        Where to begin; a diagonal one stays diagonal.
    seed : int
        Of the draws.
    known : sequence of Frame
        Gaussians that were found from elsewhere.

    Returns
    -------
    Frame
        By the ELBO no worse than `frame`, but for a thousandth. The best one so far, where the
        search was stopped. One of `known`, where the search was on its way to that.

    Raises
    ------
    NoModeError
        If the ELBO grows without end.
    """
    is_diagonal = frame.is_diagonal
    most = density.draws_within(
        _WORK / _ROUNDS, most=512 if is_diagonal else max(512, 6 * frame.dim), least=64
    )
    size = 64 if is_diagonal else max(32, 3 * frame.dim)
    with stage("Finding the Gaussian"), suppress(Stopped):
        while True:
            with piece("making points that fill space evenly"):
                y = standard_draws(size, frame.dim, seed, whiten=not is_diagonal)
            found, is_quiet = _climb(density, frame, y)
            is_last = is_quiet or len(y) >= most
            if (found.sds > _WIDEST * frame.sds).any():
                if is_last:
                    raise NoModeError("the ELBO grows without end")
            else:
                frame = found
            for other in known:
                if _is_near(frame, other):
                    return other
            if is_last:
                break
            size = min(4 * len(y), most)
    return replace(frame, kind="gaussian")


def _is_near(frame: Frame, other: Frame) -> bool:
    """Whether two Gaussians are one, up to the noise of few draws."""
    if frame.is_diagonal:
        shift = (frame.loc - other.loc) / other.factor
        scale = frame.factor / other.factor - 1
        return bool(max(np.abs(shift).max(), np.abs(scale).max()) < _NEAR)
    inner = np.linalg.solve(
        other.factor, np.column_stack([frame.loc - other.loc, frame.factor - other.factor])
    )
    return bool(np.linalg.norm(inner[:, 0]) < _NEAR and np.linalg.norm(inner[:, 1:], 2) < _NEAR)


def _climb(density: LogDensity, frame: Frame, y: Floats) -> tuple[Frame, bool]:
    """The best frame that these draws find in the rounds or the time given.

    And whether more draws would tell the same.
    """
    step, is_quiet = _LARGEST_STEP, False
    with suppress(Stopped):
        elbo, residual = _residual(density, frame, y)
        highest = elbo
        for number in range(1, _ROUNDS + 1):
            shift, inner, size = _natural_step(y, residual, step, diagonal=frame.is_diagonal)
            tick(number, change=f"last change {size:.2g} sd, ends below {_DONE * step:.2g}")
            proposed = frame.moved(shift, inner)
            new_elbo, new_residual = _residual(density, proposed, y)
            # a frame that is too wide gets narrower, until all draws have a density
            still_too_wide = elbo == new_elbo == -np.inf
            if not (new_elbo > highest - 1e-3 or still_too_wide):
                step /= 2
                if step < _LEAST_STEP:
                    break
                continue
            frame, elbo, residual = proposed, new_elbo, new_residual
            highest = max(highest, elbo)
            step = min(1.0, 1.5 * step)
            if size < _DONE * step:
                break
        is_quiet = _is_quiet(y, residual, diagonal=frame.is_diagonal)
    return frame, is_quiet


def _is_quiet(y: Floats, residual: Floats, *, diagonal: bool) -> bool:
    """Whether either half of the draws asks for the same step, but for a little."""
    (mean, change), (other_mean, other_change) = (
        _natural_gradient(y[part], residual[part], diagonal=diagonal)
        for part in (slice(0, None, 2), slice(1, None, 2))
    )
    # the error of the mean of two halves is half of their difference
    apart = (change - other_change) / 2
    scale = np.abs(apart).max() if diagonal else np.linalg.norm(apart, 2)
    return bool(np.abs(mean - other_mean).max() / 2 < _QUIET and scale < _QUIET_SCALE)


def _residual(density: LogDensity, frame: Frame, y: Floats) -> tuple[float, Floats]:
    """The ELBO up to a constant, and the residual score at the draws, in the frame's units."""
    logp, gradient = density.value_and_gradient(frame.forward(y))
    residual = frame.pull_gradient(gradient) + y
    inside = np.isfinite(logp) & np.isfinite(residual).all(-1)
    residual[~inside] = -y[~inside]  # the frame is too wide there
    elbo = logp.mean() if inside.all() else -np.inf
    return float(elbo) + frame.log_det, residual


def _natural_step(
    y: Floats, residual: Floats, step: float, *, diagonal: bool
) -> tuple[Floats, Floats, float]:
    """Shift, inner factor, and how far this is from staying."""
    mean, change = _natural_gradient(y, residual, diagonal=diagonal)
    if diagonal:
        rate = step / max(1.0, np.abs(change).max())
        precision = 1 - rate * change + (rate * change) ** 2 / 2
        inner = 1 / np.sqrt(precision)
        return rate * mean / precision, inner, max(np.abs(mean).max(), np.abs(change).max())
    values, vectors = np.linalg.eigh(change)
    rate = step / max(1.0, np.abs(values).max())
    precision = 1 - rate * values + (rate * values) ** 2 / 2
    shift = rate * vectors @ ((vectors.T @ mean) / precision)
    inner = lower_factor(vectors / np.sqrt(precision))
    return shift, inner, float(max(np.abs(mean).max(), np.abs(values).max()))


def _natural_gradient(y: Floats, residual: Floats, *, diagonal: bool) -> tuple[Floats, Floats]:
    """By mean and precision: shapes (dim,), and (dim, dim) or (dim,)."""
    mean = residual.mean(0)
    if diagonal:
        return mean, (y * (residual - mean)).mean(0)
    change = y.T @ (residual - mean) / len(y)
    return mean, (change + change.T) / 2
