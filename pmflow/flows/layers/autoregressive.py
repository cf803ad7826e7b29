"""Autoregressive layers: each coordinate's map is shaped by the coordinates before it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytensor
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.gradient import disconnected_grad
from pytensor.tensor.variable import TensorVariable

from pmflow.flows.base import AbstractLayer, Params, Shape, static_length
from pmflow.flows.conditioners.networks import Network, check_network
from pmflow.flows.constraints import SOFTPLUS_ONE
from pmflow.flows.kernels.softplus import softplus_and_log
from pmflow.flows.scalar.sigmoidal import Sigmoidal, SumOfSquares
from pmflow.flows.scalar.transformers import Affine, Transformer
from pmflow.flows.score import gradient, with_triangular_jacobian

__all__ = ["IAF", "MAF", "NAF", "Polynomial"]

_MOST_UNROLLED = 4
"""Coordinates up to which passes are written out one by one: a scan takes longer to compile."""

_MOST_DEGREE, _MOST_TERMS = 10, 20
"""Of sums of squares: each product of two coefficients is a part of the graph of its own."""


@dataclass(frozen=True)
class _Autoregressive(AbstractLayer):
    """A transformer of every coordinate, conditioned by a MADE on those before it.

    The Jacobian is triangular: its log-determinant is the sum of the coordinates' log slopes.
    """

    hidden: int = 32
    depth: int = 1
    activation: str = "tanh"

    def __post_init__(self) -> None:
        check_network(self.hidden, self.depth, self.activation)

    @property
    @abstractmethod
    def _transformer(self) -> Transformer:
        """What is done to a coordinate."""

    def _network(self, dim: int) -> Network:
        return Network(
            n_inputs=dim,
            n_coordinates=dim,
            per_coordinate=self._transformer.size,
            hidden=self.hidden,
            depth=self.depth,
            activation=self.activation,
            is_autoregressive=True,
        )

    def param_shapes(self, dim: int) -> dict[str, Shape]:
        return self._network(dim).param_shapes()

    def init_params(
        self, dim: int, jitter: float, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        return self._network(dim).init_params(self._transformer.start(rng), jitter, rng)

    def forward(self, z: TensorVariable, params: Params) -> tuple[TensorVariable, TensorVariable]:
        numbers = self._network(static_length(params["bias"])).outputs(z, params)
        z_new, log_slope = self._transformer.forward(z, numbers)
        return z_new, log_slope.sum(-1)

    def forward_with_score(
        self, z: TensorVariable, params: Params, score: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable, TensorVariable]:
        """Carried by the triangular Jacobian: `dim` gradients, and a substitution."""
        return with_triangular_jacobian(self.forward, z, params, score)

    def inverse(self, z: TensorVariable, params: Params) -> TensorVariable:
        """Map points back, coordinate by coordinate: `dim` passes of the network."""
        return _one_by_one(
            self._network(static_length(params["bias"])), self._transformer.inverse, z, params
        )


def _one_by_one(
    network: Network,
    transform: Callable[[TensorVariable, TensorVariable], TensorVariable],
    z: TensorVariable,
    params: Params,
) -> TensorVariable:
    """Transform each coordinate of `z`, conditioned on the coordinates that came out before it."""
    dim = network.n_inputs
    masked = network.masked(params)  # made once, outside of the loop
    names, arrays = list(masked), list(masked.values())

    def step(
        i: TensorVariable, done: TensorVariable, z: TensorVariable, *arrays: TensorVariable
    ) -> TensorVariable:
        numbers = network.outputs_at(done, dict(zip(names, arrays, strict=True)), i)
        # the coordinate as the only one of an axis of its own
        new = transform(z[..., i][..., None], numbers[..., None])
        return done[..., i].set(new[..., 0])

    if dim <= _MOST_UNROLLED:
        found: list[TensorVariable] = []
        for i in range(dim):
            numbers = network.outputs_after(found, masked)
            found.append(transform(z[..., i][..., None], numbers[..., None])[..., 0])
        return pt.stack(found, axis=-1)
    start = pt.zeros_like(z)
    steps = pytensor.scan(
        step,
        sequences=[pt.arange(dim)],
        outputs_info=[start],
        non_sequences=[z, *arrays],
        n_steps=dim,
        return_updates=False,
    )
    return steps[-1]


@dataclass(frozen=True)
class _FreeScale(_Autoregressive):
    """With the scale of every coordinate, free to be as large as it must be."""

    @property
    def _transformer(self) -> Transformer:
        return Affine()

    def param_shapes(self, dim: int) -> dict[str, Shape]:
        return {"rho": (dim,), **super().param_shapes(dim)}

    def init_params(
        self, dim: int, jitter: float, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        rho = SOFTPLUS_ONE + jitter * rng.standard_normal(dim)
        return {"rho": rho, **super().init_params(dim, jitter, rng)}

    def _along_z(self, z: TensorVariable, params: Params) -> tuple[TensorVariable, TensorVariable]:
        """The direction in which all coordinates are known at once: one pass."""
        sigma, log_sigma = softplus_and_log(params["rho"])
        z, log_det = super().forward(z, _without_rho(params))
        return z * sigma, log_det + log_sigma.sum()

    def _against_z(self, z: TensorVariable, params: Params) -> TensorVariable:
        """The direction that takes `dim` passes."""
        z = z * pt.exp(-softplus_and_log(params["rho"])[1])
        return super().inverse(z, _without_rho(params))


def _without_rho(params: Params) -> Params:
    return {name: value for name, value in params.items() if name != "rho"}


@dataclass(frozen=True)
class IAF(_FreeScale):
    r"""Inverse autoregressive flow (Kingma et al., 2016, https://arxiv.org/abs/1606.04934).

    .. math::

        z'_i = \sigma_i\,\bigl(e^{s_i} z_i + t_i\bigr), \qquad
        \bigl(s_i, t_i\bigr) = \mathrm{MADE}_i(z_1, \dots, z_{i-1}), \qquad
        \log|\det J| = \sum_i \bigl(\log\sigma_i + s_i\bigr)

    The gate :math:`e^{s}` is bounded, :math:`|s| \le 3` by a tanh, and the scale
    :math:`\sigma = \mathrm{softplus}(\rho)` of each coordinate is free. All coordinates are mapped
    by one pass of the network, `dim` passes are needed to map back: fast in training, slow in
    `log_prob` of points that are not the flow's own draws.

    Parameters
    ----------
    hidden, depth : int
        Units of a hidden layer of the network, and how many hidden layers there are.
    activation : str
        ``tanh``, ``relu``, ``elu``, ``gelu`` or ``sin``, the last for periodic targets.

    Notes
    -----
    Parameters of the flow, unconstrained: ``rho``, shape ``(dim,)``; those of the network: for
    each hidden layer ``w1`` ... and ``b1`` ..., then ``w_out``, shape ``(hidden, 2 * dim)``, and
    ``bias``, shape ``(2, dim)``. In one dimension only ``rho`` and ``bias``. They start at the
    identity with random hidden units.
    """

    word: ClassVar[str] = "iaf"
    mixes: ClassVar[bool] = True

    def forward(self, z: TensorVariable, params: Params) -> tuple[TensorVariable, TensorVariable]:  # noqa: D102
        return self._along_z(z, params)

    def inverse(self, z: TensorVariable, params: Params) -> TensorVariable:  # noqa: D102
        return self._against_z(z, params)


@dataclass(frozen=True)
class MAF(_FreeScale):
    r"""Masked autoregressive flow (Papamakarios et al., 2017, https://arxiv.org/abs/1705.07057).

    .. math::

        z'_i = e^{-s_i} (z_i / \sigma_i - t_i), \qquad
        \bigl(s_i, t_i\bigr) = \mathrm{MADE}_i(z'_1, \dots, z'_{i-1})

    The inverse of an `IAF` with the same parameters: a coordinate is conditioned on the
    coordinates of the posterior, not of the base. `dim` passes of the network make a draw, one
    scores a point: in variational inference, which trains on draws, an IAF is `dim` times cheaper.

    Parameters
    ----------
    hidden, depth, activation
        As for `IAF`, and so are the parameters of the flow.
    """

    word: ClassVar[str] = "maf"
    mixes: ClassVar[bool] = True

    def forward(self, z: TensorVariable, params: Params) -> tuple[TensorVariable, TensorVariable]:  # noqa: D102
        z_new = self._against_z(z, params)
        return z_new, -self._along_z(z_new, params)[1]

    def forward_with_score(  # noqa: D102
        self, z: TensorVariable, params: Params, score: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable, TensorVariable]:
        # its inverse takes one pass, and carries scores by its own Jacobian: nothing to solve
        z_new = self._against_z(z, params)
        z_back, log_det = self._along_z(z_new, params)
        total = (z_back * disconnected_grad(score)).sum() + log_det.sum()
        return z_new, -log_det, gradient(total, z_new)

    def inverse(self, z: TensorVariable, params: Params) -> TensorVariable:  # noqa: D102
        return self._along_z(z, params)[0]


@dataclass(frozen=True)
class NAF(_Autoregressive):
    r"""Neural autoregressive flow (Huang et al., 2018, https://arxiv.org/abs/1804.00779).

    .. math:: z'_i = \mathrm{logit} \sum_k w_{ik}\,\mathrm{sigmoid}(a_{ik} z_i + b_{ik})

    the deep sigmoidal flow, in logs throughout: nothing is clipped. Weights, slopes and offsets of
    coordinate i come from a MADE of the coordinates before it. A universal approximator: it splits
    modes that planar layers and affine couplings only stretch.

    Cost: `units` exponentials a coordinate; the inverse takes `dim` passes and a bracketed root
    for each coordinate.

    Parameters
    ----------
    hidden, depth, activation
        Of the network, as for `IAF`.
    units : int
        Sigmoids in each coordinate's mixture.

    Notes
    -----
    Parameters of the flow, unconstrained: those of the network as for `IAF`, without ``rho``;
    ``bias`` has the shape ``(3 * units, dim)``: logits of the weights, slopes, offsets. They start
    at the identity: all sigmoids of a mixture alike, with random weights.
    """

    word: ClassVar[str] = "naf"
    mixes: ClassVar[bool] = True

    units: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.units < 1:
            raise ValueError(f"units must be >= 1, the sigmoids of a mixture, got {self.units}.")

    @property
    def _transformer(self) -> Transformer:
        return Sigmoidal(self.units)


@dataclass(frozen=True)
class Polynomial(_Autoregressive):
    r"""Sum-of-squares polynomial flow (Jaini et al., 2019, https://arxiv.org/abs/1905.02325).

    .. math:: z'_i = c_i + \int_0^{z_i} \Bigl(\epsilon + (1 - \epsilon)
              \sum_k p_{ik}(t)^2\Bigr)\,dt

    with polynomials whose coefficients come from a MADE of the coordinates before i;
    :math:`\epsilon = 10^{-3}`. Far out :math:`z'` grows as :math:`z^{2r+1}` with the degree
    :math:`r`: from ``degree=2`` on, a draw in the tail can throw a whole fit off. Keep it at 1, and
    add layers instead.

    Parameters
    ----------
    hidden, depth, activation
        Of the network, as for `IAF`.
    degree : int
        Of the polynomials that are squared, 10 at most.
    terms : int
        How many squares are added, 20 at most.

    Notes
    -----
    Parameters of the flow, unconstrained: those of the network as for `IAF`, without ``rho``;
    ``bias`` has the shape ``(1 + terms * (degree + 1), dim)``: the shift, then the coefficients of
    each polynomial, the constant first. They start at the identity.
    """

    word: ClassVar[str] = "poly"
    mixes: ClassVar[bool] = True

    degree: int = 1
    terms: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.degree <= _MOST_DEGREE:
            raise ValueError(f"degree must be from 0 to {_MOST_DEGREE}, got {self.degree}.")
        if not 1 <= self.terms <= _MOST_TERMS:
            raise ValueError(
                f"terms must be from 1 to {_MOST_TERMS}, the squares that are added, got "
                f"{self.terms}."
            )

    @property
    def _transformer(self) -> Transformer:
        return SumOfSquares(self.degree, self.terms)
