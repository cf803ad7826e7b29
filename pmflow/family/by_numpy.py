"""What approximations of large models have in common."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pmflow.family.no_graph import NoGraph
from pmflow.family.normalizing_flow import NormalizingFlow
from pmflow.posterior.at_points import VarNames, coordinate_names, unconstrained_parts
from pmflow.posterior.density import LogDensity, StreamedDensity
from pmflow.posterior.export import Samples
from pmflow.watch import stage

__all__ = ["ByNumpy"]

type Floats = NDArray[np.float64]


class ByNumpy(NoGraph):
    """Points and densities by NumPy; beside `Approximation`."""

    family: ClassVar[str]
    is_nested: ClassVar[bool] = True
    _flow: NormalizingFlow

    @property
    def joint_density(self) -> LogDensity:
        """The density of the model as a function."""
        return self._flow.groups[0].log_density

    @property
    def formula(self) -> str:
        """No formula: in words what it is."""
        return self.family

    @property
    def ordering(self) -> Any:
        """Place of each variable in the latent vector."""
        return self._flow.groups[0].ordering

    @property
    def coordinate_names(self) -> list[str]:
        """A name for each coordinate of the latent vector: ``a[3]``, ``tau_log__``."""
        return coordinate_names(self.ordering)

    def drawn_points(self, draws: int, seed: int) -> tuple[Floats, Floats]:
        """Draws over the latent space, shape (draws, dim), and their log densities."""
        raise NotImplementedError

    def _drawn(self, draws: int, seed: int, var_names: VarNames) -> Samples:
        density = self.joint_density
        with stage("Drawing"):
            z, log_q = self.drawn_points(draws, seed)
            in_rows = isinstance(density, StreamedDensity)
            log_p, constrained = density.variables(z, seed, var_names, with_logp=in_rows)
            log_p = density.value(z) if log_p is None else log_p
        return Samples(log_q, log_p, unconstrained_parts(z, self.ordering), constrained)
