"""What the form of a graph that XLA gets is worth: ``python -m tests.benchmarks.vectorized``.

Log densities of regressions, and their gradients, as rewritten for XLA and as PyTensor translates
them: nanoseconds a row and a draw, by turns in one process, the least of five. Nothing else may run
on the machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np

_ROWS, _COLUMNS, _DRAWS, _CALLS = 4_096, 8, 64, 50


def _densities() -> dict[str, tuple[Any, Any]]:
    """The latent vector and the log density of each model, as a graph."""
    import pymc as pm

    import pmflow as pmf

    rng = np.random.default_rng(0)
    x = rng.normal(size=(_ROWS, _COLUMNS))
    eta = x @ rng.normal(size=_COLUMNS) / 4
    seen = {
        "logistic": rng.random(_ROWS) < 1 / (1 + np.exp(-eta)),
        "Poisson": rng.poisson(np.exp(eta)),
        "normal": eta + rng.normal(size=_ROWS),
    }
    found = {}
    for name, y in seen.items():
        with pm.Model() as model:
            mean = pm.Data("x", x) @ pm.Normal("b", shape=_COLUMNS)
            if name == "logistic":
                pm.Bernoulli("y", logit_p=mean, observed=pm.Data("seen", y.astype("int32")))
            elif name == "Poisson":
                pm.Poisson("y", pm.math.exp(mean), observed=pm.Data("seen", y))
            else:
                pm.Normal("y", mean, pm.HalfNormal("sd"), observed=pm.Data("seen", y))
        flow = pmf.NormalizingFlow("scale-loc", model=model, jitter=0.0)
        found[name] = flow.groups[0].log_density.graph
    return found


def _compiled(z: Any, logp: Any, gradient: Any, rewrite: Callable[..., None]) -> Any:
    from pmflow.graphs import machine

    with patch.object(machine, "for_xla", rewrite):
        return machine.compiled_at_points(z, logp, _DRAWS, gradient=gradient)


def main() -> None:
    """Print a table."""
    from pmflow.graphs.workarounds.vectorized import for_xla

    print("| model | | as translated, ns | as rewritten, ns | ratio |\n|---|---|---|---|---|")
    for name, (z, logp) in _densities().items():
        points = 0.1 * np.random.default_rng(1).normal(size=(_DRAWS, *z.type.shape))
        for gradient, what in (("none", "value"), ("jax", "and gradient")):
            runs = [_compiled(z, logp, gradient, how) for how in (lambda graph: None, for_xla)]
            best = [np.inf, np.inf]
            for _ in range(5):
                for i, run in enumerate(runs):
                    began = time.perf_counter()
                    for _ in range(_CALLS):
                        run(points)
                    seconds = (time.perf_counter() - began) / _CALLS
                    best[i] = min(best[i], seconds / _ROWS / _DRAWS * 1e9)
            print(f"| {name} | {what} | {best[0]:.1f} | {best[1]:.1f} | {best[0] / best[1]:.1f} |")


if __name__ == "__main__":
    main()
