"""The pattern of a Hessian never misses an entry, and has few that are not there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from latent import Array, log_density
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.graph.replace import vectorize_graph
from pytensor.scan.utils import until
from pytensor.tensor.sort import SortOp
from some import some

from pmflow.graphs.sparsity import hessian_pattern
from pmflow.posterior.density import LogDensity

RNG = np.random.default_rng(8)
GROUP = np.array([0, 1, 1, 2, 3, 3, 0, 2, 4])
Y = RNG.normal(size=9)
COUNTS = RNG.poisson(2.0, size=9)
SERIES = RNG.normal(size=7)
STEP = 1e-5
"""Of central differences; the error of a second derivative near 1 is about 1e-10."""
SPREAD = 0.7
"""Sd of the points, in the units of models whose variables are near 1."""
SMALLEST = 1e-6
"""Of the largest entry: below is rounding of the differences."""

pytestmark = [
    pytest.mark.filterwarnings("ignore:PyTensor could not link to a BLAS"),
    pytest.mark.filterwarnings("ignore:Data in y contains missing values"),
]


def scan(*args: Any, **kwargs: Any) -> Any:
    return pytensor.scan(*args, return_updates=False, **kwargs)


# Models; each says how many entries of its pattern are more than the Hessian has at three points.


def hierarchical() -> None:
    mu, tau = pm.Normal("mu"), pm.HalfNormal("tau")
    a = pm.Normal("a", mu, tau, shape=5)
    pm.Normal("y", a[GROUP], pm.HalfNormal("s"), observed=Y)


def crossed() -> None:
    a = pm.Normal("a", 0, pm.HalfNormal("sa"), shape=5)
    b = pm.Normal("b", 0, pm.HalfNormal("sb"), shape=3)
    pm.Poisson("y", pt.exp(a[GROUP] + b[GROUP % 3]), observed=COUNTS)


def random_walk() -> None:
    walk = pm.GaussianRandomWalk("h", sigma=pm.HalfNormal("s"), init_dist=pm.Normal.dist(), steps=6)
    pm.Normal("y", 0, pt.exp(walk / 2), observed=SERIES)


def cumulated_walk() -> None:
    steps = pm.Normal("steps", shape=7)
    pm.Normal("y", pt.cumsum(steps), 1, observed=SERIES)


def autoregression() -> None:
    rho = pm.Normal("rho", shape=2)
    walk = pm.AR("x", rho, sigma=1, init_dist=pm.Normal.dist(shape=2), steps=5)
    pm.Normal("y", walk, 1, observed=SERIES)


def item_response() -> None:
    theta, a, b = pm.Normal("t", shape=4), pm.Normal("a", shape=3), pm.Normal("b", shape=3)
    answers = RNG.integers(0, 2, (4, 3))
    pm.Bernoulli("y", logit_p=pt.exp(a) * (theta[:, None] - b), observed=answers)


def correlated_effects() -> None:
    chol, _, _ = pm.LKJCholeskyCov("L", n=2, eta=2, sd_dist=pm.HalfNormal.dist(1, shape=2))
    effects = pm.MvNormal("effects", 0, chol=chol, shape=(5, 2))
    pm.Normal("y", effects[GROUP, 0] + effects[GROUP, 1] * SERIES[0], 1, observed=Y)


def non_centred_effects() -> None:
    chol, _, _ = pm.LKJCholeskyCov("L", n=2, eta=2, sd_dist=pm.HalfNormal.dist(1, shape=2))
    effects = pm.Normal("u", shape=(5, 2)) @ chol.T
    pm.Normal("y", effects[GROUP, 0] + effects[GROUP, 1] * SERIES[0], 1, observed=Y)


def latent_process() -> None:
    process = pm.gp.Latent(cov_func=pm.gp.cov.ExpQuad(1, pm.HalfNormal("length") + 0.5))
    f = process.prior("f", np.linspace(0, 3, 5)[:, None], jitter=1e-3)
    pm.Poisson("y", pt.exp(f), observed=COUNTS[:5])


RING = np.roll(np.eye(6), 1, 0) + np.roll(np.eye(6), -1, 0)


def intrinsic_ring() -> None:
    phi = pm.ICAR("phi", W=RING)
    pm.Poisson("y", pt.exp(phi), observed=COUNTS[:6])


def ring() -> None:
    phi = pm.CAR("phi", np.zeros(6), W=RING, alpha=0.5, tau=pm.HalfNormal("tau"))
    pm.Poisson("y", pt.exp(phi), observed=COUNTS[:6])


def zero_sum() -> None:
    effect = pm.ZeroSumNormal("a", sigma=pm.HalfNormal("s"), shape=5)
    pm.Normal("y", effect[GROUP], 1, observed=Y)


def shares() -> None:
    b = pm.Normal("b", shape=3)
    parts = pm.Dirichlet("p", pt.exp(b), shape=(4, 3))
    pm.Multinomial("y", 5, parts, observed=[[1, 1, 3], [2, 2, 1], [0, 4, 1], [5, 0, 0]])


def ordered() -> None:
    cuts = pm.Normal("c", shape=3, transform=pm.distributions.transforms.ordered, initval=range(3))
    pm.OrderedLogistic("y", pm.Normal("b") * Y, cuts, observed=COUNTS % 4)


def missing() -> None:
    y = np.where(np.arange(9) % 4 == 1, np.nan, Y)
    pm.Normal("y", pm.Normal("a", shape=5)[GROUP], pm.HalfNormal("s"), observed=y)


def mixture() -> None:
    mean, w = pm.Normal("m", shape=2), pm.Dirichlet("w", np.ones(2))
    pm.NormalMixture("y", w, mean, 1, observed=Y)


def local_mixture() -> None:
    a = pm.Normal("a", shape=9)
    parts = [pm.Normal.dist(a, 1), pm.Normal.dist(a + 3, 1)]
    pm.Mixture("y", [0.4, 0.6], parts, observed=Y)


def potential() -> None:
    x = pm.Normal("x", shape=5)
    pm.Potential("smooth", -pt.sqr(pt.diff(x)).sum())


def masked() -> None:
    x = pm.Normal("x", shape=4)
    mask = np.array([1.0, 0.0, 1.0])
    pm.Potential("p", (mask * pt.exp(x[1:] * x[:-1])).sum())


def switched() -> None:
    x = pm.Normal("x", shape=4)
    on = np.array([True, False, True])
    pm.Potential("p", pt.switch(on, pt.sin(x[1:] * x[:-1]), x[1:]).sum())


def masked_by_a_sign() -> None:
    """A mask that is 0 at one point is no mask."""
    x = pm.Normal("x", shape=4)
    pm.Potential("p", ((x[:-1] > 0) * pt.sin(x[1:] * x[:-1])).sum())


def state_space() -> None:
    drift, level = pm.Normal("a", shape=2), pm.Normal("noise", shape=6)
    path = scan(
        lambda e, s, a: [a[0] * s + a[1] + e],
        sequences=[level],
        outputs_info=[pt.zeros(())],
        non_sequences=[drift],
    )
    pm.Normal("y", path, 1, observed=SERIES[:6])


def two_taps() -> None:
    start = pm.Normal("start", shape=2)
    path = scan(
        lambda y, one, two, a: pt.tanh(a * one) + 0.5 * two + y * one,
        sequences=[pt.as_tensor(SERIES)],
        outputs_info=[{"initial": start, "taps": [-1, -2]}],
        non_sequences=[pm.Normal("a")],
    )
    pm.Normal("y", path, 1, observed=SERIES)


def mapped() -> None:
    """Steps that don't know of each other; an index by the number of the step."""
    x = pm.Normal("x", shape=6)
    path = scan(lambda t, x: pt.exp(x[t] * x[t + 1]), sequences=[pt.arange(5)], non_sequences=[x])
    pm.Potential("p", -path.sum())


