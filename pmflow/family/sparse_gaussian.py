"""A Gaussian whose precision has the zeros of the model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, override

import numpy as np
import pymc as pm
from numpy.typing import NDArray

from pmflow.embedded.check import NestedCheck, check_gaussian
from pmflow.embedded.gaussian import GaussianState
from pmflow.embedded.triangular import triangular
from pmflow.family.approximation import Approximation
from pmflow.family.by_numpy import ByNumpy
from pmflow.family.normalizing_flow import NormalizingFlow
from pmflow.family.sparse_frame import SparseFrame
from pmflow.family.state import SparseGaussianState
from pmflow.family.transport import FrameTransport, Transport
from pmflow.records import Facts, Report

__all__ = ["SparseGaussian"]

type Floats = NDArray[np.float64]


class SparseGaussian(ByNumpy, Approximation, state=SparseGaussianState):
    """The Gaussian nearest to the posterior, over the unconstrained space, of any correlation.

    Made by `pmflow.fit` for models with many variables of which each meets few others. The
    Gaussian with the largest ELBO has the precision of the model's own pattern, so no correlation
    is left out, and thousands of dimensions cost no more than the entries of its factor.

    Parameters
    ----------
    flow : NormalizingFlow
        Over the same variables; only their order in the latent vector is taken from it.
    gaussian : GaussianState
        What was found.
    report : Report

    Attributes
    ----------
    gaussian : GaussianState

    References
    ----------
    Opper & Archambeau (2009), The variational Gaussian approximation revisited,
    https://doi.org/10.1162/neco.2008.08-07-592
    """

    family = "sparse Gaussian"
    no_graph = (
        "A sparse Gaussian is drawn by a solver for sparse matrices, which is no graph: it can't "
        "be trained, and nodes can't be evaluated at its draws. Use its `sample`, `log_prob` and "
        "`state`."
    )

    def __init__(self, flow: NormalizingFlow, gaussian: GaussianState, report: Report) -> None:
        super().__init__(flow.groups, model=flow.model)
        self._flow, self.gaussian = flow, gaussian
        self.receive(report)

    @override
    def to_state(self) -> SparseGaussianState:
        """Everything that makes it, but for its model; see `from_state`."""
        return SparseGaussianState(self._flow.to_state(), self.gaussian, self.report)

    @classmethod
    @override
    def _of(cls, state: Any, model: pm.Model) -> SparseGaussian:
        flow = NormalizingFlow.from_state(state.flow, model)
        return cls(flow, state.gaussian, state.report)

    @property
    @override
    def facts(self) -> Facts:
        """What was fitted: what advice goes by."""
        return replace(super().facts, families=(self.family,), correlated=True, trained=False)

    def check(self, seed: int) -> NestedCheck:
        """What fresh draws say about the fit; `pmflow.diagnose` puts it in words."""
        return check_gaussian(self.joint_density, self.gaussian, seed)

    @override
    def transport(self, seed: int) -> Transport:
        """The root of its covariance."""
        frame = SparseFrame.of(self.gaussian.mean, triangular(self.gaussian.factor))
        return FrameTransport(frame, self.family)

    @override
    def drawn_points(self, draws: int, seed: int) -> tuple[Floats, Floats]:
        """Draws over the latent space, shape (draws, dim), and their log densities."""
        e = np.random.default_rng(seed).standard_normal((draws, len(self.gaussian.mean)))
        z, _, log_q = self.gaussian.drawn(e)
        return z, log_q

    @override
    def _log_density(self, points: Floats) -> Floats:
        return self.gaussian.log_density(points)
