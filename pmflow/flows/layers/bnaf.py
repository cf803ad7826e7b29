"""The block neural autoregressive layer: one network, increasing in each coordinate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, override

import numpy as np
import pytensor
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from pmflow.flows.base import AbstractLayer, Params, Shape, static_length
from pmflow.flows.conditioners.network import check_depth
from pmflow.flows.constraints import SOFTPLUS_ONE
from pmflow.flows.roots import solve_increasing
from pmflow.flows.score import with_triangular_jacobian

__all__ = ["BNAF"]


@dataclass(frozen=True)
class BNAF(AbstractLayer):
    r"""Block neural autoregressive flow (De Cao et al., 2019, https://arxiv.org/abs/1904.04676).

    One tanh network with `hidden` units for each coordinate in each of its `depth` hidden layers.
    Weights between a coordinate's own units are positive, :math:`e^{W_{ii}}`, weights from units
    of earlier coordinates are free, and others are zero (eq. 6): output i increases in
    :math:`z_i` and depends on no later coordinate.

    .. math::

        z' = z + \frac{m - 1}{L} \odot f(z) + b, \qquad
        \log|\det J| = \sum_i \log\Bigl(1 - \frac{f_i'}{L_i} + m_i \frac{f_i'}{L_i}\Bigr),
        \qquad m = \mathrm{softplus}(\rho)

    where :math:`f_i'` is the derivative of output i by :math:`z_i` and :math:`L_i` the product of
    the positive weights, which it cannot exceed because :math:`\tanh' \le 1`. The paper puts a
    convex combination of :math:`z` and :math:`f` here (section 3.3, a gated residual); this form
    is increasing too, contains the identity, and keeps the tails of :math:`z`, which a tanh alone
    would cut off.

    Cost: ``hidden * dim**2`` per draw for one hidden layer, ``hidden**2 * dim**2`` for each further
    one. The inverse takes a bracketed root for each coordinate, one after the other.

    Parameters
    ----------
    hidden : int
        Units for each coordinate.
    depth : int
        Hidden layers.

    Notes
    -----
    Parameters of the flow, unconstrained, with h the hidden units of a coordinate and for each
    hidden layer l: ``own<l>``, shape ``(dim, h_in, h)``, logs of the weights within a coordinate;
    ``w<l>``, shape ``(dim * h_in, dim * h)``, weights from earlier coordinates; ``b<l>``, shape
    ``(dim, h)``. Then ``own_out``, shape ``(dim, h, 1)``, ``w_out``, shape ``(dim * h, dim)``, and
    ``rho`` and ``bias``, shape ``(dim,)``. They start at the identity, :math:`m = 1`, with random
    hidden units. In one dimension there are no ``w``.
    """

    word: ClassVar[str] = "bnaf"
    mixes: ClassVar[bool] = True

    hidden: int = 8
    depth: int = 1

    def __post_init__(self) -> None:
        if self.hidden < 1:
            raise ValueError(f"hidden must be >= 1, the units of a coordinate, got {self.hidden}.")
        check_depth(self.depth)

    @property
    def _levels(self) -> list[tuple[str, int, int]]:
        """Name of each layer of the network and its units per coordinate, before and after."""
        widths = [1, *[self.hidden] * self.depth, 1]
        names = [*map(str, range(1, self.depth + 1)), "_out"]
        return list(zip(names, widths[:-1], widths[1:], strict=True))

    @override
    def param_shapes(self, dim: int) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {"rho": (dim,), "bias": (dim,)}
        for name, before, after in self._levels:
            shapes[f"own{name}"] = (dim, before, after)
            if dim > 1:
                shapes[f"w{name}"] = (dim * before, dim * after)
            if name != "_out":
                shapes[f"b{name}"] = (dim, after)
        return shapes

    @override
    def init_params(
        self, dim: int, jitter: float, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        values = {name: rng.standard_normal(s) for name, s in self.param_shapes(dim).items()}
        values["rho"] = SOFTPLUS_ONE + jitter * values["rho"]
        values["bias"] = jitter * values["bias"]
        for name, before, _ in self._levels:
            # exp(own) sums to about 1 over the units it comes from
            values[f"own{name}"] = 0.5 * values[f"own{name}"] - np.log(before)
            if dim > 1:
                values[f"w{name}"] = values[f"w{name}"] / np.sqrt(dim * before)
        return values

    @override
    def forward(self, z: TensorVariable, params: Params) -> tuple[TensorVariable, TensorVariable]:
        x, dim = z, static_length(params["rho"])
        slope = pt.ones_like(z)[..., None]  # of a coordinate's units by the coordinate
        for name, _, after in self._levels:
            own = pt.exp(params[f"own{name}"])  # (dim, before, after)
            x = x @ _whole(own, params.get(f"w{name}"))
            slope = (slope[..., None] * own).sum(-2)
            if name != "_out":
                x = pt.tanh(x + params[f"b{name}"].ravel())
                slope = slope * (1 - pt.split_dims(x, (dim, after), axis=-1) ** 2)
        largest, margin = self._largest_slope(params), pt.softplus(params["rho"])
        share = slope[..., 0] / largest
        z_new = z + (margin - 1) / largest * x + params["bias"]
        return z_new, pt.log((1 - share) + margin * share).sum(-1)

    def _largest_slope(self, params: Params) -> TensorVariable:
        """The product of the positive weights of each coordinate, shape (dim,)."""
        product = pt.ones_like(params["rho"])[:, None]
        for name, _, _ in self._levels:
            product = (product[..., None] * pt.exp(params[f"own{name}"])).sum(-2)
        return product[..., 0]

    @override
    def forward_with_score(
        self, z: TensorVariable, params: Params, score: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable, TensorVariable]:
        return with_triangular_jacobian(self.forward, z, params, score)

    @override
    def inverse(self, z: TensorVariable, params: Params) -> TensorVariable:
        dim = static_length(params["rho"])
        scale = (pt.softplus(params["rho"]) - 1) / self._largest_slope(params)
        names = list(params)

        def step(i: TensorVariable, *arrays: TensorVariable) -> list[TensorVariable]:
            """Solve for coordinate i; the units of later coordinates are still zero."""
            states, (z, scale, *values) = arrays[: self.depth + 1], arrays[self.depth + 1 :]
            get = dict(zip(names, values, strict=True))
            shape = self._shape_at(i, states, get, dim)
            target = z[..., i] - get["bias"][i]
            reach, centre = pt.exp(get["own_out"][i]).sum(), shape[-1][..., 0]
            ends = [target - scale[i] * (centre + sign * reach) for sign in (-1, 1)]
            solved = solve_increasing(
                _value,
                _value_prime,
                target,
                lower=pt.minimum(*ends),
                upper=pt.maximum(*ends),
                args=[scale[i] + pt.zeros_like(target), *shape],
            )
            own_units = i * self.hidden + pt.arange(self.hidden)
            done = [states[0][..., i].set(solved)]
            for h, units in zip(states[1:], _units(pt, solved, shape), strict=True):
                done.append(h[..., own_units].set(units))
            return done

        zeros = pt.zeros_like(z)
        starts = [zeros, *[pt.concatenate([zeros] * self.hidden, axis=-1)] * self.depth]
        arrays = [z, scale, *(params[name] for name in names)]
        if dim == 1:
            return step(pt.constant(0), *starts, *arrays)[0]
        found = pytensor.scan(
            step,
            sequences=[pt.arange(dim)],
            outputs_info=starts,
            non_sequences=arrays,
            n_steps=dim,
            return_updates=False,
        )
        return found[0][-1]

    def _shape_at(
        self, i: TensorVariable, states: Sequence[TensorVariable], params: Params, dim: int
    ) -> list[TensorVariable]:
        """Positive weights and offset, in turn, of each layer of coordinate i's own network."""
        shape: list[TensorVariable] = []
        for (name, _, after), state in zip(self._levels, states, strict=True):
            offset = params[f"b{name}"][i] if name != "_out" else pt.zeros(after, dtype=state.dtype)
            if dim > 1:
                w = pt.split_dims(params[f"w{name}"], (dim, after), axis=1)[:, i]
                offset = offset + state @ w
            else:
                offset = offset + pt.zeros_like(state[..., :1])
            shape += [pt.exp(params[f"own{name}"][i]), offset]
        return shape


def _whole(own: TensorVariable, w: TensorVariable | None) -> TensorVariable:
    """The matrix of a layer: `own` in the blocks on the diagonal, `w` in those for earlier ones."""
    dim, before, after = own.type.shape
    on_diagonal = own[:, :, None, :] * np.eye(dim, dtype=own.dtype)[:, None, :, None]
    on_diagonal = on_diagonal.reshape((dim * before, dim * after))
    if w is None:
        return on_diagonal
    is_earlier = np.arange(dim).repeat(before)[:, None] < np.arange(dim).repeat(after)
    return on_diagonal + w * is_earlier.astype(w.dtype)


def _units(xp: Any, s: Any, shape: Sequence[Any]) -> list[Any]:
    """Hidden units of one coordinate's network at ``s``, layer by layer, each (*batch, units)."""
    x, found = s[..., None], []
    for own, offset in zip(shape[0:-2:2], shape[1:-2:2], strict=True):
        x = xp.tanh(xp.sum(x[..., None] * own, axis=-2) + offset)
        found.append(x)
    return found


def _value(xp: Any, s: Any, scale: Any, *shape: Any) -> Any:
    x = _units(xp, s, shape)[-1]
    own, offset = shape[-2:]
    return s + scale * (xp.sum(x[..., None] * own, axis=-2) + offset)[..., 0]


def _value_prime(xp: Any, s: Any, scale: Any, *shape: Any) -> Any:
    slope = xp.ones_like(s)[..., None]
    for x, own in zip(_units(xp, s, shape), shape[0:-2:2], strict=True):
        slope = xp.sum(slope[..., None] * own, axis=-2) * (1 - x**2)
    return 1 + scale * xp.sum(slope[..., None] * shape[-2], axis=-2)[..., 0]
