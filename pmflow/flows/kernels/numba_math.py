"""Elementary functions for numba that run on eight numbers at a time.

Those of the C library are called for one number after the other. Here they are polynomials, which
the compiler vectorises; branches are selections.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from pytensor.link.numba.dispatch.basic import numba_njit

__all__ = ["exp_of_minus", "log1p_of_unit", "log_of_positive", "tanh"]

_EXACT = {"contract", "nsz"}

_LOG2_E = 1 / math.log(2)
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_SQRT_2 = math.sqrt(2.0)
_TAYLOR = tuple(1 / math.factorial(i) for i in range(14))
_ODD = tuple(1 / (2 * i + 1) for i in range(17))
_SMALLEST = 2.2250738585072014e-308


@numba_njit(inline="always", fastmath=_EXACT)
def _reduced_exp(y: Any) -> Any:
    """``exp(y)`` as ``p * 2**k``: ``y = k log(2) + r`` with ``|r| <= log(2) / 2``."""
    k = np.floor(y * _LOG2_E + 0.5)
    r = (y - k * _LN2_HIGH) - k * _LN2_LOW
    t = _TAYLOR
    p = t[13]
    p = ((p * r + t[12]) * r + t[11]) * r + t[10]
    p = ((p * r + t[9]) * r + t[8]) * r + t[7]
    p = ((p * r + t[6]) * r + t[5]) * r + t[4]
    p = (((p * r + t[3]) * r + t[2]) * r + t[1]) * r + t[0]
    return p, np.int64(k)


@numba_njit(inline="always", fastmath=_EXACT)
def _power_of_2(k: Any) -> Any:
    """A float64 with the exponent `k`, which is in -1022 ... 1023, and the mantissa 1."""
    return np.int64((k + 1023) << 52).view(np.float64)


@numba_njit(inline="always", fastmath=_EXACT)
def exp_of_minus(size: Any) -> Any:
    """``exp(-size)`` for ``size >= 0``, to an ulp."""
    p, k = _reduced_exp(-min(size, 740.0) if size == size else size)
    half = k >> 1  # k may be below -1022
    return p * _power_of_2(half) * _power_of_2(k - half)


@numba_njit(inline="always", fastmath=_EXACT)
def tanh(x: Any) -> Any:
    """Exact to 2.3e-16, absolutely: ``(1 - e) / (1 + e)`` with ``e = exp(-2 |x|)``."""
    size = abs(x)
    p, k = _reduced_exp(-2.0 * min(size, 30.0) if size == size else size)
    e = p * _power_of_2(k)
    return math.copysign((1 - e) / (1 + e), x)


@numba_njit(inline="always", fastmath=_EXACT)
def log1p_of_unit(e: Any) -> Any:
    """``log(1 + e)`` for ``0 <= e <= 1``, to a few ulps: ``2 artanh(e / (2 + e))``."""
    t = e / (2.0 + e)
    q = t * t
    c = _ODD
    p = c[16]
    p = (((p * q + c[15]) * q + c[14]) * q + c[13]) * q + c[12]
    p = (((p * q + c[11]) * q + c[10]) * q + c[9]) * q + c[8]
    p = (((p * q + c[7]) * q + c[6]) * q + c[5]) * q + c[4]
    p = (((p * q + c[3]) * q + c[2]) * q + c[1]) * q + c[0]
    return 2.0 * t * p


@numba_njit(inline="always", fastmath=_EXACT)
def log_of_positive(x: Any) -> Any:
    """``log(x)`` for normal positive numbers: ``k log(2) + 2 artanh((m - 1) / (m + 1))``."""
    bits = np.float64(max(x, _SMALLEST)).view(np.int64)
    k = np.float64((bits >> 52) - 1023)
    m = np.int64((bits & 0xFFFFFFFFFFFFF) | 0x3FF0000000000000).view(np.float64)
    k = k + 1.0 if m > _SQRT_2 else k
    m = 0.5 * m if m > _SQRT_2 else m
    t = (m - 1.0) / (m + 1.0)
    q = t * t
    c = _ODD
    p = c[10]
    p = (((p * q + c[9]) * q + c[8]) * q + c[7]) * q + c[6]
    p = (((p * q + c[5]) * q + c[4]) * q + c[3]) * q + c[2]
    p = (p * q + c[1]) * q + c[0]
    found = k * _LN2_HIGH + (2.0 * t * p + k * _LN2_LOW)
    return found if x == x else x
