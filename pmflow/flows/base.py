"""What a layer must define.

A layer is a frozen dataclass: its fields are the options that a formula may give in brackets
(``iaf[hidden=32]`` makes ``IAF(hidden=32)``), with their types and defaults. It holds no
parameters. Parameters are passed to `forward` and `inverse` as a mapping of names to PyTensor
variables, so that a layer is a pure function of its input and its parameters.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from pmflow.errors import LayerError, ParameterError
from pmflow.flows.latent import Latent
from pmflow.flows.score import gradient, solve_jacobian

__all__ = ["AbstractLayer", "Params", "Shape", "check_directions", "static_length"]

type Params = Mapping[str, TensorVariable]
type Shape = tuple[int, ...]


@dataclass(frozen=True)
class AbstractLayer(ABC):
    """One step of a flow: a smooth invertible map of ``R^dim`` to itself.

    A subclass sets `word`, defines `param_shapes`, `init_params`, `forward` and `inverse`, and may
    add dataclass fields of type ``int``, ``float``, ``bool`` or ``str``, which become the options
    of its word in a formula. Fields need defaults. An option's range is checked in
    ``__post_init__`` by raising ``ValueError``; the formula puts a caret under it.
    """

    word: ClassVar[str]
    """The word of the layer in a formula: a lower-case letter, then letters, digits or ``_``."""

    aliases: ClassVar[tuple[str, ...]] = ()
    """Other words for the same layer; the normal form of a formula replaces them by `word`."""

    is_affine: ClassVar[bool] = False
    """Whether the map is affine in `z`: then moments of a chain of such layers are exact."""

    @property
    def mixes(self) -> bool:
        """Whether a number that comes out depends on more than one that goes in.

        Without such a layer, and without a frame, coordinates are independent. A subclass sets it
        as a plain attribute, ``mixes = True``.
        """
        return False

    def __str__(self) -> str:
        """The layer as a formula writes it, without the options that have their default."""
        given = [
            f"{f.name}={str(value).lower() if isinstance(value, bool) else value}"
            for f in fields(self)
            if (value := getattr(self, f.name)) != f.default
        ]
        return f"{self.word}[{','.join(given)}]" if given else self.word

    def bind(self, latent: Latent) -> AbstractLayer:
        """The layer for the latent vector of a model, itself by default.

        Called once, before anything else, where there is a model. A layer that goes by which
        coordinates are which variable, or by which of them meet, returns one that has taken from
        `latent` what it needs.

        Raises
        ------
        UnsupportedError, ParameterError
            If it can't be used on this model.
        """
        return self

    @abstractmethod
    def param_shapes(self, dim: int) -> dict[str, Shape]:
        """Name and shape of every (unconstrained) parameter for points of length `dim`.

        Raises `ParameterError` where an option needs more dimensions than there are.
        """

    @abstractmethod
    def init_params(
        self, dim: int, jitter: float, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        """Start values, in the shapes of `param_shapes`.

        At ``jitter=0`` the map is the identity wherever the family contains it; `jitter` is the
        standard deviation of the parameters around that. All randomness comes from `rng`.
        """

    @abstractmethod
    def forward(self, z: TensorVariable, params: Params) -> tuple[TensorVariable, TensorVariable]:
        """Map points from the base's side to the posterior's side.

        Parameters
        ----------
        z : TensorVariable, shape (*batch, dim)
            Points, unconstrained.
        params : mapping of str to TensorVariable
            Parameters in the shapes of `param_shapes`.

        Returns
        -------
        z_new : TensorVariable, shape (*batch, dim)
        log_det : TensorVariable, shape (*batch,)
            Log of the absolute determinant of the Jacobian of `z_new` with respect to `z`.
        """

    def forward_run(
        self, z: TensorVariable, params: Sequence[Params]
    ) -> tuple[TensorVariable, TensorVariable]:
        """Map points through several layers like this one, one for each mapping in `params`.

        A layer may override it with something faster than one after the other.

        Parameters
        ----------
        z : TensorVariable, shape (*batch, dim)
        params : sequence of mapping of str to TensorVariable
            One mapping per layer, the first layer first.

        Returns
        -------
        z_new : TensorVariable, shape (*batch, dim)
        log_det : TensorVariable, shape (*batch,)
            The sum over the layers.
        """
        z, log_det = self.forward(z, params[0])
        for layer_params in params[1:]:
            z, layer_log_det = self.forward(z, layer_params)
            log_det = log_det + layer_log_det
        return z, log_det

    def forward_with_score(
        self, z: TensorVariable, params: Params, score: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable, TensorVariable]:
        r"""Map points, and carry the score of their density along.

        .. math:: s'(z') = J^{-\top} \bigl(s(z) - \nabla_z \log|\det J|(z)\bigr)

        with the scores :math:`s = \nabla \log q` of the points and :math:`s'` of their images. No
        inverse map is needed (Vaitl et al., 2024, https://arxiv.org/abs/2403.15881). Here the
        Jacobian is dense and comes from autodiff, which works for every layer and costs `dim`
        gradients and a linear system per point; a layer may override it with something cheaper.

        Parameters
        ----------
        z : TensorVariable, shape (*batch, dim)
        params : mapping of str to TensorVariable
        score : TensorVariable, shape (*batch, dim)
            Gradient of the log density of the points at `z`, by `z`.

        Returns
        -------
        z_new : TensorVariable, shape (*batch, dim)
        log_det : TensorVariable, shape (*batch,)
        score_new : TensorVariable, shape (*batch, dim)
            Gradient of the log density of the images at `z_new`, by `z_new`. A value: it need not
            be differentiable.
        """
        z_new, log_det = self.forward(z, params)
        covector = score - gradient(log_det.sum(), z)
        score = solve_jacobian(lambda x: self.forward(x, params)[0], z, covector)
        return z_new, log_det, score

    @abstractmethod
    def inverse(self, z: TensorVariable, params: Params) -> TensorVariable:
        """Map points back: ``inverse(forward(z)[0]) == z``.

        Parameters
        ----------
        z : TensorVariable, shape (*batch, dim)
            Points on the posterior's side, unconstrained.
        params : mapping of str to TensorVariable
            Parameters in the shapes of `param_shapes`.

        Returns
        -------
        TensorVariable, shape (*batch, dim)
        """

    def absorb_shift(
        self, params: dict[str, NDArray[np.float64]], shift: NDArray[np.float64]
    ) -> dict[str, NDArray[np.float64]] | None:
        """Start values whose output is moved by `shift`, or None if there are none.

        Called on the last layer of a chain, to put the model's start into the flow's own
        parameters where it has a place for it.
        """
        return None


def check_directions(option: str, layer: AbstractLayer, dim: int) -> None:
    """Check that a layer has no more directions than there are dimensions, or its default.

    Raises
    ------
    ParameterError
    """
    number = getattr(layer, option)
    default = next(f.default for f in fields(layer) if f.name == option)
    if number > dim and number != default:
        raise ParameterError(
            f"{option} of {layer.word!r} must be at most {dim} here, the number of dimensions, "
            f"but is {number}. Further directions add nothing: write {layer.word}[{option}={dim}]."
        )


def static_length(variable: TensorVariable) -> int:
    """Length of the last axis, which must be known while the graph is built.

    Raises
    ------
    LayerError
        If it is not.
    """
    length = variable.type.shape[-1]
    if length is None:
        raise LayerError(
            f"The layer must know the length of the last axis of {variable} while the graph is "
            "built, but its static shape leaves it open. Give the variable a shape, or wrap it in "
            "pytensor.tensor.specify_shape."
        )
    return int(length)
