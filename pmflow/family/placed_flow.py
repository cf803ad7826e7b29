"""Where a flow on some variables is: its parameters, its start, its frame."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymc.pytensorf import floatX
from pymc.util import RandomState
from pymc.variational import opvi
from pymc.variational.opvi import node_property
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.tensor.variable import TensorVariable

from pmflow.checks import check_seed
from pmflow.errors import ParameterError
from pmflow.family.group_input import (
    UserParams,
    adopted,
    check_continuous,
    check_size,
    checked_jitter,
    layers_for,
    of_length,
    shared,
)
from pmflow.family.latent import latent_of
from pmflow.family.params import param_states, params_of
from pmflow.family.placement import Placement
from pmflow.family.sparse_frame import FRAME_KINDS, found_frame
from pmflow.family.state import FlowGroupState, FlowPoint, RngState, saved_base
from pmflow.flows import Chain
from pmflow.flows.bases import AbstractBase
from pmflow.flows.formula import Formula, parse_base
from pmflow.frames import FoundFrame, Frame, checked_frame
from pmflow.graphs.private import seed_from
from pmflow.posterior.density import LogDensity, density_over
from pmflow.posterior.model import check_start, checked_model
from pmflow.posterior.start import LatentStart

__all__ = ["START_SPREAD", "PlacedFlow"]

START_SPREAD = 2.0
"""How far further starts may lie from the first, unconstrained, as Stan's initial points."""

type Floats = NDArray[np.float64]


