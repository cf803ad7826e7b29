"""Graphs over draws: vectorised, not scanned, and what is done where that can't be."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from models import conjugate_normal, eight_schools, gaussian
from ops import SumOfPowers
from pytensor.compile.builders import OpFromGraph
from pytensor.graph.op import Op
from pytensor.graph.traversal import ancestors
from pytensor.scan.op import Scan
from pytensor.tensor.blockwise import Blockwise

import pmflow as pmf
from pmflow.graphs.evaluate import (
    NotVectorizedError,
    compile_once,
    vectorize_over_draws,
    without_notes,
)

FAST: dict[str, Any] = {"compile_kwargs": {"mode": "FAST_COMPILE"}, "progressbar": False}

looped = pytest.mark.filterwarnings("ignore:Draws are looped over:UserWarning")


def with_term(term: Callable[[Any], Any]) -> pm.Model:
    """Three variables, and a term of their log density."""
    with pm.Model() as model:
        x = pm.Normal("x", shape=3)
        pm.Potential("term", -0.5 * term(pt.exp(x)))
    return model


def ring() -> pm.Model:
    """No data, and no prior either."""
    with pm.Model() as model:
        z = pm.Flat("z", shape=2, initval=[2.0, 0.0])
        pm.Potential("ring", -0.5 * ((pt.sqrt((z**2).sum()) - 2.0) / 0.4) ** 2)
    return model


def stubborn() -> pm.Model:
    return with_term(lambda x: SumOfPowers()(x, 2))


def gentle() -> pm.Model:
    """The same density as `stubborn`, of Ops that can be batched."""
    return with_term(lambda x: (x**2).sum())


def recursion() -> pm.Model:
    """An AR(1) process whose log density is made by a loop of the model's own."""
    innovations = np.array([0.3, -0.2, 0.5, 0.1])
    with pm.Model() as model:
        first, rho = pm.Normal("first"), pm.Normal("rho", 0.0, 0.5)
        path = pytensor.scan(
            lambda innovation, before, rho: rho * before + innovation,
            sequences=[pt.as_tensor(innovations)],
            outputs_info=[first],
            non_sequences=[rho],
            return_updates=False,
        )
        pm.Potential("path", -0.5 * (path**2).sum())
    return model


def ops_of(graph: Any) -> list[Op]:
    """The Ops behind a graph; of a batched one, what is batched."""
    ops = [v.owner.op for v in ancestors([graph]) if v.owner is not None]
    return [op.core_op if isinstance(op, Blockwise) else op for op in ops]


MODELS: dict[str, Callable[[], pm.Model]] = {
    "eight schools": eight_schools,
    "multivariate normal": lambda: gaussian([0.0, 1.0], [[2.0, -1.0], [-1.0, 3.0]]),
    "minibatches": lambda: conjugate_normal(np.arange(100.0), batch=10),
    "a potential alone": ring,
    "no variable in a term": lambda: with_term(lambda x: pt.constant(3.0)),
}

each_model = pytest.mark.parametrize("make", MODELS.values(), ids=[name for name in MODELS])


