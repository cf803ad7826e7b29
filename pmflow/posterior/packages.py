"""Models of other packages: the PyMC model in them, and what they make of its draws."""

from __future__ import annotations

import sys
from typing import Any
from weakref import WeakValueDictionary

import pymc as pm
from xarray import DataTree

from pmflow.errors import UnsupportedError
from pmflow.graphs.evaluate import GLOBAL_STATE
from pmflow.posterior.at_points import VarNames
from pmflow.posterior.copied import copied

__all__ = [
    "BambiModel",
    "drawn_names",
    "finished",
    "of_the_same_package",
    "pymc_model_in",
    "without_package",
]


class BambiModel(pm.Model):
    """The PyMC model that Bambi has written, with the variables of that.

    Bambi centres predictors, and brings intercepts back when draws are there: it does so in its own
    `fit` alone.

    Parameters
    ----------
    written : pymc.Model
        By Bambi.
    package : bambi.Model
    """

    def __init__(self, written: pm.Model, package: Any) -> None:
        super().__init__(model=None, check_bounds=written.check_bounds)
        self.written, self.package = written, package

    def __getstate__(self) -> dict[str, Any]:
        # a model of Bambi holds the variables of the place where it was written, whatever they are
        return {**vars(self), "written": None, "package": None}

    def finished(self, tree: DataTree) -> DataTree:
        """Draws as `bambi.Model.fit` returns them.

        `PyMCModel._clean_results`: Bambi has no public function that does this, see
        :doc:`/integrations`.

        Raises
        ------
        UnsupportedError
            If this version of Bambi does it in another way, or the fit comes out of a pickle.
        """
        if self.package is None:
            raise UnsupportedError(
                "This fit of a Bambi model comes out of a pickle, into which no Bambi model goes, "
                "so that nobody knows how its predictors were centred. Draw before it is pickled, "
                "or keep it by approx.save(path) and pmflow.load(path, bambi_model)."
            )
        backend = self.package.backend
        if not hasattr(backend, "_clean_results"):
            raise UnsupportedError(
                "This version of Bambi brings intercepts of centred predictors back in a way that "
                "pmflow does not know. Write the model with center_predictors=False, and fit "
                "model=<it>.backend.model."
            )
        found: DataTree = backend._clean_results(
            tree, omit_offsets=True, include_response_params=False
        )
        return found

    @property
    def drawn(self) -> tuple[str, ...]:
        """Names of what `bambi.Model.fit` draws: no parameters of the likelihood, as long as it."""
        likelihood = {*self.package.family.likelihood.params}
        left_out = likelihood & {v.name for v in self.deterministics}
        return tuple(v.name for v in self.unobserved_RVs if v.name not in left_out)


_made: WeakValueDictionary[int, BambiModel] = WeakValueDictionary()
"""By the identity of what Bambi has written, so that two calls with one model mean one."""


def pymc_model_in(model: Any) -> Any:
    """The PyMC model in a model of Bambi, pymc-marketing or HSSM; of others what was given."""
    if isinstance(model, pm.Model):
        return model
    bambi = sys.modules.get("bambi")
    if bambi is not None and isinstance(model, bambi.Model):
        return _of_bambi(model)
    held = getattr(model, "model", None)  # a convention: pymc-marketing and HSSM have it
    is_model = isinstance(held, pm.Model) or (bambi is not None and isinstance(held, bambi.Model))
    return pymc_model_in(held) if is_model else model


def _of_bambi(package: Any) -> BambiModel:
    if not package.built:
        package.build()
    written = package.backend.model
    found = _made.get(id(written))
    if found is None or found.written is not written:
        found = BambiModel(written, package)
        with GLOBAL_STATE:  # PyMC changes PyTensor's flags as it makes variables
            copied(written, into=found)
        _made[id(written)] = found
    return found


def without_package(model: pm.Model) -> pm.Model:
    """The model with draws as they are, for places that its package does not go to.

    To be called within `GLOBAL_STATE`.
    """
    return copied(model) if isinstance(model, BambiModel) else model


def of_the_same_package(copy: pm.Model, model: pm.Model) -> pm.Model:
    """A copy of a model whose draws its package finishes as those of the model.

    To be called within `GLOBAL_STATE`.
    """
    if not isinstance(model, BambiModel):
        return copy
    return copied(copy, into=BambiModel(model.written, model.package))


def drawn_names(model: pm.Model, names: VarNames) -> VarNames:
    """The variables that are to be drawn where some are wanted, None for all."""
    return model.drawn if isinstance(model, BambiModel) and model.package is not None else names


def finished(model: pm.Model, tree: DataTree, names: VarNames = None) -> DataTree:
    """Draws as the package of a model has them, of some variables or all."""
    if not isinstance(model, BambiModel):
        return tree
    found = model.finished(tree)
    if names is not None:
        posterior = found["posterior"].to_dataset()
        found["posterior"] = DataTree(posterior[[name for name in names if name in posterior]])
    return found
