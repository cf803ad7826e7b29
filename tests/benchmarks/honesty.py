"""Does the verdict of `diagnose` tell good fits from bad ones? Cases whose answer is known exactly.

``python -m tests.benchmarks.honesty [--repeats 3]``

Nothing is trained: parameters of ``tril-loc`` are set so that the approximation is a given normal
distribution, on targets whose moments are known in closed form. So its error is known exactly.

- *Bad*: a mean is off by more than 0.1 sd of the posterior, or an sd by more than 15 %.
- *Good*: all means are within 0.05 sd, all sds within 5 %, and the divergence is below 0.01 nats
  where it is known in closed form.
- *Between*: neither; run and listed, but judged by no rule.

The rules: of the bad ones none is called reliable; of the good ones fewer than 5 in 100 are called
not reliable.

Left out on purpose: approximations that miss a mode of the posterior altogether. No number computed
from one fit's own draws can see what none of them has reached; only several starts can.

``results/honesty.json`` has every run, ``results/honesty.md`` the table.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from numpy.typing import NDArray
from scipy import stats
from scipy.special import gammaln

import pmflow as pmf

__all__ = ["Case", "cases", "run"]

type Array = NDArray[np.float64]

_RESULTS = Path(__file__).parent / "results"
DRAWS = 4_000

BAD_MEAN, BAD_SD = 0.1, 0.15
GOOD_MEAN, GOOD_SD, GOOD_KL = 0.05, 0.05, 0.01


@dataclass(frozen=True, eq=False)
class Case:
    """A model, and a normal approximation over its unconstrained space.

    `true` and `fitted` are mean and sd of each component in constrained space, shape (2, n);
    `kl` is the divergence, None where there is no closed form.
    """

    family: str
    name: str
    model: pm.Model = field(repr=False)
    mean: Array
    factor: Array
    true: Array
    fitted: Array
    kl: float | None = None

    @property
    def errors(self) -> tuple[float, float]:
        """The largest error of a mean, in sd, and of an sd, relative."""
        mean = np.abs(self.fitted[0] - self.true[0]) / self.true[1]
        return float(mean.max()), float(np.abs(self.fitted[1] / self.true[1] - 1).max())

    @property
    def quality(self) -> str:
        """Good, between or bad."""
        mean, sd = self.errors
        if mean > BAD_MEAN or sd > BAD_SD:
            return "bad"
        good = mean < GOOD_MEAN and sd < GOOD_SD and (self.kl is None or self.kl < GOOD_KL)
        return "good" if good else "between"

    def approximation(self) -> pmf.NormalizingFlow:
        """A ``tril-loc`` with the parameters of the normal distribution."""
        dim, diagonal = len(self.mean), np.diag(self.factor)
        approx = pmf.NormalizingFlow("tril-loc", model=self.model, random_seed=0)
        values = {
            "rho_0": np.log(np.expm1(diagonal)),
            "lower_0": (self.factor / diagonal)[np.tril_indices(dim, -1)] * np.sqrt(dim),
            "loc_1": self.mean,
        }
        for name, param in zip(approx.param_names, approx.params, strict=True):
            param.set_value(values[name])
        return approx


def _flat(dim: int, log_density: Any) -> pm.Model:
    with pm.Model() as model:
        z = pm.Flat("z", shape=dim)
        pm.Potential("target", log_density(z))
    return model


def _moments(mean: Any, sd: Any) -> Array:
    return np.stack(np.broadcast_arrays(np.asarray(mean, dtype=float), sd)).astype(float)


def _gaussian_kl(mean: Array, cov: Array, other_mean: Array, precision: Array) -> float:
    away = mean - other_mean
    log_dets = np.linalg.slogdet(cov)[1] + np.linalg.slogdet(precision)[1]
    trace = np.trace(precision @ cov)
    return float((trace + away @ precision @ away - len(mean) - log_dets) / 2)


def on_gaussian(family: str, name: str, cov: Array, q_mean: Array, q_cov: Array) -> Case:
    """A normal approximation of a normal distribution of mean 0."""
    dim = len(cov)
    precision = np.linalg.inv(cov)
    return Case(
        family,
        name,
        _flat(dim, lambda z: -0.5 * (z * pt.dot(precision, z)).sum()),
        q_mean,
        np.linalg.cholesky(q_cov),
        _moments(np.zeros(dim), np.sqrt(np.diag(cov))),
        _moments(q_mean, np.sqrt(np.diag(q_cov))),
        _gaussian_kl(q_mean, q_cov, np.zeros(dim), precision),
    )


def _random_cov(dim: int, rng: np.random.Generator) -> Array:
    """Random directions, variances over two orders of magnitude."""
    turn, _ = np.linalg.qr(rng.standard_normal((dim, dim)))
    return (turn * 10 ** rng.uniform(-1, 1, dim)) @ turn.T


def _equal(dim: int, rho: float) -> Array:
    return np.full((dim, dim), rho) + (1 - rho) * np.eye(dim)


def _chain(dim: int, rho: float) -> Array:
    return rho ** np.abs(np.subtract.outer(np.arange(dim), np.arange(dim)))


def mean_field(rng: np.random.Generator) -> Iterator[Case]:
    """The best independent normal on a correlated one."""
    for rho in (0.1, 0.2, 0.28, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99):
        for dim in (2, 5, 20, 50):
            for shape, make in (("equal", _equal), ("chain", _chain)):
                if shape == "chain" and dim == 2:
                    continue
                cov = make(dim, rho)
                best = np.diag(1 / np.diag(np.linalg.inv(cov)))
                name = f"{shape} correlation {rho}, dim {dim}"
                yield on_gaussian("mean field", name, cov, np.zeros(dim), best)


def shifted(rng: np.random.Generator) -> Iterator[Case]:
    """The right covariance, one mean or all of them off."""
    for size in (0.02, 0.04, 0.11, 0.13, 0.3, 1.0):
        for dim in (1, 2, 10, 50):
            cov = _random_cov(dim, rng)
            sd = np.sqrt(np.diag(cov))
            one = np.zeros(dim)
            one[0] = size * sd[0]
            yield on_gaussian("shifted", f"one mean by {size}, dim {dim}", cov, one, cov)
            if dim > 1:
                every = size * sd * rng.choice([-1, 1], dim)
                yield on_gaussian("shifted", f"all means by {size}, dim {dim}", cov, every, cov)


def scaled(rng: np.random.Generator) -> Iterator[Case]:
    """The right mean and correlations, sds too small or too large."""
    for factor in (0.5, 0.8, 0.84, 0.96, 0.98, 0.99, 1.01, 1.02, 1.04, 1.16, 1.2, 2.0):
        for dim in (1, 2, 10, 50):
            cov = _random_cov(dim, rng)
            zero = np.zeros(dim)
            name = f"all sds times {factor}, dim {dim}"
            yield on_gaussian("too narrow or wide", name, cov, zero, factor**2 * cov)
            if dim > 1:
                by = np.ones(dim)
                by[-1] = factor
                name = f"one sd times {factor}, dim {dim}"
                yield on_gaussian("too narrow or wide", name, cov, zero, cov * np.outer(by, by))


def near(rng: np.random.Generator) -> Iterator[Case]:
    """Full-rank normals nearly right: a little of every error at once."""
    for dim in (1, 2, 5, 10, 25, 50):
        for size in (0.0, 0.0025, 0.005, 0.01, 0.02):
            cov = _random_cov(dim, rng)
            sd = np.sqrt(np.diag(cov))
            factor = np.linalg.cholesky(cov)
            wrong = factor @ (np.eye(dim) + size * rng.standard_normal((dim, dim)) / np.sqrt(dim))
            mean = size * sd * rng.standard_normal(dim)
            name = f"errors of {size}, dim {dim}"
            yield on_gaussian("nearly exact", name, cov, mean, wrong @ wrong.T)


def heavy_tails(rng: np.random.Generator) -> Iterator[Case]:
    """Student t by the best normal, or by one of the right sd times a factor."""
    grid = np.linspace(-9, 9, 8_001)
    mass = stats.norm.pdf(grid) * (grid[1] - grid[0])
    widths = np.linspace(0.9, 1.7, 1_601)
    for df in (2.5, 3, 4, 5, 7, 10, 15, 20, 30, 100):
        log_p = stats.t(df).logpdf
        # E log q - E log p, by quadrature
        kl = np.array(
            [mass @ (stats.norm.logpdf(grid) - np.log(s) - log_p(s * grid)) for s in widths]
        )
        sd = np.sqrt(df / (df - 2))
        best = widths[kl.argmin()]
        for dim in (1, 5):
            factors = {"the best normal": best, "sd times 0.84": 0.84 * sd, "sd right": sd}
            for word, width in factors.items():
                at = mass @ (stats.norm.logpdf(grid) - np.log(width) - log_p(width * grid))
                yield Case(
                    "heavy tails",
                    f"t with {df} degrees by {word}, dim {dim}",
                    _flat(dim, lambda z, df=df: -((df + 1) / 2 * pt.log1p(z**2 / df)).sum()),
                    np.zeros(dim),
                    width * np.eye(dim),
                    _moments(np.zeros(dim), sd),
                    _moments(np.zeros(dim), width),
                    float(dim * at),
                )


def funnels(rng: np.random.Generator) -> Iterator[Case]:
    """A funnel: v ~ N(0, s^2), x_i ~ N(0, exp(v)), by the best independent normal."""
    for s in (0.05, 0.1, 0.2, 0.5, 0.8, 1.2, 2.0, 3.0):
        for dim in (2, 4, 10):
            n = dim - 1
            tau2 = 1 / (1 / s**2 + n / 2)
            width = np.exp(-tau2 / 4)

            def log_density(z: Any, s: float = s, n: int = n) -> Any:
                inner = n * z[0] + (z[1:] ** 2).sum() * pt.exp(-z[0])
                return -0.5 * ((z[0] / s) ** 2 + inner)

            true_sd = np.array([s, *[np.exp(s**2 / 4)] * n])
            q_sd = np.array([np.sqrt(tau2), *[width] * n])
            # E log q - E log p in closed form: the terms that do not cancel
            kl = -np.log(q_sd).sum() + np.log(s) + (tau2 / s**2 - 1) / 2
            yield Case(
                "funnel",
                f"sd of v {s}, dim {dim}",
                _flat(dim, log_density),
                np.zeros(dim),
                np.diag(q_sd),
                _moments(np.zeros(dim), true_sd),
                _moments(np.zeros(dim), q_sd),
                float(kl),
            )


def bananas(rng: np.random.Generator) -> Iterator[Case]:
    """A bent normal: z1 ~ N(b (z0^2 - 1), 1) with z0 ~ N(0, 1), by the best independent normal."""
    for bend in (0.02, 0.05, 0.08, 0.12, 0.3, 0.5, 0.8, 1.0, 2.0, 4.0):
        a = 4 * bend**2
        tau2 = (np.sqrt(1 + 4 * a) - 1) / (2 * a)

        def log_density(z: Any, bend: float = bend) -> Any:
            return -0.5 * (z[0] ** 2 + (z[1] - bend * (z[0] ** 2 - 1)) ** 2)

        q_mean = np.array([0.0, bend * (tau2 - 1)])
        q_sd = np.array([np.sqrt(tau2), 1.0])
        kl = (tau2 - 1 - np.log(tau2)) / 2 + bend**2 * tau2**2
        yield Case(
            "banana",
            f"bend {bend}",
            _flat(2, log_density),
            q_mean,
            np.diag(q_sd),
            _moments(np.zeros(2), np.array([1.0, np.sqrt(1 + 2 * bend**2)])),
            _moments(q_mean, q_sd),
            float(kl),
        )


def positive(rng: np.random.Generator) -> Iterator[Case]:
    """Gamma variables by a log-normal, through PyMC's transform: the best one, and others."""
    for shape in (1.0, 1.5, 10.0, 15.0, 20.0, 50.0, 200.0, 1000.0):
        for shift, factor in ((0.0, 1.0), (0.02, 1.02), (0.3, 1.0), (0.0, 1.2), (0.0, 0.8)):
            s = factor / np.sqrt(shape)
            mean = np.log(shape) - 1 / (2 * shape) + shift / np.sqrt(shape)
            with pm.Model() as model:
                pm.Gamma("x", shape, 1.0)
            q = stats.lognorm(s, scale=np.exp(mean))
            at = np.exp(mean + s**2 / 2)
            # over log x the target is exp(a y - exp(y)) / Gamma(a)
            kl = -np.log(s) - 0.5 * np.log(2 * np.pi * np.e) - shape * mean + at
            yield Case(
                "positive",
                f"gamma of shape {shape}, shift {shift}, sd times {factor}",
                model,
                np.array([mean]),
                np.array([[s]]),
                _moments([shape], [np.sqrt(shape)]),
                _moments([q.mean()], [q.std()]),
                float(kl + gammaln(shape)),
            )


