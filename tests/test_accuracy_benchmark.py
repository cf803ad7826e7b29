"""The posteriors of the accuracy benchmark against densities written apart, in NumPy and SciPy.

Each oracle takes the data and some reference draws by name, and returns the point in unconstrained
space, block by block as the model has them, with the log density there, Jacobian included.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytest
import xarray as xr
from benchmarks.accuracy import check, cli, density, figure, methods, posteriors, scores, table
from benchmarks.accuracy.posteriors import ALL, TARGETS, Posterior
from numpy.typing import NDArray
from scipy import stats
from scipy.special import logit

pytestmark = pytest.mark.slow

type Array = NDArray[np.float64]
type Draws = dict[str, Array]
type Oracle = Callable[[dict[str, Any], Draws], tuple[dict[str, Array], Array]]

_AT = slice(0, 2000, 250)
_HALF = np.log(2)  # a density folded onto the positive axis


def _normal(x: Any, mean: Any, sd: Any) -> Any:
    return -0.5 * ((x - mean) / sd) ** 2 - np.log(sd) - 0.5 * np.log(2 * np.pi)


def _eight_schools(data: dict[str, Any], at: Draws) -> tuple[dict[str, Array], Array]:
    mu, tau, theta = at["mu"], at["tau"], at["theta"]
    trans = (theta - mu[:, None]) / tau[:, None]
    logp = _normal(mu, 0, 5) + stats.halfcauchy.logpdf(tau, scale=5) + np.log(tau)
    logp = logp + _normal(trans, 0, 1).sum(-1)
    logp = logp + _normal(np.array(data["y"]), theta, np.array(data["sigma"])).sum(-1)
    return {"mu": mu, "tau_log__": np.log(tau), "theta_trans": trans}, logp


def _kilpisjarvi(data: dict[str, Any], at: Draws) -> tuple[dict[str, Array], Array]:
    alpha, beta, sigma = at["alpha"], at["beta"], at["sigma"]
    mean = alpha[:, None] + beta[:, None] * np.array(data["x"])
    logp = _normal(alpha, data["pmualpha"], data["psalpha"]) + np.log(sigma)
    logp = logp + _normal(beta, data["pmubeta"], data["psbeta"])
    logp = logp + _normal(np.array(data["y"]), mean, sigma[:, None]).sum(-1)
    return {"alpha": alpha, "beta": beta, "sigma_log__": np.log(sigma)}, logp


def _line(y: Any, terms: list[Any], at: Draws) -> tuple[dict[str, Array], Array]:
    beta, sigma = at["beta"], at["sigma"]
    mean = sum(b[:, None] * np.asarray(x, dtype=float) for b, x in zip(beta.T, terms, strict=True))
    logp = _normal(np.asarray(y, dtype=float), mean, sigma[:, None]).sum(-1) + np.log(sigma)
    return {"beta": beta, "sigma_log__": np.log(sigma)}, logp


def _log_earnings(data: dict[str, Any], at: Draws) -> tuple[dict[str, Array], Array]:
    height, male = np.array(data["height"]), np.array(data["male"])
    return _line(np.log(data["earn"]), [1.0, height, male, height * male], at)


def _kid_score(data: dict[str, Any], at: Draws) -> tuple[dict[str, Array], Array]:
    hs, iq = np.array(data["mom_hs"]), np.array(data["mom_iq"])
    point, logp = _line(data["kid_score"], [1.0, hs, iq, hs * iq], at)
    return point, logp + stats.cauchy.logpdf(at["sigma"], scale=2.5) + _HALF


def _mesquite(data: dict[str, Any], at: Draws) -> tuple[dict[str, Array], Array]:
    sizes = [data[x] for x in ("diam1", "diam2", "canopy_height", "total_height")]
    return _line(data["weight"], [1.0, *sizes, data["density"], data["group"]], at)


def _party(data: dict[str, Any], at: Draws) -> tuple[dict[str, Array], Array]:
    ages = [np.equal(data["age_discrete"], k) for k in (2, 3, 4)]
    before, after = ["real_ideo", "race_adj"], ["educ1", "gender", "income"]
    terms = [1.0, *(data[x] for x in before), *ages, *(data[x] for x in after)]
    return _line(data["partyid7"], terms, at)


def _linear_regression(data: dict[str, Any], at: Draws) -> tuple[dict[str, Array], Array]:
    point, logp = _line(data["y"], list(np.array(data["X"]).T), at)
    prior = _normal(at["beta"], 0, 10).sum(-1) + _normal(at["sigma"], 0, 10) + _HALF
    return point, logp + prior


def _diamonds(data: dict[str, Any], at: Draws) -> tuple[dict[str, Array], Array]:
    design = data["X"][:, 1:] - data["X"][:, 1:].mean(axis=0)
    b, intercept, sigma = at["b"], at["Intercept"], at["sigma"]
    mean = intercept[:, None] + b @ design.T
    logp = _normal(np.asarray(data["Y"]), mean, sigma[:, None]).sum(-1) + np.log(sigma)
    logp = logp + _normal(b, 0, 1).sum(-1) + stats.t.logpdf(intercept, 3, 8, 10)
    logp = logp + stats.t.logpdf(sigma, 3, 0, 10) + _HALF
    return {"b": b, "Intercept": intercept, "sigma_log__": np.log(sigma)}, logp


def _arma(data: dict[str, Any], at: Draws) -> tuple[dict[str, Array], Array]:
    mu, phi, theta, sigma = (at[x] for x in ("mu", "phi", "theta", "sigma"))
    logp = _normal(mu, 0, 10) + _normal(phi, 0, 2) + _normal(theta, 0, 2)
    logp = logp + stats.cauchy.logpdf(sigma, scale=2.5) + _HALF + np.log(sigma)
    error = data["y"][0] - (mu + phi * mu)
    logp = logp + _normal(error, 0, sigma)
    for before, now in zip(data["y"][:-1], data["y"][1:], strict=True):
        error = now - (mu + phi * before + theta * error)
        logp = logp + _normal(error, 0, sigma)
    return {"mu": mu, "phi": phi, "theta": theta, "sigma_log__": np.log(sigma)}, logp


def _garch(data: dict[str, Any], at: Draws) -> tuple[dict[str, Array], Array]:
    mu, alpha0, alpha1, beta1 = (at[x] for x in ("mu", "alpha0", "alpha1", "beta1"))
    share = beta1 / (1 - alpha1)
    # the sizes of d alpha0, d alpha1, d beta1 over the unconstrained coordinates
    logp = np.log(alpha0) + np.log(alpha1 * (1 - alpha1))
    logp = logp + np.log((1 - alpha1) * share * (1 - share))
    sd = np.full_like(mu, data["sigma1"])
    for t, y in enumerate(data["y"]):
        if t:
            sd = np.sqrt(alpha0 + alpha1 * (data["y"][t - 1] - mu) ** 2 + beta1 * sd**2)
        logp = logp + _normal(y, mu, sd)
    point = {"mu": mu, "alpha0_log__": np.log(alpha0)}
    return {**point, "alpha1_interval__": logit(alpha1), "beta1_interval__": logit(share)}, logp


def _gaussian_process(data: dict[str, Any], at: Draws) -> tuple[dict[str, Array], Array]:
    rho, alpha, x = at["rho"], at["alpha"], np.array(data["x"], dtype=float)
    rows, logp = [], []
    for r, a, f in zip(rho, alpha, at["f"], strict=True):
        kernel = a**2 * np.exp(-((x[:, None] - x[None, :]) ** 2) / (2 * r**2))
        root = np.linalg.cholesky(kernel + 1e-10 * np.eye(len(x)))
        tilde = np.linalg.solve(root, f)
        prior = stats.gamma.logpdf(r, 25, scale=1 / 4) + stats.norm.logpdf(a, 0, 2) + _HALF
        prior += np.log(r) + np.log(a) + stats.norm.logpdf(tilde).sum()
        logp.append(prior + stats.poisson.logpmf(data["k"], np.exp(root @ tilde)).sum())
        rows.append(tilde)
    point = {"rho_log__": np.log(rho), "alpha_log__": np.log(alpha), "f_tilde": np.array(rows)}
    return point, np.array(logp)


def _gaussian_mixture(data: dict[str, Any], at: Draws) -> tuple[dict[str, Array], Array]:
    mu, sigma, theta = at["mu"], at["sigma"], at["theta"]
    y = np.array(data["y"])
    first = theta[:, None] * stats.norm.pdf(y, mu[:, :1], sigma[:, :1])
    second = (1 - theta[:, None]) * stats.norm.pdf(y, mu[:, 1:], sigma[:, 1:])
    gap = mu[:, 1] - mu[:, 0]
    logp = np.log(first + second).sum(-1) + _normal(mu, 0, 2).sum(-1) + np.log(gap)
    logp = logp + (_normal(sigma, 0, 2) + _HALF + np.log(sigma)).sum(-1)
    logp = logp + stats.beta.logpdf(theta, 5, 5) + np.log(theta * (1 - theta))
    point = {"mu_ordered__": np.column_stack([mu[:, 0], np.log(gap)])}
    return {**point, "sigma_log__": np.log(sigma), "theta_logodds__": logit(theta)}, logp


ORACLES: dict[str, Oracle] = {
    "eight_schools-eight_schools_noncentered": _eight_schools,
    "kilpisjarvi_mod-kilpisjarvi": _kilpisjarvi,
    "earnings-logearn_interaction": _log_earnings,
    "kidiq-kidscore_interaction": _kid_score,
    "mesquite-mesquite": _mesquite,
    "sblri-blr": _linear_regression,
    "nes2000-nes": _party,
    "diamonds-diamonds": _diamonds,
    "arma-arma11": _arma,
    "garch-garch11": _garch,
    "gp_pois_regr-gp_pois_regr": _gaussian_process,
    "low_dim_gauss_mix-low_dim_gauss_mix": _gaussian_mixture,
}

everyone = pytest.mark.parametrize("posterior", ALL.values(), ids=ALL)


def _by_name(posterior: Posterior) -> Draws:
    """Some reference draws: variable -> (draws,) or (draws, length)."""
    assert posterior.draws is not None
    found: dict[str, list[Array]] = {}
    for name, column in zip(posterior.names, posterior.draws[_AT].T, strict=True):
        found.setdefault(name.partition("[")[0], []).append(column)
    scalars = set(posterior.names)
    return {k: v[0] if k in scalars else np.column_stack(v) for k, v in found.items()}


def _as_columns(values: Array) -> Array:
    return values.reshape(len(values), -1)


def test_every_posterior_has_an_oracle() -> None:
    assert set(ORACLES) == set(ALL)


@everyone
def test_log_density_at_reference_draws_is_that_of_the_oracle(posterior: Posterior) -> None:
    _, data, _ = posteriors.load_data(posterior.name)
    point, expected = ORACLES[posterior.name](data, _by_name(posterior))
    model = posterior.build()
    z = np.column_stack([_as_columns(point[v.name]) for v in model.value_vars])
    found = density.log_density(model)(z)
    # 1e-5: PyMC's log factorials of small integers are in float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_a_recursion_has_the_same_density_point_by_point(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate = density.log_density(ALL["garch-garch11"].build())
    z = 0.3 * np.random.default_rng(0).standard_normal((3, 4))
    expected = evaluate(z)
    monkeypatch.setattr(density, "_FEW", 0)
    with pytensor.config.change_flags(mode="FAST_COMPILE"):
        np.testing.assert_allclose(evaluate(z), expected, rtol=1e-12)


@everyone
def test_a_model_starts_at_a_finite_point_of_its_dimension(posterior: Posterior) -> None:
    model = posterior.build()
    start = model.initial_point()
    z = np.concatenate([np.ravel(start[v.name]) for v in model.value_vars])
    assert z.shape == (posterior.dim,)
    assert np.isfinite(density.log_density(model)(z)).all()


@everyone
def test_draws_kept_have_the_moments_of_the_reference(posterior: Posterior) -> None:
    # 2,000 draws: 0.12 sd is five standard errors, and the sd of a skewed one is off by more
    assert posterior.draws is not None
    assert posterior.draws.shape == (2000, len(posterior.names))
    mean, ratio = scores.moments(posterior.draws, posterior)
    assert mean < 0.12
    assert abs(np.log(ratio)) < 0.15


@everyone
def test_every_reference_column_is_a_variable_of_the_model(posterior: Posterior) -> None:
    model = posterior.build()
    shapes = model.eval_rv_shapes()
    named = {**shapes, **{d.name: d.type.shape for d in model.deterministics}}
    sizes: dict[str, int] = {}
    for name in posterior.names:
        sizes[name.partition("[")[0]] = sizes.get(name.partition("[")[0], 0) + 1
    for variable, count in sizes.items():
        # the shape of a deterministic may be unknown until it is computed
        assert [n for n in named[variable] if n is not None] in ([count], [], [1])


def test_columns_follow_the_names_and_join_chains() -> None:
    values = np.arange(2 * 3 * 2).reshape(2, 3, 2)
    data = xr.Dataset(
        {"b": (("chain", "draw", "x"), values), "s": (("chain", "draw"), -values[..., 0])}
    )
    found = posteriors.columns(data, ["s", "b[2]"])
    np.testing.assert_array_equal(found[:, 1], [1, 3, 5, 7, 9, 11])
    np.testing.assert_array_equal(found[:, 0], [0, -2, -4, -6, -8, -10])
    with pytest.raises(ValueError, match=r"b\[1,2\] has 2 indices"):
        posteriors.columns(data, ["b[1,2]"])


@pytest.mark.parametrize("name", [n for n, t in TARGETS.items() if t.draws is not None])
def test_moments_of_targets_are_those_of_their_draws(name: str) -> None:
    target = TARGETS[name]
    assert target.draws is not None
    error = np.abs(target.draws.mean(0) - target.reference_mean) / target.reference_sd
    assert error.max() < 0.15


def test_moments_by_quadrature_know_the_symmetry_of_the_ring() -> None:
    ring = TARGETS["potential_1"]
    np.testing.assert_allclose(ring.reference_mean, 0, atol=1e-6)
    # the crescents face each other along the first coordinate, at 2 from the centre
    assert 1.5 < ring.reference_sd[0] < 2.0
    assert ring.reference_sd[1] < ring.reference_sd[0]


def _known(draws: Array | None = None) -> Posterior:
    """A normal posterior with mean (1, -2) and sd (1, 2); its model is `_pair`."""
    names = ("x[1]", "x[2]")
    return Posterior(
        "nes2000-nes", 2, 0.0, _pair, np.array([1.0, -2.0]), np.array([1.0, 2.0]), names, draws
    )


def _pair() -> pm.Model:
    with pm.Model() as model:
        pm.Normal("x", [1.0, -2.0], [1.0, 2.0], shape=2)
    return model


def test_moments_are_the_worst_of_the_columns() -> None:
    z = np.random.default_rng(0).standard_normal((1000, 2))
    z = (z - z.mean(0)) / z.std(0)
    draws = np.array([1.0, -2.0]) + np.array([0.1, -0.6]) + z * [1.2, 2 * 0.5]
    error, ratio = scores.moments(draws, _known())
    assert error == pytest.approx(0.3)
    assert ratio == pytest.approx(0.5)  # farther from 1 than 1.2, both as factors


def test_khat_sees_a_narrow_proposal_and_not_a_wide_one() -> None:
    rng = np.random.default_rng(0)
    for scale, low, high in ((0.4, 0.6, 1.2), (1.5, -2.0, 0.3)):  # 1 - scale^2 and below 0
        z = scale * rng.standard_normal(10_000)
        log_q = stats.norm.logpdf(z, 0, scale)
        assert low < density.importance_khat(stats.norm.logpdf(z), log_q) < high


def test_the_bridge_finds_a_known_evidence() -> None:
    rng = np.random.default_rng(0)
    target, other = stats.norm(0, 1), stats.norm(0.5, 1.5)
    ratios = [
        target.logpdf(z) + 3.7 - other.logpdf(z)
        for z in (rng.standard_normal(8_000), 0.5 + 1.5 * rng.standard_normal(100_000))
    ]
    assert check._bridge(*ratios) == pytest.approx(3.7, abs=0.02)


@pytest.mark.parametrize("method", ["advi", "fullrank_advi"])
def test_densities_of_pymc_families_are_exact(method: str) -> None:
    # a normal family with the target's moments, but one mean that is off by half an sd
    with pm.Model() as model:
        root = np.array([[1.0, 0.0, 0.0], [0.7, 2.0, 0.0], [-0.4, 0.3, 0.5]])
        root = root if method == "fullrank_advi" else np.diag(np.diag(root))
        pm.MvNormal("x", np.zeros(3), chol=root)
        approx = (pm.MeanField if method == "advi" else pm.FullRank)(random_seed=1)
    params = approx.params_dict
    params["mu"].set_value(0.5 * root[:, 0])
    if method == "advi":
        params["rho"].set_value(np.log(np.expm1(np.diag(root))))
    else:
        raw = root.copy()
        np.fill_diagonal(raw, np.log(np.expm1(np.diag(root))))
        params["L_tril"].set_value(raw[np.tril_indices(3)])
    np.testing.assert_allclose(approx.cov.eval(mode="FAST_COMPILE"), root @ root.T, atol=1e-12)
    p, q = methods._densities(model, approx, seed=1)
    # KL of N(m, S) from N(0, S) is m' S^-1 m / 2, and log p - log q has the variance m' S^-1 m
    assert (p - q).mean() == pytest.approx(-0.125, abs=5 * 0.5 / 100)
    assert (p - q).std() == pytest.approx(0.5, rel=0.05)


def test_pmflow_is_judged_by_what_it_says_of_its_draws() -> None:
    options: dict[str, Any] = {"n": 20, "obj_n_mc": 20, "compile_kwargs": {"mode": "FAST_COMPILE"}}
    fit = methods.run(partial(methods._pmflow, method="nfvi=scale-loc", **options), _known(), 1)
    assert not fit.error
    assert fit.draws is not None
    assert fit.elbo is not None
    assert fit.draws.shape == (10_000, 2)
    # the ELBO of a normal q for a normal target, of the moments that its draws show
    mean, sd = fit.draws.mean(0), fit.draws.std(0)
    known = _known()
    ratio = sd / known.reference_sd
    shift = (mean - known.reference_mean) / known.reference_sd
    kl = (0.5 * (ratio**2 + shift**2 - 1) - np.log(ratio)).sum()
    assert kl > 0.15  # 20 steps: not there yet
    assert fit.elbo == pytest.approx(-kl, abs=0.05)


def test_a_failure_is_a_result() -> None:
    def failing(posterior: Posterior, seed: int) -> methods.Fit:
        raise FloatingPointError("the loss is NaN\nin step 3")

    fit = methods.run(failing, _known(), 0)
    assert fit.error == "FloatingPointError: the loss is NaN"
    assert fit.draws is None
    lost = methods.Fit(np.full((3, 2), np.nan), 1.0)
    assert methods.run(lambda _posterior, _seed: lost, _known(), 0).error == "draws are not finite"


@pytest.fixture
def invented(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Two methods that fit in no time; the seeds that the first of them was called with."""
    called: list[int] = []

    def good(posterior: Posterior, seed: int) -> methods.Fit:
        called.append(seed)
        draws = posterior.reference_mean + posterior.reference_sd * [[-1.0], [1.0]]
        draws = draws + 0.1 * seed * posterior.reference_sd
        return methods.Fit(draws, 2.0 * seed or 8.0, -1000.0, 0.1, np.inf)

    def bad(posterior: Posterior, seed: int) -> methods.Fit:
        raise ValueError("no | such fit")

    monkeypatch.setitem(methods.METHODS, "advi", good)
    monkeypatch.setitem(methods.METHODS, "nutpie", lambda p, s: methods.Fit(p.draws, 1.0))
    monkeypatch.setitem(methods.METHODS, "pathfinder", bad)
    return called


