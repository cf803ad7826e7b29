"""Rewrites of PyTensor's that fail are no concern of a user's."""

from __future__ import annotations

import logging

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.graph.rewriting.basic import in2out, node_rewriter
from pytensor.tensor.elemwise import Elemwise

from pmflow.graphs import evaluate

_NAME = "pytensor.graph.rewriting.basic"


@node_rewriter([Elemwise])
def _broken(fgraph: object, node: object) -> None:
    raise ValueError("of no use to anyone")


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rewrite that fails stands among those that are made."""
    mode = evaluate._MODES["all"].register((in2out(_broken, name="broken"), 0.1))
    monkeypatch.setitem(evaluate._MODES, "all", mode)


@pytest.mark.usefixtures("fails")
def test_traceback_is_a_detail(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    x = pt.vector()
    with evaluate.while_compiling():  # as where a step is compiled that compiles others
        compute = evaluate.compile_once([x], [pt.exp(x)])
        evaluate.compile_once([x], [pt.exp(x)])
    np.testing.assert_array_equal(compute(np.zeros(2))[0], 1.0)
    said = [record for record in caplog.records if "of no use" in record.getMessage()]
    assert said
    assert {(record.name, record.levelname) for record in said} == {("pmflow", "DEBUG")}


@pytest.mark.usefixtures("fails")
def test_whoever_asks_pytensor_to_raise_sees_it() -> None:
    x = pt.vector()
    with (
        pytensor.config.change_flags(on_opt_error="raise"),
        pytest.raises(ValueError, match="of no use"),
    ):
        evaluate.compile_once([x], [pt.exp(x)])


def test_pytensor_speaks_for_itself_outside(caplog: pytest.LogCaptureFixture) -> None:
    evaluate.compile_once([], [pt.zeros(1)])
    logging.getLogger(_NAME).error("heard")
    assert [record.name for record in caplog.records] == [_NAME]
