"""Products of matrices without a search for structure in them.

From PyTensor 3.3 on, three rewrites ask of each product of matrices whether one of them is
diagonal, orthogonal or a selection of rows, and ask the whole graph before it again whenever it has
changed. In the weights of a network nothing is found, and a quarter of the time of rewriting is
gone.

This can go when PyTensor keeps what it has found out of the nodes that have not changed.
"""

from __future__ import annotations

from pytensor.compile.mode import Mode

__all__ = ["SEARCHES", "without_search_for_structure"]

SEARCHES = (
    "dot_diag_to_elemwise",
    "selection_dot_to_indexing",
    "orthogonal_dot_transpose_to_eye",
)
"""Names of the rewrites."""


def without_search_for_structure(mode: Mode) -> Mode:
    """The mode without these rewrites, of which older versions of PyTensor have none."""
    return mode.excluding(*SEARCHES)
