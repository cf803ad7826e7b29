"""How near `planar*8` comes to targets with known evidence, over seeds.

``python tests/benchmarks/planar_targets.py [--target potential_1] [--seeds 10] [--jitter 0.1]``

Trains as PyMC3's notebook did (25,000 steps of adam(0.01), 100 draws a step) and prints, for each
seed, the mean loss of the last 1,000 steps, and the divergence of the final flow from 100,000 fresh
draws with its standard error.
"""

from __future__ import annotations

import argparse

import numpy as np
import pymc as pm

import pmflow as pmf

__all__ = ["measure"]

_DRAWS = 100_000


def measure(
    target: pmf.targets.Target, *, formula: str, seed: int, jitter: float, steps: int, backend: str
) -> tuple[float, float, float]:
    """Mean of the last losses, divergence left, and the standard error of that."""
    inference = pmf.NFVI(formula, model=target.model(), random_seed=seed, jitter=jitter)
    approx = inference.fit(
        steps,
        obj_n_mc=100,
        obj_optimizer=pm.adam(learning_rate=0.01),
        backend=backend,
        progressbar=False,
    )
    stats = approx.sample(_DRAWS, random_seed=1)["sample_stats"]
    terms = np.asarray(stats["log_q"] - stats["log_p"])
    kl = float(terms.mean()) + target.log_evidence
    return float(inference.hist[-1_000:].mean()), kl, float(terms.std() / np.sqrt(_DRAWS))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="potential_1", choices=pmf.targets.ALL)
    parser.add_argument("--formula", default="planar*8")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--jitter", type=float, default=0.1)
    parser.add_argument("--steps", type=int, default=25_000)
    parser.add_argument("--backend", default="jax", choices=["numba", "c", "jax"])
    options = parser.parse_args()
    target = pmf.targets.ALL[options.target]
    rows = []
    for seed in range(options.seeds):
        row = measure(
            target,
            formula=options.formula,
            seed=seed,
            jitter=options.jitter,
            steps=options.steps,
            backend=options.backend,
        )
        rows.append(row)
        print(f"seed {seed}: loss {row[0]:.4f}, KL {row[1]:.4f} +- {row[2]:.4f}", flush=True)
    loss, kl, _ = np.array(rows).T
    print(f"best possible loss {-target.log_evidence:.4f}")
    print(f"loss: best {loss.min():.4f}, median {np.median(loss):.4f}, worst {loss.max():.4f}")
    print(f"KL:   best {kl.min():.4f}, median {np.median(kl):.4f}, worst {kl.max():.4f}")


if __name__ == "__main__":
    main()
