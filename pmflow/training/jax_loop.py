"""Many steps in one call of JAX."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytensor
from pytensor.compile.mode import get_mode
from pytensor.graph.fg import FunctionGraph
from pytensor.tensor.random.type import RandomType
from pytensor.tensor.type import TensorType

from pmflow.training.loops import Loop, Trace, as_trace, inner_graph
from pmflow.training.step import MAX_FAILURES

__all__ = ["JaxLoop"]


class JaxLoop(Loop):
    """The loop as `jax.lax.while_loop`, compiled once for any number of steps.

    PyTensor's own scan becomes `jax.lax.scan`, whose length is part of what is compiled: each
    chunk of another length would be compiled anew. A while loop takes the length as a number. Every
    array but the random generators has a static shape. What the steps record is written to
    buffers that one call hands to the next.
    """

    def _build(self, compile_kwargs: dict[str, Any]) -> None:
        import jax

        _, self._state, rebuild = inner_graph(self.step, self._traced)
        self._constants = self.step.constants
        inputs = [_static_input(v) for v in [*self._state, *self._constants]]
        step = _as_jax(inputs, rebuild(*inputs))
        n_state, failures = len(self._state), self._state.index(self.step.failures)
        expected = [getattr(x.type, "dtype", None) for x in inputs[:n_state]]

        def run(n: Any, state: Any, constants: Any, buffers: Any) -> Any:
            def go_on(carry: Any) -> Any:
                i, state, _ = carry
                return (i < n) & (state[failures] < MAX_FAILURES)

            def body(carry: Any) -> Any:
                i, state, buffers = carry
                outputs = step(*state, *constants)
                new = [
                    x if dtype is None else jax.numpy.asarray(x, dtype)
                    for x, dtype in zip(outputs[:n_state], expected, strict=True)
                ]
                rows = [b.at[i].set(x) for b, x in zip(buffers, outputs[n_state:], strict=True)]
                return i + 1, new, rows

            return jax.lax.while_loop(go_on, body, (0, state, buffers))

        self._run = jax.jit(run, donate_argnums=3)
        shapes = [(self.most_steps, *x.type.shape) for x in self._traced]
        self._buffers = [
            jax.numpy.zeros(shape, x.type.dtype)
            for shape, x in zip(shapes, self._traced, strict=True)
        ]
        self._on_device: dict[Any, tuple[Any, Any]] = {}
        self._typify_generators()

    def advance(self, n: int) -> Trace:
        """Do `n` steps, or fewer if too many in a row fail."""
        state = [self._generators.get(v, v.get_value(borrow=True)) for v in self._state]
        constants = [self._held(v) for v in self._constants]
        buffers, self._buffers = self._buffers, []
        done, state, self._buffers = self._run(n, state, constants, buffers)
        for shared, value in zip(self._state, state, strict=True):
            if shared in self._generators:
                self._generators[shared] = value
            else:
                shared.set_value(np.array(value))
        return as_trace([np.array(np.asarray(buffer)[: int(done)]) for buffer in self._buffers])

    def restart(self, seed: int) -> None:
        """Begin anew at the parameters as they are."""
        super().restart(seed)
        self._typify_generators()

    def _typify_generators(self) -> None:
        """JAX's generators, seeded from NumPy's: from then on they go their own way."""
        from pytensor.link.jax.dispatch import jax_typify

        self._generators = {
            v: jax_typify(v.get_value()) for v in self._state if isinstance(v.type, RandomType)
        }

    def _held(self, shared: Any) -> Any:
        """A constant on the device, carried there once for as long as its value is the same."""
        import jax

        value = shared.get_value(borrow=True)
        if self._on_device.get(shared, (None, None))[0] is not value:
            self._on_device[shared] = (value, jax.numpy.asarray(value))
        return self._on_device[shared][1]


def _static_input(shared: Any) -> Any:
    if not isinstance(shared.type, TensorType):
        return shared.type()
    return shared.type.clone(shape=shared.get_value(borrow=True).shape)()


def _as_jax(inputs: list[Any], outputs: list[Any]) -> Any:
    """Rewrite a graph for JAX and convert it into a function of JAX arrays."""
    from pytensor.link.jax.dispatch import jax_funcify

    graph = FunctionGraph(inputs, outputs, clone=True)
    with warnings.catch_warnings(), pytensor.config.change_flags(cxx=""):
        # said by PyTensor where the rewriter has no supervisor of inputs changed in place
        warnings.filterwarnings("ignore", message=".*Supervisor")
        get_mode("JAX").optimizer.rewrite(graph)
        return jax_funcify(graph)
