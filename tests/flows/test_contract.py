"""What every layer promises. A layer that is in the catalogue but not in `CASES` fails here."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytensor.tensor as pt
import pytest
from numeric import as_written, numeric, points, random_params, start

from pmflow.flows import AbstractLayer
from pmflow.flows.catalogue import layer_class, words
from pmflow.flows.formula import Formula
from pmflow.graphs.evaluate import compile_once

CASES = [
    *("loc", "scale", "planar", "radial", "hh", "tril", "sparse", "lu", "lowrank"),
    *("perm", "reverse"),
    *(
        "sinh",
        "sylvester",
        "sylvester[m=1]",
        "bend",
        "iaf",
        "iaf[hidden=16,depth=2,activation=gelu]",
    ),
    *("maf", "naf", "bnaf", "bnaf[hidden=4,depth=2]", "poly", "poly[degree=2]"),
    *(
        "coupling",
        "coupling[depth=2,activation=elu]",
        "coupling[activation=sin]",
        "coupling[activation=relu]",
        "spline",
    ),
    *("spline[hidden=0]", "spline[bins=3,bound=2]"),
]
"""One formula a layer, or several for a layer with options."""

NOT_THE_IDENTITY_AT_JITTER_0 = {"hh", "perm", "reverse"}
"""No reflection and no permutation is the identity; they keep the base as it is."""

WITHOUT_GRADIENT = {("hh", 1): {"v"}, ("sylvester", 1): {"v"}}
"""By word and dim: parameters that can't matter. On a line every reflection is z -> -z."""

NETWORKS = {"bend", "iaf", "maf", "naf", "bnaf", "poly", "coupling", "spline"}
"""Words of layers with entries that may be without a gradient: masked weights, units of relu at
rest, bins without a point. No parameter may be so as a whole."""

EPS = np.finfo(np.float64).eps

ROUND_TRIP = 1e-12
"""A layer near its start stretches by 1e3 at most, and so amplifies rounding, 2e-16, at most."""

NETWORK_ROUND_TRIP = {"jitter": 1e-9, "wild": 1e-6}
"""What rounding changes in one coordinate a network passes on to others, steeply if it is wild."""


def layer_of(text: str) -> AbstractLayer:
    (layer,) = Formula(text).layers
    return layer


def params_of(layer: AbstractLayer, dim: int, kind: str) -> dict[str, Any]:
    if kind == "wild":
        return random_params(layer, dim, scale=3)
    return start(layer, dim, jitter=float(kind.removeprefix("jitter ")))


def round_trip(layer: AbstractLayer, kind: str) -> float:
    return NETWORK_ROUND_TRIP[kind.split()[0]] if layer.word in NETWORKS else ROUND_TRIP


each_layer = pytest.mark.parametrize("layer", [layer_of(text) for text in CASES], ids=CASES)
each_word = pytest.mark.parametrize("layer", [layer_of(t) for t in CASES if "[" not in t], ids=str)

STARTS = ("jitter 0", "jitter 0.1", "jitter 1")
STARTS_AND_WILD = (*STARTS, "wild")


def dims(*values: int) -> pytest.MarkDecorator:
    """Each dim, of which `make check` takes the plane alone."""
    each = [pytest.param(dim, marks=[] if dim == 2 else [pytest.mark.slow]) for dim in values]
    return pytest.mark.parametrize("dim", each, ids=[f"dim {dim}" for dim in values])


def test_every_layer_of_the_catalogue_is_in_the_contract() -> None:
    assert {layer_of(text).word for text in CASES} == {layer_class(word).word for word in words()}


# ------------------------------------------------------------------------------ shapes
@pytest.mark.slow
@each_layer
@dims(1, 2, 5)
def test_a_batch_keeps_its_shape(layer: AbstractLayer, dim: int) -> None:
    params = start(layer, dim, 0.1)
    for batch in [(), (5,), (2, 5), (0,)]:
        fn = numeric(layer, dim, len(batch))
        z_new, log_det = fn.forward(points(*batch, dim), params)
        z = fn.inverse(points(*batch, dim), params)
        shapes = ((*batch, dim), batch, (*batch, dim))
        assert (z_new.shape, log_det.shape, z.shape) == shapes


