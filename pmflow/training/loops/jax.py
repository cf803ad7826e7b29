"""Many steps in one call of JAX."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, override

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.compile.builders import OpFromGraph
from pytensor.compile.mode import get_mode
from pytensor.graph.basic import Constant
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.replace import clone_replace
from pytensor.graph.rewriting.basic import node_rewriter, out2in
from pytensor.scan.op import Scan
from pytensor.tensor.basic import Split
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.random.type import RandomType

from pmflow.graphs.devices import Layout, chosen_layout
from pmflow.graphs.evaluate import made_anew, static_input, while_compiling
from pmflow.graphs.machine import HeldOnDevice
from pmflow.graphs.minibatches import has_minibatches
from pmflow.graphs.private import core_node
from pmflow.graphs.work import numbers_in
from pmflow.graphs.workarounds.structure import without_search_for_structure
from pmflow.graphs.workarounds.vectorized import for_xla
from pmflow.graphs.xla import as_jax, compiled_by_xla
from pmflow.training.loops.loop import Loop, LoopState, Trace, as_trace, inner_graph
from pmflow.training.step import MAX_FAILURES

__all__ = ["JaxLoop"]

_BLOCK = 100
_BLOCK_NUMBERS = 2**20


class JaxLoop(Loop):
    """The loop as `jax.lax.while_loop`, compiled once for any number of steps.

    PyTensor's own scan becomes `jax.lax.scan`, whose length is part of what is compiled: each
    chunk of another length would be compiled anew. A while loop takes the length as a number. Every
    array but the random generators has a static shape. What the steps record is written to
    buffers that one call hands to the next.

    Base draws are made for 100 steps at once, which is several times faster than step by step. The
    draws of a step follow from the seed and the number of the step alone, so that chunks of any
    length see the same ones.
    """

    _generators: dict[Any, Any]
    _keys: list[Any]
    _steps: int

    @override
    def _build(self, compile_kwargs: dict[str, Any]) -> None:
        import jax

        _, self._state, rebuild = inner_graph(self.step, self._traced)
        self._constants = self.step.constants
        self._keyed = [rng for rng, _ in self.step.noise]
        draws = [draw.type for _, draw in self.step.noise]
        inputs = [static_input(v) for v in [*self._state, *self._constants]]
        noise = [draw() for draw in draws]
        graph = _rewritten([*inputs, *noise], rebuild(*inputs, noise=noise))
        self._layout = self._chosen_layout(draws)
        self._run = compiled_by_xla(
            _make_run(
                as_jax(graph),
                dtypes=[getattr(x.type, "dtype", None) for x in inputs[: len(self._state)]],
                failures=self._state.index(self.step.failures),
                draws=draws,
                laid=self._laid,
                layout=self._layout,
            ),
            donate_argnums=4,
            **self._layout.of_results,
        )
        shapes = [(self.most_steps, *x.type.shape) for x in self._traced]
        buffers = [
            jax.numpy.zeros(shape, x.type.dtype)
            for shape, x in zip(shapes, self._traced, strict=True)
        ]
        self._buffers = self._layout.everywhere(buffers)
        self._held = HeldOnDevice(self._constants, self._layout)
        numbers = [v for v in self._state if not isinstance(v.type, RandomType)]
        self._trained = HeldOnDevice(numbers, Layout(self._layout.devices))
        self._seed_generators()

    def _chosen_layout(self, draws: list[Any]) -> Layout:
        step = self.step
        shapes = [draw.shape for draw in draws]
        if step.points is not None:
            shapes.append(step.points.type.shape)
        rows = [
            s for v, s in zip(self._constants, self._shapes, strict=True) if v is not step.points
        ]
        return chosen_layout(
            min((shape[0] for shape in shapes), default=1),
            sum(map(prod, shapes)),
            [] if has_minibatches([self.step.loss]) else rows,
            lambda: 3 * numbers_in([self.step.loss]),
        )

    def _laid(self, constants: Any) -> list[Any]:
        """The constants as the step knows them, with the points of its draws where they belong."""
        whole = self._layout.whole(constants, self._shapes)
        return [
            self._layout.spread(x, 0) if v is self.step.points else x
            for v, x in zip(self._constants, whole, strict=True)
        ]

    @override
    def advance(self, n: int) -> Trace:
        """Do `n` steps, or fewer if too many in a row fail."""
        numbers, constants = iter(self._trained.values()), self._held.values()
        state = [
            self._generators[v] if v in self._generators else next(numbers) for v in self._state
        ]
        buffers, self._buffers = self._buffers, []
        done, state, self._buffers = self._run(
            n, (self._steps, self._keys), state, constants, buffers
        )
        self._steps += int(done)
        new = dict(zip(self._state, state, strict=True))
        self._generators = {v: new.pop(v) for v in self._generators}
        self._trained.take([*new.values()], leave=self.step.unread)
        return as_trace([np.array(np.asarray(buffer)[: int(done)]) for buffer in self._buffers])

    @override
    def restart(self, seed: int) -> None:
        """Begin anew at the parameters as they are."""
        super().restart(seed)
        self._seed_generators()

    @override
    def to_state(self) -> LoopState:
        """Where the loop is between two calls, for `go_to`."""
        self._trained.fetch()
        taken = {
            f"state_{place}": np.array(v.get_value())
            for place, v in enumerate(self._state)
            if v not in self._generators
        }
        return LoopState(taken | self._generator_leaves() | {"jax_steps": np.array(self._steps)})

    @override
    def go_to(self, seed: int, state: LoopState) -> None:
        """Go on from where it was; `seed` is that of the fit."""
        import jax

        self.restart(seed)
        taken = state.arrays
        self._check(self.to_state().arrays, taken)
        for place, shared in enumerate(self._state):
            if shared not in self._generators:
                shared.set_value(taken[f"state_{place}"])
                continue
            leaves, tree = jax.tree.flatten(self._generators[shared])
            values = [taken[f"jax_{place}_{i}"] for i in range(len(leaves))]
            self._generators[shared] = jax.tree.unflatten(tree, map(jax.numpy.asarray, values))
        self._steps = int(taken["jax_steps"])

    def _generator_leaves(self) -> dict[str, NDArray[Any]]:
        import jax

        return {
            f"jax_{place}_{i}": np.array(leaf)
            for place, v in enumerate(self._state)
            if v in self._generators
            for i, leaf in enumerate(jax.tree.leaves(self._generators[v]))
        }

    def _seed_generators(self) -> None:
        """JAX's generators, seeded from NumPy's: from then on they go their own way."""
        from pytensor.link.jax.dispatch import jax_typify

        self._generators = {
            v: self._layout.everywhere(jax_typify(v.get_value()))
            for v in self._state
            if isinstance(v.type, RandomType)
        }
        self._keys = [self._generators[v]["jax_state"] for v in self._keyed]
        self._steps = 0


def _rewritten(inputs: list[Any], outputs: list[Any]) -> FunctionGraph:
    with while_compiling(cxx=""):
        graph = FunctionGraph(inputs, made_anew(inputs, outputs), clone=True)
        without_search_for_structure(get_mode("JAX")).optimizer.rewrite(graph)
        out2in(_bind_constants_of_batches).rewrite(graph)
        for_xla(graph)
    return graph


@node_rewriter([Blockwise])
def _bind_constants_of_batches(graph: FunctionGraph, node: Any) -> list[Any] | None:
    """A batched scan or split without those of its inputs that are constants.

    The length of a scan is one of them, the sizes of a split are. `jax.vmap` traces all inputs, and
    `jax.lax.scan` and `jax.numpy.split` need numbers.
    """
    if not isinstance(node.op.core_op, Scan | Split):
        return None
    core = core_node(node)
    bound = [
        isinstance(x, Constant) and all(n == 1 for n in x.data.shape[: x.ndim - c.ndim])
        for x, c in zip(node.inputs, core.inputs, strict=True)
    ]
    if not any(bound):
        return None
    constants = {
        c: c.type.filter_variable(pt.constant(x.data.reshape(x.data.shape[x.ndim - c.ndim :])))
        for x, c, is_bound in zip(node.inputs, core.inputs, bound, strict=True)
        if is_bound
    }
    free = [c for c, is_bound in zip(core.inputs, bound, strict=True) if not is_bound]
    batched = [x for x, is_bound in zip(node.inputs, bound, strict=True) if not is_bound]
    inner = OpFromGraph(free, clone_replace(core.outputs, constants, rebuild_strict=False))
    signature = [s for s, is_bound in zip(node.op.inputs_sig, bound, strict=True) if not is_bound]
    as_text = [
        ",".join(f"({','.join(dims)})" for dims in part)
        for part in (signature, node.op.outputs_sig)
    ]
    return Blockwise(inner, signature="->".join(as_text)).make_node(*batched).outputs


def _make_run(
    step: Any,
    *,
    dtypes: list[Any],
    failures: int,
    draws: list[Any],
    laid: Callable[[Any], Any],
    layout: Layout,
) -> Any:
    """The function ``(n, (steps before, keys), state, constants, buffers)`` that loops over steps.

    An outer loop over blocks of draws, an inner one over the steps of a block. `laid` puts the
    constants where the layout has them.
    """
    import jax

    numbers = sum(int(np.prod(draw.shape)) for draw in draws)
    block = max(1, min(_BLOCK, _BLOCK_NUMBERS // numbers)) if draws else 2**30

    def run(n: Any, random: Any, state: Any, constants: Any, buffers: Any) -> Any:
        before, keys = random
        constants = laid(constants)

        def body(carry: Any, place: Any, noise: Any) -> Any:
            i, state, buffers = carry
            outputs = step(*state, *constants, *(array[place] for array in noise))
            new = [
                x if dtype is None else jax.numpy.asarray(x, dtype)
                for x, dtype in zip(outputs, dtypes, strict=False)
            ]
            traced = outputs[len(dtypes) :]
            rows = [b.at[i].set(x) for b, x in zip(buffers, traced, strict=True)]
            return i + 1, new, rows

        def do_block(carry: Any) -> Any:
            i = carry[0]
            number, place = (before + i) // block, (before + i) % block
            made = [
                jax.random.normal(jax.random.fold_in(key, number), (block, *draw.shape), draw.dtype)
                for key, draw in zip(keys, draws, strict=True)
            ]
            noise = [layout.spread(array, 1) for array in made]
            end = jax.numpy.minimum(n, i + block - place)
            return jax.lax.while_loop(
                lambda c: (c[0] < end) & (c[1][failures] < MAX_FAILURES),
                lambda c: body(c, place + c[0] - i, noise),
                carry,
            )

        def go_on(carry: Any) -> Any:
            return (carry[0] < n) & (carry[1][failures] < MAX_FAILURES)

        return jax.lax.while_loop(go_on, do_block, (0, state, buffers))

    return run