def counting() -> None:
    """A whole number as a state, that says what is taken."""
    x = pm.Normal("x", shape=6)
    _, path = scan(
        lambda n, x: [n + 1, pt.sin(x[n] * x[n + 1])],
        outputs_info=[pt.as_tensor(np.int64(0)), None],
        non_sequences=[x],
        n_steps=5,
    )
    pm.Potential("p", path.sum())


def chained() -> None:
    """Vectors as states, and a matrix of data with zeros."""
    turn = pt.as_tensor(np.diag([0.5, 0.5, 0.5, 0.5]))
    path = scan(
        lambda s, m: pt.sin(m @ s),
        outputs_info=[pm.Normal("x", shape=4)],
        non_sequences=[turn],
        n_steps=3,
    )
    pm.Potential("p", path.sum())


def truncated() -> None:
    a = pm.Normal("a", shape=5)
    dist = pm.Normal.dist(a[GROUP], pm.HalfNormal("s"))
    pm.Truncated("y", dist, lower=-4, observed=Y)


def censored() -> None:
    a = pm.Normal("a", shape=5)
    dist = pm.Normal.dist(a[GROUP], pm.HalfNormal("s"))
    pm.Censored("y", dist, lower=None, upper=0.5, observed=np.minimum(Y, 0.5))