@each_layer
def test_every_point_of_a_batch_is_mapped_on_its_own(layer: AbstractLayer) -> None:
    z, params = points(2, 5, 5), start(layer, 5, 1.0)
    together, log_det = numeric(layer, 5, 2).forward(z, params)
    one_by_one = [numeric(layer, 5, 0).forward(point, params) for point in z.reshape(10, 5)]
    # sums of five terms, or of a network's 32, may be taken in another order
    ulps = 1e-12 if layer.word in NETWORKS else 1e-14
    np.testing.assert_allclose(
        together.reshape(10, 5), [p for p, _ in one_by_one], rtol=ulps, atol=ulps
    )
    np.testing.assert_allclose(log_det.ravel(), [d for _, d in one_by_one], rtol=0, atol=ulps)


@pytest.mark.slow
@each_layer
def test_pytensors_rewrites_change_nothing_and_need_no_known_shape(layer: AbstractLayer) -> None:
    z, x, at, params = pt.matrix("z"), pt.matrix("x"), points(4, 5), start(layer, 5, 0.5)
    fixed = {name: pt.as_tensor(value) for name, value in params.items()}
    function = compile_once([z, x], [*layer.forward(z, fixed), layer.inverse(x, fixed)])
    fn = numeric(layer, 5)
    expected = [*fn.forward(at, params), fn.inverse(at, params)]
    for got, same in zip(function(at, at), expected, strict=True):
        assert got.shape == same.shape
        np.testing.assert_allclose(got, same, rtol=1e-9, atol=1e-9)


@each_layer
@dims(1, 2, 5)
def test_starts_have_the_promised_names_and_shapes(layer: AbstractLayer, dim: int) -> None:
    shapes = {name: value.shape for name, value in start(layer, dim, 0.1).items()}
    assert shapes == layer.param_shapes(dim)


# ----------------------------------------------------------------------------- the map
@each_layer
@dims(1, 2, 5)
def test_log_det_is_that_of_the_jacobian(layer: AbstractLayer, dim: int) -> None:
    fn, z = numeric(layer, dim), points(20, dim)
    for kind in STARTS_AND_WILD:
        params = params_of(layer, dim, kind)
        jacobian = fn.jacobian(z, params)
        # the second term is what slogdet itself loses; near the start it is far below the first
        allowed = 1e-10 + dim * EPS * np.linalg.cond(jacobian)
        error = np.abs(fn.forward(z, params)[1] - np.linalg.slogdet(jacobian)[1])
        assert np.all(error <= allowed), kind


@each_layer
@dims(1, 2, 5)
def test_inverse_undoes_forward(layer: AbstractLayer, dim: int) -> None:
    fn, z = numeric(layer, dim), points(20, dim)
    for kind in STARTS:
        params = params_of(layer, dim, kind)
        z_new, _ = fn.forward(z, params)
        atol = round_trip(layer, kind) * (1 + np.abs(z_new).max())
        back = fn.inverse(z_new, params)
        np.testing.assert_allclose(back, z, rtol=0, atol=atol, err_msg=kind)


@each_layer
@dims(1, 2, 5)
def test_forward_undoes_inverse(layer: AbstractLayer, dim: int) -> None:
    fn, z = numeric(layer, dim), points(20, dim)
    for kind in STARTS_AND_WILD:
        params = params_of(layer, dim, kind)
        before = fn.inverse(z, params)
        # wild parameters stretch by more than 1e3: the intermediate point says by how much
        scale = 1 + np.abs(before).max() + np.abs(z).max()
        # a layer without a network may stretch by 1e5 then
        atol = max(round_trip(layer, kind), 100 * ROUND_TRIP) * scale
        again, _ = fn.forward(before, params)
        np.testing.assert_allclose(again, z, rtol=0, atol=atol, err_msg=kind)


