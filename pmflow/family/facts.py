"""What an approximation is, in the words that advice needs."""

from __future__ import annotations

from typing import Any

from pymc.variational import opvi
from pymc.variational.approximations import FullRankGroup

from pmflow.family.flow_group import NormalizingFlowGroup
from pmflow.flows.formula import base_text
from pmflow.graphs.minibatches import in_minibatches
from pmflow.records import Facts

__all__ = ["facts_of"]


def facts_of(approx: Any) -> Facts:
    """What was fitted: family, frame, data and training.

    Parameters
    ----------
    approx : Approximation
    """
    groups = approx.groups
    flows = [group for group in groups if isinstance(group, NormalizingFlowGroup)]
    frames = [flow.frame for flow in flows if flow.frame is not None]  # of a single group only
    bases = [base_text(flow.base) for flow in flows]
    state = approx.fit_state
    by = "pymc" if state is None and len(approx.hist) else ""
    return Facts(
        families=tuple(_family(group) for group in groups),
        dim=int(approx.ddim),
        correlated=len(groups) == 1 and _is_correlated(groups[0]),
        bent=any(not flow.flow.is_affine for flow in flows),
        base=bases[0] if bases else "normal",
        frame=frames[0].kind if frames else None,
        stacked=approx.is_stack,
        trained=bool(approx.params),
        minibatches=tuple(in_minibatches(approx.model)),
        by=by if state is None else state.by,
        ended=state,
    )


def _family(group: opvi.Group) -> str:
    return str(group.formula) if isinstance(group, NormalizingFlowGroup) else str(group.short_name)


def _is_correlated(group: opvi.Group) -> bool:
    if not isinstance(group, NormalizingFlowGroup):
        return isinstance(group, FullRankGroup)
    is_dense = group.frame is not None and not group.frame.is_diagonal
    return is_dense or any(layer.mixes for layer in group.flow.layers)
