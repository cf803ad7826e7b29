"""Base distributions: what the first layer sees."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.gradient import disconnected_grad
from pytensor.tensor.variable import TensorVariable

from pmflow.flows.base import Params, Shape
from pmflow.flows.constraints import SOFTPLUS_ONE
from pmflow.flows.kernels.softplus import softplus_and_log

__all__ = [
    "BASES",
    "AbstractBase",
    "Mixture",
    "Normal",
    "StudentT",
    "mean_with_choices",
    "standard_normal_logp",
]


def standard_normal_logp(z: TensorVariable) -> TensorVariable:
    """Log density of N(0, I) at points of shape ``(*batch, dim)``: shape ``(*batch,)``."""
    return -0.5 * (z**2 + math.log(2 * math.pi)).sum(-1)


def mean_with_choices(
    values: TensorVariable, log_choices: Sequence[TensorVariable]
) -> TensorVariable:
    """Mean over draws, with a gradient that is right also where draws choose among components.

    The probability of a choice gets its gradient from a term that is zero: its log less its own
    value, times the distance of a draw's value from the mean of the others (Kool et al., 2019, Buy
    4 REINFORCE samples, get a baseline for free).

    Parameters
    ----------
    values : TensorVariable, shape (draws,)
    log_choices : sequence of TensorVariable, each of shape (draws,)
        Log probabilities of the choices behind each draw; without any it is the mean.

    Returns
    -------
    TensorVariable, shape ()
    """
    mean = values.mean(0)
    if not log_choices:
        return mean
    log_choice = sum(log_choices[1:], log_choices[0])
    draws = values.shape[0].astype(values.dtype)
    away = disconnected_grad((values - mean) * draws / pt.maximum(draws - 1, 1))
    return mean + ((log_choice - disconnected_grad(log_choice)) * away).mean(0)


class AbstractBase(ABC):
    """A distribution that is drawn from by way of standard normal numbers.

    A base is a frozen dataclass: its fields are its options, it holds no parameters.
    """

    word: ClassVar[str]

    def noise_length(self, dim: int) -> int:
        """How many standard normal numbers are behind a draw of length `dim`."""
        return dim

    @abstractmethod
    def param_shapes(self, dim: int) -> dict[str, Shape]:
        """Name and shape of every (unconstrained) parameter."""

    @abstractmethod
    def init_params(
        self, dim: int, jitter: float, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        """Start values, `jitter` being their spread."""

    @abstractmethod
    def draw(self, noise: TensorVariable, params: Params, dim: int) -> TensorVariable:
        """Turn normal numbers, shape (*batch, noise_length), into draws, shape (*batch, dim)."""

    @abstractmethod
    def log_prob(self, z: TensorVariable, params: Params) -> TensorVariable:
        """Log density at points of shape ``(*batch, dim)``: shape ``(*batch,)``."""

    def log_choice(self, noise: TensorVariable, params: Params) -> TensorVariable | None:
        """Log probability of what a draw chose among finitely many, shape (*batch,).

        None where nothing is chosen. A choice carries no gradient of the draw; this one's gradient
        is that of the probabilities (see `mean_with_choices`).
        """
        return None


@dataclass(frozen=True)
class Normal(AbstractBase):
    """The standard normal distribution, without parameters."""

    word: ClassVar[str] = "normal"

    def param_shapes(self, dim: int) -> dict[str, Shape]:  # noqa: D102
        return {}

    def init_params(  # noqa: D102
        self, dim: int, jitter: float, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        return {}

    def draw(self, noise: TensorVariable, params: Params, dim: int) -> TensorVariable:  # noqa: D102
        return noise

    def log_prob(self, z: TensorVariable, params: Params) -> TensorVariable:  # noqa: D102
        return standard_normal_logp(z)


@dataclass(frozen=True)
class StudentT(AbstractBase):
    r"""Student's t in each coordinate, with degrees of freedom that are trained or given.

    From two normal numbers (Bailey, 1994, https://doi.org/10.1090/S0025-5718-1994-1219703-3, in
    the form of Box and Muller):

    .. math:: t = n_1 \sqrt{\frac{e^x - 1}{x}}, \qquad x = \frac{n_1^2 + n_2^2}{\nu}

    exactly t with any real :math:`\nu > 0`, and differentiable in it. ``df=1`` is Cauchy.

    Parameters
    ----------
    df : float
        Degrees of freedom, or where they start.
    trained : bool
        Whether each coordinate has degrees of freedom of its own, trained with the flow:
        parameter ``df``, shape ``(dim,)``, :math:`\nu = \mathrm{softplus}`.
    """

    word: ClassVar[str] = "student_t"

    df: float = 5.0
    trained: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.df < math.inf:
            raise ValueError(f"df must be positive and finite, got {self.df}.")

    def noise_length(self, dim: int) -> int:  # noqa: D102
        return 2 * dim

    def param_shapes(self, dim: int) -> dict[str, Shape]:  # noqa: D102
        return {"df": (dim,)} if self.trained else {}

    def init_params(  # noqa: D102
        self, dim: int, jitter: float, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        if not self.trained:
            return {}
        start = self.df + math.log(-math.expm1(-self.df))  # the inverse of softplus
        return {"df": start + jitter * rng.standard_normal(dim)}

    def draw(self, noise: TensorVariable, params: Params, dim: int) -> TensorVariable:  # noqa: D102
        one, two = noise[..., :dim], noise[..., dim:]
        tiny = np.finfo(noise.dtype).tiny  # for noise of zeros
        x = (one**2 + two**2) / self._df(params) + tiny
        return one * pt.sqrt(pt.expm1(x) / x)

    def log_prob(self, z: TensorVariable, params: Params) -> TensorVariable:  # noqa: D102
        df = self._df(params)
        log_norm = pt.gammaln((df + 1) / 2) - pt.gammaln(df / 2) - 0.5 * pt.log(df * math.pi)
        return (log_norm - (df + 1) / 2 * pt.log1p(z**2 / df)).sum(-1)

    def _df(self, params: Params) -> TensorVariable:
        if self.trained:
            return pt.softplus(params["df"])
        return pt.constant(self.df, dtype="floatX")


@dataclass(frozen=True)
class Mixture(AbstractBase):
    r"""A mixture of k normal distributions with diagonal covariances, its density exact.

    .. math:: q_0(z) = \sum_{j=1}^k w_j\, N\bigl(z;\ \mu_j, \mathrm{diag}(\sigma_j^2)\bigr)

    Means and scales are trained by the path through the draws. A draw's component is chosen by one
    more normal number. With trained weights the choice's probability carries their gradient, with
    the other draws' mean as the baseline (Kool et al., 2019, Buy 4 REINFORCE samples): it needs
    ``obj_n_mc`` of 2 at least, and is the better the more draws there are.

    Parameters
    ----------
    k : int
        Components.
    trained : bool
        Whether the weights are trained; they are ``1 / k`` otherwise.

    Notes
    -----
    Parameters, unconstrained: ``mean`` and ``rho``, shape ``(k, dim)``,
    :math:`\sigma = \mathrm{softplus}(\rho)`; ``logits``, shape ``(k,)``, with trained weights. The
    means start as draws from N(0, I), so that the components differ.
    """

    word: ClassVar[str] = "mixture"

    k: int = 4
    trained: bool = True

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k must be >= 1, the number of components, got {self.k}.")

    def noise_length(self, dim: int) -> int:  # noqa: D102
        return dim + 1

    def param_shapes(self, dim: int) -> dict[str, Shape]:  # noqa: D102
        shapes: dict[str, Shape] = {"mean": (self.k, dim), "rho": (self.k, dim)}
        return shapes | {"logits": (self.k,)} if self.trained else shapes

    def init_params(  # noqa: D102
        self, dim: int, jitter: float, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        start = {
            "mean": rng.standard_normal((self.k, dim)),
            "rho": SOFTPLUS_ONE + jitter * rng.standard_normal((self.k, dim)),
        }
        return start | {"logits": np.zeros(self.k)} if self.trained else start

    def draw(self, noise: TensorVariable, params: Params, dim: int) -> TensorVariable:  # noqa: D102
        is_chosen = self._choice(noise, params)[..., None]  # (*batch, k, 1)
        sigma, _ = self._scales(params)
        mean, scale = ((is_chosen * p).sum(-2) for p in (params["mean"], sigma))
        return mean + scale * noise[..., :dim]

    def log_prob(self, z: TensorVariable, params: Params) -> TensorVariable:  # noqa: D102
        sigma, log_sigma = self._scales(params)
        logps = standard_normal_logp((z[..., None, :] - params["mean"]) / sigma)
        logps = logps - log_sigma.sum(-1) + self._log_weights(params)  # (*batch, k)
        largest = logps.max(-1, keepdims=True)
        return pt.log(pt.exp(logps - largest).sum(-1)) + largest[..., 0]

    def log_choice(self, noise: TensorVariable, params: Params) -> TensorVariable | None:  # noqa: D102
        if not self.trained:
            return None
        return (self._choice(noise, params) * self._log_weights(params)).sum(-1)

    def _scales(self, params: Params) -> tuple[TensorVariable, TensorVariable]:
        """Scales and their logs, both of shape (k, dim)."""
        sigma, log_sigma = softplus_and_log(params["rho"].ravel())
        shape = params["mean"].type.shape
        return sigma.reshape(shape), log_sigma.reshape(shape)

    def _log_weights(self, params: Params) -> TensorVariable:
        """Shape (k,)."""
        if not self.trained:
            return pt.zeros(self.k, dtype=params["mean"].dtype) - math.log(self.k)
        logits = params["logits"] - params["logits"].max()
        return logits - pt.log(pt.exp(logits).sum())

    def _choice(self, noise: TensorVariable, params: Params) -> TensorVariable:
        """1 at the component of each draw and 0 elsewhere, shape (*batch, k)."""
        uniform = 0.5 * (1 + pt.erf(noise[..., -1:] / math.sqrt(2)))
        ends = pt.cumsum(pt.exp(disconnected_grad(self._log_weights(params))))
        # the last end is 1 up to rounding: a draw above it belongs to the last component too
        below = pt.concatenate(
            [(uniform < ends[:-1]).astype(noise.dtype), pt.ones_like(uniform)], -1
        )
        return below - pt.concatenate([pt.zeros_like(uniform), below[..., :-1]], -1)


BASES: dict[str, type[AbstractBase]] = {cls.word: cls for cls in (Normal, StudentT, Mixture)}
"""By the word that names them."""
