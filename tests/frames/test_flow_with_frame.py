"""A flow with a frame behind its layers is one normalized density, moved and scaled."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.graph.basic import Constant, equal_computations
from pytensor.graph.traversal import ancestors
from scipy import stats

import pmflow as pmf
from pmflow.errors import ParameterError
from pmflow.family.placement import Placement
from pmflow.frames import FRAMES
from pmflow.graphs.evaluate import compile_once

RNG = np.random.default_rng(6)
LOC = np.array([3.0, -20.0])
FACTOR = np.array([[2.0, 0.0], [5.0, 0.1]])
FRAME = pmf.Frame(LOC, FACTOR)

# PyTensor looks for a BLAS that pip does not install; nothing here needs one
pytestmark = pytest.mark.filterwarnings("ignore:PyTensor could not link to a BLAS")


def model() -> pm.Model:
    with pm.Model() as it:
        pm.Normal("x", 1.0, 2.0, shape=2)
    return it


def flow(formula: str = "scale-loc", **kwargs: Any) -> pmf.NormalizingFlow:
    return pmf.NormalizingFlow(formula, model=model(), random_seed=1, **kwargs)


@pytest.mark.parametrize("base", ["normal", "student_t"])
@pytest.mark.parametrize("formula", ["tril-loc", "planar*2"])
def test_the_density_integrates_to_1(formula: str, base: str) -> None:
    approx = flow(formula, frame=FRAME, jitter=0.5, base=base)
    # points that are close near the centre, and reach 300 sd for Student's tails
    at = np.linspace(-6.4, 6.4, 321)
    axis, width = np.sinh(at), np.cosh(at) * (at[1] - at[0])
    y = np.stack([g.ravel() for g in np.meshgrid(axis, axis)], -1)
    volume = np.outer(width, width).ravel() * 0.2  # by hand: 2 times 0.1
    total = volume @ np.exp(approx.log_prob(LOC + y @ FACTOR.T))
    # of Student's tails a thousandth is outside
    assert total == pytest.approx(1, abs=5e-3 if base == "student_t" else 1e-3)


@pytest.mark.parametrize(
    "frame", [FRAME, pmf.Frame(LOC, np.array([2.0, 0.01]))], ids=["full", "diagonal"]
)
def test_log_prob_of_a_draw_is_its_log_q(frame: pmf.Frame) -> None:
    approx = flow("planar*2-loc", frame=frame, jitter=0.5)
    found: Any = approx.sample(500, random_seed=2)
    z = found["posterior"]["x"].values[0]
    log_q = found["sample_stats"]["log_q"].values.ravel()
    np.testing.assert_allclose(approx.log_prob(z), log_q, atol=1e-7)


def test_without_jitter_the_flow_is_the_gaussian_of_its_frame() -> None:
    approx = flow("scale-loc", frame=FRAME, jitter=0.0)
    cov = FACTOR @ FACTOR.T
    z = LOC + RNG.normal(size=(5, 2)) @ FACTOR.T
    np.testing.assert_allclose(approx.log_prob(z), stats.multivariate_normal(LOC, cov).logpdf(z))
    mean, sd, found = compile_once([], [approx.mean, approx.std, approx.cov])()
    np.testing.assert_allclose(mean, LOC)
    np.testing.assert_allclose(sd, np.sqrt(np.diag(cov)))
    np.testing.assert_allclose(found, cov)


def test_moments_of_an_affine_flow_are_exact() -> None:
    params = {0: {"rho": RNG.normal(size=2)}, 1: {"loc": RNG.normal(size=2)}}
    plain, framed = (
        pmf.Approximation(
            [pmf.Group(None, "scale-loc", params, model=model(), random_seed=1, **more)]
        ).groups[0]
        for more in ({}, {"frame": FRAME})
    )
    mean, cov = compile_once([], [plain.mean, plain.cov])()
    found = compile_once([], [framed.mean, framed.cov])()
    np.testing.assert_allclose(found[0], LOC + FACTOR @ mean)
    np.testing.assert_allclose(found[1], FACTOR @ cov @ FACTOR.T)


def test_the_last_layer_has_the_distribution_of_the_draws() -> None:
    approx = flow("planar*2", frame=FRAME, jitter=0.5)
    steps = approx.sample_layers(4000, random_seed=3)
    sample: Any = approx.sample(4000, random_seed=4)
    draws = sample["posterior"]["x"].values[0]
    for last, draw in zip(steps[-1].T, draws.T, strict=True):
        assert stats.ks_2samp(last, draw).pvalue > 1e-3
    base = np.linalg.solve(FACTOR, (steps[0] - LOC).T)
    assert stats.kstest(base.ravel(), "norm").pvalue > 1e-3


def test_numbers_of_a_frame_are_not_part_of_the_compiled_code() -> None:
    y = pt.matrix("y", shape=(None, 2))
    one, two = (
        Placement(np.zeros(2), FRAME),
        Placement(np.zeros(2), pmf.Frame(np.ones(2), np.eye(2))),
    )
    for way in ("forward", "inverse"):
        graphs = [getattr(placement, way)(y) for placement in (one, two)]
        shared = [
            sorted((v for v in ancestors([g]) if v.owner is None and v.name), key=lambda v: v.name)
            for g in graphs
        ]
        assert len(shared[0]) == 3
        assert equal_computations(graphs[:1], graphs[1:], shared[0], shared[1])
        constants = [v.data for v in ancestors(graphs) if isinstance(v, Constant)]
        assert not any(np.isin(FACTOR[1], c).any() for c in constants if np.size(c) == 1)


@pytest.mark.parametrize("dim", [3, 20], ids=["as sums", "as products"])
@pytest.mark.parametrize("batch", [(), (5,), (2, 5)])
def test_placing_and_its_inverse(dim: int, batch: tuple[int, ...]) -> None:
    factor = np.tril(RNG.normal(size=(dim, dim)))
    factor[np.diag_indices(dim)] = np.abs(np.diag(factor)) + 1
    frame = pmf.Frame(RNG.normal(size=dim), factor)
    placement = Placement(np.zeros(dim), frame)
    y = pt.tensor("y", shape=(*[None] * len(batch), dim))
    at = RNG.normal(size=(*batch, dim))
    z, back, log_det = compile_once(
        [y], [placement.forward(y), placement.inverse(placement.forward(y)), placement.log_det]
    )(at)
    np.testing.assert_allclose(z, frame.loc + at @ factor.T)
    np.testing.assert_allclose(back, at, atol=1e-6)
    np.testing.assert_allclose(log_det, np.linalg.slogdet(factor)[1])


def test_a_copy_has_the_same_density() -> None:
    approx = flow("planar", frame=FRAME, jitter=0.5)
    z = LOC + RNG.normal(size=(3, 2))
    expected = approx.log_prob(z)
    np.testing.assert_array_equal(copy.deepcopy(approx).log_prob(z), expected)
    assert copy.deepcopy(FRAME).log_det == FRAME.log_det


def test_single_precision() -> None:
    with pytensor.config.change_flags(floatX="float32"):
        approx = flow("scale-loc", frame=FRAME, jitter=0.0)
        z = (LOC + RNG.normal(size=(5, 2)) @ FACTOR.T).astype("float32")
        found = approx.log_prob(z)
        assert approx.symbolic_random.dtype == "float32"
    expected = stats.multivariate_normal(LOC, FACTOR @ FACTOR.T).logpdf(z)
    np.testing.assert_allclose(found, expected, atol=1e-2)


@pytest.mark.parametrize("kind", FRAMES)
def test_a_frame_is_found_by_its_name_in_any_case(kind: str) -> None:
    approx = flow(frame=kind.upper(), jitter=0.0)
    assert approx.frame.kind == kind
    mean, sd = compile_once([], [approx.mean, approx.std])()
    np.testing.assert_allclose(mean, 1.0, atol=0.1)
    np.testing.assert_allclose(sd, 2.0, rtol=0.1)


def test_the_search_begins_at_the_start() -> None:
    with pm.Model() as two_modes:
        x = pm.Flat("x")
        pm.Potential("p", pm.math.logaddexp(-0.5 * (x - 20) ** 2, -0.5 * (x + 20) ** 2))
    for at in (-18.0, 18.0):
        approx = pmf.NormalizingFlow(
            "loc", model=two_modes, start={"x": at}, frame="laplace", random_seed=1
        )
        assert approx.frame.loc[0] == pytest.approx(np.sign(at) * 20, abs=1e-3)


def test_a_fit_keeps_the_frame() -> None:
    inference = pmf.NFVI("scale-loc", model=model(), random_seed=1, frame="laplace", jitter=0.0)
    frame = inference.approx.frame
    inference.fit(5, progressbar=False, compile_kwargs={"mode": "FAST_COMPILE"})
    # exact from the start, so that the loss is -log Z = 0 at each draw
    np.testing.assert_allclose(inference.hist[:1], 0, atol=1e-3)
    assert inference.approx.frame is frame


WRONG: dict[str, tuple[Any, str]] = {
    "a name": ("laplas", r"frame must be one of 'laplace', .*, but is 'laplas'"),
    "a number": (3, "a Frame, or None, but is 3"),
    "another length": (
        pmf.Frame(np.zeros(1), np.ones(1)),
        "has 1 dimensions, but the latent vector has 2",
    ),
}


@pytest.mark.parametrize(("frame", "message"), WRONG.values(), ids=WRONG.keys())
def test_what_is_no_frame_is_refused(frame: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        flow(frame=frame)


BAD_NUMBERS: dict[str, tuple[Any, Any, str]] = {
    "a matrix as loc": (np.eye(2), np.eye(2), "loc of shape"),
    "lengths that differ": ([0.0, 1.0], np.eye(3), r"\(2,\) and \(3, 3\)"),
    "nothing": ([], [], "loc of shape"),
    "an infinite loc": ([np.inf], [1.0], "finite numbers"),
    "no number": ([0.0], [np.nan], "finite numbers"),
    "a negative scale": ([0.0, 0.0], [1.0, -1.0], "positive diagonal"),
    "an upper triangle": ([0.0, 0.0], [[1.0, 1.0], [0.0, 1.0]], "lower triangular"),
    "words": ("here", "wide", "of types str and str"),
}


@pytest.mark.parametrize(("loc", "factor", "message"), BAD_NUMBERS.values(), ids=BAD_NUMBERS.keys())
def test_numbers_of_a_frame_are_checked(loc: Any, factor: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        pmf.Frame(loc, factor)


def test_a_frame_is_not_changed_by_what_it_was_made_of() -> None:
    loc = np.zeros(2)
    frame = pmf.Frame(loc, np.eye(2))
    loc[0] = 9
    assert frame.loc[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        frame.loc[0] = 1


def test_a_group_of_some_variables_has_no_frame() -> None:
    with pm.Model() as two:
        a, _ = pm.Normal("a"), pm.Normal("b")
        with pytest.raises(ParameterError, match="all free variables"):
            pmf.Group([a], "loc", frame="laplace", model=two)
