"""The targets as PyMC models."""

from __future__ import annotations

import pymc as pm

import pmflow as pmf

from . import data

__all__ = ["build_model"]


def build_model(target: str) -> pm.Model:
    """The model of a row: a name of `pmflow.targets`, radon, regression or normal-<dimensions>."""
    if target == "radon":
        return _radon()
    if target == "regression":
        return _regression()
    if target.startswith("normal-"):
        with pm.Model() as model:
            pm.Normal("x", shape=int(target.removeprefix("normal-")))
        return model
    return pmf.targets.ALL[target].model()


def _radon() -> pm.Model:
    """Intercepts and slopes by county, not centred: 173 free dimensions.

    An overall intercept and slope, two standard deviations, 85 intercepts and 85 slopes that sum
    to zero (84 dimensions each), and the noise. Without checks of bounds and with
    shapes rather than dims, which is fastest and what JAX needs.
    """
    rows = data.radon()
    with pm.Model(check_bounds=False) as model:
        intercept = pm.Normal("intercept", sigma=10)
        county_raw = pm.ZeroSumNormal("county_raw", shape=data.GROUPS)
        county_sd = pm.HalfNormal("county_sd")
        floor = pm.Normal("floor", sigma=2)
        county_floor_raw = pm.ZeroSumNormal("county_floor_raw", shape=data.GROUPS)
        county_floor_sd = pm.HalfNormal("county_floor_sd")
        sigma = pm.HalfNormal("sigma", sigma=1.5)
        intercepts = intercept + county_sd * county_raw
        slopes = floor + county_floor_sd * county_floor_raw
        mu = intercepts[rows.group] + slopes[rows.group] * rows.floor
        pm.Normal("y", mu, sigma, observed=rows.y)
    return model


def _regression() -> pm.Model:
    table = data.regression()
    with pm.Model(check_bounds=False) as model:
        x, y = pm.Minibatch(table.x, table.y, batch_size=data.BATCH)
        intercept = pm.Normal("intercept", sigma=5)
        slopes = pm.Normal("slopes", sigma=5, shape=data.COLUMNS)
        sigma = pm.HalfNormal("sigma", sigma=5)
        mu = intercept + x @ slopes
        pm.Normal("y", mu, sigma, observed=y, total_size=data.REGRESSION_ROWS)
    return model
