"""An approximation as a few lines of text, and as a piece of a page."""

from __future__ import annotations

from html import escape
from textwrap import shorten
from typing import Any

from pmflow.family.reported import Reported

__all__ = ["Shown"]

_WIDTH = 70
"""Characters for the names of variables."""

_UNKNOWN = "not judged yet, pmflow.diagnose(approx) does it"


class Shown(Reported):
    """An approximation that says what it is, of what, and how good."""

    def __repr__(self) -> str:
        head, *rows = self._rows()
        width = max(len(name) for name, _ in rows)
        return "\n".join([head[1], *(f"  {name:<{width}}  {text}" for name, text in rows)])

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """For a notebook; no colours of its own: it takes those of the page, dark or light."""
        head, *rows = self._rows()
        if self.diagnosis is not None:  # the table of it says more than its line
            rows = [row for row in rows if row[0] not in ("training", "verdict")]
        lines = "".join(f"<div>{name}: {escape(text)}</div>" for name, text in rows)
        found = "" if self.diagnosis is None else self.diagnosis._repr_html_()
        tried = "" if self.ladder is None else self.ladder._repr_html_()
        return (
            f'<div style="color: inherit"><strong>{escape(head[1])}</strong>'
            f"{lines}<br>{found}{tried}</div>"
        )

    def _rows(self: Any) -> list[tuple[str, str]]:
        """What it is, and what there is to say of it."""
        names = [rv.name for rv in self.model.free_RVs]
        found = self.diagnosis
        rows = [
            ("", f"{type(self).__name__}, {self.ddim:,} dimensions"),
            ("family", " & ".join(self.facts.families)),
            ("variables", shorten(", ".join(names), _WIDTH, placeholder=" ...")),
        ]
        if self.images > 1:
            rows.append(("mirror images", str(self.images)))
        if self.fit_state is not None:
            rows.append(("training", str(self.fit_state)))
        return [*rows, ("verdict", _UNKNOWN if found is None else found.summary)]
