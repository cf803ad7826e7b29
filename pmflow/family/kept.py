"""An approximation as a value, in a file, as a pickle, as a copy."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import pymc as pm

from pmflow.family.group_states import group_state
from pmflow.family.judged import Judged
from pmflow.family.state import ApproximationState
from pmflow.posterior.outline import description
from pmflow.records import State
from pmflow.saving.archive import write_archive
from pmflow.saving.states import pack

__all__ = ["Kept"]


class Kept(Judged):
    """An approximation that can be taken apart and put together again."""

    groups: Sequence[Any]
    model: pm.Model

    def to_state(self) -> State:
        """Everything that makes the approximation, but for its model; see `from_state`.

        Raises
        ------
        StorageError
            If a group is neither a flow nor mean field nor full rank, or its base is of your own.
        """
        return ApproximationState(tuple(map(group_state, self.groups)), self.report)

    @classmethod
    def from_state(cls, state: State, model: pm.Model) -> Any:
        """Make an approximation of the posterior of a model from what `to_state` gave.

        Its class is the one that gave the state, whichever class is asked.
        """
        return _KINDS[type(state)]._of(state, model)

    @classmethod
    @abstractmethod
    def _of(cls, state: Any, model: pm.Model) -> Any:
        """Make one of this class from a state of the class that it gives."""

    def __init_subclass__(cls, state: type[State] | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if state is not None:  # a class of the user's own is kept as what it is made of
            _KINDS[state] = cls

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the approximation to a file, for `pmflow.load`.

        Formula, base, parameters, frame, `hist`, `fit_state`, `starts`, `diagnosis`, `ladder`, the
        modes of a `Stack`, and an outline of the model: names, shapes, transforms, dims and coords.
        Not the model, and not its data. See :doc:`/saving`.

        Parameters
        ----------
        path : path-like
            A file that is there is replaced at once, when the new one is complete.

        Raises
        ------
        StorageError
            If the file can't be written; the one that was there is as it was. If a group is
            neither a flow nor mean field nor full rank.
        """
        about = {"kind": "approximation", **description(self.model)}
        write_archive(path, pack(self.to_state(), about))

    def __reduce__(self) -> tuple[Any, ...]:
        # a model has no plain pickle; cloudpickle is what PyMC itself sends models with
        import cloudpickle

        return _revived, (cloudpickle.dumps(self.model), self.to_state())

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """Return a copy with parameters of its own, of the posterior of the same model."""
        return self.from_state(self.to_state(), self.model)


_KINDS: dict[type[State], Any] = {}
"""The class of approximations that each class of states is of."""


def _revived(model: bytes, state: State) -> Any:
    """What `Kept.__reduce__` took apart."""
    import cloudpickle

    return Kept.from_state(state, cloudpickle.loads(model))
