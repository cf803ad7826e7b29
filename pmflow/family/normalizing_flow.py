"""One flow over all free variables of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, override

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from numpy.typing import NDArray
from pymc.util import RandomState
from pytensor.tensor.variable import TensorVariable
from xarray import DataTree

from pmflow.checks import check_seed, checked_count
from pmflow.family.approximation import Approximation
from pmflow.family.flow_group import NormalizingFlowGroup
from pmflow.family.functions import DrawFunction
from pmflow.family.group_states import groups_of
from pmflow.family.state import FlowPoint, NormalizingFlowState
from pmflow.family.transport import FlowTransport, Transport
from pmflow.flows import Chain
from pmflow.flows.bases import AbstractBase
from pmflow.flows.formula import Formula
from pmflow.frames import Frame
from pmflow.graphs.evaluate import compile_once
from pmflow.graphs.minibatches import in_minibatches
from pmflow.posterior import export
from pmflow.posterior.density import LogDensity

__all__ = ["NormalizingFlow"]


class NormalizingFlow(Approximation, state=NormalizingFlowState):
    """A flow over all free variables of a model.

    Parameters
    ----------
    flow : str, Formula or Group
        Layers in order of application to the base draw N(0, I), such as ``'scale-hh*4-loc'``; or a
        group of all variables that exists already.
    model : pymc.Model, optional
        Defaults to the model of the context.
    random_seed : int, Generator or RandomState, optional
        Seeds the start, the training and the draws; no global state is read or changed.
    start : dict of str to array_like, optional
        Where the flow is centred at the start, by the name of a variable in its own (constrained)
        space; the model's initial point for those left out.
    jitter : float, optional
        Spread of the parameters around the identity at the start. Default 0.1.
    base : str
        The distribution that the first layer sees: ``normal`` (the default), ``student_t`` or
        ``mixture``, with options in brackets, such as ``student_t[df=3,trained=false]`` or
        ``mixture[k=8]``. See :doc:`/formula`.
    frame : {"gaussian", "laplace", "pathfinder", "sparse"} or Frame, optional
        An affine map behind the last layer, found before any training, so that the flow works in
        units of the posterior: the Gaussian of largest ELBO, mode and curvature, the best Gaussian
        on the way to a mode, or, for thousands of dimensions, the Gaussian of largest ELBO among
        those whose precision has the zeros of the model. Where there is no finite mode the next one
        is taken, and ``frame.note`` says why. See :doc:`/frames`.

    Attributes
    ----------
    flow : Chain
        The layers.
    formula : Formula
    layer_params : list of dict of str to TensorVariable
        Parameters of each layer, unconstrained, in the order of the flow.

    Raises
    ------
    FormulaError
        If the formula is wrong.
    NotContinuousError
        If a free variable is discrete.

    References
    ----------
    Rezende & Mohamed (2015), Variational inference with normalizing flows,
    https://arxiv.org/abs/1505.05770

    Examples
    --------
    >>> import pymc as pm, pmflow as pmf
    >>> with pm.Model():
    ...     x = pm.Normal("x", shape=2)
    ...     approx = pmf.NormalizingFlow("planar*2", random_seed=1)
    >>> approx.params
    [b, u, w, b, u, w]
    >>> approx.sample(100)["posterior"]["x"].shape
    (1, 100, 2)
    """

    def __init__(
        self,
        flow: str | Formula | NormalizingFlowGroup = "scale-loc",
        *,
        model: pm.Model | None = None,
        random_seed: RandomState = None,
        start: Mapping[str, Any] | None = None,
        jitter: float | None = None,
        base: str | AbstractBase = "normal",
        frame: str | Frame | None = None,
    ) -> None:
        if not isinstance(flow, NormalizingFlowGroup):
            flow = NormalizingFlowGroup(
                None,
                Formula(flow),
                None,
                random_seed,
                model,
                start=start,
                jitter=jitter,
                base=base,
                frame=frame,
            )
        super().__init__([flow], model=model)

    @override
    def to_state(self) -> NormalizingFlowState:
        """Everything that makes the flow, but for its model; see `from_state`."""
        return NormalizingFlowState((self._group.to_state(),), self.report)

    @classmethod
    @override
    def _of(cls, state: Any, model: pm.Model) -> NormalizingFlow:
        (group,) = groups_of(state.groups, model)
        made = cls(group, model=model)
        made.receive(state.report)
        return made

    @property
    def point(self) -> FlowPoint:
        """Where the flow is now: parameters, frame and offset."""
        return self._group.point

    def go_to(self, point: FlowPoint) -> None:
        """Put the flow where it was."""
        self._group.go_to(point)

    def sample_at(
        self, points: Sequence[FlowPoint], draws: int, random_seed: RandomState = None
    ) -> list[DataTree]:
        """Draw from the flow as it was at some points; it stays where it is.

        Parameters
        ----------
        points : sequence of FlowPoint
        draws : int
            At each point.
        random_seed : int, Generator or RandomState, optional

        Returns
        -------
        list of DataTree
            For each point, as `sample`.
        """
        draws = checked_count("draws", draws, 1)
        check_seed(random_seed)
        draw = DrawFunction(self, self._group.numbers)
        seeds = [self._seed(random_seed) for _ in points]
        samples = [
            draw(draws, seed, self._group.numbers_at(point))
            for point, seed in zip(points, seeds, strict=True)
        ]
        return [export.to_datatree(self.model, s, family=str(self._group)) for s in samples]

    @property
    @override
    def joint_density(self) -> LogDensity | None:
        """Where the flow has a frame, the density that this was found by."""
        has_one = self._group.frame is not None and not in_minibatches(self.model)
        return self._group.log_density if has_one else None

    @override
    def transport(self, seed: int) -> Transport | None:
        """The map of the flow, where its base is a normal distribution."""
        return FlowTransport(self._group) if FlowTransport.is_known(self._group) else None

    @property
    def flow(self) -> Chain:
        """The layers, as one map of base draws to points relative to the start."""
        return self._group.flow

    @property
    def formula(self) -> Formula:
        """The formula of the flow."""
        return self._group.formula

    @property
    def layer_params(self) -> list[dict[str, TensorVariable]]:
        """Parameters of each layer, unconstrained, in the order of the flow."""
        return self._group.layer_params

    @property
    def _group(self) -> NormalizingFlowGroup:
        (group,) = self.groups
        return group

    def __getattr__(self, name: str) -> Any:
        # PyMC's single-group approximations answer for their group: mean, std, cov, ordering ...
        if name == "groups" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.groups[0], name)

    def sample_layers(
        self, draws: int = 500, *, random_seed: RandomState = None
    ) -> list[NDArray[np.float64]]:
        """Draw from the base and follow the draws through every layer.

        Parameters
        ----------
        draws : int
        random_seed : int, Generator or RandomState, optional

        Returns
        -------
        list of ndarray, each of shape (draws, dim)
            The base draw, then the output of each layer, unconstrained; the last one is a draw
            from the approximation.
        """
        draws = checked_count("draws", draws, 1)
        check_seed(random_seed)
        rng = np.random.default_rng(self._seed(random_seed))
        noise = rng.standard_normal((draws, self._group.noise_length))
        return list(self._layers_function(noise.astype(self._group.symbolic_initial.dtype)))

    @cached_property
    def _layers_function(self) -> Callable[..., list[NDArray[np.float64]]]:
        noise = pt.matrix("noise", dtype=self._group.symbolic_initial.dtype)
        return compile_once([noise], self._group.steps_at(noise), rewrites="none")
