"""Joins of which only some parts have the axis of a batch: no loop over it, the same values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.graph.traversal import applys_between
from pytensor.tensor.blockwise import Blockwise

from pmflow.graphs.evaluate import vectorize_over_draws

RNG = np.random.default_rng(1)

CASES: dict[str, Callable[[Any], Any]] = {
    "a constant first": lambda x: pt.concatenate([[0.0], x]),
    "a constant between": lambda x: pt.concatenate([x, [1.0, 2.0], x**2]),
    "along the last axis": lambda x: pt.concatenate([pt.ones((2, 2)), pt.outer(x[:2], x)], axis=1),
    "along an axis from the end": lambda x: pt.concatenate([pt.outer(x, x), pt.ones((1, 3))], -2),
    "all have it": lambda x: pt.concatenate([x, pt.exp(x)]),
    "stacked": lambda x: pt.stack([x, pt.zeros(3)]),
}


@pytest.mark.parametrize("make", CASES.values(), ids=CASES)
def test_values_and_gradients_are_those_of_each_point(make: Callable[[Any], Any]) -> None:
    x = pt.vector("x", shape=(3,))
    one = (make(x) ** 3).sum()
    points = pt.matrix("points", shape=(None, 3))
    (many,) = vectorize_over_draws([one], {x: points})
    loops = [n for n in applys_between([points], [many]) if isinstance(n.op, Blockwise)]
    assert not [node for node in loops if "Join" in str(node.op)]
    given = RNG.normal(size=(4, 3))
    found = pytensor.function([points], [many, pt.grad(many.sum(), points)], mode="FAST_COMPILE")
    known = pytensor.function([x], [one, pt.grad(one, x)], mode="FAST_COMPILE")
    values, slopes = found(given)
    for point, value, slope in zip(given, values, slopes, strict=True):
        np.testing.assert_allclose(value, known(point)[0])
        np.testing.assert_allclose(slope, known(point)[1])
