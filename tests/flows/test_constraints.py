"""The maps between unconstrained and constrained parameters."""

from __future__ import annotations

import numpy as np
import pytensor.tensor as pt

from pmflow.flows.constraints import SOFTPLUS_ONE, norm
from pmflow.graphs.evaluate import compile_once

_v = pt.dvector("v")
_norm = compile_once([_v], [norm(_v), pt.grad(norm(_v), _v)])


def test_softplus_is_1_where_a_scale_starts() -> None:
    np.testing.assert_allclose(np.logaddexp(0, SOFTPLUS_ONE), 1, rtol=2.3e-16)  # one ulp


def test_norm_is_the_euclidean_norm() -> None:
    np.testing.assert_allclose(_norm(np.array([3.0, 0.0, -4.0]))[0], 5, rtol=1e-15)


def test_the_gradient_of_norm_at_the_origin_is_0() -> None:
    np.testing.assert_array_equal(_norm(np.zeros(3))[1], np.zeros(3))
