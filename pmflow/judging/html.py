"""Tables for notebooks, in the colours of the page, dark or light."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["html_table"]

_CELL = 'style="text-align: left; background: none; color: inherit"'


def html_table(rows: Iterable[Sequence[str]], head: Sequence[str] = ()) -> str:
    """Rows of text as a table."""
    lines = [_line("th", head)] if head else []
    lines += [_line("td", row) for row in rows]
    return f'<table style="border: none; background: none; color: inherit">{"".join(lines)}</table>'


def _line(tag: str, cells: Sequence[str]) -> str:
    made = (f"<{tag} {_CELL}>{escape(text)}</{tag}>" for text in cells)
    return f"<tr>{''.join(made)}</tr>"