@each_layer
@dims(1, 2, 5)
def test_at_jitter_0_the_map_is_the_identity_or_keeps_the_norm(
    layer: AbstractLayer, dim: int
) -> None:
    z = points(20, dim)
    z_new, log_det = numeric(layer, dim).forward(z, start(layer, dim, 0.0))
    if layer.word in NOT_THE_IDENTITY_AT_JITTER_0:
        z, z_new = np.linalg.norm(z, axis=-1), np.linalg.norm(z_new, axis=-1)
    # a few ulps of the terms, up to 5
    np.testing.assert_allclose(z_new, z, rtol=0, atol=1e-14)
    np.testing.assert_allclose(log_det, 0, atol=1e-14)


@each_layer
def test_is_affine_says_whether_the_map_is_affine(layer: AbstractLayer) -> None:
    fn, params, a, b = numeric(layer, 5), start(layer, 5, 1.0), points(20, 5), points(20, 5, seed=2)
    at_a, at_b, between = (fn.forward(z, params)[0] for z in (a, b, (a + b) / 2))
    bend = between - (at_a + at_b) / 2
    assert (np.abs(bend).max() < 1e-12) == layer.is_affine  # bends at jitter 1 are above 1e-2


@each_layer
def test_mixes_says_whether_a_coordinate_depends_on_several(layer: AbstractLayer) -> None:
    fn, params, z = numeric(layer, 3), start(layer, 3, 1.0), points(1, 3)
    moved = fn.forward(z + 0.1 * np.eye(3), params)[0] - fn.forward(z, params)[0]
    depends = np.abs(moved) > 1e-9  # input by output; rounding moves them by 1e-15
    assert (depends.sum(0) > 1).any() == layer.mixes


@each_layer
def test_absorbing_a_shift_moves_every_point_by_it(layer: AbstractLayer) -> None:
    shift, params = np.array([1.0, -2.0, 30.0, 0.0, 5.0]), params_of(layer, 5, "jitter 1")
    z = points(5, 5)
    absorbed = layer.absorb_shift(params, shift)
    moved = z if absorbed is None else numeric(layer, 5).forward(z, absorbed)[0] - shift
    expected = z if absorbed is None else numeric(layer, 5).forward(z, params)[0]
    np.testing.assert_allclose(moved, expected, atol=1e-13)  # ulps of 30


# ----------------------------------------------------------------------- the gradient
@pytest.mark.slow
@each_layer
@dims(1, 2, 5)
def test_at_jitter_0_1_every_entry_of_every_parameter_has_a_gradient(
    layer: AbstractLayer, dim: int
) -> None:
    # not at jitter 0, where a planar layer does nothing and so has no direction to turn
    grads = numeric(layer, dim).gradient(points(20, dim), start(layer, dim, 0.1))
    # 1e-12: above the rounding of a gradient that is 0, far below any other
    zero = {name: np.abs(grads[name]) < 1e-12 for name in layer.param_shapes(dim)}
    idle = np.all if layer.word in NETWORKS else np.any
    without = {name for name, is_zero in zero.items() if is_zero.size and idle(is_zero)}
    assert without == WITHOUT_GRADIENT.get((layer.word, dim), set())


@each_word
@pytest.mark.slow
def test_in_1000_dimensions_everything_is_finite(layer: AbstractLayer) -> None:
    fn, z = numeric(layer, 1000), points(2, 1000)
    for kind in ("jitter 0.1", "wild"):
        params = params_of(layer, 1000, kind)
        found = [*fn.forward(z, params), fn.inverse(z, params), *fn.gradient(z, params).values()]
        assert all(np.isfinite(array).all() for array in found), kind


@pytest.mark.slow
@each_word
def test_in_1000_dimensions_the_way_there_and_back_ends_where_it_began(
    layer: AbstractLayer,
) -> None:
    fn, z = numeric(layer, 1000), points(2, 1000)
    for kind in ("jitter 0.1", "jitter 1"):
        params = params_of(layer, 1000, kind)
        z_new, _ = fn.forward(z, params)
        atol = round_trip(layer, kind) * (1 + np.abs(z_new).max())
        back = fn.inverse(z_new, params)
        np.testing.assert_allclose(back, z, rtol=0, atol=atol, err_msg=kind)


