"""The affine layers along the axes are exact."""

from __future__ import annotations

import numpy as np
import pytest
from numeric import numeric, points, random_params

from pmflow.flows import Loc, Scale

DIM = 3
EXTREME_RHO = [-800.0, -100.0, 100.0, 800.0]


def test_loc_adds_exactly() -> None:
    z, params = points(5, DIM), random_params(Loc(), DIM)
    np.testing.assert_array_equal(numeric(Loc(), DIM).forward(z, params)[0], z + params["loc"])


def test_loc_subtracts_exactly() -> None:
    z, params = points(5, DIM), random_params(Loc(), DIM)
    np.testing.assert_array_equal(numeric(Loc(), DIM).inverse(z, params), z - params["loc"])


def test_loc_has_log_det_0_exactly() -> None:
    _, log_det = numeric(Loc(), DIM).forward(points(5, DIM), random_params(Loc(), DIM))
    np.testing.assert_array_equal(log_det, np.zeros(5))


def test_scale_multiplies_by_softplus() -> None:
    z, params = points(5, DIM), random_params(Scale(), DIM)
    z_new, _ = numeric(Scale(), DIM).forward(z, params)
    # 2 ulps: two libraries' exp and log1p
    np.testing.assert_allclose(z_new, z * np.log1p(np.exp(params["rho"])), rtol=4.5e-16)


def test_the_log_det_of_scale_is_the_same_everywhere() -> None:
    _, log_det = numeric(Scale(), DIM).forward(points(5, DIM), random_params(Scale(), DIM))
    assert len(set(log_det)) == 1


@pytest.mark.parametrize("rho", EXTREME_RHO)
def test_the_log_det_of_an_extreme_scale_is_exact(rho: float) -> None:
    # softplus(x) is exp(x) far below 0 and x far above, in both cases to the last digit
    expected = DIM * (rho if rho < 0 else np.log(rho))
    _, log_det = numeric(Scale(), DIM).forward(points(5, DIM), {"rho": np.full(DIM, rho)})
    np.testing.assert_allclose(log_det, expected, rtol=1e-15)


@pytest.mark.parametrize("rho", EXTREME_RHO)
def test_the_gradient_at_an_extreme_scale_is_finite(rho: float) -> None:
    grads = numeric(Scale(), DIM).gradient(points(5, DIM), {"rho": np.full(DIM, rho)})
    assert all(np.isfinite(grad).all() for grad in grads.values())


@pytest.mark.parametrize("rho", [-100.0, 100.0])
def test_an_extreme_scale_can_be_undone(rho: float) -> None:
    fn, z, params = numeric(Scale(), DIM), points(5, DIM), {"rho": np.full(DIM, rho)}
    # 1e-13: the inverse divides by exp(log(sigma)), and exp(100) loses 100 ulps
    np.testing.assert_allclose(fn.inverse(fn.forward(z, params)[0], params), z, rtol=1e-13)
