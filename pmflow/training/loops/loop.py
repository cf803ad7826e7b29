"""Many steps in one call: by PyTensor's scan, by JAX, or one by one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, override

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.compile.mode import get_mode
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Variable
from pytensor.graph.replace import clone_replace
from pytensor.scan.utils import until
from pytensor.tensor.random.type import RandomType
from pytensor.tensor.type import TensorType

from pmflow.errors import StorageError
from pmflow.graphs.evaluate import with_static_shape
from pmflow.graphs.workarounds.structure import without_search_for_structure
from pmflow.records import State
from pmflow.training.step import MAX_FAILURES, Step

__all__ = ["Loop", "LoopState", "ScanLoop", "StepLoop", "Trace", "as_trace", "inner_graph"]

_MOST_BYTES = 2**25
_MOST_ROWS = 2**18


class Trace(NamedTuple):
    """What some steps leave behind, one row per step.

    If there are fewer rows than steps asked for, the last `MAX_FAILURES` steps were not finite.
    """

    losses: NDArray[np.floating]
    failures: NDArray[np.int32]
    params: NDArray[np.floating] | None
    """Parameters after each step, shape (n, size), where these are recorded."""
    gradients: NDArray[np.floating] | None


@dataclass(frozen=True, eq=False)
class LoopState(State):
    """Numbers of a loop by name: parameters, optimiser, random generators."""

    arrays: dict[str, NDArray[Any]]


class Loop(ABC):
    """A compiled function that carries out steps.

    Its state is in the shared variables of the step, before and after each call.

    Parameters
    ----------
    step : Step
    record : bool
        Whether to record parameters and gradients.
    compile_kwargs : dict
        For `pymc.compile`.
    """

    def __init__(self, step: Step, *, record: bool, compile_kwargs: dict[str, Any]) -> None:
        self.step = step
        self.record = record
        self._shapes = self._constant_shapes()
        self._build(compile_kwargs)

    @property
    def is_stale(self) -> bool:
        """Whether data have changed their shape since the loop was compiled."""
        return self._constant_shapes() != self._shapes

    def _constant_shapes(self) -> list[tuple[int, ...]]:
        return [np.shape(v.get_value(borrow=True)) for v in self.step.constants]

    @property
    def most_steps(self) -> int:
        """Most steps in one call, so that what they record stays small in memory."""
        row_bytes = 16 + (16 * self.step.size if self.record else 0)
        return max(1, min(_MOST_ROWS, _MOST_BYTES // row_bytes))

    @property
    def _traced(self) -> list[Variable]:
        extra = [self.step.new_params, self.step.gradient] if self.record else []
        return [self.step.loss, self.step.updates[self.step.failures], *extra]

    @abstractmethod
    def _build(self, compile_kwargs: dict[str, Any]) -> None:
        """Make the function."""

    @abstractmethod
    def advance(self, n: int) -> Trace:
        """Do `n` steps, `most_steps` at most; fewer if too many in a row fail."""

    def restart(self, seed: int) -> None:
        """Begin anew at the parameters as they are."""
        self.step.restart(seed)

    def to_state(self) -> LoopState:
        """Where the loop is between two calls, for `go_to`."""
        return LoopState(
            {
                f"state_{place}": _generator_numbers(v.get_value())
                if isinstance(v.type, RandomType)
                else np.array(v.get_value())
                for place, v in enumerate(self.step.updates)
            }
        )

    def go_to(self, seed: int, state: LoopState) -> None:
        """Go on from where it was; `seed` is that of the fit.

        Raises
        ------
        StorageError
            If the state is that of another loop.
        """
        self.restart(seed)
        taken = state.arrays
        values = [v.get_value() for v in self.step.updates]
        is_rng = [isinstance(v.type, RandomType) for v in self.step.updates]
        now = [_generator_numbers(v) if rng else v for v, rng in zip(values, is_rng, strict=True)]
        self._check({f"state_{place}": value for place, value in enumerate(now)}, taken)
        for place, (shared, rng) in enumerate(zip(self.step.updates, is_rng, strict=True)):
            value = taken[f"state_{place}"]
            shared.set_value(_generator(value) if rng else value)

    @staticmethod
    def _check(mine: Mapping[str, Any], taken: Mapping[str, Any]) -> None:
        # JAX's generators begin as Python's numbers and become arrays: of them only the shape
        kinds = [
            {n: (np.shape(v), n[:4] == "jax_" or np.asarray(v).dtype) for n, v in state.items()}
            for state in (mine, taken)
        ]
        if kinds[0] != kinds[1]:
            raise StorageError(
                "The optimiser, the random generators or the backend of the checkpoint are not "
                "those of this fit. Resume with the optimiser and on the kind of machine that it "
                "was begun with."
            )


def _generator_numbers(generator: np.random.Generator) -> NDArray[np.uint64]:
    """State of NumPy's default generator: two numbers of 128 bits and what it holds back."""
    state = generator.bit_generator.state
    if state["bit_generator"] != "PCG64":
        raise StorageError(
            f"A random generator of type {state['bit_generator']} can't be saved, only PCG64."
        )
    numbers = state["state"]["state"], state["state"]["inc"]
    halves = [half for number in numbers for half in divmod(number, 2**64)]
    return np.array([*halves, state["has_uint32"], state["uinteger"]], np.uint64)


