"""The page on layers of one's own is true: its code runs, and its layers keep the contract."""

from __future__ import annotations

import doctest
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytensor
import pytest
from numeric import numeric, points, random_params

import pmflow as pmf
from pmflow.errors import FormulaError, LayerError
from pmflow.flows import AbstractLayer
from pmflow.flows.catalogue import _preserved

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
SESSIONS = re.findall(r"^```pycon\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)

SHORT = {
    # a few steps, without machine code: that it runs is the question, not where it ends
    "fit(20_000, progressbar=False)": (
        'fit(20, progressbar=False, compile_kwargs={"mode": "FAST_COMPILE"})'
    )
}

DIM = 3


def run(code: str, names: dict[str, Any]) -> None:
    exec(compile(code, str(PAGE), "exec", dont_inherit=True), names)


def shortened(code: str) -> str:
    for long, short in SHORT.items():
        code = code.replace(long, short)
    return code


@pytest.fixture(autouse=True, scope="module")
def page() -> Iterator[dict[str, Any]]:
    """Run the page from top to bottom; its names are the fixture's value."""
    with _preserved():
        names: dict[str, Any] = {"__name__": "page"}
        with pytensor.config.change_flags(cxx=""):  # a cold C compiler takes 20 seconds
            for block in BLOCKS:
                run(shortened(block), names)
        yield names


def layers(page: dict[str, Any]) -> list[AbstractLayer]:
    return [page["SinhArcsinh"](), page["SinhArcsinh"](tails=False), page["Cubic"]()]


def test_the_fit_on_the_page_is_shortened() -> None:
    assert sum(long in TEXT for long in SHORT) == len(SHORT)


def test_the_page_shows_real_output(page: dict[str, Any]) -> None:
    session = "\n".join(SESSIONS)
    test = doctest.DocTestParser().get_doctest(session, dict(page), "page", str(PAGE), 0)
    assert doctest.DocTestRunner(verbose=False).run(test).failed == 0


def test_the_fit_has_a_loss_for_every_step(page: dict[str, Any]) -> None:
    assert page["inference"].hist.shape == (20,)


def test_the_fit_has_finite_losses(page: dict[str, Any]) -> None:
    assert np.isfinite(page["inference"].hist).all()


def test_the_fit_moves_the_layers_own_parameter(page: dict[str, Any]) -> None:
    fresh = pmf.NormalizingFlow(
        "scale-sinh_arcsinh[tails=false]-loc", model=page["approx"].model, random_seed=1
    )
    values = [a.layer_params[1]["skew"].get_value() for a in (fresh, page["approx"])]
    assert np.abs(values[1] - values[0]).max() > 1e-6


def test_the_draws_have_the_models_shape(page: dict[str, Any]) -> None:
    assert page["idata"]["posterior"]["x"].shape == (1, 1000, 3)


def test_the_density_of_a_draw_goes_through_the_layers_inverse(page: dict[str, Any]) -> None:
    draws = page["idata"]["posterior"]["x"].values[0]
    log_q = page["idata"]["sample_stats"]["log_q"].values[0]
    # 1e-10: the way back through three layers
    np.testing.assert_allclose(page["approx"].log_prob(draws), log_q, rtol=0, atol=1e-10)


def test_an_option_changes_the_parameters(page: dict[str, Any]) -> None:
    with_tails, without, _ = layers(page)
    assert set(with_tails.param_shapes(2)) - set(without.param_shapes(2)) == {"log_tail"}


def test_an_option_out_of_range_is_said_with_a_caret(page: dict[str, Any]) -> None:
    with pytest.raises(FormulaError, match="strength must be > 0") as caught:
        pmf.Formula("loc-cubic[strength=0]")
    assert caught.value.span == (10, 20)


def test_the_check_of_the_page_finds_a_wrong_log_det(
    page: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    cls = page["Cubic"]
    forward = cls.forward
    monkeypatch.setattr(cls, "forward", lambda *a: (forward(*a)[0], 1.001 * forward(*a)[1]))
    with pytest.raises(AssertionError, match="Not equal"):
        page["check"](cls())


def test_the_check_of_the_page_finds_a_wrong_inverse(
    page: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    cls = page["Cubic"]
    inverse = cls.inverse
    monkeypatch.setattr(cls, "inverse", lambda *a: 1.001 * inverse(*a))
    with pytest.raises(AssertionError, match="Not equal"):
        page["check"](cls())


def test_the_check_of_the_page_finds_an_idle_parameter(
    page: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    cls = page["SinhArcsinh"]
    monkeypatch.setattr(cls, "log_tail", lambda self, params: 0 * params["log_tail"])
    with pytest.raises(AssertionError, match="log_tail has no gradient"):
        page["check"](cls())


@pytest.mark.parametrize("index", range(3), ids=["sinh_arcsinh", "without tails", "cubic"])
@pytest.mark.parametrize("scale", [0.1, 1.0], ids="scale {}".format)
def test_the_layers_of_the_page_make_the_round_trip(
    page: dict[str, Any], index: int, scale: float
) -> None:
    layer = layers(page)[index]
    fn, z, params = numeric(layer, DIM), points(20, DIM), random_params(layer, DIM, scale)
    # 1e-10: sinh stretches up to 1e3 here
    np.testing.assert_allclose(fn.inverse(fn.forward(z, params)[0], params), z, rtol=0, atol=1e-10)


@pytest.mark.parametrize("index", range(3), ids=["sinh_arcsinh", "without tails", "cubic"])
def test_the_layers_of_the_page_carry_scores_though_they_say_nothing_about_them(
    page: dict[str, Any], index: int
) -> None:
    layer = layers(page)[index]
    fn, z, params = numeric(layer, DIM), points(20, DIM), random_params(layer, DIM, 0.3)
    z_new, _, score = fn.with_score(z, params, -z)
    expected, _ = fn.score_and_logq_by_inverse(z_new, params)
    np.testing.assert_allclose(score, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("index", range(3), ids=["sinh_arcsinh", "without tails", "cubic"])
@pytest.mark.parametrize("batch", [(), (5,), (2, 5)], ids=str)
def test_the_layers_of_the_page_keep_the_shape_of_a_batch(
    page: dict[str, Any], index: int, batch: tuple[int, ...]
) -> None:
    layer = layers(page)[index]
    fn, params = numeric(layer, DIM, len(batch)), random_params(layer, DIM)
    z_new, log_det = fn.forward(points(*batch, DIM), params)
    assert (z_new.shape, log_det.shape) == ((*batch, DIM), batch)


@pytest.mark.parametrize("index", range(3), ids=["sinh_arcsinh", "without tails", "cubic"])
def test_the_layers_of_the_page_keep_float32(page: dict[str, Any], index: int) -> None:
    layer = layers(page)[index]
    fn, params = numeric(layer, DIM, dtype="float32"), random_params(layer, DIM)
    z_new, log_det = fn.forward(points(5, DIM), params)
    assert {a.dtype.name for a in (z_new, log_det, fn.inverse(z_new, params))} == {"float32"}


def test_the_sinh_arcsinh_of_the_page_is_the_identity_at_jitter_0(page: dict[str, Any]) -> None:
    z, layer = points(20, DIM), layers(page)[0]
    params = layer.init_params(DIM, 0.0, np.random.default_rng(0))
    z_new, _ = numeric(layer, DIM).forward(z, params)
    np.testing.assert_allclose(z_new, z, rtol=1e-14)  # sinh(arcsinh(z)), a few ulps


def test_running_the_page_again_replaces_its_classes(page: dict[str, Any]) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    run(BLOCKS[0], names)
    assert pmf.Formula("sas").layers == (names["SinhArcsinh"](),)


def test_another_class_may_not_take_the_word(page: dict[str, Any]) -> None:
    with pytest.raises(LayerError, match="already stands for"):
        run(BLOCKS[0], {"__name__": "another_page"})
