"""A chain is its layers, one after the other."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np
import pytensor.tensor as pt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import Array, Values, as_written, numeric, points
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from pmflow.errors import ParameterError
from pmflow.flows import AbstractLayer, Chain, Loc, Scale
from pmflow.flows.base import Params, Shape
from pmflow.flows.catalogue import BUILT_IN, _preserved, register
from pmflow.flows.formula import Formula
from pmflow.graphs.evaluate import compile_once

DIM = 2


@dataclass(frozen=True)
class Cubic(AbstractLayer):
    """A layer of the user's own: each coordinate plus its cube, times a positive number."""

    word: ClassVar[str] = "cubic"

    shrink: float = 1.0

    def param_shapes(self, dim: int) -> dict[str, Shape]:
        return {"log_c": (dim,)}

    def init_params(
        self, dim: int, jitter: float, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        return {"log_c": -2 + jitter * rng.standard_normal(dim)}

    def forward(self, z: TensorVariable, params: Params) -> tuple[TensorVariable, TensorVariable]:
        c = self.shrink * pt.exp(params["log_c"])
        return z + c * z**3, pt.log1p(3 * c * z**2).sum(-1)

    def inverse(self, z: TensorVariable, params: Params) -> TensorVariable:
        # Cardano, in the form in which nothing cancels
        k = 1 / (3 * self.shrink * pt.exp(params["log_c"])) ** 0.5
        return 2 * k * pt.sinh(pt.arcsinh(1.5 * z / k) / 3)


@pytest.fixture(autouse=True, scope="module")
def cubic() -> Iterator[None]:
    with _preserved():
        register(Cubic)
        yield


class NumericChain:
    """A chain whose methods take and return arrays."""

    def __init__(self, formula: str) -> None:
        self.chain = Chain(Formula(formula).layers)
        self.z = pt.matrix("z", shape=(None, DIM))
        self.params = [
            {name: pt.tensor(name, shape=shape) for name, shape in shapes.items()}
            for shapes in self.chain.param_shapes(DIM)
        ]

    def call(self, outputs: Any, z: Array, values: list[dict[str, Array]]) -> Any:
        inputs = [self.z, *(v for layer in self.params for v in layer.values())]
        arrays = [layer[name] for layer, p in zip(values, self.params, strict=True) for name in p]
        return as_written(inputs, outputs)(z, *arrays)

    def start(self, jitter: float, seed: int = 0) -> list[dict[str, Array]]:
        return [dict(p) for p in self.chain.init_params(DIM, jitter, np.random.default_rng(seed))]


@cache
def numeric_chain(formula: str) -> NumericChain:
    return NumericChain(formula)


def one_by_one(chain: Chain, z: Array, values: list[Values]) -> tuple[list[Array], Array]:
    """Follow points through the layers, each compiled on its own: steps and log-determinants."""
    steps, log_dets = [z], []
    for layer, params in zip(chain.layers, values, strict=True):
        z, log_det = numeric(layer, DIM).forward(z, params)
        steps.append(z)
        log_dets.append(log_det)
    return steps, np.array(log_dets)


words = st.sampled_from([*(cls.word for cls in BUILT_IN), "cubic", "cubic[shrink=0.1]"])
formulas = st.lists(words, min_size=1, max_size=5).map("-".join)
few = settings(max_examples=20)  # each compiles a graph

MIXED = "scale-planar-cubic[shrink=0.1]*2-radial-hh-loc"


# ------------------------------------------------------------------------- any formula
@pytest.mark.slow
@few
@given(formula=formulas, seed=st.integers(0, 1000))
def test_log_det_is_the_sum_of_the_layers(formula: str, seed: int) -> None:
    flow, z = numeric_chain(formula), points(10, DIM)
    values = flow.start(1.0, seed)
    _, log_det = flow.call(flow.chain.forward(flow.z, flow.params), z, values)
    terms = one_by_one(flow.chain, z, list(values))[1]
    # ulps of the terms, and of the points, which a cubic may take far out
    np.testing.assert_allclose(log_det, terms.sum(0), rtol=0, atol=1e-12 * (1 + abs(terms).max()))


@pytest.mark.slow
@few
@given(formula=formulas, seed=st.integers(0, 1000))
def test_the_steps_are_the_layers_applied_left_to_right(formula: str, seed: int) -> None:
    flow, z = numeric_chain(formula), points(10, DIM)
    values = flow.start(1.0, seed)
    steps = flow.call(flow.chain.forward_steps(flow.z, flow.params), z, values)
    expected = one_by_one(flow.chain, z, list(values))[0]
    np.testing.assert_allclose(steps, expected, rtol=1e-11, atol=1e-11)  # ulps, stretched


@pytest.mark.slow
@few
@given(formula=formulas, seed=st.integers(0, 1000))
def test_inverse_undoes_forward(formula: str, seed: int) -> None:
    flow, z = numeric_chain(formula), points(10, DIM)
    values = flow.start(0.1, seed)
    z_new, _ = flow.chain.forward(flow.z, flow.params)
    (back,) = flow.call([flow.chain.inverse(z_new, flow.params)], z, values)
    np.testing.assert_allclose(back, z, rtol=0, atol=1e-10)  # 5 layers, each to 1e-12


# -------------------------------------------------------------------------- one of each
def test_there_is_one_step_more_than_layers() -> None:
    flow = numeric_chain(MIXED)
    assert len(flow.chain.forward_steps(flow.z, flow.params)) == len(flow.chain) + 1 == 8


def test_the_first_step_is_the_base_draw_itself() -> None:
    flow = numeric_chain(MIXED)
    assert flow.chain.forward_steps(flow.z, flow.params)[0] is flow.z


def test_the_last_step_is_forward() -> None:
    flow = numeric_chain(MIXED)
    last = flow.chain.forward_steps(flow.z, flow.params)[-1]
    z_new, _ = flow.chain.forward(flow.z, flow.params)
    found, expected = flow.call([last, z_new], points(10, DIM), flow.start(1.0))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_log_det_is_that_of_the_jacobian_of_the_whole() -> None:
    flow = numeric_chain(MIXED)
    z_new, log_det = flow.chain.forward(flow.z, flow.params)
    rows = pt.stack([pt.grad(z_new[:, i].sum(), flow.z) for i in range(DIM)], axis=-2)
    jacobian, found = flow.call([rows, log_det], points(20, DIM), flow.start(1.0))
    np.testing.assert_allclose(found, np.linalg.slogdet(jacobian)[1], rtol=0, atol=1e-10)


@pytest.mark.parametrize("batch_ndim", [0, 1, 2], ids=["point", "batch", "batch of batches"])
def test_log_det_has_the_shape_of_the_batch(batch_ndim: int) -> None:
    shape = (2, 5)[:batch_ndim]
    z = pt.tensor("z", shape=(None,) * batch_ndim + (DIM,))
    flow = numeric_chain(MIXED)
    params = [{name: pt.as_tensor(v) for name, v in layer.items()} for layer in flow.start(0.1)]
    z_new, log_det = compile_once([z], flow.chain.forward(z, params))(points(*shape, DIM))
    assert (z_new.shape, log_det.shape) == ((*shape, DIM), shape)


def test_repeated_layers_start_with_parameters_of_their_own() -> None:
    first, second = numeric_chain("planar*2").start(0.1)
    assert not any(np.array_equal(first[name], second[name]) for name in first)


def test_at_jitter_0_a_chain_without_reflections_is_the_identity() -> None:
    flow, z = numeric_chain("scale-planar*3-radial*3-loc"), points(10, DIM)
    z_new, log_det = flow.call(flow.chain.forward(flow.z, flow.params), z, flow.start(0.0))
    np.testing.assert_allclose(z_new, z, rtol=0, atol=1e-13)  # 8 layers, each to 1e-14
    np.testing.assert_allclose(log_det, 0, atol=1e-13)


@pytest.mark.parametrize(
    "formula", ["scale-hh*4-loc", "scale-planar-loc", "loc-cubic", "cubic-loc"]
)
def test_a_chain_is_affine_if_all_its_layers_are(formula: str) -> None:
    assert numeric_chain(formula).chain.is_affine == (formula == "scale-hh*4-loc")


@pytest.mark.parametrize("given", [0, 1, 3], ids=["none", "too few", "too many"])
@pytest.mark.parametrize("method", ["forward", "forward_steps", "forward_with_score", "inverse"])
def test_parameters_for_another_number_of_layers_are_refused(method: str, given: int) -> None:
    # layers of one kind: that the parameters are those of another layer would not be noticed
    flow = numeric_chain("planar*2")
    params = (2 * flow.params)[:given]
    score = [flow.z] if method == "forward_with_score" else []
    with pytest.raises(ParameterError, match=rf"2 mappings, one per layer .*, but are {given}\."):
        getattr(flow.chain, method)(flow.z, params, *score)


# ------------------------------------------------------------------------- the object
def test_len_counts_layers() -> None:
    assert len(Chain(Formula("(planar*2-radial)*3").layers)) == 9


def test_chains_of_equal_layers_are_equal() -> None:
    assert Chain((Scale(), Loc())) == Chain(Formula("scale-loc").layers)


def test_chains_of_other_options_differ() -> None:
    assert Chain((Cubic(),)) != Chain((Cubic(shrink=0.1),))


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, lambda chain: pickle.loads(pickle.dumps(chain))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_a_duplicate_is_equal(duplicate: Callable[..., Any]) -> None:
    chain = Chain(Formula(MIXED).layers)
    assert duplicate(chain) == chain


def test_repr_names_the_layers_in_order() -> None:
    assert repr(Chain((Scale(), Loc()))) == "Chain(layers=(Scale(), Loc()))"
