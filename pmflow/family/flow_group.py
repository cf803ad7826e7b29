"""A group of a model's variables whose joint approximation is a flow."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pytensor
import pytensor.tensor as pt
import xarray as xr
from numpy.typing import NDArray
from pymc.initial_point import make_initial_point_fn
from pymc.pytensorf import floatX
from pymc.util import RandomState, _get_seeds_per_chain
from pymc.variational import opvi
from pymc.variational.opvi import node_property
from pymc.vartypes import discrete_types
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.gradient import disconnected_grad
from pytensor.tensor.variable import TensorVariable

from pmflow.checks import as_numbers, check_seed
from pmflow.errors import NotContinuousError, ParameterError, UnsupportedError
from pmflow.family.group_input import (
    DEFAULT_JITTER,
    UserParams,
    check_places,
    check_size,
    checked_jitter,
    checked_start,
    layers_for,
    named,
    shared,
)
from pmflow.flows import Chain
from pmflow.flows.bases.bases import AbstractBase, Normal
from pmflow.flows.formula import Formula, parse_base
from pmflow.frames import Frame, Placement, build_frame, checked_frame
from pmflow.graphs.evaluate import compile_once
from pmflow.posterior.density import LogDensity
from pmflow.posterior.model import check_start, checked_model

__all__ = ["DEFAULT_JITTER", "Captured", "NormalizingFlowGroup"]

START_SPREAD = 2.0
"""Of further starts, unconstrained, as Stan's initial points."""

_MOMENT_DRAWS = 10_000
"""Base draws, half of them mirrored, behind `mean`, `std` and `cov` where these are not exact."""


class Captured(NamedTuple):
    """Where a flow was at some time."""

    values: list[NDArray[np.floating]]
    offset: NDArray[np.float64]
    frame: Frame | None


