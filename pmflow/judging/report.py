"""A diagnosis as a page: a table of numbers, why the verdict is what it is, and what to try."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np

from pmflow.judging.html import html_table
from pmflow.judging.verdict import bounds

__all__ = ["as_html", "as_text", "with_error"]

_BLIND = "A mode that no draw has reached can't be seen here."

_HUGE = 1e9
"""From here on digits say nothing."""

type Row = tuple[str, str, str]
"""What, its value, and what to hold it against."""


def as_text(found: Any) -> str:
    """For a terminal, the verdict on top."""
    rows = _rows(found)
    widths = [max(len(row[i]) for row in rows if row[2] or i == 0) for i in (0, 1)]
    lines = [f"Verdict: {found.verdict}", ""]
    lines += [f"  {a:<{widths[0]}}  {b:<{widths[1]}}  {c}".rstrip() for a, b, c in rows]
    for title, items in _lists(found):
        if items:
            lines += ["", title, *(f"  - {item}".replace("\n", "\n      ") for item in items)]
    if found.starts is None:
        lines += ["", _BLIND]
    return "\n".join(lines)


def as_html(found: Any) -> str:
    """For a notebook; no colours of its own: it takes those of the page, dark or light."""
    lists = "".join(
        f"<div>{title}</div><ul>{''.join(f'<li>{_item(item)}</li>' for item in items)}</ul>"
        for title, items in _lists(found)
        if items
    )
    blind = f"<div><em>{_BLIND}</em></div>" if found.starts is None else ""
    return (
        f'<div style="color: inherit"><strong>{escape(found.verdict)}</strong>'
        f"{html_table(_rows(found))}{lists}{blind}</div>"
    )


def _item(text: str) -> str:
    """A line of words, and the code below it if there is any."""
    words, _, code = text.partition("\n")
    return escape(words) + (f"<br><code>{escape(code)}</code>" if code else "")


def _lists(found: Any) -> list[tuple[str, tuple[str, ...]]]:
    return [("Why", found.reasons), ("Try", found.advice)]


def _rows(found: Any) -> list[Row]:
    rows: list[Row] = []
    if not np.isfinite(found.elbo):
        rows.append(("finite draws", f"{found.draws - found.non_finite:,}", f"of {found.draws:,}"))
    else:
        rows += [
            ("ELBO", with_error(found.elbo, found.elbo_se), "a bound of the log evidence"),
            ("log evidence", with_error(found.log_evidence, found.log_evidence_se), ""),
            ("KL to posterior", with_error(found.kl, found.kl_se), "0 is exact"),
        ]
        if not np.isnan(found.k_hat):
            tail = "" if found.ess < 1 - 5e-4 else ", all weights are nearly equal"
            rows += [
                ("k-hat", f"{found.k_hat:.2f}", f"limit {found.k_threshold:.2f}{tail}"),
                ("effective draws", f"{found.ess:.0%}", f"of {found.draws:,}"),
            ]
        if found.non_finite:
            rows.append(("not finite", f"{found.non_finite:,}", f"of {found.draws:,} draws"))
        rows += _extremes(found)
    if found.images > 1:
        rows.append(("mirror images", f"{found.images}", "all kept, of the same weight"))
    if found.fit_state is not None:
        rows.append(("training", str(found.fit_state), ""))
    if found.starts is not None:
        rows.append(("starts", found.starts.summary, ""))
    return rows


def _extremes(found: Any) -> list[Row]:
    """The components that weighting changes most."""
    rows: list[Row] = []
    for bound, name, what in zip(
        bounds(found.shifts),
        ("mean_shift", "sd_ratio"),
        ("largest shift of a mean", "largest change of an sd"),
        strict=True,
    ):
        if not bound.notna().any():
            continue
        row = found.shifts.iloc[int(np.nanargmax(bound.to_numpy()))]
        number = f"{row[name]:+.3f}" if name == "mean_shift" else f"{row[name]:.3f}"
        unit, note = (" sd", "") if name == "mean_shift" else ("", ", fit / posterior")
        error = row[f"{name}_mcse"]
        rows.append((what, f"{number} ± {error:.3f}{unit}", f"of {row.name}{note}"))
    return rows


def with_error(value: float, error: float) -> str:
    """``-12.34 ± 0.02``: as many digits as the error has, two of it."""
    if not np.isfinite(error) or error <= 0:
        return f"{value:.4g}"
    if max(abs(value), error) >= _HUGE:
        return f"{value:.2g} ± {error:.1g}"
    digits = int(np.clip(1 - np.floor(np.log10(error)), 0, 4))
    return f"{value:z,.{digits}f} ± {error:.{digits}f}"
