"""Targets: the densities of the paper, and their exact evidence."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pymc as pm
import pytest
import xarray as xr
from scipy import stats
from scipy.special import expit, logsumexp

from pmflow import targets
from pmflow.errors import ParameterError
from pmflow.targets import Target

Array = np.ndarray


def w1(z: Array) -> Array:
    return np.sin(2 * np.pi * z[..., 0] / 4)


def w2(z: Array) -> Array:
    return 3 * np.exp(-0.5 * ((z[..., 0] - 1) / 0.6) ** 2)


def w3(z: Array) -> Array:
    return 3 * expit((z[..., 0] - 1) / 0.3)


# Rezende & Mohamed (2015), table 1, typed from the paper; then the Laplace tail of the notebook
PAPER = {
    "potential_1": lambda z: (
        0.5 * ((np.linalg.norm(z, axis=-1) - 2) / 0.4) ** 2
        - np.log(
            np.exp(-0.5 * ((z[..., 0] - 2) / 0.6) ** 2)
            + np.exp(-0.5 * ((z[..., 0] + 2) / 0.6) ** 2)
        )
    ),
    "potential_2": lambda z: 0.5 * ((z[..., 1] - w1(z)) / 0.4) ** 2 + 0.1 * abs(z[..., 0]),
    "potential_3": lambda z: (
        -np.log(
            np.exp(-0.5 * ((z[..., 1] - w1(z)) / 0.35) ** 2)
            + np.exp(-0.5 * ((z[..., 1] - w1(z) + w2(z)) / 0.35) ** 2)
        )
        + 0.1 * abs(z[..., 0])
    ),
    "potential_4": lambda z: (
        -np.log(
            np.exp(-0.5 * ((z[..., 1] - w1(z)) / 0.4) ** 2)
            + np.exp(-0.5 * ((z[..., 1] - w1(z) + w3(z)) / 0.35) ** 2)
        )
        + 0.1 * abs(z[..., 0])
    ),
    "gaussian_mixture": lambda z: (
        -np.log(
            sum(
                0.5 * np.exp(-0.5 * ((z - mean) ** 2).sum(-1)) / (2 * np.pi)
                for mean in (np.array([1, 1]), np.array([-2, -2]))
            )
        )
    ),
}


def turned(dim: int) -> Array:
    """The covariance of the ill-conditioned Gaussian, from its description."""
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((dim, dim)))[0]
    return turn @ np.diag(np.logspace(-3, 3, dim)) @ turn.T


def many_means() -> Array:
    return np.random.default_rng(0).uniform(-40, 40, size=(40, 2))


PAPER |= {
    "funnel": lambda z: (
        -stats.norm.logpdf(z[..., 0], scale=3)
        - stats.norm.logpdf(z[..., 1:], scale=np.exp(z[..., :1] / 2)).sum(-1)
    ),
    "banana": lambda z: (
        -stats.norm.logpdf(z[..., 0], scale=10)
        - stats.norm.logpdf(z[..., 1], loc=3 - 0.03 * z[..., 0] ** 2)
    ),
    "ill_conditioned": lambda z: -stats.multivariate_normal(cov=turned(50)).logpdf(z),
    "student_t": lambda z: -stats.t.logpdf(z, 3).sum(-1),
    "many_modes": lambda z: (
        -logsumexp(
            [stats.norm.logpdf(z, m, np.log1p(np.e)).sum(-1) for m in many_means()],
            axis=0,
            b=1 / 40,
        )
    ),
}

EACH = list(targets.ALL.values())
each_target = pytest.mark.parametrize("target", EACH, ids=lambda t: t.name)
each_plane = pytest.mark.parametrize(
    "target", [t for t in EACH if t.dim == 2], ids=lambda t: t.name
)


def test_every_target_has_its_formula_here() -> None:
    assert set(PAPER) == set(targets.ALL)


@each_target
def test_the_density_is_that_of_the_paper(target: Target) -> None:
    points = np.random.default_rng(0).uniform(-3, 3, size=(4, 50, target.dim))
    np.testing.assert_allclose(
        # 1e-8: a covariance with condition 1e6 loses 6 digits in the reference
        target.log_density(points),
        -PAPER[target.name](points),
        rtol=1e-8,
        atol=1e-10,
    )


@each_target
def test_the_model_has_the_density(target: Target) -> None:
    logp = target.model().compile_logp(mode="FAST_COMPILE")
    points = np.random.default_rng(0).normal(scale=3, size=(20, target.dim))
    values = [logp({"z": point}) for point in points]
    np.testing.assert_allclose(values, target.log_density(points), rtol=1e-10)


@each_plane
def test_the_density_is_finite_far_out(target: Target) -> None:
    far = np.array([[1e3, 1e3], [-1e3, 1e3], [0.0, -1e4]])
    assert np.isfinite(target.log_density(far)).all()


@each_plane
def test_the_model_has_the_density_far_out_and_a_gradient_there(target: Target) -> None:
    model = target.model()
    logp = model.compile_logp(mode="FAST_COMPILE")
    gradient = model.compile_dlogp(mode="FAST_COMPILE")
    far = np.array([[1e3, 1e3], [-1e3, 1e3], [0.0, -1e4]])
    values = [logp({"z": point}) for point in far]
    np.testing.assert_allclose(values, target.log_density(far), rtol=1e-12)
    assert np.isfinite([gradient({"z": point}) for point in far]).all()


@each_target
def test_the_gradient_is_that_of_the_density(target: Target) -> None:
    gradient = target.model().compile_dlogp(mode="FAST_COMPILE")
    points = np.random.default_rng(1).uniform(-3, 3, size=(10, target.dim))
    step = 1e-5 * np.eye(
        target.dim
    )  # central differences err by step^2 and by 1e-16 / step: 1e-10 both
    shifted = [target.log_density(points[:, None] + sign * step) for sign in (1, -1)]
    np.testing.assert_allclose(
        [gradient({"z": point}) for point in points],
        (shifted[0] - shifted[1]) / 2e-5,
        rtol=1e-6,
        atol=1e-6,
    )


def test_the_gradient_of_potential_1_is_zero_at_the_origin_by_symmetry() -> None:
    gradient = targets.potential_1.model().compile_dlogp(mode="FAST_COMPILE")
    np.testing.assert_array_equal(gradient({"z": np.zeros(2)}), 0)


@pytest.mark.parametrize("point", [0.0, 1e-3, 0.1], ids=str)
def test_the_guard_at_the_origin_changes_no_value_of_potential_1(point: float) -> None:
    z = np.array([point, 0.0])
    # rtol: rounding, since the sums are in another order
    np.testing.assert_allclose(
        targets.potential_1.log_density(z), -PAPER["potential_1"](z), rtol=1e-14
    )


@each_target
def test_value_and_gradient_are_finite_where_the_model_starts(target: Target) -> None:
    model = target.model()
    start = model.initial_point()
    assert np.isfinite(model.compile_logp(mode="FAST_COMPILE")(start))
    assert np.isfinite(model.compile_dlogp(mode="FAST_COMPILE")(start)).all()


@each_target
def test_the_model_has_one_free_variable(target: Target) -> None:
    (z,) = target.model().free_RVs
    assert (z.name, z.type.shape) == ("z", (target.dim,))


def test_the_evidence_of_potential_1_is_that_of_quadrature() -> None:
    # polar: Gauss-Legendre along the radius, trapezoids around, which converge geometrically
    nodes, weights = np.polynomial.legendre.leggauss(300)
    radius, weights = 4.5 * (nodes + 1), 4.5 * weights
    angle = np.arange(2_000) * 2 * np.pi / 2_000
    grid = radius[:, None, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    inner = logsumexp(targets.potential_1.log_density(grid), axis=1) + np.log(2 * np.pi / 2_000)
    evidence = logsumexp(inner, b=weights * radius)
    assert evidence == pytest.approx(targets.potential_1.log_evidence, abs=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize(
    "target",
    [targets.potential_2, targets.potential_3, targets.potential_4],
    ids=lambda t: t.name,
)
def test_the_evidence_of_the_waves_is_that_of_a_grid(target: Target) -> None:
    # exp(-0.1 * 300) = 1e-13 is left out on either side; the kink at 0 is a point of the grid
    z0, z1 = np.linspace(-300, 300, 24_001), np.linspace(-9, 6, 301)
    grid = np.stack(np.meshgrid(z0, z1, indexing="ij"), axis=-1)
    evidence = logsumexp(target.log_density(grid)) + np.log((z0[1] - z0[0]) * (z1[1] - z1[0]))
    # the trapezoid rule at the kink: 0.1^2 * 0.025^2 / 12
    assert evidence == pytest.approx(target.log_evidence, abs=1e-6)


def test_the_evidence_of_the_mixture_is_that_of_a_grid() -> None:
    axis = np.linspace(-11, 10, 801)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1)
    target = targets.gaussian_mixture
    evidence = logsumexp(target.log_density(grid)) + 2 * np.log(axis[1] - axis[0])
    assert evidence == pytest.approx(target.log_evidence, abs=1e-10)


SAMPLED = {name: t for name, t in targets.ALL.items() if t.sampler is not None}
sampled_targets = pytest.mark.parametrize("target", SAMPLED.values(), ids=SAMPLED.keys())
PLANE = [t for t in SAMPLED.values() if t.dim == 2]
sampled_on_the_plane = pytest.mark.parametrize("target", PLANE, ids=lambda t: t.name)
DRAWS = 40_000


def sample(target: Target, draws: int = DRAWS, seed: int = 0) -> Array:
    assert target.sampler is not None
    return target.sampler(draws, np.random.default_rng(seed))


def test_all_targets_but_the_ring_have_exact_draws() -> None:
    assert set(targets.ALL) - set(SAMPLED) == {"potential_1"}


@sampled_targets
def test_the_same_seed_gives_the_same_exact_draws(target: Target) -> None:
    np.testing.assert_array_equal(sample(target, 10), sample(target, 10))
    assert sample(target, 10).shape == (10, target.dim)


@pytest.mark.slow
@pytest.mark.parametrize("boxes", [2, 12], ids=["coarse", "fine"])  # weights; places and sds
@sampled_on_the_plane
def test_exact_draws_fall_where_the_density_is(target: Target, boxes: int) -> None:
    # shares of a square grid of boxes over the window, and of all that lies outside
    (left, right), (low, high) = target.bounds
    fine = 960 // boxes
    x, y = (
        a + (np.arange(boxes * fine) + 0.5) * (b - a) / (boxes * fine)
        for a, b in ((left, right), (low, high))
    )
    grid = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1)
    density = np.exp(target.log_density(grid) - target.log_evidence) * (x[1] - x[0]) * (y[1] - y[0])
    expected = density.reshape(boxes, fine, boxes, fine).sum((1, 3)).ravel()
    drawn = sample(target)
    counts, *_ = np.histogram2d(drawn[:, 0], drawn[:, 1], bins=boxes, range=target.bounds)
    found = counts.ravel() / DRAWS
    expected, found = (np.append(p, 1 - p.sum()) for p in (expected, found))
    # 4 standard errors of a share, and one draw; the midpoint rule errs by far less
    allowed = 4 * np.sqrt(expected * (1 - expected) / DRAWS) + 1 / DRAWS
    np.testing.assert_array_less(abs(found - expected), allowed)


@pytest.mark.parametrize(
    "target",
    [t for t in PLANE if t.name.startswith(("potential", "gaussian"))],
    ids=lambda t: t.name,
)
def test_the_entropy_of_exact_draws_is_that_of_the_density(target: Target) -> None:
    # an sd that is wrong by 3 % shifts it
    values = target.log_density(sample(target)) - target.log_evidence
    x, y = (np.linspace(-200, 200, 16_001), np.linspace(-10, 8, 181))
    if target is targets.gaussian_mixture:
        x = y = np.linspace(-10, 9, 400)
    grid = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1)
    log_q = target.log_density(grid) - target.log_evidence
    expected = (np.exp(log_q) * log_q).sum() * (x[1] - x[0]) * (y[1] - y[0])
    # 4 standard errors, and 1e-4 for the grid's kink
    assert abs(values.mean() - expected) < 4 * values.std() / np.sqrt(DRAWS) + 1e-4


ENTROPY = {
    # of a Gaussian: half the log of its determinant, which a shear and a turn leave alone
    "funnel": 5 * np.log(2 * np.pi * np.e) + np.log(3),  # E[v] is 0
    "banana": np.log(2 * np.pi * np.e) + np.log(10),
    "ill_conditioned": 25 * np.log(2 * np.pi * np.e),
    "student_t": 2 * stats.t(3).entropy(),
}


@pytest.mark.parametrize("name", ENTROPY)
def test_exact_draws_have_the_exact_entropy(name: str) -> None:
    values = -targets.ALL[name].log_density(sample(targets.ALL[name]))
    assert values.mean() == pytest.approx(ENTROPY[name], abs=4 * values.std() / np.sqrt(DRAWS))


MOMENTS = [t for t in SAMPLED.values() if t.mean is not None and t.name != "student_t"]


@pytest.mark.parametrize("target", MOMENTS, ids=lambda t: t.name)
def test_exact_draws_have_the_stated_moments(target: Target) -> None:
    draws, mean, sd = sample(target), np.array(target.mean), np.array(target.sd)
    assert mean.shape == sd.shape == (target.dim,)
    error = sd / np.sqrt(DRAWS)
    np.testing.assert_array_less(np.abs(draws.mean(0) - mean), 5 * error)
    # the funnel's neck and mouth have a fourth moment of exp(18): 40,000 draws say little
    allowed = {"funnel": 0.6}.get(target.name, 0.03)
    np.testing.assert_allclose(draws.std(0), sd, rtol=allowed)


def test_student_ts_moments_are_those_of_scipy() -> None:
    for df in (1.0, 1.5, 3.0):
        target = targets.student_t(3, df)
        # scipy says nan where the mean does not exist
        sd = stats.t(df).std() if df > 1 else np.inf
        np.testing.assert_allclose(np.array(target.sd), np.full(3, sd))
        assert target.mean == ((0.0,) * 3 if df > 1 else None)


@pytest.mark.parametrize("dim", [3, 10])
@pytest.mark.parametrize("make", [targets.funnel, targets.banana, targets.ill_conditioned])
def test_targets_come_in_any_dimension(make: Callable[[int], Target], dim: int) -> None:
    target = make(dim)
    draws = sample(target, 20_000)
    assert draws.shape == (20_000, dim)
    # importance weights of a copy that is a little wider average to the evidence
    wide = 1.01 * draws
    log_ratio = target.log_density(wide) - target.log_density(draws) + dim * np.log(1.01)
    ratio = np.exp(log_ratio)
    assert ratio.mean() == pytest.approx(1, abs=6 * ratio.std() / np.sqrt(20_000))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: targets.funnel(1), "dim must be an integer >= 2, but is 1"),
        (
            lambda: targets.banana(2.5),  # type: ignore[arg-type]
            "dim must be an integer >= 2",
        ),
        (lambda: targets.ill_conditioned(2, 0.5), "condition must be a finite number >= 1"),
        (lambda: targets.student_t(2, 0), "df must be a positive finite number"),
        (lambda: targets.many_modes(0), "modes must be an integer >= 1"),
    ],
)
def test_wrong_arguments_of_targets_are_refused(make: Callable[[], Target], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        make()


@pytest.mark.filterwarnings("ignore:The effect of Potentials on other parameters is ignored")
@pytest.mark.filterwarnings("ignore:Numba will use object mode")
def test_prior_draws_are_refused_by_pymc() -> None:
    with targets.potential_1.model(), pytest.raises(NotImplementedError):
        pm.sample_prior_predictive(3)


@pytest.mark.filterwarnings("ignore:The effect of Potentials on other parameters is ignored")
def test_a_posterior_predictive_draw_has_nothing_to_draw() -> None:
    posterior = {"z": (("chain", "draw", "z_dim_0"), np.zeros((1, 3, 2)))}
    idata = xr.DataTree.from_dict({"posterior": xr.Dataset(posterior)})
    drawn = pm.sample_posterior_predictive(
        idata, model=targets.potential_1.model(), progressbar=False
    )
    assert not [name for group in drawn.children.values() for name in group.data_vars]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The effect of Potentials on other parameters is ignored")
@pytest.mark.filterwarnings("ignore:The number of samples is too small")
def test_nuts_samples_a_target_as_it_is() -> None:
    idata = pm.sample(
        draws=50,
        tune=50,
        chains=1,
        model=targets.potential_1.model(),
        random_seed=1,
        progressbar=False,
        compute_convergence_checks=False,
    )
    radius = np.linalg.norm(np.asarray(idata["posterior"]["z"]), axis=-1)
    assert abs(radius.mean() - 2) < 0.5