def _generator(numbers: NDArray[np.uint64]) -> np.random.Generator:
    high, low, inc_high, inc_low, has_uint32, uinteger = map(int, numbers)
    bits = np.random.PCG64(0)
    bits.state = {
        "bit_generator": "PCG64",
        "state": {"state": (high << 64) + low, "inc": (inc_high << 64) + inc_low},
        "has_uint32": has_uint32,
        "uinteger": uinteger,
    }
    return np.random.Generator(bits)


def as_trace(arrays: Sequence[Any]) -> Trace:
    """What a compiled function gave, in order."""
    losses, failures, *recorded = map(np.asarray, arrays)
    return Trace(losses, failures, *(recorded or (None, None)))


def inner_graph(
    step: Step, traced: Sequence[Variable]
) -> tuple[list[Variable], list[SharedVariable], Callable[..., list[Variable]]]:
    """A step as a function of its state and its constants.

    Returns
    -------
    constants : list of Variable
        Shared variables that the step reads, with the static shapes of their values.
    state : list of shared variable
    rebuild : callable
        ``(*state, *constants, noise=()) -> [*new state, *traced]``; without noise that is given a
        step draws its own.
    """
    state, shared = list(step.updates), step.constants
    graphs = [*step.updates.values(), *traced]
    constants = [with_static_shape(v) for v in shared]

    def rebuild(*inputs: Variable, noise: Sequence[Variable] = ()) -> list[Variable]:
        given = dict(zip([*state, *shared], inputs, strict=True))
        if noise:
            given |= dict(zip((draw for _, draw in step.noise), noise, strict=True))
        return clone_replace(graphs, given, rebuild_strict=False)

    return constants, state, rebuild


class ScanLoop(Loop):
    """The loop inside the compiled function, as a scan over steps: numba and C."""

    @override
    def _build(self, compile_kwargs: dict[str, Any]) -> None:
        constants, state, rebuild = inner_graph(self.step, self._traced)

        def body(*inputs: Variable) -> tuple[list[Variable], Any]:
            outputs = rebuild(*inputs)
            failures = outputs[state.index(self.step.failures)]
            return outputs, until(failures >= MAX_FAILURES)

        n = pt.lscalar("n")
        results = pytensor.scan(
            body,
            outputs_info=[*state, *(None for _ in self._traced)],
            non_sequences=constants,
            n_steps=n,
            return_updates=False,
        )
        # of a tensor all values come out, of a random generator the last one
        last = [r[-1] if isinstance(r.type, TensorType) else r for r in results[: len(state)]]
        mode = without_search_for_structure(get_mode(compile_kwargs.get("mode")))
        self._function = pm.compile(
            [n],
            results[len(state) :],
            updates=dict(zip(state, last, strict=True)),
            random_seed=False,
            **compile_kwargs | {"mode": mode},
        )

    @override
    def advance(self, n: int) -> Trace:
        """Do `n` steps, or fewer if too many in a row fail."""
        return as_trace(self._function(n))


class StepLoop(Loop):
    """One call per step: where there is no compiler, or a scan can't be made of the step."""

    @override
    def _build(self, compile_kwargs: dict[str, Any]) -> None:
        self._function = pm.compile(
            [], self._traced, updates=self.step.updates, random_seed=False, **compile_kwargs
        )

    @override
    def advance(self, n: int) -> Trace:
        """Do `n` steps, or fewer if too many in a row fail."""
        rows = []
        # steps that are not finite are counted as failures; machine code does not warn either
        with np.errstate(all="ignore"):
            for _ in range(n):
                rows.append(self._function())
                if rows[-1][1] >= MAX_FAILURES:
                    break
        return as_trace([np.stack(column) for column in zip(*rows, strict=True)])
