"""Are the models those of the reference: ``python -m tests.benchmarks.accuracy.check [names]``.

NUTS in four chains of 4,000 draws must agree with the reference: each mean within 0.1 sd, each
standard deviation within 10 %. Importance sampling from a t distribution with the moments of those
draws gives the log evidence again; it is believed where the Pareto k is below 0.7.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.special import gammaln

from .density import importance_khat, log_density
from .posteriors import ALL, Posterior, columns
from .scores import moments

__all__ = ["check", "evidence"]

_DRAWS = 100_000
_DF = 10.0
"""Heavier tails than the normal distribution's, for weights with a finite variance."""


def evidence(posterior: Posterior, latents: NDArray[np.float64]) -> tuple[float, float, float]:
    """Log evidence, its standard error, and the Pareto k, by draws near those of NUTS.

    `latents` has shape (draws, dim).
    """
    dim, rng = posterior.dim, np.random.default_rng(0)
    mean, scale = latents.mean(0), latents.std(0)
    # standardised, so that scales of 1e-7 and 1e5 don't spoil the root
    root = scale[:, None] * np.linalg.cholesky(np.corrcoef(latents.T) * (_DF - 2) / _DF)
    spread = np.sqrt(rng.chisquare(_DF, size=(_DRAWS, 1)) / _DF)
    z = mean + (rng.standard_normal((_DRAWS, dim)) / spread) @ root.T
    square = (solve_triangular(root, (z - mean).T, lower=True) ** 2).sum(0)
    log_q = gammaln((_DF + dim) / 2) - gammaln(_DF / 2) - 0.5 * dim * np.log(_DF * np.pi)
    log_q = log_q - np.log(np.diag(root)).sum() - 0.5 * (_DF + dim) * np.log1p(square / _DF)
    density = log_density(posterior.build())
    log_p = np.concatenate([density(part) for part in np.array_split(z, 20)])
    log_p = np.where(np.isfinite(log_p), log_p, log_q - 700.0)  # as good as no weight
    ratio = log_p - log_q
    weights = np.exp(ratio - ratio.max())
    error = weights.std() / weights.mean() / np.sqrt(_DRAWS)
    return (
        float(np.log(weights.mean()) + ratio.max()),
        float(error),
        importance_khat(log_p, log_q),
    )


def check(posterior: Posterior) -> bool:
    """Print how well a model agrees with its reference; whether it is well enough."""
    import nutpie

    compiled = nutpie.compile_pymc_model(posterior.build(), backend="numba")
    trace = nutpie.sample(
        compiled, draws=4000, chains=4, seed=1, progress_bar=False, store_unconstrained=True
    )
    error, ratio = moments(columns(trace["posterior"], posterior.names), posterior)
    latents = np.asarray(trace["sample_stats"]["unconstrained_draw"]).reshape(-1, posterior.dim)
    found, its_error, khat = evidence(posterior, latents)
    gap = found - posterior.log_evidence
    believed = khat < 0.7
    good = error < 0.1 and abs(np.log(ratio)) < 0.1 and (not believed or abs(gap) < 0.05)
    print(
        f"{posterior.name}: mean off by {error:.3f} sd, sd by a factor {ratio:.3f}; log evidence "
        f"{found:.4f} +- {its_error:.4f}, off by {gap:+.4f}, k-hat {khat:.2f}"
        f"{'' if believed else ' (not believed)'}{'' if good else ' <-- NOT GOOD'}",
        flush=True,
    )
    return good


def main() -> None:
    """Run from the command line."""
    names = sys.argv[1:] or list(ALL)
    good = [check(ALL[name]) for name in names]
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