class TestVectorised:
    @each_model
    def test_the_loss_of_many_draws_has_no_loop(self, make: Callable[[], pm.Model]) -> None:
        loss = pmf.NFVI("planar*2", model=make()).objective(100)
        assert not any(isinstance(op, Scan) for op in ops_of(loss))

    def test_the_loss_in_a_mixed_approximation_has_no_loop(self) -> None:
        model = eight_schools()
        groups = [pmf.Group([model["tau"]], "planar", model=model)]
        groups += [pmf.Group(None, "fr", model=model)]
        loss = pmf.NFVI(pmf.Approximation(groups, model=model)).objective(100)
        assert not any(isinstance(op, Scan) for op in ops_of(loss))

    @each_model
    def test_the_loss_of_many_draws_is_finite(self, make: Callable[[], pm.Model]) -> None:
        inference = pmf.NFVI("planar*2", model=make(), random_seed=1)
        inference.fit(2, obj_n_mc=3, **FAST)
        assert np.isfinite(inference.hist).all()

    @pytest.mark.parametrize("draws", [1, 3], ids=["one draw", "three draws"])
    def test_a_numpy_integer_is_a_number_of_draws(self, draws: int) -> None:  # D1
        hists = []
        counts: list[Any] = [draws, np.int64(draws)]
        for n in counts:
            inference = pmf.NFVI(model=gentle(), random_seed=1)
            hists.append(inference.fit(2, obj_n_mc=n, **FAST).hist)
        np.testing.assert_allclose(hists[0], hists[1], rtol=1e-10)

    @pytest.mark.parametrize("make", [recursion, eight_schools], ids=["own loop", "no loop"])
    def test_log_p_of_every_draw_is_that_of_the_model(self, make: Callable[[], pm.Model]) -> None:
        model = make()
        approx = pmf.NormalizingFlow("planar", model=model, random_seed=1)
        found: Any = approx.sample(5, random_seed=2, include_transformed=True)
        values = {**found["posterior"].data_vars, **found["unconstrained_posterior"].data_vars}
        logp = model.compile_logp(mode="FAST_COMPILE")
        expected = [
            logp({v.name: values[v.name].values[0, i] for v in model.value_vars}) for i in range(5)
        ]
        np.testing.assert_allclose(found["sample_stats"]["log_p"][0], expected, rtol=1e-10)

    def test_a_loop_of_the_model_runs_over_its_own_steps_alone(self) -> None:
        approx = pmf.NormalizingFlow(model=recursion())
        (loop,) = [op for op in ops_of(approx.sized_symbolic_logp) if isinstance(op, Scan)]
        # two numbers enter a step besides the innovation: nothing of the flow
        assert len(loop.inner_inputs) == 3

    def test_a_model_with_its_own_loop_is_fitted(self) -> None:
        inference = pmf.NFVI(model=recursion(), random_seed=1)
        inference.fit(3, obj_n_mc=4, **FAST)
        assert np.isfinite(inference.hist).all()

    def test_any_graph_can_be_sampled(self) -> None:
        model = eight_schools()
        approx = pmf.NormalizingFlow(model=model, random_seed=1)
        node = approx.sample_node(model["theta"] * 2, size=6)
        assert compile_once([], [node])()[0].shape == (6, 8)

    def test_several_graphs_are_sampled_at_the_same_draws(self) -> None:
        model = eight_schools()
        approx = pmf.NormalizingFlow(model=model, random_seed=1)
        nodes = approx.sample_node([model["mu"], 2 * model["mu"]], size=6)
        one, double = compile_once([], nodes)()
        np.testing.assert_allclose(double, 2 * one)


