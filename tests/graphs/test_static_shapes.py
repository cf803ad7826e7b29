"""Graphs made anew for inputs whose shapes are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor.tensor as pt
import pytest
from pytensor.compile.mode import get_mode
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.traversal import applys_between

import pmflow as pmf
from pmflow.graphs.evaluate import changed_flags, compile_once, made_anew
from pmflow.graphs.workarounds.structure import SEARCHES, without_search_for_structure


def without_shape(inputs: list[Any], outputs: list[Any]) -> list[Any]:
    nodes = applys_between(inputs, outputs)
    return [x for n in nodes for x in n.outputs if None in x.type.shape]


def drawn() -> tuple[list[Any], list[Any]]:
    """Draws of a flow and log q, with their gradient, for 8 draws of 3 numbers."""
    flow = pmf.Formula("coupling[hidden=4]-loc").layers
    noise = pt.matrix("noise", shape=(None, 3))
    rng = np.random.default_rng(1)
    out, loss = noise, pt.zeros(())
    for layer in flow:
        params = {n: pt.constant(v) for n, v in layer.init_params(3, 0.5, rng).items()}
        out, log_det = layer.forward(out, params)
        loss = loss + log_det.sum()
    known = pt.matrix("known", shape=(8, 3))
    graphs = [out, loss, pt.grad(loss, noise)]
    graph = FunctionGraph([noise], graphs, clone=True)
    graph.add_input(known)
    graph.replace(graph.inputs[0], known)  # the nodes stay as they are
    return [known], list(graph.outputs)


def test_more_shapes_are_known_and_the_values_are_the_same() -> None:
    inputs, outputs = drawn()
    before = len(without_shape(inputs, outputs))
    anew = made_anew(inputs, outputs)
    assert len(without_shape(inputs, anew)) < before / 2
    values = np.random.default_rng(2).normal(size=(8, 3))
    found, expected = (compile_once(inputs, graphs)(values) for graphs in (anew, outputs))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_product_of_matrices_is_rewritten_without_a_search(name: str) -> None:
    x, y = pt.matrix("x", shape=(3, 3)), pt.vector("y", shape=(3,))
    graphs = {
        "dot_diag_to_elemwise": pt.diag(y) @ x,
        "selection_dot_to_indexing": pt.eye(3) @ x,
        "orthogonal_dot_transpose_to_eye": pt.linalg.qr(x)[0].T @ pt.linalg.qr(x)[0],
    }
    mode = without_search_for_structure(get_mode("FAST_COMPILE"))
    with changed_flags(cxx=""):
        graph = FunctionGraph([x, y], [graphs[name]], clone=True)
        mode.optimizer.rewrite(graph)
    assert any(str(n.op).startswith("Dot") for n in graph.apply_nodes)  # or Dot22, of BLAS
    values = np.random.default_rng(3).normal(size=(3, 3)), np.array([1.0, 2.0, 3.0])
    expected = {
        "dot_diag_to_elemwise": np.diag(values[1]) @ values[0],
        "selection_dot_to_indexing": values[0],
        "orthogonal_dot_transpose_to_eye": np.eye(3),
    }
    found = compile_once([x, y], [graphs[name]], on_unused_input="ignore")(*values)[0]
    np.testing.assert_allclose(found, expected[name], atol=1e-12)