def test_results_are_kept_and_only_what_is_missing_is_made(
    tmp_path: Path, invented: list[int]
) -> None:
    cli.measure(["nes2000-nes"], ["advi"], 2, tmp_path)
    cli.measure(["nes2000-nes"], ["advi"], 3, tmp_path)
    assert invented == [0, 1, 2]
    runs = cli.read(tmp_path)
    assert [r["seed"] for r in runs] == [0, 1, 2]
    assert [r["first"] for r in runs] == [True, False, True]  # seed 2 began a process of its own
    assert runs[2]["mean_error"] == pytest.approx(0.2)
    assert runs[0]["gap"] == pytest.approx(-957.12799 + 1000)
    assert runs[0]["khat"] is None  # JSON has no infinity
    cli.measure(["nes2000-nes"], ["advi"], 1, tmp_path, again=True)
    assert invented == [0, 1, 2, 0]
    assert len(cli.read(tmp_path)) == 3


def test_an_interrupted_run_is_kept(
    tmp_path: Path, invented: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(posterior: Posterior, seed: int) -> methods.Fit:
        raise KeyboardInterrupt

    monkeypatch.setitem(methods.METHODS, "pathfinder", stop)
    with pytest.raises(KeyboardInterrupt):
        cli.measure(["nes2000-nes"], ["advi", "pathfinder"], 1, tmp_path)
    assert [r["method"] for r in cli.read(tmp_path)] == ["advi"]
    assert not list(tmp_path.glob("*.new"))


def test_the_table_sums_up_over_seeds(tmp_path: Path, invented: list[int]) -> None:
    cli.measure(["nes2000-nes"], ["advi", "nutpie", "pathfinder"], 3, tmp_path)
    nuts, own, failed = table.summarise(cli.read(tmp_path))
    assert [nuts["method"], own["method"], failed["method"]] == ["nutpie", "advi", "pathfinder"]
    assert own["mean_error"] == pytest.approx(0.1)
    assert own["mean_error_worst"] == pytest.approx(0.2)
    assert (own["cold"], own["warm"], own["over_nutpie"]) == (8.0, 3.0, 3.0)
    assert nuts["over_nutpie"] == 1.0
    assert (failed["failed"], failed["mean_error"]) == (3, None)
    text = (tmp_path / "accuracy.md").read_text()
    row = "| nes2000-nes | `advi` | 3 | 0.100 | 0.200 | 1.000 | 42.87 |  | 8.0 | 3.0 | 3.00 |"
    assert row in text
    assert "- nes2000-nes, `pathfinder`: ValueError: no | such fit" in text


def test_names_may_be_parts_of_names() -> None:
    names = ["advi", "fullrank_advi", "nutpie"]
    assert cli.choose([], names, "method") == names
    assert cli.choose(["advi"], names, "method") == ["advi"]
    assert cli.choose(["nut", "full"], names, "method") == ["fullrank_advi", "nutpie"]
    with pytest.raises(ValueError, match="no method 'adam'; choose of advi, fullrank_advi"):
        cli.choose(["adam"], names, "method")


def test_the_figure_has_a_point_for_each_posterior_and_method(
    tmp_path: Path, invented: list[int]
) -> None:
    import matplotlib.pyplot as plt

    cli.measure(["nes2000-nes", "arma-arma11", "funnel"], ["advi", "nutpie"], 2, tmp_path)
    drawn = figure.draw_accuracy(cli.read(tmp_path))
    (ax,) = drawn.axes
    points = [np.asarray(line.get_xydata()) for line in ax.lines]
    found = [tuple(p[0].tolist()) for p in points if len(p) == 1]
    assert pytest.approx((2.0, 0.05)) in found  # advi: warm seconds, median of 0 and 0.1
    assert [t.get_text() for t in drawn.legends[0].get_texts()] == ["nutpie", "advi"]
    assert len(ax.containers) == 4  # the funnel is left out
    plt.close(drawn)


def test_the_licence_stands_beside_the_data() -> None:
    folder = Path(posteriors.__file__).parent / "posteriordb"
    assert "BSD 3-Clause" in (folder / "LICENCE.md").read_text()
    assert {p.stem for p in folder.glob("*.json")} == set(ALL)
    assert all(p.stat().st_size < 1_000_000 for p in folder.iterdir())
