"""The board of the catalogue as pictures: errors, seconds, and verdicts against the truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np

from .table import errors_of, said_of

__all__ = ["draw"]

_GOOD_R_HAT, _GOOD_ESS = 1.01, 400
"""Of NUTS, for it to be a reference."""
_COLOURS = {"reliable": "#2a6f97", "usable after importance resampling": "#e9a23b"}
_OTHER = "#b5473c"
_FAR = 0.1, 0.15
"""A mean in sd, and the distance of an sd ratio from 1, from which on a fit is bad."""


class _Point(NamedTuple):
    dim: int
    seconds: float
    nuts: float | None
    mean: float | None
    sd: float | None
    verdict: str

    @property
    def is_bad(self) -> bool:
        return self.mean is not None and (self.mean > _FAR[0] or (self.sd or 0.0) > _FAR[1])


def draw(kept: Path, names: Sequence[str], file: Path) -> str:
    """Draw what is kept of some models, and say it in a few lines."""
    points = [point for name in names if (point := _point(kept, name)) is not None]
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    _errors(axes[0], points)
    _seconds(axes[1], points)
    _verdicts(axes[2], points)
    figure.savefig(file, dpi=120)
    plt.close(figure)
    return _in_words(points)


def _point(kept: Path, name: str) -> _Point | None:
    ours, nuts = said_of(kept, name, "pmflow", 1, "cold"), said_of(kept, name, "nutpie", 1, "cold")
    if "verdict" not in ours:
        return None
    is_known = nuts.get("r_hat", np.inf) <= _GOOD_R_HAT and nuts.get("ess", 0) >= _GOOD_ESS
    found = errors_of(kept, name) if is_known else None
    mean, sd = (None, None) if found is None else found
    return _Point(ours["dim"], ours["wall"], nuts.get("wall"), mean, sd, ours["verdict"])


def _colour(point: _Point) -> str:
    return _COLOURS.get(point.verdict, _OTHER)


def _errors(ax: Any, points: Sequence[_Point]) -> None:
    known = [p for p in points if p.mean is not None]
    for colour in {*map(_colour, known)}:
        chosen = [p for p in known if _colour(p) == colour]
        ax.loglog([p.dim for p in chosen], [p.mean for p in chosen], "o", color=colour, alpha=0.7)
    ax.axhline(_FAR[0], color="0.6", linewidth=1)
    ax.set(xlabel="dimensions", ylabel="worst mean, sd", title="Error beside NUTS")


def _seconds(ax: Any, points: Sequence[_Point]) -> None:
    both = [p for p in points if p.nuts]
    for colour in {*map(_colour, both)}:
        chosen = [p for p in both if _colour(p) == colour]
        ax.loglog(
            [p.nuts for p in chosen],
            [p.seconds for p in chosen],
            "o",
            color=colour,
            alpha=0.7,
            label=next(p.verdict for p in chosen),
        )
    ends = [1, 300]
    ax.plot(ends, ends, color="0.6", linewidth=1)
    ax.set(xlabel="seconds of nutpie", ylabel="seconds of pmflow.fit", title="First answer, cold")
    ax.legend(fontsize=7)


def _verdicts(ax: Any, points: Sequence[_Point]) -> None:
    known = [p for p in points if p.mean is not None]
    rows = sorted({p.verdict for p in known}, reverse=True)
    good = [sum(p.verdict == row and not p.is_bad for p in known) for row in rows]
    bad = [sum(p.verdict == row and p.is_bad for p in known) for row in rows]
    labels = [row.replace(" after ", "\nafter ") for row in rows]
    ax.barh(labels, good, color="#2a6f97", label="right")
    ax.barh(labels, bad, left=good, color=_OTHER, label="a mean 0.1 sd or an sd 15 % off")
    ax.set(xlabel="models", title="Verdict beside NUTS")
    ax.legend(fontsize=7)


def _in_words(points: Sequence[_Point]) -> str:
    both = [p for p in points if p.nuts]
    known = [p for p in points if p.mean is not None]
    ratios = np.array([p.seconds / p.nuts for p in both if p.nuts])
    reliable = [p for p in points if p.verdict == "reliable"]
    wrong = [p for p in known if p.verdict == "reliable" and p.is_bad]
    return "\n".join(
        [
            f"{len(points)} models fitted and judged, {len(reliable)} reliable",
            f"{len(known)} with NUTS as a reference; {len(wrong)} reliable though off",
            f"sooner than nutpie on {(ratios <= 1).mean():.0%} of {len(both)}, "
            f"within twice on {(ratios <= 2).mean():.0%}, median {np.median(ratios):.2f}",
        ]
    )
