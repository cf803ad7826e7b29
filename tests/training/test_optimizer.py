"""Adam from the paper, in NumPy, beside the one that a schedule takes hold of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

from pmflow.training.optimizers import SteadyAdam


class Run:
    """Steps of `SteadyAdam` from a given start, with gradients from outside."""

    def __init__(self, start: Sequence[float], **options: Any) -> None:
        dtype = pytensor.config.floatX
        self.vector = pytensor.shared(np.array(start, dtype=dtype), "vector", shape=(len(start),))
        gradient = pt.vector("gradient", dtype=dtype, shape=(len(start),))
        updates, self.handles = SteadyAdam(**options).updates(gradient, self.vector)
        self.shared = {str(v.name).removeprefix("pmflow_"): v for v in updates} | self.handles
        self._step: Callable[..., Any] = pytensor.function(
            [gradient], [], updates=updates, mode="FAST_COMPILE"
        )

    def __getitem__(self, name: str) -> Any:
        return self.shared[name].get_value()

    def set(self, **values: float) -> None:
        for name, value in values.items():
            shared = self.shared[name]
            shared.set_value(np.asarray(value, dtype=shared.type.dtype))

    def steps(self, gradients: np.ndarray) -> np.ndarray:
        """The iterates, one row a gradient."""
        found = []
        for gradient in np.asarray(gradients, dtype=self.vector.type.dtype):
            self._step(gradient)
            found.append(self.vector.get_value())
        return np.array(found)


def adam(start: np.ndarray, gradients: np.ndarray, rate: float) -> np.ndarray:
    """Algorithm 1 of Kingma & Ba (2015): iterates after each gradient.

    Epsilon is where the paper's remark on efficiency puts it, beside the biased root.
    """
    x, m, v, found = np.array(start, dtype=float), 0.0, 0.0, []
    for t, g in enumerate(gradients, 1):
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        x = x - rate * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + 1e-8)
        found.append(x)
    return np.array(found)


START = [1.0, -2.0, 0.5]


@pytest.fixture
def gradients() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(30, 3))


def test_without_clipping_it_is_adam(gradients: np.ndarray) -> None:
    run = Run(START, clip=1e9)
    run.set(learning_rate=0.03)
    np.testing.assert_allclose(
        run.steps(gradients), adam(np.array(START), gradients, 0.03), rtol=1e-10
    )


def test_the_step_size_is_0_01_until_it_is_set(gradients: np.ndarray) -> None:
    found = Run(START, clip=1e9).steps(gradients)
    np.testing.assert_allclose(found, adam(np.array(START), gradients, 0.01), rtol=1e-10)


def test_a_wild_gradient_counts_as_twice_the_median_one() -> None:
    # all of length 1: so is the running median, but for a step of its sign at the wild one
    unit = np.random.default_rng(1).choice([-1.0, 1.0], size=(30, 1)) * np.eye(3)[np.arange(30) % 3]
    wild = unit.copy()
    wild[20] *= 1e6
    clipped = unit.copy()
    clipped[20] *= 2 * np.exp(1 / 21)  # the median follows by 1 / (1 + t), 0.02 at least
    found = Run(START, clip=2.0).steps(wild)
    np.testing.assert_allclose(found, adam(np.array(START), clipped, 0.01), rtol=1e-9)


@pytest.mark.slow
def test_the_median_is_that_of_the_lengths() -> None:
    rng = np.random.default_rng(2)
    lengths = rng.lognormal(1.0, 1.5, size=4_000)
    run = Run([0.0, 0.0])
    run.steps(np.stack([lengths, np.zeros_like(lengths)], axis=1))
    # a walk with steps of 0.02 about the median: an sd of about 0.15 in the logarithm
    assert run["median_log_norm"] == pytest.approx(1.0, abs=0.5)
    assert np.log(lengths.mean()) > 2.0  # what a mean would have found


def test_accumulated_steps_are_one_of_the_mean_gradient(gradients: np.ndarray) -> None:
    run = Run(START)
    run.set(accumulate=5)
    found = run.steps(gradients)
    whole = Run(START).steps(gradients.reshape(6, 5, 3).mean(1))
    np.testing.assert_allclose(found[4::5], whole, rtol=1e-10)
    np.testing.assert_array_equal(found[:4], np.tile(START, (4, 1)))  # nothing moves in between


def test_the_average_is_that_of_the_iterates_since_it_began(gradients: np.ndarray) -> None:
    run = Run(START)
    first = run.steps(gradients[:10])
    np.testing.assert_allclose(run["average"], first.mean(0), rtol=1e-10)
    run.set(averaged=0)
    second = run.steps(gradients[10:])
    np.testing.assert_allclose(run["average"], second.mean(0), rtol=1e-10)
    assert run["averaged"] == 20


def test_a_gradient_of_zero_moves_nothing() -> None:
    found = Run(START).steps(np.zeros((3, 3)))
    np.testing.assert_array_equal(found, np.tile(START, (3, 1)))


def test_in_single_precision_all_stays_single(gradients: np.ndarray) -> None:
    with pytensor.config.change_flags(floatX="float32"):
        run = Run(START, clip=1e9)
        found = run.steps(gradients)
    assert found.dtype == np.float32
    assert {v.type.dtype for v in run.shared.values() if v.name != "gradient"} == {"float32"}
    np.testing.assert_allclose(found, adam(np.array(START), gradients, 0.01), rtol=1e-4)