@each_word
@pytest.mark.slow
def test_pytensors_rewrites_keep_the_gradient_and_the_score(layer: AbstractLayer) -> None:
    fn, z, params = numeric(layer, 2), points(6, 2), start(layer, 2, 0.5)
    z_new, log_det = layer.forward(fn.z, fn.params)
    score = layer.forward_with_score(fn.z, fn.params, -fn.z)[2]
    rows = pt.stack([pt.grad(z_new[:, i].sum(), fn.z) for i in range(2)], axis=-2)
    outputs = [pt.grad(log_det.sum(), fn.z, disconnected_inputs="ignore"), rows, score]
    found = compile_once([fn.z, *fn.params.values()], outputs, on_unused_input="ignore")(
        z, *(params[name] for name in fn.params)
    )
    np.testing.assert_allclose(found[1], fn.jacobian(z, params), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found[2], fn.with_score(z, params, -z)[2], rtol=1e-9, atol=1e-9)
    weights = np.cos(np.arange(1, z.size + 1.0)).reshape(z.shape)
    of_both = np.einsum("ni,nij->nj", weights, found[1]) + found[0]
    np.testing.assert_allclose(of_both, fn.gradient(z, params)["z"], rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@each_layer
def test_the_inverse_can_be_differentiated(layer: AbstractLayer) -> None:
    fn, at, params = numeric(layer, 2), points(6, 2), start(layer, 2, 1.0)
    z_new, _ = fn.forward(at, params)
    back = layer.inverse(fn.z, fn.params)
    rows = pt.stack([pt.grad(back[:, i].sum(), fn.z) for i in range(2)], axis=-2)
    values = [params[name] for name in fn.params]
    (inverse,) = as_written([fn.z, *fn.params.values()], [rows])(z_new, *values)
    product = inverse @ fn.jacobian(at, params)
    np.testing.assert_allclose(product, np.broadcast_to(np.eye(2), (6, 2, 2)), atol=1e-10)


# ------------------------------------------------------------------------- the object
@each_layer
def test_the_start_depends_on_the_seed_alone(layer: AbstractLayer) -> None:
    before: Any = np.random.get_state()  # noqa: NPY002 - the global state is the point
    one, same, other = (start(layer, 3, 0.1, seed=seed) for seed in (5, 5, 6))
    # the position too: a few numbers move nothing else
    after: Any = np.random.get_state()  # noqa: NPY002
    assert all(np.array_equal(*both) for both in zip(before, after, strict=True))
    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert not any(np.array_equal(one[name], other[name]) for name in one if one[name].size)


@each_layer
def test_a_duplicate_is_equal(layer: AbstractLayer) -> None:
    for duplicate in (copy.copy(layer), copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert duplicate == layer


@each_layer
def test_repr_is_code_that_builds_it(layer: AbstractLayer) -> None:
    assert eval(repr(layer), {type(layer).__name__: type(layer)}) == layer


# ------------------------------------------------------------------------ single precision
@each_layer
@dims(1, 2, 5)
def test_float32_stays_float32_and_agrees_with_float64(layer: AbstractLayer, dim: int) -> None:
    params = {k: v.astype("float32") for k, v in start(layer, dim, 1.0).items()}
    z = points(20, dim).astype("float32")
    single = numeric(layer, dim, dtype="float32").forward(z, params)
    double = numeric(layer, dim).forward(z, params)
    for got, exact in zip(single, double, strict=True):
        assert got.dtype == np.float32
        # 50 ulps of float32, for sums over the dimensions of terms that stretch a little
        np.testing.assert_allclose(got, exact, rtol=6e-6, atol=6e-6 * (1 + np.abs(exact).max()))


@each_layer
@dims(1, 2, 5)
def test_float32_makes_the_round_trip(layer: AbstractLayer, dim: int) -> None:
    fn, z, params = numeric(layer, dim, dtype="float32"), points(20, dim), start(layer, dim, 0.1)
    z_new, _ = fn.forward(z, params)
    back = fn.inverse(z_new, params)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, z, rtol=0, atol=1e-5)  # 50 ulps of 2