class NormalizingFlowGroup(opvi.Group):
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
    """

    short_name = "normalizing_flow"
    default_formula = "scale-loc"

    def __init__(
        self,
        group: list[TensorVariable] | None,
        vfam: str | Formula | None = None,
        params: UserParams | None = None,
        random_seed: RandomState = None,
        model: object = None,
        options: dict[str, Any] | None = None,
        *,
        start: Mapping[str, Any] | None = None,
        jitter: float | None = None,
        base: str | AbstractBase = "normal",
        frame: str | Frame | None = None,
    ) -> None:
        self._jitter = checked_jitter(jitter)
        self._frame = checked_frame(frame)
        self.base = parse_base(base)
        if vfam is None and params is not None:
            self.flow = Chain(layers_for(params))
            self.formula = Formula(self.flow.formula)
        else:
            self.formula = Formula(self.default_formula if vfam is None else vfam)
            self.flow = Chain(self.formula.layers)
        model = checked_model(model)
        check_start(start, model)
        check_seed(random_seed)
        (seed,) = _get_seeds_per_chain(random_seed, 1)
        super().__init__(
            group, None, params, random_seed=seed, model=model, options=options, start=start
        )

    def __init_group__(self, group: list[TensorVariable]) -> None:
        """Make parameters once the variables of the group are known (PyMC's delayed start)."""
        names = [v.name for v in group if v.type.numpy_dtype.name in discrete_types]
        if names:
            raise NotContinuousError(
                f"A flow needs continuous free variables, but {', '.join(names)} "
                f"{'is' if len(names) == 1 else 'are'} discrete. Marginalize them "
                "(pymc_extras.marginalize) or use pm.sample."
            )
        start = self._start = self._kwargs.get("start")
        super().__init_group__(group)
        check_size(self.flow, self.base, self.ddim)
        self.frame = self._find_frame(start)
        if self.user_params is not None:
            self.layer_params = self._adopt(self.user_params)
            # parameters of the user's own say where the flow is, unless a start is given too
            self.offset = np.zeros(self.ddim) if start is None else self._prepare_start(start)
        else:
            self.layer_params, self.offset = self._start_params(start)
        self.base_params: dict[str, SharedVariable] = {}
        if self.base.param_shapes(self.ddim):  # others draw nothing from the seed
            rng = np.random.default_rng(self.rng.randint(2**30, dtype=np.int64))
            self.base_params = shared(self.base.init_params(self.ddim, self._jitter, rng))
        self.shared_params = dict(enumerate(self.layer_params))
        self._moment_seed = self.rng.randint(2**30, dtype=np.int64)
        self._finalize_init()

    def _prepare_start(self, start: Mapping[str, Any] | None = None) -> NDArray[np.float64]:
        """The start as a latent vector, shape (dim,), unconstrained, in the order of the group."""
        start = checked_start(start, self.model)
        point_fn = make_initial_point_fn(
            model=self.model, overrides=start, jitter_rvs={}, return_transformed=True
        )
        point = point_fn(self.rng.randint(2**30, dtype=np.int64))
        for rv in self.group:
            name = self.model.rvs_to_values[rv].name
            given = "the initial point" if start is None or rv.name not in start else "start"
            if not np.isfinite(point[name]).all():
                raise ParameterError(
                    f"{given} must put {rv.name!r} inside of its support, but in unconstrained "
                    f"space it is {point[name]}. Give start={{{rv.name!r}: ...}} a finite value "
                    "away from the border."
                )
        return np.concatenate([np.ravel(point[name]) for name in self.ordering]).astype(float)

    def _start_params(
        self, start: Mapping[str, Any] | None
    ) -> tuple[list[dict[str, SharedVariable]], NDArray[np.float64]]:
        rng = np.random.default_rng(self.rng.randint(2**30, dtype=np.int64))
        offset = np.zeros(self.ddim) if self.frame is not None else self._prepare_start(start)
        self._first_start = offset
        values, offset = self._start_values(offset, rng)
        return [shared(layer) for layer in values], offset

    def _start_values(
        self, offset: NDArray[np.float64], rng: np.random.Generator
    ) -> tuple[list[dict[str, NDArray[np.float64]]], NDArray[np.float64]]:
        """Parameters of every layer, and what of the offset is not among them."""
        values = self.flow.init_params(self.ddim, self._jitter, rng)
        absorbed = self.flow.layers[-1].absorb_shift(values[-1], offset) if offset.any() else None
        if absorbed is None:
            return values, offset
        values[-1] = absorbed
        return values, np.zeros_like(offset)

    def move(self, seed: int, spread: float = START_SPREAD) -> None:
        """Begin anew elsewhere: other parameters, centred within `spread` of the first start.

        Parameters
        ----------
        seed : int
        spread : float
            Of a uniform distribution to both sides of the start, unconstrained.
        """
        rng = np.random.default_rng(seed)
        start = self._prepare_start(self._start)
        start = start + rng.uniform(-spread, spread, self.ddim)
        frame = self.frame
        if isinstance(self._frame, str) and frame is not None:
            frame = build_frame(self._frame, self.log_density, start, seed) or frame
        self._begin_anew(start if frame is None else np.zeros(self.ddim), frame, rng)

    def move_to(self, frame: Frame, seed: int) -> None:
        """Begin anew in another frame, for a flow that has one."""
        self._begin_anew(np.zeros(self.ddim), frame, np.random.default_rng(seed))

    def _begin_anew(
        self, offset: NDArray[np.float64], frame: Frame | None, rng: np.random.Generator
    ) -> None:
        values, rest = self._start_values(offset, rng)
        base = self.base.init_params(self.ddim, self._jitter, rng)
        places = [(self.base_params, base), *zip(self.layer_params, values, strict=True)]
        for params, fresh in places:
            for name, value in params.items():
                if isinstance(value, SharedVariable):
                    value.set_value(floatX(fresh[name]))
        self.offset, self.frame = rest, frame
        self._placement.place(rest, frame, origin=offset - rest)

    def capture(self) -> Captured:
        """Everything that `move` or a fit changes, for `restore`."""
        held = [*self.params, *self._placement.shared]
        return Captured([np.array(v.get_value()) for v in held], self.offset, self.frame)

    def restore(self, captured: Captured) -> None:
        """Go back to what `capture` gave."""
        held = [*self.params, *self._placement.shared]
        for variable, value in zip(held, captured.values, strict=True):
            variable.set_value(value)
        self.offset, self.frame = captured.offset, captured.frame

    def _find_frame(self, start: Mapping[str, Any] | None) -> Frame | None:
        """The affine map behind the layers, None without one."""
        if self._frame is None:
            return None
        if {*self.group} != {*self.model.free_RVs}:
            raise ParameterError(
                "A frame needs all free variables of the model in one group. "
                "Leave out frame=, or use pmflow.NormalizingFlow."
            )
        if isinstance(self._frame, Frame):
            if self._frame.dim != self.ddim:
                raise ParameterError(
                    f"The frame has {self._frame.dim} dimensions, but the latent vector has "
                    f"{self.ddim}. Give one of this length, or the name of a kind of frame."
                )
            return self._frame
        seed = int(self.rng.randint(2**30, dtype=np.int64))
        return build_frame(self._frame, self.log_density, self._prepare_start(start), seed)

    @cached_property
    def log_density(self) -> LogDensity:
        """Of the model over the latent vector, for a group of all variables; compiled once."""
        return LogDensity(self.model, self.ordering)

    @node_property
    def _placement(self) -> Placement:
        """From the output of the layers to the latent vector."""
        origin = np.zeros(self.ddim)
        if self.frame is None and self.user_params is None and not self.offset.any():
            # kept, not found again: a graph that is built must draw no seeds
            origin = self._first_start
        return Placement(self.offset, self.frame, origin=origin)

    @node_property
    def symbolic_start_logp(self) -> TensorVariable:
        """Log density of the draws under the normal at the start, shape (draws,)."""
        return self._placement.start_logp(self._random_and_log_det[0])

    def _adopt(self, params: UserParams) -> list[dict[str, TensorVariable]]:
        """Check the user's parameters against the shapes of the layers."""
        adopted = []
        check_places(params, len(self.flow))
        for index, shapes in enumerate(self.flow.param_shapes(self.ddim)):
            layer = {}
            if not isinstance(params[index], Mapping) or set(params[index]) != set(shapes):
                raise ParameterError(
                    f"params[{index}] must have the parameters of the layer "
                    f"{self.flow.layers[index].word!r}, {', '.join(sorted(shapes)) or 'none'}, "
                    f"but is {named(params[index])}."
                )
            for name, shape in sorted(shapes.items()):
                value = params[index][name]
                if not isinstance(value, TensorVariable):
                    value = as_numbers(f"params[{index}][{name!r}]", value, str(shape))
                    if not np.isfinite(value).all():
                        raise ParameterError(
                            f"params[{index}][{name!r}] must be finite, but is {value}."
                        )
                    value = pt.as_tensor(floatX(value), name=name)
                got = (
                    value.get_value().shape
                    if isinstance(value, SharedVariable)
                    else value.type.shape
                )
                fits = len(got) == len(shape) and all(
                    g is None or g == s for g, s in zip(got, shape, strict=True)
                )
                if not fits:
                    raise ParameterError(
                        f"params[{index}][{name!r}] of the layer "
                        f"{self.flow.layers[index].word!r} must have shape {shape} "
                        f"for the {self.ddim} dimensions of this group, but has shape {got}."
                    )
                layer[name] = value
            adopted.append(layer)
        return adopted

    @property
    def named_params(self) -> dict[str, SharedVariable]:
        """The trained parameters by name, unconstrained.

        Those of the base come first, ``df_base``; then layer by layer in the order of the flow,
        ``u_0`` for the `u` of the first layer.
        """
        places = [("base", self.base_params), *enumerate(self.layer_params)]
        return {
            f"{name}_{place}": value
            for place, params in places
            for name, value in params.items()
            if isinstance(value, SharedVariable)
        }

    @property
    def params(self) -> list[SharedVariable]:
        """The trained parameters in the order of `named_params`, unconstrained."""
        return list(self.named_params.values())

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
        """Shape of the normal numbers behind so many draws."""
        return pt.stack([size, pt.constant(self.noise_length)])

    def base_draw(self, noise: TensorVariable) -> TensorVariable:
        """Draws from the base, shape (*batch, dim), from normal numbers."""
        noise = pt.specify_shape(noise, (*[None] * (noise.ndim - 1), self.noise_length))
        return self.base.draw(noise, self.base_params, self.ddim)

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
        _, log_det = self.flow.forward(z0, self._sized_params)
        return self.base.log_prob(z0, self.base_params) - log_det - self._placement.log_det

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
        model = self.model
        by_value_name = {model.rvs_to_values[rv].name: rv for rv in self.group}
        arrays = {}
        for name, place, shape, dtype in self.ordering.values():
            rv = by_value_name[name]
            dims = model.named_vars_to_dims.get(rv.name) or ()
            coords = {d: np.asarray(model.coords[d]) for d in dims if model.coords.get(d)}
            # a transform may change the shape: then the labels of the variable do not fit
            fits = len(dims) == len(shape) and all(
                len(coords[d]) == size for d, size in zip(dims, shape, strict=True) if d in coords
            )
            arrays[name] = xr.DataArray(
                flat[place].reshape(shape).astype(dtype),
                dims=dims if fits else None,
                coords=coords if fits else None,
            )
        return xr.Dataset(arrays)

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
