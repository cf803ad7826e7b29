"""Approximations whose draws are no graph."""

from __future__ import annotations

from typing import Any, ClassVar

from pmflow.errors import UnsupportedError

__all__ = ["NoGraph"]


class NoGraph:
    """Not to be trained, and no node can be evaluated at its draws."""

    no_graph: ClassVar[str]
    """Why, and what to use."""

    def set_size_and_deterministic(self, *_: Any, **__: Any) -> Any:
        """Not available: its draws are no graph, so it is not trained either."""
        raise UnsupportedError(self.no_graph)

    symbolic_sample_over_posterior = sample_node = set_size_and_deterministic
