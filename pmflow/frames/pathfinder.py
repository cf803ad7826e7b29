"""The best Gaussian on the way to a mode."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from pmflow.frames.frame import Frame
from pmflow.frames.laplace import MOST_DENSE, NoModeError, finite_numbers, negated
from pmflow.posterior.density import LogDensity
from pmflow.watch import Stopped, importing, result_exists, stage, tick

__all__ = ["PATHS", "pathfinder_frame"]

PATHS = 4
_SPREAD = 2.0
"""Of the starts of all paths but the first, as in Stan: uniform within so much of the start."""
_HISTORY = 6
_LONGEST = 300
_DRAWS, _FINAL_DRAWS = 10, 400

type Floats = NDArray[np.float64]


@finite_numbers()
def pathfinder_frame(density: LogDensity, start: Floats, seed: int, paths: int = PATHS) -> Frame:
    """The Gaussian of largest ELBO among those that L-BFGS passes on its way (Zhang et al., 2022).

    At each point of a path, the inverse Hessian that L-BFGS has learned so far gives a Gaussian.
    No mode needs to exist: the path is left where the ELBO is largest.

    Parameters
    ----------
    density : LogDensity
    start : ndarray, shape (dim,)
        Of the first path; the others begin around it.
    seed : int
    paths : int

    Returns
    -------
    Frame
        Of the paths so far, where the search was stopped.

    Raises
    ------
    NoModeError
        If no point of any path has a finite ELBO.
    Stopped
        If the search was stopped before there was one.

    References
    ----------
    Zhang, Carpenter, Gelman & Vehtari (2022), Pathfinder: parallel quasi-Newton variational
    inference, https://jmlr.org/papers/v23/21-0889.html
    """
    rng = np.random.default_rng(seed)
    starts = [start, *(start + rng.uniform(-_SPREAD, _SPREAD, (paths - 1, density.dim)))]
    frames: list[Frame] = []
    with stage("Following paths to a mode", len(starts)):
        try:
            for number, at in enumerate(starts):
                tick(number)
                frame = _best_on_path(density, at, rng)
                if frame is not None:
                    frames.append(frame)
                    result_exists()
            if not frames:
                raise NoModeError("no point on the way of L-BFGS has a finite ELBO")
            elbos = [_elbos(density, [frame], _FINAL_DRAWS, rng)[0] for frame in frames]
        except Stopped:
            if not frames:
                raise
            return frames[0]
    return frames[int(np.argmax(elbos))]


def _best_on_path(density: LogDensity, start: Floats, rng: np.random.Generator) -> Frame | None:
    points = _path(density, start)
    _, gradients = density.value_and_gradient(points)
    frames = list(_gaussians(points, gradients))
    if not frames:
        return None
    elbos = _elbos(density, frames, _DRAWS, rng)
    return frames[int(np.argmax(elbos))] if np.isfinite(elbos).any() else None


def _path(density: LogDensity, start: Floats) -> Floats:
    with importing("scipy.optimize"):
        from scipy.optimize import minimize  # slow to import
    points = [start]

    def loss(z: Floats) -> tuple[float, Floats]:
        tick()
        value, gradient = negated(density, z[None])
        return value, gradient[0]

    minimize(
        loss,
        start,
        jac=True,
        method="L-BFGS-B",
        callback=lambda z: points.append(np.array(z)),
        options={"maxiter": _LONGEST, "maxcor": _HISTORY},
    )
    return np.stack(points)


def _gaussians(points: Floats, gradients: Floats) -> Iterator[Frame]:
    """The Gaussians that the steps of L-BFGS say, one for each step that says something."""
    diagonal = np.ones(points.shape[1])
    pairs: deque[tuple[Floats, Floats]] = deque(maxlen=_HISTORY)
    steps, changes = np.diff(points, axis=0), -np.diff(gradients, axis=0)
    for s, y, at, slope in zip(steps, changes, points[1:], gradients[1:], strict=True):
        tick()
        if s @ y > 1e-12 * (y @ y):  # curved upwards
            a, b, c = y @ (diagonal * y), y @ s, (s / diagonal) @ s  # algorithm 3 of the paper
            diagonal = 1 / (a / (b * diagonal) + y**2 / b - a * s**2 / (b * c * diagonal**2))
            pairs.append((s, y))
        if pairs and np.isfinite(diagonal).all() and (diagonal > 0).all():
            frame = _gaussian_at(at, slope, diagonal, pairs)
            if frame is not None:
                yield frame


def _gaussian_at(
    at: Floats, slope: Floats, diagonal: Floats, pairs: Iterable[tuple[Floats, Floats]]
) -> Frame | None:
    """The Gaussian whose covariance is the inverse Hessian of L-BFGS, None where it is none."""
    if len(diagonal) > MOST_DENSE:
        return Frame(at, np.sqrt(diagonal), kind="pathfinder")
    inverse = np.diag(diagonal)
    for s, y in pairs:  # BFGS
        rho, moved = 1 / (s @ y), inverse @ y
        cross = np.outer(s, moved)
        inverse -= rho * (cross + cross.T)
        inverse += rho * (1 + rho * (y @ moved)) * np.outer(s, s)
    try:
        factor = np.linalg.cholesky((inverse + inverse.T) / 2)
        return Frame(at + inverse @ slope, factor, kind="pathfinder")
    except (np.linalg.LinAlgError, ValueError):
        return None


def _elbos(
    density: LogDensity, frames: list[Frame], draws: int, rng: np.random.Generator
) -> Floats:
    """ELBO of each frame's Gaussian, -inf where a draw has no density."""
    y = rng.standard_normal((draws, density.dim))
    logp, _ = density.value_and_gradient(np.concatenate([frame.forward(y) for frame in frames]))
    entropies = [
        frame.log_det + density.dim / 2 * math.log(2 * math.pi * math.e) for frame in frames
    ]
    return logp.reshape(len(frames), draws).mean(1) + np.array(entropies)
