"""Twelve posteriors of posteriordb as a PyMC user writes them: named dimensions, nothing tuned.

Each function takes the data and returns the model. Flat priors are `pymc.Flat` and
`pymc.HalfFlat`. The variables have the names that the reference has.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from numpy.typing import NDArray

__all__ = [
    "arma",
    "diamonds",
    "eight_schools",
    "garch",
    "gaussian_mixture",
    "gaussian_process",
    "kid_score",
    "kilpisjarvi",
    "linear_regression",
    "log_earnings",
    "mesquite",
    "party_identification",
]

type Data = dict[str, Any]


def eight_schools(data: Data) -> pm.Model:
    """Treatment effects in eight schools, not centred."""
    with pm.Model(coords={"school": np.arange(1, data["J"] + 1)}) as model:
        mu = pm.Normal("mu", 0, 5)
        tau = pm.HalfCauchy("tau", 5)
        theta_trans = pm.Normal("theta_trans", dims="school")
        theta = pm.Deterministic("theta", mu + tau * theta_trans, dims="school")
        pm.Normal("y", theta, data["sigma"], observed=data["y"], dims="school")
    return model


def kilpisjarvi(data: Data) -> pm.Model:
    """A trend of summer temperatures over years that are not centred."""
    with pm.Model() as model:
        alpha = pm.Normal("alpha", data["pmualpha"], data["psalpha"])
        beta = pm.Normal("beta", data["pmubeta"], data["psbeta"])
        sigma = pm.HalfFlat("sigma")
        pm.Normal("y", alpha + beta * np.asarray(data["x"]), sigma, observed=data["y"])
    return model


def _regress(
    columns: dict[str, Any], outcome: Any, *, half_cauchy: float | None = None
) -> pm.Model:
    """A linear regression on named columns, flat priors but perhaps that of the noise."""
    design = np.column_stack([np.broadcast_to(x, np.shape(outcome)) for x in columns.values()])
    with pm.Model(coords={"predictor": list(columns)}) as model:
        beta = pm.Flat("beta", dims="predictor")
        sigma = pm.HalfCauchy("sigma", half_cauchy) if half_cauchy else pm.HalfFlat("sigma")
        pm.Normal("y", pt.dot(design, beta), sigma, observed=outcome)
    return model


def log_earnings(data: Data) -> pm.Model:
    """Log earnings by height, sex and both."""
    height, male = np.asarray(data["height"]), np.asarray(data["male"])
    columns = {"intercept": 1.0, "height": height, "male": male, "height:male": height * male}
    return _regress(columns, np.log(data["earn"]))


def kid_score(data: Data) -> pm.Model:
    """Test scores of children by the mother's school, IQ and both."""
    school, iq = np.asarray(data["mom_hs"]), np.asarray(data["mom_iq"])
    columns = {"intercept": 1.0, "mom_hs": school, "mom_iq": iq, "mom_hs:mom_iq": school * iq}
    return _regress(columns, np.asarray(data["kid_score"], dtype=float), half_cauchy=2.5)


def mesquite(data: Data) -> pm.Model:
    """Weights of 46 bushes by their sizes."""
    names = ("diam1", "diam2", "canopy_height", "total_height", "density", "group")
    columns = {"intercept": 1.0, **{name: np.asarray(data[name]) for name in names}}
    return _regress(columns, np.asarray(data["weight"]))


def party_identification(data: Data) -> pm.Model:
    """Party by ideology, race, age group, education, sex and income."""
    age = np.asarray(data["age_discrete"])
    columns = {
        "intercept": 1.0,
        **{name: np.asarray(data[name]) for name in ("real_ideo", "race_adj")},
        **{f"age {group}": (age == group).astype(float) for group in (2, 3, 4)},
        **{name: np.asarray(data[name]) for name in ("educ1", "gender", "income")},
    }
    return _regress(columns, np.asarray(data["partyid7"], dtype=float))


def linear_regression(data: Data) -> pm.Model:
    """A regression on simulated data whose coefficients are all 1."""
    with pm.Model(coords={"predictor": np.arange(1, data["D"] + 1)}) as model:
        beta = pm.Normal("beta", 0, 10, dims="predictor")
        sigma = pm.HalfNormal("sigma", 10)
        pm.Normal("y", pt.dot(np.asarray(data["X"]), beta), sigma, observed=data["y"])
    return model