FAMILIES = {
    f.__name__: f
    for f in (mean_field, shifted, scaled, near, heavy_tails, funnels, bananas, positive)
}


def cases(seed: int = 0) -> Iterator[Case]:
    """All cases; `seed` draws covariances and directions."""
    rng = np.random.default_rng(seed)
    for family in FAMILIES.values():
        yield from family(rng)


def run(case: Case, seed: int, draws: int = DRAWS) -> dict[str, Any]:
    """The verdict, and how far the weighted moments are off."""
    found = pmf.diagnose(case.approximation(), draws, random_seed=seed)
    after = found.shifts[["mean_after", "sd_after"]].to_numpy().T
    return {
        "verdict": found.verdict,
        "k_hat": round(found.k_hat, 3),
        "ess": round(found.ess, 3),
        "kl": round(found.kl, 4),
        "mean_error_after": round(float((np.abs(after[0] - case.true[0]) / case.true[1]).max()), 3),
        "sd_error_after": round(float(np.abs(after[1] / case.true[1] - 1).max()), 3),
    }


_VERDICTS = ("reliable", "usable after importance resampling", "not reliable")


def _table(results: list[dict[str, Any]]) -> str:
    lines = [
        "| cases | fit | runs | reliable | usable after resampling | not reliable "
        "| weighted moments within 0.1 sd and 15 %, where usable |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    families = [*dict.fromkeys(entry["family"] for entry in results)]
    for quality in ("good", "bad", "between"):
        for family in (*families, "all"):
            runs = [
                one
                for entry in results
                if entry["quality"] == quality and family in (entry["family"], "all")
                for one in entry["runs"]
            ]
            if not runs:
                continue
            counts = [sum(one["verdict"] == verdict for one in runs) for verdict in _VERDICTS]
            usable = [one for one in runs if one["verdict"] == _VERDICTS[1]]
            mended = sum(
                one["mean_error_after"] < BAD_MEAN and one["sd_error_after"] < BAD_SD
                for one in usable
            )
            shown = f"{mended} of {len(usable)}" if usable else ""
            cells = [family, quality, str(len(runs)), *map(str, counts), shown]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="seeds of each case")
    parser.add_argument("--families", nargs="*", default=None, choices=FAMILIES)
    options = parser.parse_args()
    began = time.perf_counter()
    results: list[dict[str, Any]] = []
    seeds = iter(range(1_000_000))  # no two runs have their base draws in common
    chosen = options.families or list(FAMILIES)
    rng = np.random.default_rng(0)
    for family in chosen:
        for case in FAMILIES[family](rng):
            entry: dict[str, Any] = {
                "family": case.family,
                "name": case.name,
                "quality": case.quality,
                "kl": case.kl,
                "mean_error": case.errors[0],
                "sd_error": case.errors[1],
                "runs": [run(case, next(seeds)) for _ in range(options.repeats)],
            }
            results.append(entry)
            shown = ", ".join(f"{r['verdict'].split()[0]} ({r['k_hat']})" for r in entry["runs"])
            print(f"{case.family}, {case.name}: {case.quality}; {shown}", flush=True)
    print(_table(results))
    print(f"{time.perf_counter() - began:.0f} s")
    if options.families is None:
        (_RESULTS / "honesty.json").write_text(json.dumps(results, indent=1) + "\n")
        (_RESULTS / "honesty.md").write_text(_table(results))


if __name__ == "__main__":
    main()
