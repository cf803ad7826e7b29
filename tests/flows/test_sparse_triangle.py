"""Sparse triangles: each kernel against NumPy's dense matrices, values and gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.typing import NDArray

from pmflow.flows.kernels.sparse_triangle import sparse_triangle
from pmflow.flows.kernels.sparse_triangle_jax import solving_pieces
from pmflow.records import Triangle

type Array = NDArray[np.float64]

RNG = np.random.default_rng(5)
MODES = ["NUMPY", "NUMBA", "JAX"]


def triangle(dim: int, share: float) -> Triangle:
    """Some entries of a triangle, and its rows in a random order."""
    rows, columns = np.tril_indices(dim, -1)
    kept = RNG.uniform(size=len(rows)) < share
    rows, columns = rows[kept], columns[kept]
    order = np.argsort(columns, kind="stable")
    pointers = np.searchsorted(columns[order], np.arange(dim + 1))
    return Triangle(pointers, rows[order], RNG.permutation(dim))


def chain(dim: int) -> Triangle:
    """Each but the last meets the next: nothing can be solved at the same time."""
    steps = np.arange(dim - 1)
    return Triangle(np.append(np.arange(dim), dim - 1), steps + 1, np.arange(dim))


CASES = {
    "one": triangle(1, 1.0),
    "no entry": triangle(4, 0.0),
    "all": triangle(5, 1.0),
    "some": triangle(40, 0.1),
    "chain": chain(12),
}


def dense(of: Triangle, entries: Array) -> Array:
    matrix = np.eye(of.dim)
    for entry, row, column in zip(entries, of.rows, of.columns, strict=True):
        matrix[of.order[row], of.order[column]] = entry
    return matrix


def compiled(outputs: list[Any], inputs: list[Any], mode: str) -> Any:
    if mode == "JAX":
        pytest.importorskip("jax", reason="jax is an optional extra")
    return pytensor.function(inputs, outputs, mode="FAST_COMPILE" if mode == "NUMPY" else mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("solves", [False, True], ids=["times", "solve"])
@pytest.mark.parametrize("transposed", [False, True], ids=["plain", "transposed"])
def test_a_kernel_does_what_a_dense_matrix_does(
    mode: str, case: str, solves: Any, transposed: Any
) -> None:
    of = CASES[case]
    entries = RNG.normal(size=len(of.rows)) / 2
    x, weights = RNG.normal(size=(2, 3, of.dim))
    e, z, w = pt.vector("e"), pt.matrix("z"), pt.matrix("w")
    found = sparse_triangle(e, z, *of.coordinates, solves=solves, transposed=transposed)
    grads = pt.grad((found * w).sum(), [e, z])
    got, of_entries, of_z = compiled([found, *grads], [e, z, w], mode)(entries, x, weights)

    def wanted(entries: Array) -> Array:
        matrix = dense(of, entries)
        matrix = matrix.T if transposed else matrix
        return np.linalg.inv(matrix) if solves else matrix

    matrix = wanted(entries)
    np.testing.assert_allclose(got, x @ matrix.T, atol=1e-12)
    np.testing.assert_allclose(of_z, weights @ matrix, atol=1e-12)
    step = 1e-6
    for at, slope in enumerate(np.asarray(of_entries)):
        shift = step * (np.arange(len(entries)) == at)
        change = (wanted(entries + shift) - wanted(entries - shift)) / (2 * step)
        assert slope == pytest.approx((weights * (x @ change.T)).sum(), abs=1e-7)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_pieces_have_each_entry_once_and_in_time(case: str, transposed: Any) -> None:
    rows, columns = CASES[case].coordinates
    out, into = (columns, rows) if transposed else (rows, columns)
    pieces = solving_pieces(out, into, forwards=not transposed)
    found = pieces[pieces < len(out)]
    assert sorted(found) == list(range(len(out)))
    assert pieces.size <= 2 * len(out) + pieces.shape[1]
    later = {int(at) for at in found}
    for piece in pieces:
        here = [int(at) for at in piece if at < len(out)]
        later -= set(here)
        # whatever is still to be added to what is read here would come too late
        assert not {int(into[at]) for at in here} & {int(out[at]) for at in [*later, *here]}


def test_points_of_any_batch() -> None:
    of = CASES["some"]
    e, z = pt.vector("e"), pt.tensor("z", shape=(2, 3, of.dim), dtype="float64")
    found = sparse_triangle(e, z, *of.coordinates, solves=True, transposed=True)
    entries, x = RNG.normal(size=len(of.rows)) / 9, RNG.normal(size=(2, 3, of.dim))
    got = compiled([found], [e, z], "NUMPY")(entries, x)[0]
    np.testing.assert_allclose(got @ dense(of, entries), x, atol=1e-12)


def test_entries_must_be_below_the_diagonal() -> None:
    order = np.arange(2)
    with pytest.raises(ValueError, match="below its diagonal"):
        Triangle(np.array([0, 1, 1]), np.array([0]), order)
    with pytest.raises(ValueError, match="below its diagonal"):
        Triangle(np.array([0, 1, 1]), np.array([2]), order)
    with pytest.raises(ValueError, match="below its diagonal"):
        Triangle(np.array([0, 1, 1]), np.array([1]), np.array([0, 0]))
