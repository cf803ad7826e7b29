"""What an approximation consists of, as values: where a flow is, a group, all of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pmflow.embedded.gaussian import GaussianState
from pmflow.embedded.nested import NestedState
from pmflow.errors import FormulaError, ParameterError, StorageError
from pmflow.flows.bases import AbstractBase
from pmflow.flows.formula import Formula, base_text
from pmflow.flows.latent import LatentGraph
from pmflow.frames import FoundFrame, Frame
from pmflow.posterior.symmetry import Symmetry
from pmflow.records import Report, State

__all__ = [
    "ApproximationState",
    "EmbeddedLaplaceState",
    "FamilyGroupState",
    "FlowGroupState",
    "FlowPoint",
    "NormalizingFlowState",
    "ParamState",
    "ResampledState",
    "RngState",
    "SparseGaussianState",
    "StackState",
    "formula_of",
    "saved_base",
]


@dataclass(frozen=True, eq=False)
class RngState(State):
    """State of a NumPy RandomState, a Mersenne twister."""

    key: NDArray[np.uint32]
    pos: int
    has_gauss: int
    gauss: float

    def __post_init__(self) -> None:
        if self.key.shape != (624,) or not 0 <= self.pos <= 624:
            raise ParameterError("the state of the random generator is not one")

    @classmethod
    def of(cls, rng: np.random.RandomState) -> RngState:
        """The state of a generator."""
        state = rng.get_state(legacy=False)
        return cls(
            np.array(state["state"]["key"]),
            int(state["state"]["pos"]),
            int(state["has_gauss"]),
            float(state["gauss"]),
        )

    def put_into(self, rng: np.random.RandomState) -> None:
        """Set a generator to this state."""
        rng.set_state(
            {
                "bit_generator": "MT19937",
                "state": {"key": self.key, "pos": self.pos},
                "has_gauss": self.has_gauss,
                "gauss": self.gauss,
            }
        )


@dataclass(frozen=True, eq=False)
class FlowPoint(State):
    """Where a flow is: all that a fit or another start changes.

    Attributes
    ----------
    params : tuple of ndarray
        The trained parameters, unconstrained, in the order of the group's `params`.
    offset : ndarray, shape (dim,)
        Where there is no frame: what is added to the output of the layers.
    origin : ndarray, shape (dim,)
        Where the layers themselves put the start.
    frame : Frame or None
    """

    params: tuple[NDArray[np.floating[Any]], ...]
    offset: NDArray[np.floating[Any]]
    origin: NDArray[np.floating[Any]]
    frame: Frame | None

    def __eq__(self, other: object) -> bool:
        """Whether a flow draws the same at both."""
        if not isinstance(other, FlowPoint):
            return NotImplemented
        mine, its = self._arrays, other._arrays
        return len(mine) == len(its) and all(map(np.array_equal, mine, its))

    __hash__ = None  # type: ignore[assignment]

    @property
    def _arrays(self) -> list[NDArray[Any]]:
        placed = [] if self.frame is None else self.frame.arrays
        return [*self.params, self.offset, self.origin, *placed]


@dataclass(frozen=True, eq=False)
class ParamState(State):
    """One parameter: of the base, or of the layer at a place of the flow.

    Attributes
    ----------
    place : int
        From 0; -1 for the base.
    name : str
    value : ndarray
        Unconstrained.
    is_trained : bool
    """

    place: int
    name: str
    value: NDArray[np.floating[Any]]
    is_trained: bool


@dataclass(frozen=True, eq=False)
class FlowGroupState(State):
    """A flow on some variables."""

    variables: tuple[str, ...]
    rng: RngState
    formula: str
    base: str
    jitter: float
    params: tuple[ParamState, ...]
    offset: NDArray[np.floating[Any]]
    origin: NDArray[np.floating[Any]]
    frame: Frame | None
    found: tuple[FoundFrame, ...]
    asked_frame: str | None
    start: dict[str, NDArray[Any]] | None
    moment_seed: int
    graph: LatentGraph | None = None  # where a layer has asked for it


@dataclass(frozen=True, eq=False)
class FamilyGroupState(State):
    """One of PyMC's families on some variables."""

    variables: tuple[str, ...]
    rng: RngState
    family: str
    params: dict[str, NDArray[np.floating[Any]]]


@dataclass(frozen=True, eq=False)
class ApproximationState(State):
    """An approximation of independent groups."""

    groups: tuple[FlowGroupState | FamilyGroupState, ...]
    report: Report


@dataclass(frozen=True, eq=False)
class NormalizingFlowState(ApproximationState):
    """A flow over all variables."""

    def __post_init__(self) -> None:
        if len(self.groups) != 1 or not isinstance(self.groups[0], FlowGroupState):
            raise ParameterError("a flow has one group of variables")


@dataclass(frozen=True, eq=False)
class StackState(State):
    """A mixture of fits of one flow."""

    flow: NormalizingFlowState
    points: tuple[FlowPoint, ...]
    weights: NDArray[np.float64]
    report: Report


@dataclass(frozen=True, eq=False)
class SymmetrizedState(State):
    """What was fitted, and the maps that give its images."""

    fitted: NormalizingFlowState | StackState
    symmetry: Symmetry
    report: Report


@dataclass(frozen=True, eq=False)
class ResampledState(State):
    """A proposal, and what its weights come to."""

    proposal: NormalizingFlowState | StackState | SymmetrizedState
    log_evidence: float
    ess: float
    report: Report


@dataclass(frozen=True, eq=False)
class EmbeddedLaplaceState(State):
    """Which coordinates meet, which are global, and what was found of their marginal."""

    flow: NormalizingFlowState
    pointers: NDArray[np.int64]
    indices: NDArray[np.int64]
    is_global: NDArray[np.bool_]
    nested: NestedState
    report: Report


@dataclass(frozen=True, eq=False)
class SparseGaussianState(State):
    """The order of the latent vector, and the Gaussian."""

    flow: NormalizingFlowState
    gaussian: GaussianState
    report: Report


def saved_base(base: AbstractBase) -> str:
    """The text that names a base.

    Raises
    ------
    StorageError
        If it is of the user's own, so that none does.
    """
    text = base_text(base)
    if text is None:
        raise StorageError(
            f"The base {base!r} can't be saved: it is none of those that a text such as "
            "'student_t[df=3]' names."
        )
    return text


def formula_of(text: str) -> Formula:
    """The formula of a saved flow.

    Raises
    ------
    StorageError
        If a layer is not registered.
    """
    try:
        return Formula(text)
    except FormulaError as error:
        raise StorageError(
            f"The flow of the file is {text!r}, which can't be built: {error.reason} A layer of "
            "your own must be registered (pmflow.flows.register) before the file is loaded."
        ) from error