class PlacedFlow(opvi.Group):
    """A flow on some variables as far as it can be put somewhere: without the graphs of it.

    See `NormalizingFlowGroup` for the arguments.
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
        state: FlowGroupState | None = None,
    ) -> None:
        self._jitter = checked_jitter(jitter)
        self._asked_frame = checked_frame(frame, FRAME_KINDS)
        self._given_state = state
        self._density: LogDensity | None = None
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
        seed = seed_from(random_seed)
        super().__init__(
            group, None, params, random_seed=seed, model=model, options=options, start=start
        )

    def __init_group__(self, group: list[TensorVariable]) -> None:
        """Make parameters once the variables of the group are known (PyMC's delayed start)."""
        check_continuous(group)
        self._start = self._kwargs.get("start")
        super().__init_group__(group)
        # PyMC 6.3 asks for it before it knows the variables, and takes the dimension for 0
        self.symbolic_initial: TensorVariable = self._initial_type("symbolic_initial")
        self.latent = latent_of(self, self._given_state)
        self.flow = self.flow.bind(self.latent)
        check_size(self.flow, self.base, self.ddim)
        if self._given_state is None:
            self._begin()
        else:
            self._begin_at(self._given_state)
        self.shared_params = dict(enumerate(self.layer_params))
        self._finalize_init()

    def _begin(self) -> None:
        """Start values of frame, layers and base; what is drawn is drawn in this order."""
        self._found: tuple[FoundFrame, ...] = ()
        self.frame = self._find_frame()
        self.base_params: dict[str, SharedVariable] = {}
        self._origin = np.zeros(self.ddim)
        if self.user_params is not None:
            self.layer_params = adopted(self.user_params, self.flow, self.ddim)
            # parameters of the user's own say where the flow is, unless a start is given too
            self.offset = np.zeros(self.ddim) if self._start is None else self._latent_start()
        else:
            rng = np.random.default_rng(self._next_seed())
            start = np.zeros(self.ddim) if self.frame is not None else self._latent_start()
            values, self.offset = self._start_values(start, rng)
            self.layer_params = [shared(layer) for layer in values]
            self._origin = start - self.offset
        if self.base.param_shapes(self.ddim):  # others draw nothing from the seed
            rng = np.random.default_rng(self._next_seed())
            self.base_params = shared(self.base.init_params(self.ddim, self._jitter, rng))
        self._moment_seed = int(self._next_seed())

    def _begin_at(self, state: FlowGroupState) -> None:
        """Parameters and place that were kept."""
        self.base_params, self.layer_params = params_of(state, self.flow, self.base, self.ddim)
        self._found = state.found
        self.frame, self.offset = state.frame, np.array(state.offset, dtype=float)
        self._asked_frame = state.frame if state.asked_frame is None else state.asked_frame
        self._start = state.start
        self._origin = np.array(state.origin, dtype=float)
        self._moment_seed = state.moment_seed
        state.rng.put_into(self.rng)

    def _next_seed(self) -> Any:
        return self.rng.randint(2**30, dtype=np.int64)

    def _latent_start(self) -> Floats:
        """The start as a latent vector, shape (dim,), unconstrained, in the order of the group."""
        return self._start_function(int(self._next_seed()))

    @cached_property
    def _start_function(self) -> LatentStart:
        return LatentStart(self.model, self.group, self._start)

    def _start_values(
        self, offset: Floats, rng: np.random.Generator
    ) -> tuple[list[dict[str, Floats]], Floats]:
        """Parameters of every layer, and what of the offset is not among them."""
        values = self.flow.init_params(self.ddim, self._jitter, rng)
        absorbed = self.flow.layers[-1].absorb_shift(values[-1], offset) if offset.any() else None
        if absorbed is None:
            return values, offset
        values[-1] = absorbed
        return values, np.zeros_like(offset)

    def move(self, seed: int, spread: float = START_SPREAD) -> None:
        """Begin anew around the first start, within `spread` to either side, unconstrained."""
        rng = np.random.default_rng(seed)
        start = self._latent_start() + rng.uniform(-spread, spread, self.ddim)
        frame = self.frame
        if isinstance(self._asked_frame, str) and frame is not None:
            frame = self._searched(self._asked_frame, start, seed) or frame
        self._begin_anew(start if frame is None else np.zeros(self.ddim), frame, rng)

    def move_to(self, frame: Frame, seed: int) -> None:
        """Begin anew in another frame, for a flow that has one."""
        self._begin_anew(np.zeros(self.ddim), frame, np.random.default_rng(seed))

    def anew(self, frame: Frame, seed: int) -> None:
        """Be as one that is made in this frame with this seed."""
        self.rng.seed(seed)
        self.move_to(frame, int(self._next_seed()))
        self._moment_seed = int(self._next_seed())

    def _begin_anew(self, start: Floats, frame: Frame | None, rng: np.random.Generator) -> None:
        values, rest = self._start_values(start, rng)
        base = self.base.init_params(self.ddim, self._jitter, rng)
        places = [(self.base_params, base), *zip(self.layer_params, values, strict=True)]
        for params, fresh in places:
            for name, value in params.items():
                if isinstance(value, SharedVariable):
                    value.set_value(floatX(fresh[name]))
        self._place(rest, start - rest, frame)

    def _place(self, offset: Floats, origin: Floats, frame: Frame | None) -> None:
        self.offset, self.frame, self._origin = offset, frame, origin
        self._placement.place(offset, frame, origin=origin)

    @property
    def point(self) -> FlowPoint:
        """Where the flow is now: everything that `move` or a fit changes."""
        params = tuple(np.array(p.get_value()) for p in self.params)
        return FlowPoint(params, self.offset, self._origin, self.frame)

    def go_to(self, point: FlowPoint) -> None:
        """Put the flow where it was."""
        for variable, value in zip(self.params, point.params, strict=True):
            variable.set_value(value)
        self._place(np.asarray(point.offset), np.asarray(point.origin), point.frame)

    @property
    def numbers(self) -> list[SharedVariable]:
        """All shared variables that say where the flow is."""
        return [*self.params, *self._placement.shared]

    def numbers_at(self, point: FlowPoint) -> list[NDArray[np.floating]]:
        """The values that `numbers` have at a point."""
        placed = self._placement.values(point.offset, point.frame, point.origin)
        return [*point.params, *placed]

    def to_state(self) -> FlowGroupState:
        """Everything that makes the group, but for its model.

        Raises
        ------
        StorageError
            If the base is of the user's own.
        """
        return FlowGroupState(
            variables=tuple(rv.name for rv in self.group),
            rng=RngState.of(self.rng),
            formula=str(self.formula),
            base=saved_base(self.base),
            jitter=self._jitter,
            params=tuple(param_states(self.base_params, self.layer_params)),
            offset=floatX(self.offset),
            origin=floatX(self._origin),
            frame=self.frame,
            found=self._found,
            asked_frame=self._asked_frame if isinstance(self._asked_frame, str) else None,
            start=None if self._start is None else {k: np.array(v) for k, v in self._start.items()},
            moment_seed=self._moment_seed,
            graph=self.latent.known_graph,
        )

    def _find_frame(self) -> Frame | None:
        """The affine map behind the layers, None without one."""
        if self._asked_frame is None:
            return None
        if {*self.group} != {*self.model.free_RVs}:
            raise ParameterError(
                "A frame needs all free variables of the model in one group. "
                "Leave out frame=, or use pmflow.NormalizingFlow."
            )
        if isinstance(self._asked_frame, Frame):
            return of_length(self._asked_frame, self.ddim)
        seed = int(self._next_seed())
        return self._searched(self._asked_frame, self._latent_start(), seed)

    def _searched(self, kind: str, start: Floats, seed: int) -> Frame | None:
        """The frame found from a start, which may be that of an earlier one."""
        found = found_frame(kind, self.log_density, start, seed, self._found)
        if found is None:
            return None
        if all(found is not one for one in self._found):
            self._found = (*self._found, found)
        return found.frame

    @property
    def log_density(self) -> LogDensity:
        """Density of the model over the latent vector, for a group of all variables; made once."""
        if self._density is None:
            self._density = density_over(self.model, self.ordering)
        return self._density

    @node_property
    def _placement(self) -> Placement:
        """The map from the output of the layers to the latent vector."""
        return Placement(self.offset, self.frame, origin=self._origin)

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
