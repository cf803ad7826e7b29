"""A group of a model's variables whose joint approximation is a flow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
import xarray as xr
from pymc.pytensorf import floatX
from pymc.variational import opvi
from pymc.variational.opvi import node_property
from pytensor.gradient import disconnected_grad
from pytensor.tensor.variable import TensorVariable

from pmflow.errors import UnsupportedError
from pmflow.family.placed_flow import PlacedFlow
from pmflow.flows.bases import Normal
from pmflow.graphs.evaluate import compile_once
from pmflow.posterior.export import as_dataset

__all__ = ["NormalizingFlowGroup"]

_MOMENT_DRAWS = 10_000
"""Base draws, half of them mirrored, behind `mean`, `std` and `cov` where these are not exact."""


class NormalizingFlowGroup(PlacedFlow):
    """Variables of a model approximated jointly by a flow.

    Users reach it through `pmflow.Group` or `pmflow.NormalizingFlow`.

    Parameters
    ----------
    group : list of TensorVariable or None
        Free variables of the model, in the order they take in the latent vector; None for those
        that no other group has.
    vfam : str, Formula or None
        The formula; None for ``'scale-loc'`` or for what `params` say.
    params : dict of int to dict of str to array_like, optional
        Unconstrained parameters of every layer, by its place in the flow, the first one at 0.
        Shared variables are trained, anything else is fixed. Without `vfam` the names of the
        parameters tell the layers, where only one layer has them.
    random_seed : int, Generator or RandomState, optional
        Seeds the start of the parameters, training and drawing.
    model : pymc.Model, optional
        Defaults to the model of the context.
    start : dict of str to array_like, optional
        Where the flow is centred at the start, by the name of a variable in its own (constrained)
        space. Defaults to the model's initial point.
    jitter : float, optional
        Spread of the parameters around the identity at the start. Default 0.1.
    base : str
        The distribution that the first layer sees: ``normal``, ``student_t`` or ``mixture``, with
        options in brackets.
    frame : str or Frame, optional
        See `pmflow.NormalizingFlow`; only for a group of all variables.
    state : FlowGroupState, optional
        What was kept of such a group: then nothing is searched for or drawn at the start.
    """

    @property
    def _sized_params(self) -> list[dict[str, TensorVariable]]:
        """The layers' parameters with shapes that a graph can rely on, whatever the user gave."""
        shapes = self.flow.param_shapes(self.ddim)
        return [
            {
                name: value if None not in value.type.shape else pt.specify_shape(value, of[name])
                for name, value in layer.items()
            }
            for layer, of in zip(self.layer_params, shapes, strict=True)
        ]

    def _initial_type(self, name: str) -> TensorVariable:
        """Type of the normal numbers behind draws: a base may need more than one a dimension."""
        return pt.matrix(name, shape=(None, self.noise_length))

    def _new_initial_shape(
        self, size: TensorVariable, dim: TensorVariable, more_replacements: Any = None
    ) -> TensorVariable:
        """Shape of the normal numbers that `size` draws are made of."""
        return pt.stack([size, pt.constant(self.noise_length)])

    def base_draw(self, noise: TensorVariable) -> TensorVariable:
        """Draws from the base, shape (*batch, dim), from normal numbers."""
        noise = pt.specify_shape(noise, (*[None] * (noise.ndim - 1), self.noise_length))
        return self.base.draw(noise, self.base_params, self.ddim)

    def placed(self, noise: TensorVariable) -> tuple[TensorVariable, TensorVariable]:
        """Draws of the latent vector, shape (*batch, dim), from any noise, and log determinants.

        These are of the layers and of what is behind them, not of the base.
        """
        drawn, log_det = self.flow.forward(self.base_draw(noise), self._sized_params)
        return self._placement.forward(drawn), log_det + self._placement.log_det

    @property
    def noise_length(self) -> int:
        """How many standard normal numbers are behind a draw."""
        return self.base.noise_length(self.ddim)

    @node_property
    def log_choice(self) -> TensorVariable | None:
        """Log probability of the base's choices behind each draw, shape (draws,), if any."""
        return self.base.log_choice(self.symbolic_initial, self.base_params)

    @node_property
    def _initial(self) -> TensorVariable:
        return self.base_draw(self.symbolic_initial)

    @node_property
    def _random_and_log_det(self) -> tuple[TensorVariable, TensorVariable]:
        return self.flow.forward(self._initial, self._sized_params)

    @node_property
    def symbolic_start_logp(self) -> TensorVariable:
        """Log density of the draws under the normal at the start, shape (draws,)."""
        return self._placement.start_logp(self._random_and_log_det[0])

    @node_property
    def symbolic_random(self) -> TensorVariable:
        """Draws of the latent vector, shape (draws, dim), unconstrained."""
        return self._placement.forward(self._random_and_log_det[0])

    @node_property
    def symbolic_logq_not_scaled(self) -> TensorVariable:
        """Log density of the draws of `symbolic_random`, shape (draws,)."""
        log_det = self._random_and_log_det[1] + self._placement.log_det
        return self.base.log_prob(self._initial, self.base_params) - log_det

    @node_property
    def symbolic_path_logq(self) -> TensorVariable:
        """Log density of the draws, with the gradient along the draws only, shape (draws,).

        The value is that of `symbolic_logq`. Its gradient is that of the flow's output times the
        score at the draw, which is carried forward by the layers and held fixed.
        """
        z0 = self._initial
        score0 = pt.grad(self.base.log_prob(z0, self.base_params).sum(), z0)
        score = self.flow.forward_with_score(z0, self._sized_params, score0)[2]
        along = (self._random_and_log_det[0] * disconnected_grad(score)).sum(-1)
        return disconnected_grad(self.symbolic_logq) + (along - disconnected_grad(along))

    def logq_at(self, z: TensorVariable) -> TensorVariable:
        """Log density of the flow at any points, through the inverse.

        Parameters
        ----------
        z : TensorVariable, shape (*batch, dim)
            Unconstrained.

        Returns
        -------
        TensorVariable, shape (*batch,)
        """
        z = pt.specify_shape(z, (*[None] * (z.ndim - 1), self.ddim))
        z0 = self.flow.inverse(self._placement.inverse(z), self._sized_params)
        return self._mapped(z0)[1]

    def drawn(self, noise: TensorVariable) -> tuple[TensorVariable, TensorVariable]:
        """Draws of the latent vector, shape (draws, dim), and log q of each, shape (draws,).

        From normal numbers of shape ``(draws, noise_length)``.
        """
        y, logq = self._mapped(self.base_draw(noise))
        return self._placement.forward(y), logq

    def _mapped(self, z0: TensorVariable) -> tuple[TensorVariable, TensorVariable]:
        """What the layers make of base draws, and log q where the placement puts it."""
        y, log_det = self.flow.forward(z0, self._sized_params)
        return y, self.base.log_prob(z0, self.base_params) - log_det - self._placement.log_det

    def steps_at(self, noise: TensorVariable) -> list[TensorVariable]:
        """The base draw and the output of each layer, in posterior coordinates, (*batch, dim).

        From normal numbers of shape ``(*batch, noise_length)``.
        """
        steps = self.flow.forward_steps(self.base_draw(noise), self._sized_params)
        return [self._placement.forward(step) for step in steps]

    @node_property
    def _moment_points(self) -> TensorVariable:
        """Points whose sample moments are those of the flow, shape (points, dim)."""
        if self.flow.is_affine and self.base == Normal():
            # mean -/+ sqrt(dim) times each image of a unit vector: the moments are exact
            points = np.sqrt(self.ddim) * np.eye(self.ddim)
        else:
            rng = np.random.default_rng(self._moment_seed)
            points = rng.standard_normal((_MOMENT_DRAWS // 2, self.noise_length))
        # numbers, no random variable of the graph: that would be seeded anew at each compilation
        noise = pytensor.shared(floatX(np.concatenate([points, -points])))
        points = self.flow.forward(self.base_draw(noise), self._sized_params)[0]
        return self._placement.forward(points)

    @node_property
    def mean(self) -> TensorVariable:
        """Mean of the latent vector, shape (dim,), unconstrained; exact for affine flows."""
        return self._moment_points.mean(0)

    @node_property
    def cov(self) -> TensorVariable:
        """Covariance of the latent vector, shape (dim, dim); exact for affine flows."""
        centred = self._moment_points - self.mean
        return centred.T @ centred / centred.shape[0]

    @node_property
    def std(self) -> TensorVariable:
        """Standard deviations of the latent vector, shape (dim,); exact for affine flows."""
        return self._moment_points.std(0)

    def var_to_data(self, shared: TensorVariable) -> xr.Dataset:
        """Cut a flat vector into the group's variables, with their dims and coords."""
        (flat,) = compile_once([], [shared])()
        return as_dataset(flat, self.model, self.group, self.ordering)

    @property
    def state(self) -> opvi.VIState:
        """Not available for a group; see `Approximation.state`."""
        raise UnsupportedError(
            "The constrained space may need variables of other groups. "
            "Ask the approximation: `approx.state`."
        )

    def __str__(self) -> str:
        dim = "undefined" if self.group is None else str(self.ddim)
        return f"{type(self).__name__}[{self.formula}, dim={dim}]"