DESIGN = np.where(RNG.random((9, 6)) < 0.3, RNG.normal(size=(9, 6)), 0.0)


def design() -> None:
    pm.Bernoulli("y", logit_p=DESIGN @ pm.Normal("b", shape=6), observed=COUNTS > 1)


def batched_design() -> None:
    b = pm.Normal("b", shape=(2, 6, 1))
    eta = pt.matmul(np.stack([DESIGN, DESIGN[::-1]]), b)[..., 0]
    pm.Bernoulli("y", logit_p=eta, observed=np.stack([COUNTS > 1, COUNTS > 2]))


def product_of_factors() -> None:
    u, v = pm.Normal("u", shape=(4, 2)), pm.Normal("v", shape=(3, 2))
    pm.Normal("y", u @ v.T, 1, observed=RNG.normal(size=(4, 3)))


def sorted_values() -> None:
    pm.Potential("p", pt.sin(pt.sort(pm.Normal("x", shape=3)) * np.arange(3)).sum())


def convolved() -> None:
    x = pm.Normal("x", shape=7)
    pm.Potential("p", pt.sin(pt.signal.convolve1d(x, np.array([1.0, 0.5]), mode="valid")).sum())


def moved() -> None:
    x = pm.Normal("x", shape=(2, 3))
    joined = pt.concatenate([x.T[::-1], pt.zeros((3, 1)), x.reshape((3, 2))], axis=1)
    repeated = pt.repeat(pt.set_subtensor(joined[1, 2:4], 1.0), 2, axis=0)
    pm.Potential(
        "p", pt.sin(repeated[:, 1:] * repeated[:, :-1]).sum() + pt.exp(pt.diag(x.dot(x.T))).sum()
    )


def matrices() -> None:
    """A batch of covariances: dense within one, nothing between."""
    s = pm.Normal("s", shape=(3, 2))
    cov = pt.exp(s)[:, :, None] * np.eye(2) + 0.3
    pm.MvNormal("y", 0, cov, observed=RNG.normal(size=(3, 2)))


def equations() -> None:
    """A matrix for all and one for each member: the columns on the right stay apart."""
    x, a = pm.Normal("x", shape=(2, 3)), pm.Normal("a")
    matrix = pt.stacklists([[2.0 + pt.exp(a), 0.3], [0.1, 2.0]])
    pm.Potential("p", pt.sin(pt.linalg.solve(matrix, x)).sum())
    lower = np.array([[[1.0, 0.0], [0.5, 1.0]], [[2.0, 0.0], [0.1, 1.0]]])
    solved = pt.linalg.solve_triangular(lower, x[:, :2], lower=True, b_ndim=2)
    pm.Potential("q", pt.sin(solved).sum())


def set_in_batches() -> None:
    x = pm.Normal("x", shape=(4, 3))
    column = pt.vector("column")
    filled = pt.zeros((3, 2))[pt.as_tensor([0, 2]), pt.as_tensor([0, 1])].set(column[:2])
    batched = vectorize_graph(filled @ filled.T, {column: x})
    pm.Potential("p", pt.exp(batched).sum())


def cases() -> dict[str, tuple[Callable[[], None], int]]:
    exact: list[Callable[[], None]] = [
        hierarchical, crossed, random_walk, cumulated_walk, item_response, zero_sum, shares,
        missing, mixture, local_mixture, potential, masked, switched, state_space, two_taps,
        mapped, counting, chained, truncated, censored, design, batched_design, latent_process,
        product_of_factors, convolved, moved, matrices, ring, intrinsic_ring, autoregression,
        correlated_effects, non_centred_effects, ordered, sorted_values, masked_by_a_sign,
        equations, set_in_batches,
    ]  # fmt: skip
    return {make.__name__: (make, MORE.get(make.__name__, 0)) for make in exact}


MORE: dict[str, int] = {
    "sorted_values": 6,  # each may be in the place of any other, though no two meet
}
"""Entries of a pattern that are 0 at three points, and why."""

CASES = cases()


def model_from(make: Callable[[], None]) -> pm.Model:
    with pm.Model() as model:
        make()
    return model


def pattern_of(density: LogDensity, **kwargs: int) -> Any:
    found = hessian_pattern(density._z, density._logp, **kwargs)
    return None if found is None else found.toarray()


def hessian(density: LogDensity, at: Array) -> Array:
    ends = np.concatenate([at + STEP * np.eye(density.dim), at - STEP * np.eye(density.dim)])
    _, gradients = density.value_and_gradient(ends)
    up, down = np.split(gradients, 2)
    return (up - down) / (2 * STEP)


