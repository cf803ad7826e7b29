"""Second derivatives through linear predictors: against those written down by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from latent import log_density
from scipy.special import expit

from pmflow.embedded import curvatures as module
from pmflow.embedded.conditional import Conditional
from pmflow.embedded.lifted import Lifted
from pmflow.embedded.predictors import NotLiftedError
from pmflow.embedded.structure import read_pattern
from pmflow.graphs.affine import affine_ends

RNG = np.random.default_rng(3)
FIRST, SECOND, ROWS = 9, 7, 60
OF_A, OF_B = RNG.integers(0, FIRST, ROWS), RNG.integers(0, SECOND, ROWS)
COUNTS = RNG.poisson(2.0, ROWS)
ANSWERS = RNG.integers(0, 2, (12, 5))


def crossed() -> pm.Model:
    with pm.Model() as model:
        log_scale = pm.Normal("log_scale", 0.0, 1.0)
        a = pm.Normal("a", 0.0, 1.0, shape=FIRST)
        b = pm.Normal("b", 0.0, 2.0, shape=SECOND)
        pm.Poisson("y", pt.exp(pt.exp(log_scale) * a[OF_A] + b[OF_B]), observed=COUNTS)
    return model


def items() -> pm.Model:
    with pm.Model() as model:
        ability = pm.Normal("ability", 0.0, 1.0, shape=12)
        log_a = pm.Normal("log_a", 0.0, 0.5, shape=5)
        b = pm.Normal("b", 0.0, 1.0, shape=5)
        logits = pt.exp(log_a) * (ability[:, None] - b)
        pm.Bernoulli("y", logit_p=logits, observed=ANSWERS)
    return model


def crossed_by_hand(z: np.ndarray) -> np.ndarray:
    """Of a and b, the scale held."""
    scale, a, b = np.exp(z[0]), z[1 : 1 + FIRST], z[1 + FIRST :]
    x = np.zeros((ROWS, FIRST + SECOND))
    x[np.arange(ROWS), OF_A] = scale
    x[np.arange(ROWS), FIRST + OF_B] += 1.0
    prior = np.repeat([1.0, 0.25], [FIRST, SECOND])
    return (x.T * np.exp(scale * a[OF_A] + b[OF_B])) @ x + np.diag(prior)


def items_by_hand(z: np.ndarray) -> np.ndarray:
    """Of all of them."""
    ability, log_a, b = z[:12], z[12:17], z[17:]
    slope, found = np.exp(log_a), np.diag(np.repeat([1.0, 4.0, 1.0], [12, 5, 5]))
    for p in range(12):
        for i in range(5):
            away = ability[p] - b[i]
            at = [p, 12 + i, 17 + i]
            first = slope[i] * np.array([1.0, away, -1.0])
            second = slope[i] * np.array([[0, 1, 0], [1, away, -1], [0, -1, 0]])
            mean = expit(slope[i] * away)
            missed = ANSWERS[p, i] - mean
            found[np.ix_(at, at)] += mean * (1 - mean) * np.outer(first, first) - missed * second
    return found


def conditional_of(model: pm.Model, held: list[int], **kwargs: Any) -> Conditional:
    density = log_density(model)
    is_global = np.zeros(density.dim, dtype=bool)
    is_global[held] = True
    return Conditional(density, read_pattern(density), is_global, **kwargs)


def lifted(conditional: Conditional) -> Lifted:
    return Lifted(conditional.density, conditional.locals, conditional.factors)


@pytest.mark.parametrize(
    ("model", "held", "by_hand"),
    [(crossed, [0], crossed_by_hand), (items, [], items_by_hand)],
    ids=["crossed", "items"],
)
def test_they_are_those_written_by_hand(model: Any, held: list[int], by_hand: Any) -> None:
    conditional = conditional_of(model(), held)
    points = np.random.default_rng(1).normal(0.0, 0.5, (3, conditional.density.dim))
    curvature = lifted(conditional)
    conditional._curvature = curvature
    for point in points:
        assert conditional.factors.matrix(
            conditional.precisions(point[None])[0]
        ).toarray() == pytest.approx(by_hand(point), abs=1e-4)
    # a diagonal for each factor, a direction for each term: not one for each of the effects
    assert curvature.gradients <= 2 * 3 + 1


@pytest.mark.slow
def test_they_are_taken_where_they_are_cheaper(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = conditional_of(crossed(), [0])
    assert plain.gradients > 10
    monkeypatch.setattr(module, "_WORTH_LIFTING", 0.0)
    cheaper = conditional_of(crossed(), [0])
    assert cheaper.gradients < plain.gradients / 2
    z = np.random.default_rng(2).normal(0.0, 0.5, (4, plain.density.dim))
    assert cheaper.precisions(z) == pytest.approx(plain.precisions(z), abs=1e-4)


def test_a_curve_outside_of_predictors_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    # as if nothing were affine but the vector itself: each entry is a predictor of its own
    with pm.Model() as model:
        u = pm.Normal("u", 0.0, 1.0, shape=5)
        pm.Potential("chain", -((u[1:] * u[:-1]) ** 2).sum())
    conditional = conditional_of(model, [])
    z = np.random.default_rng(4).normal(size=(2, 5))
    curvature = lifted(conditional)
    assert curvature.at(z, conditional.sds) == pytest.approx(conditional.precisions(z), abs=1e-4)
    monkeypatch.setattr("pmflow.embedded.lifted.affine_ends", lambda *_: [])
    with pytest.raises(NotLiftedError):
        lifted(conditional)


class TestAffineEnds:
    def test_what_is_held_may_be_a_factor(self) -> None:
        z = pt.vector("z", shape=(4,))
        product = z[0] * z[1:]
        value = pt.exp(product).sum()
        held_first = np.array([False, True, True, True])
        (end,) = affine_ends(z, value, held_first)
        assert end is product
        ends = affine_ends(z, value, np.ones(4, dtype=bool))
        assert product not in ends
        assert len(ends) == 2

    @pytest.mark.parametrize(
        ("name", "build"),
        [
            ("sum", lambda x: x.sum()),
            ("mean", lambda x: x.mean()),
            ("product with data", lambda x: np.ones((2, 4)) @ x),
            ("places", lambda x: x[np.array([0, 0, 3])]),
            ("differences", lambda x: pt.diff(x)),
            ("sums so far", lambda x: pt.cumsum(x)),
            ("joined", lambda x: pt.concatenate([x, 2 * x])),
            ("reshaped", lambda x: x.reshape((2, 2)).T),
            ("put", lambda x: pt.zeros(5)[1:].set(x)),
            ("divided", lambda x: (1.0 - x) / 3.0),
            ("chosen by data", lambda x: pt.switch(np.array([1, 0, 1, 0]), x, 0.0)),
            ("filled", lambda x: pt.fill(np.ones((3, 4)), x)),
        ],
    )
    def test_it_passes_what_is_affine(self, name: str, build: Any) -> None:
        z = pt.vector("z", shape=(4,))
        kept = build(z)
        assert affine_ends(z, pt.exp(kept).sum(), np.ones(4, dtype=bool)) == [kept], name

    @pytest.mark.parametrize(
        ("name", "build"),
        [
            ("product", lambda x: x * x),
            ("quotient", lambda x: 1.0 / x),
            ("largest", lambda x: x.max()),
            ("products so far", lambda x: pt.cumprod(x)),
            ("chosen by itself", lambda x: pt.switch(x > 0, x, 0.0)),
            ("sign", lambda x: pt.sign(x)),
            ("product of all", lambda x: pt.prod(x)),
            ("inner product", lambda x: x @ x),
        ],
    )
    def test_it_ends_where_it_is_not(self, name: str, build: Any) -> None:
        z = pt.vector("z", shape=(4,))
        result = build(z)
        ends = affine_ends(z, result.sum(), np.ones(4, dtype=bool))
        assert ends, name
        assert result not in ends, name
