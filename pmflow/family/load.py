"""A saved approximation back on its model."""

from __future__ import annotations

import os

import pymc as pm

from pmflow.family.approximation import Approximation
from pmflow.posterior.model import checked_model
from pmflow.posterior.outline import check_description
from pmflow.records import State
from pmflow.saving.archive import Archive, read_archive
from pmflow.saving.states import no_trust_in, unpack

__all__ = ["load"]


def load(path: str | os.PathLike[str], model: pm.Model | None = None) -> Approximation:
    """Read what `Approximation.save` wrote, or the approximation in a checkpoint.

    Nothing in the file is run: it holds texts and numbers, and only words of registered layers
    become layers.

    Parameters
    ----------
    path : path-like
    model : pymc.Model, optional
        The model that the approximation was fitted to, made anew. Defaults to the model of the
        context. Its data are not compared.

    Returns
    -------
    NormalizingFlow, Stack or Approximation
        An object of the same class as was saved. The same seed gives the same draws.

    Raises
    ------
    StorageError
        If the file is missing, damaged, of another kind or of a later version; if a layer is not
        registered; if a variable of the model, its shape, transform, order, dims or coords are not
        those of the file: then the difference is named.

    Examples
    --------
    >>> import tempfile, pymc as pm, pmflow as pmf
    >>> with pm.Model() as model:
    ...     x = pm.Normal("x", shape=2)
    >>> approx = pmf.NormalizingFlow("planar*2", model=model, random_seed=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     approx.save(f"{folder}/fit.safetensors")
    ...     loaded = pmf.load(f"{folder}/fit.safetensors", model)
    >>> print(loaded.family)
    NormalizingFlowGroup[planar*2, dim=2]
    """
    model = checked_model(model)
    return approximation_of(read_archive(path), model, os.fspath(path))


def approximation_of(archive: Archive, model: pm.Model, where: str) -> Approximation:
    """The approximation in a file that was read.

    Raises
    ------
    StorageError
        As `load`.
    """
    with no_trust_in(where):
        check_description(archive.content, model, where)
        state = unpack(archive, State, where)
        # a checkpoint has the approximation as it is so far
        return Approximation.from_state(getattr(state, "approx", state), model)