class TestFallback:
    def test_it_warns_and_names_the_op(self) -> None:
        with pytest.warns(UserWarning, match="because the Op SumOfPowers can't be batched"):
            pmf.NormalizingFlow(model=stubborn()).sample(2)

    def test_an_op_that_can_be_batched_does_not_warn(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pmf.NormalizingFlow(model=gentle()).sample(2)

    @looped
    def test_log_p_is_the_same(self) -> None:
        found: list[Any] = [
            pmf.NormalizingFlow("planar", model=make(), random_seed=1).sample(7, random_seed=2)
            for make in (stubborn, gentle)
        ]
        log_p = [draws["sample_stats"]["log_p"] for draws in found]
        np.testing.assert_allclose(log_p[0], log_p[1], rtol=1e-10)

    @looped
    def test_the_losses_of_a_fit_are_the_same(self) -> None:
        hists = [
            pmf.NFVI("scale-loc", model=make(), random_seed=1).fit(4, obj_n_mc=3, **FAST).hist
            for make in (stubborn, gentle)
        ]
        np.testing.assert_allclose(hists[0], hists[1], rtol=1e-8)

    @looped
    def test_one_draw_a_step_needs_no_loop(self) -> None:
        loss = pmf.NFVI(model=stubborn()).objective(1)
        assert not any(isinstance(op, Scan) for op in ops_of(loss))

    @looped
    def test_a_deterministic_of_such_an_op_is_drawn(self) -> None:
        with pm.Model() as model:
            x = pm.Normal("x", shape=3)
            pm.Deterministic("norm2", SumOfPowers()(x, 2))
        posterior: Any = pmf.NormalizingFlow(model=model).sample(4)["posterior"]
        expected = (posterior["x"].values ** 2).sum(-1)
        np.testing.assert_allclose(posterior["norm2"], expected, rtol=1e-12)


class TestVectorizeOverDraws:
    def test_every_row_is_the_graph_of_one_point(self) -> None:
        x, points = pt.dvector("x"), pt.dmatrix("points")
        (batched,) = vectorize_over_draws([pt.exp(x).sum() * x], {x: points})
        values = np.random.default_rng(0).normal(size=(4, 3))
        expected = [np.exp(row).sum() * row for row in values]
        np.testing.assert_allclose(compile_once([points], [batched])(values)[0], expected)

    @pytest.mark.parametrize("value", [3.0, [1.0, 2.0]], ids=["number", "vector"])
    def test_what_depends_on_no_draw_is_repeated(self, value: Any) -> None:
        x, points = pt.dvector("x"), pt.dmatrix("points")
        (batched,) = vectorize_over_draws([pt.constant(value)], {x: points})
        (found,) = compile_once([points], [batched])(np.zeros((4, 3)))
        np.testing.assert_array_equal(found, [value] * 4)

    def test_several_inputs_go_together(self) -> None:
        x, y = pt.dvector("x"), pt.dvector("y")
        xs, ys = pt.dmatrix("xs"), pt.dmatrix("ys")
        (batched,) = vectorize_over_draws([(x * y).sum()], {x: xs, y: ys})
        a, b = np.random.default_rng(0).normal(size=(2, 4, 3))
        np.testing.assert_allclose(compile_once([xs, ys], [batched])(a, b)[0], (a * b).sum(1))

    def test_the_op_to_blame_is_found_among_others(self) -> None:
        x, points = pt.dvector("x"), pt.dmatrix("points")
        node = pt.exp(SumOfPowers()(pt.exp(x), 3) + x.sum())
        with pytest.raises(NotVectorizedError, match=r"^SumOfPowers$"):
            vectorize_over_draws([x.sum(), node], {x: points})

    def test_the_reason_is_kept(self) -> None:
        x, points = pt.dvector("x"), pt.dmatrix("points")
        with pytest.raises(NotVectorizedError) as caught:
            vectorize_over_draws([SumOfPowers()(x, 3)], {x: points})
        assert caught.value.__cause__ is not None

    def test_such_an_op_of_no_draw_is_no_hindrance(self) -> None:
        x, points = pt.dvector("x"), pt.dmatrix("points")
        node = x * SumOfPowers()(pt.constant([1.0, 2.0]), 2)
        (batched,) = vectorize_over_draws([node], {x: points})
        np.testing.assert_allclose(compile_once([points], [batched])(np.ones((4, 3)))[0], 5.0)


class TestCompileOnce:
    @pytest.mark.parametrize(
        ("reduce", "expected"),
        [
            (lambda xs: sum(xs), 40.0),
            (lambda xs: pt.add(*xs), 40.0),
            (lambda xs: pt.stack(xs).sum(0), 40.0),
            (lambda xs: pt.stack([x.sum() for x in xs]).sum(), 80.0),
            (lambda xs: pt.prod(pt.stack(xs), axis=0), 1.0),
            (lambda xs: pt.mul(*xs), 1.0),
        ],
        ids=["sum", "one addition", "sum of a stack", "sum of numbers", "product", "one product"],
    )
    def test_many_operands_are_within_its_reach(
        self, reduce: Callable[[Any], Any], expected: float
    ) -> None:
        # NumPy takes 31 at once
        xs = [pt.dvector(f"x{i}") for i in range(40)]
        (found,) = compile_once(xs, [reduce(xs)])(*np.ones((40, 2)))
        np.testing.assert_array_equal(found, np.full(np.shape(found), expected))

    def test_a_model_of_many_variables_is_drawn(self) -> None:
        with pm.Model() as model:
            xs = [pm.Normal(f"x{i}") for i in range(40)]
            pm.Normal("y", pt.stack(xs).sum(), 1.0, observed=0.0)
        found = pmf.NormalizingFlow(model=model, random_seed=1).sample(2)
        assert np.isfinite(found["sample_stats"]["log_p"]).all()

    def test_a_batch_of_an_op_that_is_a_graph_is_not_looped_over(self) -> None:
        with pm.Model() as model:
            x = pm.Normal("x", shape=2)
            pm.Potential("either", pt.logaddexp(x[0], x[1]))
        approx = pmf.NormalizingFlow(model=model, random_seed=1)
        draws = approx.sample(50)
        variables = approx._draw_function._variables
        function: Any
        (function,) = variables._compiled.values()
        nodes = function.run.maker.fgraph.apply_nodes
        assert nodes
        assert not any(isinstance(n.op, Blockwise) for n in nodes)
        x_0, x_1 = np.asarray(draws["posterior"]["x"])[0].T
        exact = np.logaddexp(x_0, x_1) - 0.5 * (x_0**2 + x_1**2) - np.log(2 * np.pi)
        log_p = np.asarray(draws["sample_stats"]["log_p"])[0]
        np.testing.assert_allclose(log_p, exact, rtol=1e-12)

    def test_a_flow_of_many_layers_has_a_density(self) -> None:
        approx = pmf.NormalizingFlow("scale*40", model=gaussian([0.0], [[1.0]]), jitter=0.0)
        # 40 scales of 1: N(0, 1) at 0
        assert approx.log_prob([0.0]) == pytest.approx(-0.5 * np.log(2 * np.pi), abs=1e-10)

    def test_the_configuration_is_left_as_it_was(self) -> None:
        before = pytensor.config.cxx
        compile_once([], [pt.constant(1.0)])
        assert pytensor.config.cxx == before


class TestNotes:
    def test_no_variable_keeps_its_notes(self) -> None:
        x = pt.dvector("x")
        with pytensor.config.change_flags(traceback__limit=8):  # as it is for users
            batched = vectorize_over_draws([pt.diag(x).sum() + 1.0], {x: pt.dmatrix("draws")})
            noted = [*notes(batched), *notes([pt.diag(x)])]
        assert noted, "PyTensor no longer writes notes: without_notes can go"
        assert not notes(without_notes(batched))
        assert not notes(without_notes([pt.diag(x)]))

    def test_a_switch_between_equal_constants_inside_of_a_graph_fills_no_memory(self) -> None:
        x = pt.dvector("x")
        zero = pt.constant(0.0)  # each rewrite of a switch would triple its notes
        inner = sum(pt.switch(x > i, zero, zero) for i in range(12))
        y = pt.dvector("y")
        (found,) = compile_once([y], [OpFromGraph([x], [x + inner], inline=True)(y)])(np.ones(2))
        np.testing.assert_array_equal(found, np.ones(2))
        assert len(zero.tag.trace) == 0


def notes(outputs: list[Any]) -> list[Any]:
    """Those of all variables, of graphs inside of the graph too."""
    found: list[Any] = []
    for variable in ancestors(outputs):
        found += getattr(variable.tag, "trace", [])
        op = getattr(variable.owner, "op", None)
        op = getattr(op, "core_op", op)
        if isinstance(op, OpFromGraph):
            found += [n for v in op.fgraph.variables for n in getattr(v.tag, "trace", [])]
    return found
