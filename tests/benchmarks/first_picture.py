"""The picture of the first page: ``python -m tests.benchmarks.first_picture``.

Eight schools (Rubin, 1981), centred, by `pmflow.fit` and by NUTS: the school with the largest
effect against the scale of the schools, 2,000 draws of each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pymc as pm

import pmflow as pmf

_FIGURE = Path(__file__).parents[2] / "docs" / "figures" / "first.png"
_EFFECTS = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
_ERRORS = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
_DRAWS = 2_000


def _model() -> pm.Model:
    with pm.Model(coords={"school": list("ABCDEFGH")}) as model:
        mean, scale = pm.Normal("mu", 0.0, 5.0), pm.HalfCauchy("tau", 5.0)
        effect = pm.Normal("theta", mean, scale, dims="school")
        pm.Normal("y", effect, _ERRORS, observed=_EFFECTS, dims="school")
    return model


def _pair(tree: Any) -> tuple[Any, Any]:
    posterior = tree["posterior"].to_dataset()
    draws = posterior["theta"].sel(school="A").values.ravel()[:_DRAWS]
    return draws, np.log(posterior["tau"].values.ravel()[:_DRAWS])


def main() -> None:
    """Fit, sample, draw."""
    model = _model()
    approx = pmf.fit(model=model, random_seed=1, progressbar=False)
    nuts = pm.sample(model=model, random_seed=1, chains=2, progressbar=False, target_accept=0.99)
    found = {
        f"pmf.fit(model=model): {approx.diagnosis.verdict}": approx.sample(_DRAWS, random_seed=1),
        "pm.sample(target_accept=0.99)": nuts,
    }
    figure, axes = plt.subplots(
        1, 2, figsize=(8, 3.2), sharex=True, sharey=True, layout="constrained"
    )
    for ax, (title, tree) in zip(axes, found.items(), strict=True):
        ax.plot(*_pair(tree), ".", markersize=3, alpha=0.35, color="#2a6f97")
        ax.set_title(title, fontsize=10)
        ax.set_xlabel("effect of school A")
    axes[0].set_ylabel("log scale of the schools")
    figure.savefig(_FIGURE, dpi=130)


if __name__ == "__main__":
    main()
