"""The results as tables in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .growth import fit_growth
from .rows import GROWTH, ROWS
from .subjects import LIMIT, SUBJECTS

__all__ = ["to_markdown"]

type Results = dict[str, dict[str, Any]]

_PYMC = ("PyMC loop", "pm.ADVI")


def to_markdown(results: Results, machine: str) -> str:
    """All tables for which there are results."""
    parts = [f"Measured with {machine}."]
    for title, make in _SECTIONS.items():
        lines = make(results)
        if lines:
            parts.append(f"## {title}\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _table(head: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> list[str]:
    body = [tuple(map(str, row)) for row in rows]
    if not body:
        return []
    return [_line(head), _line(("---",) * len(head)), *map(_line, body)]


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def _number(x: float | None, digits: int = 3) -> str:
    if x is None:
        return "-"
    if abs(x) >= 10**digits:
        return f"{x:,.0f}"
    return f"{x:.{digits}g}"


def _ratio(rate: float, other: float | None) -> str:
    return f"{_number(rate / other)}x" if other else "-"


def _rows(results: Results) -> list[str]:
    lines = []
    for row in ROWS.values():
        found = {s: results[k] for s in SUBJECTS if (k := f"row {row.name} / {s}") in results}
        rates = {s: r["steps_per_s"] for s, r in found.items() if "steps_per_s" in r}
        pymc = max((x for s, x in rates.items() if s.startswith(_PYMC)), default=None)
        for subject, result in found.items():
            name = f"{row.name}: {row.title}"
            if "error" in result:
                lines.append((name, subject, "-", "-", "-", "-", "-", "-", result["error"]))
                continue
            rate, runs = rates[subject], result["runs"]
            lines.append(
                (
                    name,
                    subject,
                    _number(result["compile_s"]),
                    _number(rate, 4),
                    f"{(max(runs) - min(runs)) / rate:.1%}",
                    _ratio(rate, pymc),
                    _ratio(rate, rates.get(LIMIT)),
                    _number(result["peak_mib"], 4),
                    result["note"],
                )
            )
    head = ("row", "subject", "compile s", "steps/s", "spread", "PyMC's best loop", "limit")
    return _table((*head, "peak MiB", "note"), lines)


def _growth(results: Results) -> list[str]:
    lines = []
    for axis, values in GROWTH.items():
        for backend in ("numba", "jax"):
            subject = f"pmflow {backend}"
            keys = {x: f"row G {axis} {x} / {subject}" for x in values}
            found = {x: results[k] for x, k in keys.items() if k in results}
            seconds = {x: 1 / r["steps_per_s"] for x, r in found.items() if "steps_per_s" in r}
            if not found:
                continue
            fit = fit_growth(list(seconds), list(seconds.values()))
            cells = [
                f"{x}: {_number(1e6 * seconds[x])}" if x in seconds else f"{x}: {r['error']}"
                for x, r in found.items()
            ]
            compiled = [f"{x}: {_number(found[x]['compile_s'])}" for x in seconds]
            fixed, exponent = (_number(1e6 * fit[0]), f"{fit[2]:.2f}") if fit else ("-", "-")
            lines.append(
                (axis, subject, ", ".join(cells), fixed, exponent, ", ".join(compiled)),
            )
    head = ("x", "subject", "microseconds a step", "fixed, microseconds", "exponent", "compile s")
    return _table(head, lines)


def _jobs(results: Results) -> list[str]:
    lines: list[tuple[str, ...]] = []
    for key, result in results.items():
        if not key.startswith("job "):
            continue
        if "error" in result:
            lines.append((key, "-", "-", "-", "-", "-", result["error"]))
            continue
        inside = [result[name] for name in ("import_s", "fit_s", "sample_s")]
        lines.append(
            (
                key,
                f"{result['wall_s']:.1f}",
                *(f"{x:.1f}" for x in inside),
                f"{result['wall_s'] - sum(inside):.1f}",
                f"mean of the last losses {result['loss']:.4g}",
            )
        )
    head = ("job", "seconds in all", "imports", "model and fit", "draws", "start and end", "note")
    return _table(head, lines)


def _tracker(results: Results) -> list[str]:
    lines: list[tuple[str, ...]] = []
    for backend in ("numba", "jax"):
        keys = [f"tracker {backend} {state}" for state in ("off", "on")]
        off, on = (results.get(key, {}) for key in keys)
        errors = [r["error"] for r in (off, on) if "error" in r]
        if errors:
            lines.append((backend, "-", "-", "-", errors[0]))
        elif off and on:
            ratio = f"{on['seconds'] / off['seconds']:.2f}x"
            rates = (_number(r["steps"] / r["seconds"], 4) for r in (off, on))
            lines.append((backend, *rates, ratio, f"peak {on['peak_mib']:.0f} MiB"))
    return _table(("backend", "steps/s without", "steps/s with", "time", "note"), lines)


def _memory(results: Results) -> list[str]:
    lines = []
    for key, result in results.items():
        if not key.startswith("memory "):
            continue
        name = key.removeprefix("memory ")
        if "error" in result:
            lines.append((name, "-", "-", "-", result["error"]))
            continue
        peak, before = result["peak_mib"], result["before_mib"]
        lines.append((name, f"{before:.0f}", f"{peak:.0f}", f"{result['seconds']:.2f}", ""))
    return _table(("what", "MiB before", "peak MiB", "seconds", "note"), lines)


_SECTIONS: dict[str, Callable[[Results], list[str]]] = {
    "Steps a second": _rows,
    "Growth of the time of a step": _growth,
    "Whole jobs": _jobs,
    "Tracker": _tracker,
    "Memory": _memory,
}
