"""In which space NUTS goes through a posterior."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pmflow.errors import UnsupportedError
from pmflow.family.approximation import Approximation
from pmflow.family.flow_group import NormalizingFlowGroup
from pmflow.family.transport import FrameTransport, Transport
from pmflow.frames import Frame
from pmflow.posterior.export import Samples

__all__ = ["space_for"]

_DRAWS, _DRAWS_A_DIMENSION = 1_000, 20
"""Of a fit, for the moments of a frame: noise in them would be narrow and wide directions."""
_MOST = 500
"""Dimensions up to which a frame is turned: NUTS multiplies by its matrix at each step."""
_LEAST = 1e-9
"""Smallest eigenvalue of the correlations that is more than rounding."""
_NARROW = 2.0
"""How many times as long as wide a posterior is, each variable in its own sds, from which on it is
turned. The sampler finds these sds for itself."""
_BENT = 0.5
"""Nats between a flow and the Gaussian of its moments from which on its own map is worth what it
takes to compile: ``python -m tests.benchmarks.nuts``."""

type Floats = NDArray[np.float64]


def space_for(
    approx: Approximation, asked: Literal["auto", "fit", "model"], seed: int
) -> Transport | None:
    """The map from the space that is chosen, None for that of the model.

    Of a fit with few global variables it is its own map; of another one its own where it is far
    from Gaussian and was not found to be bad; otherwise, where variables are correlated, its mean
    and covariance.

    Raises
    ------
    UnsupportedError
        If that of the fit is asked for and there is none.
    """
    if asked == "model":
        return None
    if asked == "fit":
        found = approx.proposal.transport(seed)
        if found is None:
            raise UnsupportedError(
                f"The fit, {approx.family}, has no map from standard normal numbers, as one flow "
                "with a normal base or an embedded Laplace approximation has. Leave space= out."
            )
        return found
    is_one = len(approx.groups) == 1 and isinstance(approx.groups[0], NormalizingFlowGroup)
    if not is_one or approx.is_stack or approx.images > 1:  # one map would be that of no mode
        return None
    if approx.proposal.is_nested:
        try:
            return approx.proposal.transport(seed)
        except UnsupportedError:
            return None
    if approx.ddim > _MOST:
        return None
    samples = approx.draw(_DRAWS + _DRAWS_A_DIMENSION * approx.ddim, seed)
    framed = _frame_of(samples.latent)
    if framed is None:
        return None
    frame, narrowness = framed
    is_bent = _is_trusted(approx) and _bend(samples, frame) > _BENT
    if is_bent and (own := approx.proposal.transport(seed)) is not None:
        return own
    return FrameTransport(frame, "mean and covariance of the fit") if narrowness > _NARROW else None


def _is_trusted(approx: Approximation) -> bool:
    found = approx.diagnosis
    return found is not None and found.verdict != "not reliable"


def _frame_of(z: Floats) -> tuple[Frame, float] | None:
    """The frame of draws of shape (n, dim), and how much longer than wide these are.

    None where they lie in a plane, as far as can be told.
    """
    sds = z.std(0)
    if not (np.isfinite(sds).all() and sds.all()):
        return None
    correlations = np.atleast_2d(np.corrcoef(z.T))
    values = np.linalg.eigvalsh(correlations)
    if values[0] < _LEAST:
        return None
    factor = sds[:, None] * np.linalg.cholesky(correlations)
    return Frame(z.mean(0), factor, "draws"), math.sqrt(values[-1] / values[0])


def _bend(samples: Samples, frame: Frame) -> float:
    """Nats from the distribution of draws to the Gaussian of their moments."""
    if samples.log_q is None:
        return 0.0
    y = frame.backward(samples.latent)
    gaussian = -(y**2).sum(1) / 2 - frame.dim / 2 * math.log(2 * math.pi) - frame.log_det
    return float(np.mean(samples.log_q - gaussian))
