"""Mode and curvature."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pmflow.errors import ParameterError
from pmflow.frames.frame import Frame
from pmflow.posterior.density import LogDensity
from pmflow.watch import Stopped, importing, result_exists, stage, tick

__all__ = ["MOST_DENSE", "NoModeError", "find_mode", "finite_numbers", "laplace_frame", "negated"]

_ROUNDS, _ROUNDS_FROM_ELSEWHERE = 12, 3
"""Of L-BFGS, and those where a mode is known: what is no mode by then, as where a scale of a
hierarchy is on its way to 0, is left to the paths that lead there."""
_STEP = 1e-3
"""Of central differences, in units of the posterior."""
_FLAT = 1e-3
"""A gradient of this size, in units of the posterior, is that of a mode."""
_AT_MODE = 0.02
"""In units of the posterior: so near to a known mode it is the same one."""
_LEAST_CURVATURE = 1e-2
_FARTHEST = 1e8
_PROBES = 64

type Floats = NDArray[np.float64]

MOST_DENSE = 500
"""Dimensions up to which a frame knows correlations; beyond that it is diagonal."""


class NoModeError(Exception):
    """There is no finite mode, or it was not found; the message says which.

    Attributes
    ----------
    frame : Frame or None
        Where the search was left, in units of the curvature there.
    """

    def __init__(self, message: str, frame: Frame | None = None) -> None:
        super().__init__(message)
        self.frame = frame


@contextmanager
def finite_numbers() -> Iterator[None]:
    """Let overflows pass in silence: what comes of them is no mode."""
    try:
        with np.errstate(all="ignore"):
            yield
    except (np.linalg.LinAlgError, ParameterError) as error:
        raise NoModeError("the search overflowed") from error


@finite_numbers()
def laplace_frame(density: LogDensity, start: Floats, known: Sequence[Frame] = ()) -> Frame:
    """Mode and inverse curvature of the log density.

    Parameters
    ----------
    density : LogDensity
    start : ndarray, shape (dim,)
    known : sequence of Frame
        Modes that were found from elsewhere, each with its inverse curvature.

    Returns
    -------
    Frame
        Of kind ``"mode"`` where the search was stopped on its way, at the best point so far. One
        of `known`, where the search has ended there.

    Raises
    ------
    NoModeError
        If the density has no finite mode near, or is flat or convex there.
    Stopped
        If the search was stopped in its first round.
    """
    frame = find_mode(density, start, known)
    if any(frame is other for other in known):
        return frame
    try:
        curvature = _curvature(density, frame)
    except Stopped:
        return frame
    least = float(curvature.min() if curvature.ndim == 1 else np.linalg.eigvalsh(curvature)[0])
    if least < _LEAST_CURVATURE:
        raise NoModeError(
            f"the density is flat or convex at its mode (least curvature {least:.2g} in units of "
            "the posterior)",
            frame,
        )
    return replace(_scaled(frame, curvature), kind="laplace")


def find_mode(density: LogDensity, start: Floats, known: Sequence[Frame] = ()) -> Frame:
    """A frame whose `loc` is the mode, in units of the damped curvature there.

    L-BFGS from SciPy, each round in the units that the curvature at the last point gives, the first
    one in those of a mode that is known: it converges in a few dozen steps, however badly scaled
    the posterior is. Stopped after its first round, it is where the last round ended. Where it ends
    at a mode that is known, it is the frame of that.

    Raises
    ------
    NoModeError
    Stopped
        In the first round.
    """
    frame = Frame(np.asarray(start, dtype=float), np.ones(density.dim), kind="mode")
    if known:
        frame = replace(frame, factor=known[0].factor)
    elif density.dim <= MOST_DENSE:
        frame = replace(frame, factor=np.diag(frame.factor))
    if not np.isfinite(density.value_and_gradient(frame.loc[None])[0][0]):
        raise NoModeError("the log density is not finite at the start")
    steepest = np.inf
    rounds = _ROUNDS_FROM_ELSEWHERE if known else _ROUNDS
    with stage("Finding the mode"):
        for number in range(rounds):
            try:
                frame, steepest = _one_round(density, frame, known)
            except Stopped:
                if not number:
                    raise
                return frame
            if steepest < _FLAT:
                return frame
            result_exists()
    raise NoModeError(
        f"no mode was found in {rounds} rounds of L-BFGS (largest gradient "
        f"{steepest:.2g} in units of the posterior)",
        frame,
    )


def _one_round(density: LogDensity, frame: Frame, known: Sequence[Frame]) -> tuple[Frame, float]:
    """The frame at the end of one round, and the largest entry of the gradient there."""
    with importing("scipy.optimize"):
        from scipy.optimize import minimize  # slow to import
    evaluations = 0

    def loss(y: Floats) -> tuple[float, Floats]:
        nonlocal evaluations
        value, gradient = negated(density, frame.forward(y[None]))
        evaluations += 1
        tick(evaluations, height=f"log density {-value:,.6g}")
        return value, frame.pull_gradient(gradient)[0]

    found = minimize(
        loss, np.zeros(density.dim), jac=True, method="L-BFGS-B", options={"maxiter": 200}
    )
    if not np.isfinite(found.x).all():
        raise NoModeError("the search overflowed")
    if np.abs(found.x).max() > _FARTHEST:
        raise NoModeError("the density rises without end")
    frame = replace(frame, loc=frame.forward(found.x[None])[0])
    for other in known:
        if np.abs(other.backward(frame.loc[None])).max() < _AT_MODE:
            return other, 0.0
    frame = _scaled(frame, _curvature(density, frame))
    return frame, float(np.abs(loss(np.zeros(density.dim))[1]).max())


def negated(density: LogDensity, z: Floats) -> tuple[float, Floats]:
    """What L-BFGS is to make small at one point, shape (1, dim), and its gradient, (1, dim).

    Large and flat where there is no density.
    """
    value, gradient = density.value_and_gradient(z)
    return (-float(value[0]) if np.isfinite(value[0]) else 1e300), -gradient


def _curvature(density: LogDensity, frame: Frame) -> Floats:
    """Minus the second derivatives at the centre of the frame, in its units.

    Central differences of the gradient, in one call. The exact second derivatives of a model with
    a Cholesky factor take 16 s to build as a graph, and would be no better: in units of the
    posterior differences are good to six digits. A diagonal frame gets an estimate of the diagonal
    by random directions (Bekas et al., 2007, https://doi.org/10.1016/j.apnum.2007.01.003).
    """
    dim = density.dim
    directions: Floats
    if frame.is_diagonal:
        signs = np.random.default_rng(0).integers(2, size=(_PROBES, dim))
        directions = 2.0 * signs - 1.0
    else:
        directions = np.eye(dim)
    at = frame.forward(np.concatenate([_STEP * directions, -_STEP * directions]))
    _, gradient = density.value_and_gradient(at)
    ahead, behind = np.split(frame.pull_gradient(gradient), 2)
    products = (behind - ahead) / (2 * _STEP)
    if frame.is_diagonal:
        return (directions * products).mean(0)
    return (products + products.T) / 2


def _scaled(frame: Frame, curvature: Floats) -> Frame:
    """The frame in units of the curvature, by its absolute value, neither flat nor endless."""
    if frame.is_diagonal:
        return frame.moved(np.zeros(frame.dim), 1 / np.sqrt(_damped(curvature)))
    values, vectors = np.linalg.eigh(curvature)
    root = vectors / np.sqrt(_damped(values))  # root @ root.T is the inverse
    return replace(frame, factor=lower_factor(frame.factor @ root))


def _damped(values: Floats) -> Floats:
    return np.clip(np.abs(values), 1e-8, 1e16)


def lower_factor(root: Floats) -> Floats:
    """The Cholesky factor of ``root @ root.T``, without forming the product."""
    upper = np.linalg.qr(root.T, mode="r")
    return np.tril(upper.T * np.sign(np.where(np.diag(upper) == 0, 1, np.diag(upper))))
