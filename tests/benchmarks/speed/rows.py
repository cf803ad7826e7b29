"""The rows of the table: which target, which flow, how many draws a step."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DRAWS_AXIS", "GROWTH", "LEARNING_RATE", "ROWS", "Row", "growth_row"]

LEARNING_RATE = 0.01
"""Of Adam, for every subject."""


@dataclass(frozen=True)
class Row:
    """One piece of work that all subjects do.

    Attributes
    ----------
    name : str
    target : str
        See `models.build_model`.
    formula : str
        Of the flow; subjects that lack it take the nearest they have and say so.
    draws : int
        A step.
    """

    name: str
    target: str
    formula: str
    draws: int

    @property
    def title(self) -> str:
        plural = "" if self.draws == 1 else "s"
        return f"{self.target}, {self.formula}, {self.draws} draw{plural}"


_ROWS = (
    Row("A", "potential_1", "planar*8", 100),
    Row("B", "potential_1", "planar*2", 1),
    Row("C", "potential_4", "planar*10", 10),
    Row("D1", "radon", "scale-loc", 1),
    Row("D20", "radon", "scale-loc", 20),
    Row("E", "radon", "scale-hh*10-loc", 1),
    Row("F", "regression", "scale-loc", 1),
    Row("H", "normal-10", "(iaf[activation=elu]-reverse)*3", 100),
    Row("I", "normal-10", "coupling[activation=relu]*4", 100),
    Row("J", "normal-10", "coupling*8", 100),
)

ROWS = {row.name: row for row in _ROWS}

DRAWS_AXIS = "draws"

GROWTH = {
    DRAWS_AXIS: (1, 100, 1_000, 10_000),
    "layers": (1, 4, 16, 64),
    "dimensions": (2, 30, 300, 2_000),
}
"""Row G: what grows, and through which values."""


def growth_row(axis: str, value: int) -> Row:
    """The work at one point of an axis of `GROWTH`."""
    name = f"G {axis} {value}"
    if axis == DRAWS_AXIS:
        return Row(name, "potential_1", "planar*8", value)
    if axis == "layers":
        return Row(name, "potential_1", f"planar*{value}", 100)
    return Row(name, f"normal-{value}", "scale-planar*4-loc", 100)
