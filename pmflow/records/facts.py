"""What was fitted."""

from __future__ import annotations

from dataclasses import dataclass

from pmflow.records.states import FitState

__all__ = ["Facts"]


@dataclass(frozen=True)
class Facts:
    """What was fitted, as far as advice depends on it.

    Attributes
    ----------
    families : tuple of str
        One a group: the formula of a flow, or the name of a family of PyMC, ``mean_field``.
    dim : int
        Length of the latent vector.
    correlated : bool
        Whether any two variables can depend on each other: one group, and in it a layer that mixes
        coordinates or a dense frame.
    bent : bool
        Whether a layer of some flow is not affine.
    base : str or None
        What the first layer sees, as `base` takes it; None for one that no text names.
    frame : str or None
        Kind of the frame, None without one.
    stacked : bool
        Whether it is a mixture of fits, which is not trained further.
    trained : bool
        Whether it has parameters that training can change.
    minibatches : tuple of str
        Names of what in the model depends on the rows of a minibatch.
    by : str
        Who trained it: ``"NFVI"``, ``"fit"`` (the ladder of `pmflow.fit`), ``"pymc"``, or empty.
    ended : FitState or None
        How training ended.
    """

    families: tuple[str, ...]
    dim: int
    correlated: bool
    bent: bool
    base: str | None
    frame: str | None
    stacked: bool
    trained: bool
    minibatches: tuple[str, ...]
    by: str
    ended: FitState | None