def diamonds(data: Data) -> pm.Model:
    """Log prices of 5,000 diamonds by 24 columns, centred."""
    design = np.asarray(data["X"])[:, 1:]
    centred = design - design.mean(0)
    with pm.Model(coords={"predictor": np.arange(1, data["K"])}) as model:
        b = pm.Normal("b", dims="predictor")
        intercept = pm.StudentT("Intercept", nu=3, mu=8, sigma=10)
        sigma = pm.HalfStudentT("sigma", nu=3, sigma=10)
        pm.Normal("y", intercept + pt.dot(centred, b), sigma, observed=data["Y"])
    return model


def arma(data: Data) -> pm.Model:
    """An ARMA(1, 1) series; what came before the first observation is its mean, without error."""
    y = np.asarray(data["y"])
    with pm.Model(coords={"time": np.arange(1, data["T"] + 1)}) as model:
        mu = pm.Normal("mu", 0, 10)
        phi = pm.Normal("phi", 0, 2)
        theta = pm.Normal("theta", 0, 2)
        sigma = pm.HalfCauchy("sigma", 2.5)
        first = mu + phi * mu

        def step(now: Any, before: Any, error: Any, mu: Any, phi: Any, theta: Any) -> Any:
            prediction = mu + phi * before + theta * error
            return prediction, now - prediction

        later, _ = pytensor.scan(
            step,
            sequences=[pt.as_tensor(y[1:]), pt.as_tensor(y[:-1])],
            outputs_info=[None, y[0] - first],
            non_sequences=[mu, phi, theta],
            return_updates=False,
        )
        nu = pt.concatenate([first[None], later])
        pm.Normal("y", nu, sigma, observed=y, dims="time")
    return model


def garch(data: Data) -> pm.Model:
    """A GARCH(1, 1) series; ``beta1`` is below ``1 - alpha1``, and the two are flat together."""
    y = np.asarray(data["y"])
    with pm.Model(coords={"time": np.arange(1, data["T"] + 1)}) as model:
        mu = pm.Flat("mu")
        alpha0 = pm.HalfFlat("alpha0")
        alpha1 = pm.Uniform("alpha1", 0, 1)
        beta1 = pm.Uniform("beta1", 0, 1 - alpha1)
        pm.Potential("flat", pt.log1p(-alpha1))  # Uniform divides by the width of its interval

        def step(before: Any, variance: Any, mu: Any, alpha0: Any, alpha1: Any, beta1: Any) -> Any:
            return alpha0 + alpha1 * (before - mu) ** 2 + beta1 * variance

        first = pt.as_tensor(np.float64(data["sigma1"]) ** 2)
        later = pytensor.scan(
            step,
            sequences=[pt.as_tensor(y[:-1])],
            outputs_info=[first],
            non_sequences=[mu, alpha0, alpha1, beta1],
            return_updates=False,
        )
        sigma = pt.sqrt(pt.concatenate([first[None], later]))
        pm.Normal("y", mu, sigma, observed=y, dims="time")
    return model


def gaussian_process(data: Data) -> pm.Model:
    """Counts whose log rate is a Gaussian process, not centred."""
    x: NDArray[np.float64] = np.asarray(data["x"], dtype=float)
    squares = (x[:, None] - x) ** 2
    with pm.Model(coords={"point": np.arange(1, data["N"] + 1)}) as model:
        rho = pm.Gamma("rho", alpha=25, beta=4)
        alpha = pm.HalfNormal("alpha", 2)
        f_tilde = pm.Normal("f_tilde", dims="point")
        covariance = alpha**2 * pt.exp(-0.5 * squares / rho**2) + 1e-10 * np.eye(len(x))
        f = pm.Deterministic("f", pt.linalg.cholesky(covariance) @ f_tilde, dims="point")
        pm.Poisson("k", pt.exp(f), observed=data["k"], dims="point")
    return model


def gaussian_mixture(data: Data) -> pm.Model:
    """A mixture of two normal distributions in the order of their means."""
    with pm.Model(coords={"component": [1, 2]}) as model:
        mu = pm.Normal(
            "mu",
            0,
            2,
            dims="component",
            transform=pm.distributions.transforms.ordered,
            initval=[-1.0, 1.0],  # PyMC starts at zero, where there is no order
        )
        sigma = pm.HalfNormal("sigma", 2, dims="component")
        theta = pm.Beta("theta", 5, 5)
        weights = pt.stack([theta, 1 - theta])
        pm.NormalMixture("y", weights, mu, sigma, observed=data["y"])
    return model