def nonzero(density: LogDensity) -> Any:
    found = np.zeros((density.dim, density.dim), dtype=bool)
    for at in SPREAD * np.random.default_rng(1).normal(size=(3, density.dim)):
        values = np.abs(hessian(density, at))
        assert values.max() > 0
        found |= values > SMALLEST * values.max()
    return found


@pytest.mark.parametrize(("make", "more"), some(CASES, 6))
def test_no_entry_is_missed_and_few_are_too_many(make: Callable[[], None], more: int) -> None:
    if make is sorted_values and "axis" not in SortOp.__props__:
        pytest.skip("PyTensor below 3.3 can't batch a sort, which is how the Hessian is had here")
    density = log_density(model_from(make))
    pattern, there = pattern_of(density), nonzero(density)
    assert not (there & ~pattern).any()
    assert (pattern & ~(there | np.eye(density.dim, dtype=bool))).sum() == more


def test_data_that_change_change_the_pattern() -> None:
    with pm.Model() as model:
        mask = pm.Data("mask", np.array([1.0, 0.0, 1.0]))
        x = pm.Normal("x", shape=4)
        pm.Potential("p", (mask * pt.exp(x[1:] * x[:-1])).sum())
    density = log_density(model)
    assert not pattern_of(density)[1, 2]
    pm.set_data({"mask": np.ones(3)}, model=model)
    assert pattern_of(density)[1, 2]


def test_a_pattern_is_symmetric_and_has_its_diagonal() -> None:
    found = hessian_pattern_of(pt.exp, dim=3)
    assert found.dtype == bool
    np.testing.assert_array_equal(found.toarray(), np.eye(3, dtype=bool))


def test_a_density_that_is_linear_has_a_diagonal_alone() -> None:
    np.testing.assert_array_equal(hessian_pattern_of(lambda z: 2 * z, 3).toarray(), np.eye(3))


def hessian_pattern_of(function: Callable[[Any], Any], dim: int) -> Any:
    z = pt.vector("z", shape=(dim,))
    return hessian_pattern(z, function(z).sum())


class _Unknown(Op):
    """An Op of which nothing is known, not even the shape of what it gives."""

    def make_node(self, x: Any) -> Apply:
        return Apply(self, [pt.as_tensor(x)], [pt.dvector()])

    def perform(self, node: Apply, inputs: Any, outputs: Any) -> None:
        outputs[0][0] = np.exp(inputs[0])

    def pullback(self, inputs: Any, outputs: Any, gradients: Any) -> list[Any]:
        return [gradients[0] * _Unknown()(inputs[0])]

    grad = pullback  # PyTensor before 3.1


def test_an_unknown_op_is_dense_in_what_it_takes() -> None:
    found = hessian_pattern_of(lambda z: _Unknown()(z[:2]) + pt.exp(z[2:]), dim=4)
    there = np.zeros((4, 4), dtype=bool)
    there[:2, :2] = there[2, 2] = there[3, 3] = True
    np.testing.assert_array_equal(found.toarray(), there)


def test_an_index_that_depends_on_the_latent_vector_may_be_any() -> None:
    found = hessian_pattern_of(lambda z: pt.exp(z[pt.argmax(z)] * z[0]), dim=3)
    assert found.toarray()[0].all()


def test_a_scan_that_ends_on_a_condition_is_not_told() -> None:
    def path(z: Any) -> Any:
        return scan(
            lambda s, a: (s * a, until(s < 0.1)), outputs_info=[z[0]], non_sequences=[z[1]],
            n_steps=5,
        )  # fmt: skip

    assert hessian_pattern_of(path, dim=2) is None


def test_too_many_entries_are_not_told() -> None:
    density = log_density(model_from(cumulated_walk))
    assert hessian_pattern(density._z, density._logp, most=50) is None
    assert hessian_pattern(density._z, density._logp, most=100_000) is not None


def test_a_large_model_takes_no_square_of_its_dimension() -> None:
    groups, rows = 20_000, 60_000
    z = pt.vector("z", shape=(groups + 1,))
    which = np.random.default_rng(1).integers(0, groups, rows)
    logp = pt.log(pt.sigmoid(z[:groups][which] * pt.exp(z[groups]))).sum() - (z**2).sum()
    found = hessian_pattern(z, logp, most=5_000_000)
    assert found is not None
    met = len(np.unique(which))
    assert found.nnz == groups + 1 + 2 * met
