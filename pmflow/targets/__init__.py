r"""Targets with known log evidence: what a fit should find is known exactly.

Two kinds: densities on the plane, to look at, and in more dimensions, where flows are known to
fail: a funnel, a banana, an ill-conditioned Gaussian. The four potentials are those of Rezende &
Mohamed (2015), table 1, as PyMC3's notebook on normalizing flows has them: the last three times a
Laplace density of scale 10 in the first coordinate, which makes them integrable.

Each target is a `pymc.Model` with one free variable ``z``: a `pymc.Flat`, whose log density is
zero, with the target's log density as a `pymc.Potential`. Tried beside `pymc.CustomDist` in PyMC
6.4, both have the same finite initial point, the same NUTS draws and the same fit by a flow, both
draw further variables forward after a fit, and both refuse prior draws, which mean nothing here.
This is the form that needs no more words: `CustomDist` wants a parameter that nobody uses, since
without one it can't tell its shape, and a signature. Its price is PyMC's warning, when variables
are drawn forward, that potentials have no effect there.

References
----------
Rezende & Mohamed (2015), Variational inference with normalizing flows,
https://arxiv.org/abs/1505.05770

Neal (2003), Slice sampling, https://doi.org/10.1214/aos/1056562461 (the funnel)

Haario, Saksman & Tamminen (1999), Adaptive proposal distribution for random walk Metropolis
algorithm, https://doi.org/10.1007/s001800050022 (the banana)

Midgley et al. (2023), Flow annealed importance sampling bootstrap,
https://arxiv.org/abs/2208.01893 (the mixture with 40 modes)
"""

from __future__ import annotations

import math
from functools import partial

from pmflow.targets import plane
from pmflow.targets.families import banana, funnel, ill_conditioned, many_modes, student_t
from pmflow.targets.target import ROOT_2_PI, Bounds, Target

__all__ = [
    "ALL",
    "Target",
    "banana",
    "funnel",
    "gaussian_mixture",
    "ill_conditioned",
    "many_modes",
    "potential_1",
    "potential_2",
    "potential_3",
    "potential_4",
    "student_t",
]

_WAVE_BOUNDS: Bounds = ((-12.0, 12.0), (-6.0, 4.0))

potential_1 = Target(
    "potential_1", 1.8775016261097, ((-4.0, 4.0), (-4.0, 4.0)), partial(plane.at_points, plane.ring)
)
"""Two facing crescents on a ring of radius 2; the evidence by quadrature."""

potential_2 = Target(
    "potential_2",
    math.log(0.4 * ROOT_2_PI * 20),
    _WAVE_BOUNDS,
    partial(plane.at_points, plane.sine),
    plane.sample_sine,
)
"""A sine wave with Laplace tails."""

potential_3 = Target(
    "potential_3",
    math.log(2 * 0.35 * ROOT_2_PI * 20),
    _WAVE_BOUNDS,
    partial(plane.at_points, plane.split_sine),
    plane.sample_split_sine,
)
"""A sine wave that splits in two around 1."""

potential_4 = Target(
    "potential_4",
    math.log((0.4 + 0.35) * ROOT_2_PI * 20),
    _WAVE_BOUNDS,
    partial(plane.at_points, plane.forked_sine),
    plane.sample_forked_sine,
)
"""A sine wave that forks at 1."""

gaussian_mixture = Target(
    "gaussian_mixture",
    0.0,
    ((-5.5, 4.5), (-5.5, 4.5)),
    partial(plane.at_points, plane.two_gaussians),
    plane.sample_two_gaussians,
)
"""``0.5 N((1, 1), I) + 0.5 N((-2, -2), I)``."""

ALL = {
    t.name: t
    for t in (
        *(potential_1, potential_2, potential_3, potential_4, gaussian_mixture),
        *(funnel(), banana(), ill_conditioned(), student_t(), many_modes()),
    )
}
"""Every target by name, with the default number of dimensions."""
