"""What an inference trains: an approximation that exists already, or a new flow."""

from __future__ import annotations

from typing import Any

from pmflow.checks import refuse_with
from pmflow.errors import ParameterError
from pmflow.family.approximation import Approximation
from pmflow.family.normalizing_flow import NormalizingFlow
from pmflow.family.resampled import Resampled
from pmflow.family.stack import Stack
from pmflow.flows.formula import Formula

__all__ = ["approximation_for"]


def approximation_for(
    flow: str | Formula | Approximation, *, base: Any = None, **given: Any
) -> Approximation:
    """The approximation that was given, or a flow by its formula.

    Parameters
    ----------
    flow : str, Formula or Approximation
    base, **given
        As of `NormalizingFlow`, None where they are left open.

    Raises
    ------
    ParameterError
        If an argument comes too late for an approximation that exists, or it can't be trained.
    """
    if not isinstance(flow, Approximation):
        return NormalizingFlow(flow, base="normal" if base is None else base, **given)
    refuse_with("an approximation, which exists already", {**given, "base": base})
    if isinstance(flow, Resampled):
        raise ParameterError(
            "flow must not be Resampled: draws that are chosen anew are not trained. Train its "
            "`proposal`, or begin with a formula."
        )
    if isinstance(flow, Stack):
        raise ParameterError(
            "flow must not be a Stack: it is several fits, and is not trained further. "
            "Train the flow of the inference that made it, or begin with a formula."
        )
    return flow
