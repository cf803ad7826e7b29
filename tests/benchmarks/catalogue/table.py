"""The board of the catalogue as a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["errors_of", "said_of", "table"]

_COLUMNS = (
    *("model", "dims", "cold, s", "nutpie", "ratio", "warm, s", "nutpie", "ratio"),
    *("R-hat", "worst mean, sd", "sds", "verdict", "taken"),
)
_HEAD = f"| {' | '.join(_COLUMNS)} |\n|{'---|' * len(_COLUMNS)}"
_NO_TRUTH = 1.05
"""R-hat of NUTS above which it is no reference."""


def table(kept: Path, names: Sequence[str]) -> str:
    """A line for each model of which something was measured."""
    return "\n".join([_HEAD, *(_row(kept, name) for name in names)])


def said_of(kept: Path, name: str, what: str, seed: int, heat: str) -> dict[str, Any]:
    """What one process has said, empty where there was none."""
    file = kept / f"{name}.{what}.{seed}.{heat}.json"
    return json.loads(file.read_text()) if file.exists() else {}


def _row(kept: Path, name: str) -> str:
    cells, nuts = [], said_of(kept, name, "nutpie", 1, "cold")
    ours = said_of(kept, name, "pmflow", 1, "cold")
    cells += [name, str(ours.get("dim", "-"))]
    for heat in ("cold", "warm"):
        pair = [said_of(kept, name, what, 1, heat).get("wall") for what in ("pmflow", "nutpie")]
        cells += ["-" if wall is None else f"{wall:.1f}" for wall in pair]
        cells.append(f"{pair[0] / pair[1]:.2f}" if pair[0] and pair[1] else "-")
    cells.append(f"{nuts['r_hat']:.2f}" if "r_hat" in nuts else nuts.get("error", "-"))
    cells += _accuracy(kept, name, is_known=nuts.get("r_hat", np.inf) <= _NO_TRUTH)
    verdicts = [
        said.get("verdict", said.get("error", "-")[:200])
        for said in (said_of(kept, name, "pmflow", seed, "cold") for seed in _seeds(kept, name))
    ]
    cells += [", ".join(dict.fromkeys(verdicts)) or "-", ours.get("taken", "-")]
    return f"| {' | '.join(cells)} |"


def _seeds(kept: Path, name: str) -> list[int]:
    return sorted(int(f.name.split(".")[-3]) for f in kept.glob(f"{name}.pmflow.*.cold.json"))


def _accuracy(kept: Path, name: str, *, is_known: bool) -> list[str]:
    """The largest error of a mean and the sds over those of NUTS, over all seeds."""
    found = _beside_nuts(kept, name) if is_known else None
    if found is None:
        return ["-", "-"]
    errors, ratio = found
    return [f"{errors.max():.3f}", f"{ratio.min():.2f} to {ratio.max():.2f}"]


def errors_of(kept: Path, name: str) -> tuple[float, float] | None:
    """The largest error of a mean in sd, and the largest distance of an sd ratio from 1."""
    found = _beside_nuts(kept, name)
    return None if found is None else (float(found[0].max()), float(abs(found[1] - 1).max()))


def _beside_nuts(kept: Path, name: str) -> tuple[Any, Any] | None:
    truth = kept / f"{name}.nutpie.1.npz"
    found = [np.load(f) for f in sorted(kept.glob(f"{name}.pmflow.*.npz"))]
    if not truth.exists() or not found:
        return None
    known = np.load(truth)
    errors, ratios = [], []
    for one in found:
        for sd in (k for k in known.files if k.endswith(".sd")):
            scale, mean = np.maximum(known[sd], 1e-300), sd.removesuffix("sd") + "mean"
            errors.append(np.abs(one[mean] - known[mean]) / scale)
            ratios.append(one[sd] / scale)
    return np.concatenate(errors), np.concatenate(ratios)
