"""Parts of a graph that are made of constants and data, evaluated."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from latent import log_density
from pytensor.graph.traversal import ancestors
from pytensor.tensor.elemwise import Elemwise

from pmflow.graphs.settled import data_of, settled, settling

AT = np.linspace(0, 5, 40)


def cores(graph: pt.TensorVariable) -> set[str]:
    """Names of its Ops, and of those that run over batches."""
    made = [x.owner.op for x in ancestors([graph]) if x.owner]
    return {type(getattr(op, "core_op", op)).__name__ for op in made}


def test_only_what_varies_is_left() -> None:
    z, data = pt.vector("z", shape=(3,)), pytensor.shared(np.eye(3) + 1.0)
    value = (pt.linalg.cholesky(data) @ z).sum() + pt.exp(pt.constant(2.0)) * z[0]
    (found,) = settled([value], [z])
    assert "Cholesky" in cores(value)
    assert "Cholesky" not in cores(found)
    at = np.array([0.3, -1.0, 2.0])
    assert found.eval({z: at}) == pytest.approx(value.eval({z: at}), rel=1e-14)
    assert data_of(settling([value], [z])) == [data]


def test_what_does_not_vary_at_all_is_a_value() -> None:
    z, data = pt.vector("z"), pytensor.shared(np.arange(3.0))
    found = settled([data.sum() * 2, z.sum()], [z])
    assert found[0].owner is None
    assert found[0].eval() == 6.0
    assert found[1].owner is not None


def test_what_is_random_stays_so() -> None:
    rng = pytensor.shared(np.random.default_rng(1))
    z = pt.vector("z")
    drawn = pt.random.normal(0, 1, size=5, rng=rng, return_next_rng=True)[1].sum() + z.sum()
    (found,) = settled([drawn], [z])
    assert "NormalRV" in cores(found)


def process(length: float) -> pm.Model:
    """A basis of 200 functions at 40 places, which are data."""
    with pm.Model() as model:
        at = pm.Data("at", AT)
        basis = pt.cos(at[:, None] * pt.arange(1, 201) * length) * pt.exp(-pt.arange(1, 201) / 40.0)
        w = pm.Normal("w", shape=200)
        pm.Normal("y", basis @ w, 0.1, observed=np.sin(AT))
    return model


def test_a_density_makes_it_once_and_anew_after_set_data() -> None:
    model = process(0.7)
    density = log_density(model)
    assert "Cos" in scalars(density._as_written)
    assert "Cos" not in scalars(density.graph[1])
    z = np.random.default_rng(2).normal(size=(3, 200)) / 10
    logp = model.compile_logp()
    assert density.value(z) == pytest.approx([float(logp({"w": row})) for row in z])
    with model:
        pm.set_data({"at": AT[::-1] * 2.0})
    wanted = [float(model.compile_logp()({"w": row})) for row in z]
    assert density.value(z) == pytest.approx(wanted)
    assert density.value_and_gradient(z)[0] == pytest.approx(wanted)


def test_data_may_become_too_few_to_be_worth_it() -> None:
    with pm.Model() as model:
        at = pm.Data("at", AT)
        basis = pt.cos(at[:, None] * pt.arange(1, 201)) * pt.exp(-pt.arange(1, 201) / 40.0)
        w = pm.Normal("w", shape=200)
        pm.Normal("y", (basis @ w).mean(), 0.1, observed=0.5)
    density = log_density(model)
    z = np.random.default_rng(2).normal(size=(2, 200)) / 10
    density.value_and_gradient(z)
    assert "Cos" not in scalars(density.graph[1])
    with model:
        pm.set_data({"at": AT[:2] + 2.0})
    wanted = [float(model.compile_logp()({"w": row})) for row in z]
    assert density.value(z) == pytest.approx(wanted)
    assert "Cos" in scalars(density.graph[1])


def test_the_graph_is_that_of_the_data_as_they_are() -> None:
    model = process(0.7)
    density = log_density(model)
    with model:
        pm.set_data({"at": AT * 2.0})
    z, value = density.graph
    at = np.random.default_rng(2).normal(size=200) / 10
    assert value.eval({z: at}) == pytest.approx(float(model.compile_logp()({"w": at})))


def scalars(graph: pt.TensorVariable) -> set[str]:
    """Names of what is done entry by entry."""
    made = [x.owner.op for x in ancestors([graph]) if x.owner]
    return {type(op.scalar_op).__name__ for op in made if isinstance(op, Elemwise)}


def test_a_map_is_compiled_though_its_eigenvalues_can_not_be() -> None:
    width = np.eye(30, k=1) + np.eye(30, k=-1)
    with pm.Model() as model:
        alpha = pm.Uniform("alpha", 0, 1)
        pm.CAR("phi", mu=np.zeros(30), tau=1.0, alpha=alpha, W=width)
    density = log_density(model)
    assert "Eigvalsh" in cores(density._as_written)
    assert "Eigvalsh" not in cores(density.graph[1])
    z = np.random.default_rng(3).normal(size=(2, 31))
    logp = model.compile_logp()
    wanted = [float(logp({"alpha_interval__": row[0], "phi": row[1:]})) for row in z]
    assert density.value(z) == pytest.approx(wanted)
