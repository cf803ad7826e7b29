"""Quasi-Monte Carlo draws: each one normal, all together even, and moved at every step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from models import gaussian
from pymc.pytensorf import collect_default_updates, reseed_rngs
from pymc.variational.operators import KL
from scipy import stats
from scipy.special import ndtri

import pmflow as pmf
from pmflow.draws.sobol import QuasiDraws, normal_quantile
from pmflow.errors import ParameterError
from pmflow.graphs.evaluate import compile_once

PYTHON: dict[str, Any] = {"compile_kwargs": {"mode": "FAST_COMPILE"}, "progressbar": False}
MEAN, COV = [0.5, -1.0], [[2.0, -1.0], [-1.0, 3.0]]

# the C backend looks for a BLAS that pip does not install; nothing here needs one
pytestmark = pytest.mark.filterwarnings("ignore:PyTensor could not link to a BLAS")


def approximation(flow: str = "scale-loc", **kwargs: Any) -> pmf.NormalizingFlow:
    return pmf.NormalizingFlow(flow, model=gaussian(MEAN, COV), random_seed=1, **kwargs)


def steps(
    approx: pmf.Approximation, draws: int, n: int, seed: int = 1
) -> tuple[QuasiDraws, np.ndarray]:
    """The normal numbers of `n` steps, those of all groups side by side: (n, draws, length)."""
    quasi = QuasiDraws(approx.groups, draws)
    noise = pt.concatenate(list(quasi.replacements.values()), axis=-1)
    generators = collect_default_updates([noise])
    reseed_rngs(list(generators), seed)
    quasi.reseed(seed)
    step = pytensor.function([], noise, updates=generators, mode="FAST_COMPILE")
    return quasi, np.stack([step() for _ in range(n)])


class TestQuantile:
    def test_it_is_scipys(self) -> None:
        rng = np.random.default_rng(1)
        near = np.logspace(-16, -0.4, 2_000)
        u = np.concatenate([rng.uniform(size=10_000), near, 1 - near[near > 1e-15], [0.5]])
        found = normal_quantile(pt.as_tensor(u)).eval(mode="FAST_COMPILE")
        np.testing.assert_allclose(found, ndtri(u), rtol=5e-15, atol=1e-15)

    def test_float32_stays_float32(self) -> None:
        u = np.linspace(0.001, 0.999, 99).astype("float32")
        with pytensor.config.change_flags(floatX="float32"):
            found = normal_quantile(pt.as_tensor(u)).eval(mode="FAST_COMPILE")
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, ndtri(u.astype(float)), rtol=1e-4, atol=1e-6)  # 1 - u


class TestDraws:
    @pytest.mark.slow
    @pytest.mark.parametrize("draws", [1, 5, 64], ids="{} draws".format)
    def test_every_number_is_standard_normal(self, draws: int) -> None:
        _, z = steps(approximation(), draws, 3_000)
        # one draw of each step, first and last: independent of each other, as the shifts are
        for place in {0, draws - 1}:
            for column in z[:, place].T:
                assert stats.kstest(column, "norm").pvalue > 1e-3
        assert np.isfinite(z).all()

    @pytest.mark.slow
    def test_the_numbers_of_a_draw_are_independent(self) -> None:
        _, z = steps(approximation("scale-loc", base="student_t"), 8, 3_000)
        correlation = np.corrcoef(z[:, 3].T)
        # four standard errors
        np.testing.assert_allclose(correlation, np.eye(4), atol=4 / np.sqrt(3_000))

    @pytest.mark.slow
    def test_means_over_draws_are_unbiased(self) -> None:
        _, z = steps(approximation(), 32, 4_000)
        f = np.exp(z[..., 0]) * (1 + z[..., 1]) + z[..., 0] ** 2 * z[..., 1] ** 2
        means = f.mean(1)
        error = means.std() / np.sqrt(len(means))
        assert means.mean() == pytest.approx(np.exp(0.5) + 1, abs=4 * error)
        assert error < 0.5 * f.std() / np.sqrt(f.size)  # and it is no accident of a large error

    def test_every_step_has_a_shift_of_its_own(self) -> None:
        _, z = steps(approximation(), 8, 500)
        assert len(np.unique(z[:, 0, 0])) == 500

    def test_digits_beyond_those_of_the_set_are_random_too(self) -> None:
        _, z = steps(approximation(), 8, 500)
        rest = stats.norm.cdf(z[:, 0]) * 2**30 % 1
        assert stats.kstest(rest.ravel(), "uniform").pvalue > 1e-3

    def test_every_64th_of_each_axis_and_every_box_of_eight_by_eight_has_one_draw(self) -> None:
        _, z = steps(approximation(), 64, 20)
        u = stats.norm.cdf(z)
        for step in u:
            boxes = np.floor(8 * step) @ [8, 1]
            for cells in (*np.floor(64 * step).T, boxes):
                np.testing.assert_array_equal(np.sort(cells), np.arange(64))

    @pytest.mark.slow
    def test_all_groups_share_one_set(self) -> None:
        with gaussian(MEAN, COV) as model:
            x = pm.Normal("x")
            groups = [pmf.Group([x], "scale-loc", random_seed=1), pmf.Group(None, "mean_field")]
            approx = pmf.Approximation(groups, model=model)
        quasi, z = steps(approx, 16, 1_000)
        assert quasi.points.type.shape == (16, 3)
        np.testing.assert_allclose(np.corrcoef(z[:, 5].T), np.eye(3), atol=4 / np.sqrt(1_000))

    def test_another_seed_scrambles_the_set_anew(self) -> None:
        quasi = QuasiDraws(approximation().groups, 8)
        sets = []
        for seed in (1, 2, 1):
            quasi.reseed(seed)
            sets.append(quasi.points.get_value())
        assert not np.allclose(sets[0], sets[1])
        np.testing.assert_array_equal(sets[0], sets[2])


@pytest.mark.parametrize("flow", ["tril-loc", "planar*2-scale-loc"])
@pytest.mark.slow
def test_gradients_have_a_third_of_the_variance_at_most(flow: str) -> None:
    approx = approximation(flow)
    (group,) = approx.groups
    noise = pt.matrix()
    loss = KL(approx)(None)(2, more_replacements={group.symbolic_initial: noise})
    grads = pt.grad(loss, approx.params)
    fn = compile_once([noise], [pt.concatenate([g.ravel() for g in grads])])
    _, z = steps(approx, 64, 200)
    rng = np.random.default_rng(1)
    quasi = np.var([fn(step)[0] for step in z], axis=0)
    plain = np.var([fn(rng.standard_normal((64, 2)))[0] for _ in range(200)], axis=0)
    assert np.all(quasi < plain / 3)


@pytest.mark.slow
class TestFit:
    def fit(self, n: int = 60, flow: str = "planar-scale-loc", **settings: Any) -> pmf.NFVI:
        vi = pmf.NFVI(flow, model=gaussian(MEAN, COV), random_seed=1)
        vi.fit(n, **{"obj_n_mc": 8, "qmc": True, **PYTHON, **settings})
        return vi

    @pytest.mark.parametrize("backend", ["python", "numba", "jax"])
    def test_the_losses_are_the_same_for_any_chunks(self, backend: str) -> None:
        if backend == "jax":
            pytest.importorskip("jax", reason="jax is an optional extra")
        settings = {} if backend == "python" else {"backend": backend, "compile_kwargs": None}
        parts = self.fit(25, "scale-loc", **settings)
        parts.refine(35, progressbar=False)
        if backend == "numba":  # which rounds otherwise than NumPy, and is slow to compile twice
            whole = self.fit(60, "scale-loc")
            np.testing.assert_allclose(parts.hist, whole.hist, rtol=1e-9)
        else:
            whole = self.fit(60, "scale-loc", **settings)
            np.testing.assert_array_equal(parts.hist, whole.hist)

    def test_the_loss_is_unbiased_and_less_noisy(self) -> None:
        rest = {"obj_optimizer": pm.sgd(learning_rate=0.0), "obj_n_mc": 64}
        quasi = self.fit(1_000, **rest).hist
        plain = self.fit(1_000, qmc=False, **rest).hist
        error = np.hypot(quasi.std(), plain.std()) / np.sqrt(1_000)
        assert quasi.mean() == pytest.approx(plain.mean(), abs=4 * error)
        assert quasi.std() < plain.std() / 2
        assert len(np.unique(quasi)) == 1_000

    def test_it_goes_together_with_path_gradients(self) -> None:
        settings = {"obj_optimizer": pm.adam(learning_rate=0.05), "estimator": "path"}
        vi = self.fit(1_500, "tril-loc", **settings)
        cov = vi.approx.cov.eval(mode="FAST_COMPILE")
        np.testing.assert_allclose(cov, COV, atol=1e-4)

    def test_drawing_is_as_ever(self) -> None:
        vi = self.fit(3, obj_optimizer=pm.sgd(learning_rate=0.0))
        fresh = pmf.NormalizingFlow("planar-scale-loc", model=gaussian(MEAN, COV), random_seed=1)
        ours, theirs = (a.sample(50, random_seed=2)["posterior"]["z"] for a in (vi.approx, fresh))
        np.testing.assert_array_equal(ours, theirs)

    def test_a_second_fit_scrambles_anew_whether_compiled_or_reused(
        self, compilations: list[Any]
    ) -> None:
        reused, anew = self.fit(5), self.fit(5)
        loop = reused._trainer._loops[-1][1]
        assert loop is not None
        (points,) = [v for v in loop.step.constants if v.name == "sobol_points"]
        first = points.get_value()
        reused.fit(5, obj_n_mc=8, qmc=True, **PYTHON)
        assert not np.array_equal(first, points.get_value())
        assert len(compilations) == 2
        anew._trainer._loops.clear()
        anew.fit(5, obj_n_mc=8, qmc=True, **PYTHON)
        np.testing.assert_array_equal(reused.hist, anew.hist)
        reused.fit(5, obj_n_mc=8, **PYTHON)
        assert len(compilations) == 4

    def test_a_number_of_draws_that_is_no_power_of_two_is_fine(self) -> None:
        assert np.isfinite(self.fit(5, obj_n_mc=7).hist).all()  # a warning would be an error

    @pytest.mark.parametrize("value", [1, "sobol"], ids=repr)
    def test_qmc_is_true_or_false(self, value: Any) -> None:
        with pytest.raises(ParameterError, match="qmc must be True or False, but is"):
            self.fit(5, qmc=value)

    def test_trained_weights_of_a_mixture_are_refused(self) -> None:
        vi = pmf.NFVI("scale-loc", model=gaussian(MEAN, COV), random_seed=1, base="mixture")
        with pytest.raises(ParameterError, match=r"mixture\[trained=false\]"):
            vi.fit(5, qmc=True, **PYTHON)
        base = "mixture[trained=false]"
        vi = pmf.NFVI("scale-loc", model=gaussian(MEAN, COV), random_seed=1, base=base)
        assert np.isfinite(vi.fit(5, qmc=True, obj_n_mc=8, **PYTHON).hist).all()

    def test_more_numbers_than_there_are_sequences_are_refused(self) -> None:
        with pm.Model() as model:
            pm.Normal("x", shape=21_202)
        with pytest.raises(ParameterError, match=r"21201 numbers at most.*takes 21202"):
            pmf.NFVI("scale-loc", model=model, random_seed=1).fit(5, qmc=True)
