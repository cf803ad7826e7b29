"""Base draws that fill space evenly: randomised quasi-Monte Carlo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from pmflow.checks import check_flags
from pmflow.draws.normal import noise_lengths
from pmflow.errors import ParameterError

__all__ = ["QuasiDraws", "can_use_qmc", "check_qmc", "normal_quantile"]

_MOST_NUMBERS = 21_201
"""Dimensions for which SciPy knows a Sobol sequence."""

_BITS = 30
"""Binary digits of a Sobol point."""

# Wichura (1988), Algorithm AS 241, routine PPND16, https://doi.org/10.2307/2347330: numerators and
# denominators of the centre, of the flanks and of the tails, the constant first
_CENTRE = (
    (
        *(3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3),
        *(1.3731693765509461125e4, 4.5921953931549871457e4, 6.7265770927008700853e4),
        *(3.3430575583588128105e4, 2.5090809287301226727e3),
    ),
    (
        *(1.0, 4.2313330701600911252e1, 6.8718700749205790830e2),
        *(5.3941960214247511077e3, 2.1213794301586595867e4, 3.9307895800092710610e4),
        *(2.8729085735721942674e4, 5.2264952788528545610e3),
    ),
)
_FLANK = (
    (
        *(1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0),
        *(3.64784832476320460504e0, 1.27045825245236838258e0, 2.41780725177450611770e-1),
        *(2.27238449892691845833e-2, 7.74545014278341407640e-4),
    ),
    (
        *(1.0, 2.05319162663775882187e0, 1.67638483018380384940e0),
        *(6.89767334985100004550e-1, 1.48103976427480074590e-1, 1.51986665636164571966e-2),
        *(5.47593808499534494600e-4, 1.05075007164441684324e-9),
    ),
)
_TAIL = (
    (
        *(6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0),
        *(2.96560571828504891230e-1, 2.65321895265761230930e-2, 1.24266094738807843860e-3),
        *(2.71155556874348757815e-5, 2.01033439929228813265e-7),
    ),
    (
        *(1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1),
        *(1.48753612908506148525e-2, 7.86869131145613259100e-4, 1.84631831751005468180e-5),
        *(1.42151175831644588870e-7, 2.04426310338993978564e-15),
    ),
)


def can_use_qmc(approx: Any) -> bool:
    """Whether quasi-Monte Carlo draws are right for an approximation."""
    try:
        check_qmc(True, approx)  # noqa: FBT003
    except ParameterError:
        return False
    return True


def check_qmc(qmc: bool, approx: Any) -> None:  # noqa: FBT001
    """Check that quasi-Monte Carlo draws are right for an approximation.

    Raises
    ------
    ParameterError
        If `qmc` is no bool; if a base chooses components with trained weights, whose gradient
        needs independent draws; or if a draw takes more numbers than there are Sobol sequences.
    """
    check_flags(qmc=qmc)
    if not qmc:
        return
    choosing = [str(g) for g in approx.groups if getattr(g, "log_choice", None) is not None]
    if choosing:
        raise ParameterError(
            f"qmc=True is not for {', '.join(choosing)}: the gradient of the mixture's weights "
            "compares independent draws. Use qmc=False, or base='mixture[trained=false]'."
        )
    needed = sum(noise_lengths(approx.groups))
    if needed > _MOST_NUMBERS:
        raise ParameterError(
            f"qmc=True is for draws of {_MOST_NUMBERS} numbers at most, but one draw of this "
            f"approximation takes {needed}. Use qmc=False."
        )


def normal_quantile(u: TensorVariable) -> TensorVariable:
    r"""The standard normal's quantile, elementwise, to 1e-15 for `u` within (0, 1).

    From plain arithmetic, which every backend compiles; PyTensor's `erfinv` has no C code. Without
    a gradient in mind.

    References
    ----------
    Wichura (1988), Algorithm AS 241: the percentage points of the normal distribution,
    https://doi.org/10.2307/2347330
    """
    q = u - 0.5
    # the tails by the smaller of u and 1 - u
    r = pt.sqrt(-pt.log(pt.minimum(u, 1 - u)))
    flank, tail = (_ratio(part, r - shift) for part, shift in ((_FLANK, 1.6), (_TAIL, 5)))
    outer = pt.sign(q) * pt.switch(r <= 5, flank, tail)
    return pt.switch(abs(q) <= 0.425, q * _ratio(_CENTRE, 0.180625 - q**2), outer)


def _ratio(
    coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: TensorVariable
) -> TensorVariable:
    numerator, denominator = (_polynomial(c, x) for c in coefficients)
    return numerator / denominator


def _polynomial(coefficients: tuple[float, ...], x: TensorVariable) -> TensorVariable:
    value = coefficients[-1]
    for c in reversed(coefficients[:-1]):
        value = value * x + c
    return value


class QuasiDraws:
    r"""Standard normal draws from a Sobol set that is randomised anew at every step.

    .. math:: z_i = \Phi^{-1}(x_i \oplus u), \qquad u \sim U[0, 1)^d

    with the points :math:`x_i` of a scrambled Sobol set (`scipy.stats.qmc.Sobol`) and one number
    :math:`u` a dimension, whose binary digits are added to theirs without carrying: a digital shift
    (L'Ecuyer & Lemieux, 2002, https://doi.org/10.1007/0-306-48102-2_20, section 5). Each draw is
    N(0, I), so that means over draws are unbiased; together the draws fill space more evenly than
    independent ones. A shift modulo 1 would be unbiased too, but breaks up the elementary boxes
    that hold one point each: for the mean of :math:`z_1 z_2` of 64 draws it leaves half of the
    variance, the digital shift a fifteenth.

    One set serves all groups: they are independent of each other.

    Parameters
    ----------
    groups : sequence of pymc.variational.opvi.Group
    draws : int
        How many draws a step takes.
    at_once : int, optional
        How many draws are evaluated at a time, a divisor of `draws`. The normal numbers are then
        those of the points in `chunk`.

    Attributes
    ----------
    points : shared variable of int, shape (draws, length)
        The Sobol set in units of 2^-30, for draws of `length` normal numbers, those of all groups.
    chunk : TensorVariable of int, shape (at_once, length)
        The points that the replacements are made of: `points` itself, or a variable for one chunk
        of them.
    chunks : TensorVariable of int, shape (draws / at_once, at_once, length)
        The points of all chunks.
    shift : TensorVariable, shape (2, length)
        The random numbers of a step.
    replacements : dict of TensorVariable to TensorVariable
        What is to be put in the place of each group's normal numbers.
    """

    def __init__(self, groups: Sequence[Any], draws: int, at_once: int | None = None) -> None:
        lengths = noise_lengths(groups)
        dtype = groups[0].symbolic_initial.dtype
        shape = (draws, sum(lengths))
        self.points = pytensor.shared(np.zeros(shape, np.int64), "sobol_points", shape=shape)
        at_once = at_once or draws
        self.chunks = self.points.reshape((draws // at_once, at_once, shape[1]))
        self.chunk = self.points if at_once == draws else self.chunks[0].type()
        _, self.shift = pt.random.uniform(
            size=(2, shape[1]), rng=pt.random.shared_rng(seed=None), return_next_rng=True
        )
        digits = (self.shift[0] * 2**_BITS).astype("int64")
        # the second number fills in the digits that the set does not have
        u = (pt.bitwise_xor(self.chunk, digits) + self.shift[1]) * 2.0**-_BITS
        # the quantiles of 0 and 1 are infinite; this near to them they are -/+ 8 (float32: 5)
        least = float(np.finfo(dtype).eps)
        noise = normal_quantile(pt.clip(u.astype(dtype), least, 1 - least))
        ends = np.cumsum(lengths)
        self.replacements = {
            g.symbolic_initial: noise[:, end - length : end]
            for g, end, length in zip(groups, ends, lengths, strict=True)
        }

    def reseed(self, seed: int) -> None:
        """Scramble the Sobol set anew."""
        draws, length = self.points.type.shape
        self.points.set_value(_sobol(draws, length, seed))


def _sobol(draws: int, length: int, seed: int) -> NDArray[np.int64]:
    """The first points of a scrambled Sobol sequence in units of 2^-30, shape (draws, length)."""
    from scipy.stats import qmc

    rng = np.random.default_rng(seed)
    sequence = qmc.Sobol(length, scramble=True, bits=_BITS, seed=rng)
    # cut from a power of two: SciPy warns of any other number, whose balance is not perfect
    points = sequence.random_base2((draws - 1).bit_length())[:draws]
    return (points * 2**_BITS).astype(np.int64)
