"""Rows of data that are kept elsewhere, in a graph: read where they are when they are drawn."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any, override

import numpy as np
import pytensor
import pytensor.tensor as pt
from pymc.data import MinibatchOp, minibatch_index
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op

__all__ = ["TakenRows", "minibatch_of"]


class TakenRows(Op):
    """Rows at some places.

    Parameters
    ----------
    name : str
        Of the data of the model whose rows they are.
    rows : Rows
    dtype : str
        In which they are taken.
    """

    __props__ = ("name", "rows", "dtype")

    def __init__(self, name: str, rows: Any, dtype: str) -> None:
        self.name, self.rows, self.dtype = name, rows, dtype

    @override
    def __str__(self) -> str:
        return f"TakenRows({self.name})"

    @override
    def make_node(self, places: Any) -> Apply:
        places = pt.as_tensor(places)
        shape = (places.type.shape[0], *self.rows.shape[1:])
        return Apply(self, [places], [pt.tensor(dtype=self.dtype, shape=shape)])

    @override
    def perform(self, node: Apply, inputs: list[Any], output_storage: list[list[Any]]) -> None:
        output_storage[0][0] = self.at(inputs[0])

    def at(self, places: Any) -> Any:
        """The rows at places of shape (n,)."""
        return np.asarray(self.rows.take(np.asarray(places, dtype=np.int64)), dtype=self.dtype)


def minibatch_of(sources: dict[str, Any], dtypes: dict[str, str], batch_size: int) -> list[Any]:
    """Rows at random places, the same of each source, as `pymc.Minibatch` draws them.

    Parameters
    ----------
    sources : dict of str to Rows
        Of one length.
    dtypes : dict of str to str
    batch_size : int

    Returns
    -------
    list of TensorVariable
    """
    _tell_jax()
    number = next(iter(sources.values())).shape[0]
    rng = pt.random.shared_rng(seed=None)
    following, places = minibatch_index(0, number, size=batch_size, rng=rng, return_next_rng=True)
    taken = [TakenRows(name, rows, dtypes[name])(places) for name, rows in sources.items()]
    # PyMC looks for data among the inputs, each where its rows are among the outputs: it finds none
    # there, in a form that no rewrite changes
    empty = [np.zeros((0, *rows.shape[1:])) for rows in sources.values()]
    given = [rng, *(pt.exp(pytensor.shared(no_rows)) for no_rows in empty)]
    inner = [rng, *(x.type() for x in given[1:])]
    draw = MinibatchOp(inner, [following, *taken], on_unused_input="ignore")
    return list(draw(*given)[1:])


@cache
def _tell_jax() -> None:
    """A graph of JAX calls back to where the rows are."""
    if find_spec("jax") is None:
        return
    from pytensor.link.jax.dispatch import jax_funcify

    @jax_funcify.register(TakenRows)
    def _(op: TakenRows, node: Apply, **_: Any) -> Any:
        import jax

        (out,) = node.outputs
        shape: Any = jax.ShapeDtypeStruct(out.type.shape, out.type.dtype)  # type: ignore[no-untyped-call]
        return lambda places: jax.pure_callback(op.at, shape, places)
