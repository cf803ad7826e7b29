"""A model whose data are its own, to be set anew many times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pymc as pm
import pytensor
from numpy.typing import NDArray
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Constant, Variable
from pytensor.scalar.basic import Cast
from pytensor.tensor.shape import Shape, Shape_i

from pmflow.checks import did_you_mean
from pmflow.errors import ParameterError
from pmflow.graphs.evaluate import GLOBAL_STATE
from pmflow.graphs.settled import value_of
from pmflow.posterior.model import shared_data
from pmflow.posterior.packages import of_the_same_package

__all__ = ["OwnData", "Values", "as_the_model_has_it", "checked_data", "held_in"]

type Values = dict[str, NDArray[Any]]


class OwnData:
    """A copy of a model in which some data can be set anew, whatever the first one has.

    Parameters
    ----------
    model : pymc.Model
    names : sequence of str
        Of its `pymc.Data` or observed variables, as `checked_data` takes them.

    Attributes
    ----------
    model : pymc.Model
        The copy.
    names : tuple of str
        As given.
    are_observed_alone : bool
        Whether these data are what is observed and nothing else: no predictor follows from them.
    """

    def __init__(self, model: pm.Model, names: Sequence[str]) -> None:
        # a model has no plain copy; cloudpickle is what PyMC itself sends models with
        import cloudpickle

        with GLOBAL_STATE:  # PyMC changes PyTensor's flags as it makes variables
            copy = cloudpickle.loads(cloudpickle.dumps(model))
            self.model: pm.Model = of_the_same_package(copy, model)
        self.names = tuple(names)
        self._places = {name: self._place(name) for name in names}
        found = self.model
        graphs = [*found.basic_RVs, *found.potentials, *found.deterministics]
        behind = _values_behind([*graphs, *self._observed_graphs()])
        self.are_observed_alone = not any(place in behind for place in self._places.values())

    def _place(self, name: str) -> SharedVariable:
        """The shared variable of some data, made where they are a constant."""
        model = self.model
        data = {x.name: x for x in shared_data(model)}
        if name in data:
            return data[name]
        rv = model[name]
        value = model.rvs_to_values[rv]
        place = held_in(value)
        if isinstance(place, SharedVariable):
            return place
        now = np.array(value_of(value))
        shared = pytensor.shared(now, name=name, shape=now.shape)
        del model.values_to_rvs[value]
        model.rvs_to_values[rv], model.values_to_rvs[shared] = shared, rv
        return shared

    def _observed_graphs(self) -> list[Any]:
        """What is observed and not just data, but follows from some."""
        values = [self.model.rvs_to_values[rv] for rv in self.model.observed_RVs]
        return [value for value in values if held_in(value) is None]

    def set(self, values: Mapping[str, NDArray[Any]]) -> None:
        """Set the data anew, as `checked_data` gives them."""
        for name, value in values.items():
            self._places[name].set_value(value)


def _values_behind(graphs: Sequence[Variable]) -> set[Variable]:
    """What the values of some graphs follow from, and not just their shapes."""
    found: set[Variable] = set()
    todo = list(graphs)
    while todo:
        variable = todo.pop()
        if variable in found:
            continue
        found.add(variable)
        if variable.owner is not None and not isinstance(variable.owner.op, Shape | Shape_i):
            todo += variable.owner.inputs
    return found


def held_in(observed: Any) -> Any:
    """What holds the values that are observed, a constant or shared; None where it is a graph.

    PyMC casts whole numbers in a `pymc.Data` before they are observed.
    """
    while observed.owner is not None:
        op = getattr(observed.owner.op, "scalar_op", None)
        if not isinstance(op, Cast):
            return None
        (observed,) = observed.owner.inputs
    return observed if isinstance(observed, SharedVariable | Constant) else None


def checked_data(model: pm.Model, data: Any, what: str) -> Values:
    """Data for a model, by name and in the dtype that it has.

    Parameters
    ----------
    model : pymc.Model
    data : object
        What a user gives: a dict of names of `pymc.Data` or observed variables to their values.
    what : str
        What it is called in errors.

    Raises
    ------
    ParameterError
        If a name is none of the model's, or values have another shape or kind.
    """
    known: dict[str, Any] = {x.name: x for x in shared_data(model)}
    for rv in model.observed_RVs:
        place = held_in(model.rvs_to_values[rv])
        if place is not None:
            known[rv.name] = place
    names = ", ".join(known) or "none"
    if not isinstance(data, Mapping) or not data:
        raise ParameterError(
            f"{what} must be a dict of names of data to their values, such as {{'y': array}}, but "
            f"is {data!r:.60}. What can be set in this model: {names}."
        )
    found = {}
    for name, given in data.items():
        if name not in known:
            hint = did_you_mean(name, known)
            raise ParameterError(
                f"{what} names {name!r}, which is no pm.Data and no observed variable of the "
                f"model. {hint}What can be set: {names}."
            )
        found[name] = as_the_model_has_it(given, known[name], f"{what}[{name!r}]")
    return found


def as_the_model_has_it(given: Any, place: Any, what: str) -> NDArray[Any]:
    """Values in the dtype of what holds the data in a model.

    Raises
    ------
    ParameterError
        If their shape is another one, or they are not finite, or no whole numbers where these are
        needed.
    """
    try:
        array = np.asarray(given)
    except ValueError:
        array = np.asarray(None)
    shape, dtype = value_of(place).shape, np.dtype(place.type.dtype)
    if array.dtype.kind not in "biuf" or array.shape != shape:
        is_array = array.dtype.kind in "biuf"
        came = f"have the shape {array.shape}" if is_array else f"are {given!r:.60}"
        raise ParameterError(
            f"{what} must be numbers of the shape {shape}, as the model has them, but {came}. A "
            "fit is made again for data of one shape; fit data of another one by pmflow.fit."
        )
    if not np.isfinite(array).all():
        raise ParameterError(
            f"{what} must be finite, but has NaN or infinite entries. Missing values are variables "
            "of a model of their own: write it with them, and fit it by pmflow.fit."
        )
    cast = array.astype(dtype)
    if dtype.kind in "biu" and not np.array_equal(cast, array):
        raise ParameterError(
            f"{what} must be whole numbers, as the model has them in {dtype}, but are not. Write "
            "the model with data of floats."
        )
    return cast
