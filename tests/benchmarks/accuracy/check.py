"""Are the models those of the reference: ``python -m tests.benchmarks.accuracy.check [names]``.

NUTS in four chains of 4,000 draws must agree with the reference: each mean within 0.1 sd, each
standard deviation within 10 %. Bridge sampling between those draws and a t distribution with their
moments gives the log evidence again, within 0.05; it is believed where the Pareto k of the t
distribution's weights is below 0.7. (Importance sampling alone is 0.06 too low for the Gaussian
process, whose k is 0.5.)

Meng & Wong (1996), Simulating ratios of normalizing constants via a simple identity,
https://www3.stat.sinica.edu.tw/statistica/j6n4/j6n43/j6n43.htm
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.special import gammaln, logsumexp

from .density import importance_khat, log_density
from .posteriors import ALL, Posterior, columns
from .scores import moments

__all__ = ["check", "evidence"]

_DRAWS = 100_000
_ROUNDS = 200
_DF = 10.0
"""Heavier tails than the normal distribution's, for weights with a finite variance."""


def evidence(posterior: Posterior, latents: NDArray[np.float64]) -> tuple[float, float]:
    """Log evidence by bridge sampling, and the Pareto k of the t distribution's weights.

    `latents`, of shape (draws, dim), are of NUTS: half of them fit the t distribution, the other
    half are the posterior's end of the bridge.
    """
    dim, rng = posterior.dim, np.random.default_rng(0)
    fitted, bridge = latents[::2], latents[1::2]
    mean, scale = fitted.mean(0), fitted.std(0)
    # standardised, so that scales of 1e-7 and 1e5 don't spoil the root
    root = scale[:, None] * np.linalg.cholesky(np.corrcoef(fitted.T) * (_DF - 2) / _DF)
    spread = np.sqrt(rng.chisquare(_DF, size=(_DRAWS, 1)) / _DF)
    z = mean + (rng.standard_normal((_DRAWS, dim)) / spread) @ root.T
    log_p = log_density(posterior.build())

    def log_q(at: NDArray[np.float64]) -> NDArray[np.float64]:
        square = (solve_triangular(root, (at - mean).T, lower=True) ** 2).sum(0)
        norm = gammaln((_DF + dim) / 2) - gammaln(_DF / 2) - 0.5 * dim * np.log(_DF * np.pi)
        norm = norm - np.log(np.diag(root)).sum()
        return norm - 0.5 * (_DF + dim) * np.log1p(square / _DF)

    def log_ratio(at: NDArray[np.float64]) -> NDArray[np.float64]:
        ratio = np.concatenate([log_p(part) - log_q(part) for part in np.array_split(at, 20)])
        return np.where(np.isfinite(ratio), ratio, -1e5)  # as good as no weight

    ratios = log_ratio(z)
    return _bridge(log_ratio(bridge), ratios), importance_khat(ratios, np.zeros(_DRAWS))


def _bridge(there: NDArray[np.float64], here: NDArray[np.float64]) -> float:
    """Meng and Wong's optimal bridge, iterated; log p / q at draws of p and at draws of q."""
    share = len(there) / (len(there) + len(here))
    found = float(np.median(there))
    for _ in range(_ROUNDS):
        both = [np.logaddexp(np.log(share) + x, np.log1p(-share) + found) for x in (here, there)]
        above = logsumexp(here - both[0]) - np.log(len(here))
        found = float(above - logsumexp(-both[1]) + np.log(len(there)))
    return found


def check(posterior: Posterior) -> bool:
    """Print how well a model agrees with its reference; whether it is well enough."""
    import nutpie

    compiled = nutpie.compile_pymc_model(posterior.build(), backend="numba")
    trace = nutpie.sample(
        compiled, draws=4000, chains=4, seed=1, progress_bar=False, store_unconstrained=True
    )
    error, ratio = moments(columns(trace["posterior"], posterior.names), posterior)
    latents = np.asarray(trace["sample_stats"]["unconstrained_draw"]).reshape(-1, posterior.dim)
    found, khat = evidence(posterior, latents)
    gap = found - posterior.log_evidence
    believed = khat < 0.7
    good = error < 0.1 and abs(np.log(ratio)) < 0.1 and (not believed or abs(gap) < 0.05)
    print(
        f"{posterior.name}: mean off by {error:.3f} sd, sd by a factor {ratio:.3f}; log evidence "
        f"{found:.4f}, off by {gap:+.4f}, k-hat {khat:.2f}"
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
