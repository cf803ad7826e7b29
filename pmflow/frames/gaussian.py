"""The Gaussian nearest to the posterior."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pmflow.frames.frame import Frame
from pmflow.frames.laplace import NoModeError, finite_numbers, lower_factor
from pmflow.posterior.density import LogDensity
from pmflow.watch import Stopped, piece, stage, tick

__all__ = ["gaussian_frame"]

_ROUNDS = (40, 10)
"""Of the first draws, and of four times as many."""
_DONE = 5e-3
"""Largest remaining step, in units of the posterior."""
_LARGEST_STEP = 0.7
_LEAST_STEP = 1e-3
_WIDEST = 1e4
"""Growth of a standard deviation that no posterior asks for."""

type Floats = NDArray[np.float64]


@finite_numbers()
def gaussian_frame(density: LogDensity, frame: Frame, seed: int) -> Frame:
    r"""Mean and covariance of the Gaussian of largest ELBO, by natural gradients.

    In units of the current Gaussian, with draws y and the residual score
    :math:`r = \nabla_y \log p + y`, which vanishes where the posterior is Gaussian, Stein's
    identity gives the natural gradient as :math:`E[r]` and :math:`R = E[y r^\top]`. The precision
    becomes :math:`I - \rho R + \rho^2 R^2 / 2`, positive definite for every :math:`\rho` (Lin et
    al., 2020, https://arxiv.org/abs/2002.10060). Draws are a scrambled Sobol set with exact mean
    and covariance, the same at all rounds: for a Gaussian posterior one step is exact.

    Parameters
    ----------
    density : LogDensity
    frame : Frame
        Where to begin; a diagonal one stays diagonal.
    seed : int
        Of the draws.

    Returns
    -------
    Frame
        By the ELBO no worse than `frame`, but for a thousandth. The best one so far, where the
        search was stopped.

    Raises
    ------
    NoModeError
        If the ELBO grows without end.
    """
    draws = 256 if frame.is_diagonal else max(256, 4 * frame.dim)
    with stage("Finding the Gaussian"), suppress(Stopped):
        for size, rounds in zip((draws, 4 * draws), _ROUNDS, strict=True):
            with piece("making points that fill space evenly"):
                y = standard_draws(size, frame.dim, seed, whiten=not frame.is_diagonal)
            found = _climb(density, frame, y, rounds)
            if (found.sds > _WIDEST * frame.sds).any():
                raise NoModeError("the ELBO grows without end")
            frame = found
    return replace(frame, kind="gaussian")


def _climb(density: LogDensity, frame: Frame, y: Floats, rounds: int) -> Frame:
    """The best frame that so many rounds find, or as many as there was time for."""
    step = _LARGEST_STEP
    with suppress(Stopped):
        elbo, residual = _residual(density, frame, y)
        highest = elbo
        for number in range(1, rounds + 1):
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
    return frame


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
    mean = residual.mean(0)
    if diagonal:
        change = (y * (residual - mean)).mean(0)
        rate = step / max(1.0, np.abs(change).max())
        precision = 1 - rate * change + (rate * change) ** 2 / 2
        inner = 1 / np.sqrt(precision)
        return rate * mean / precision, inner, max(np.abs(mean).max(), np.abs(change).max())
    change = y.T @ (residual - mean) / len(y)
    values, vectors = np.linalg.eigh((change + change.T) / 2)
    rate = step / max(1.0, np.abs(values).max())
    precision = 1 - rate * values + (rate * values) ** 2 / 2
    shift = rate * vectors @ ((vectors.T @ mean) / precision)
    inner = lower_factor(vectors / np.sqrt(precision))
    return shift, inner, float(max(np.abs(mean).max(), np.abs(values).max()))


def standard_draws(size: int, dim: int, seed: int, *, whiten: bool) -> Floats:
    """A scrambled Sobol set of N(0, I), mirrored: mean exactly 0, covariance exactly I if asked."""
    from scipy.special import ndtri
    from scipy.stats import qmc  # slow to import

    half = 1 << max(1, (size // 2 - 1).bit_length())
    rng = np.random.default_rng(seed)
    if dim <= qmc.Sobol.MAXDIM:
        normal = ndtri(np.clip(qmc.Sobol(dim, seed=rng).random(half), 1e-12, 1 - 1e-12))
    else:
        normal = rng.standard_normal((half, dim))
    y = np.concatenate([normal, -normal])
    if not whiten:
        return y / y.std(0)
    factor = np.linalg.cholesky(y.T @ y / len(y))
    return np.linalg.solve(factor, y.T).T
