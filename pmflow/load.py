"""A saved approximation back on its model."""

from __future__ import annotations

import os

import pymc as pm

from pmflow.family.approximation import Approximation
from pmflow.posterior.model import checked_model
from pmflow.saving.archive import read_archive

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
    NormalizingFlow or Approximation
        Of the same kind as what was saved. The same seed gives the same draws.

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
    ...     approx.save(f"{folder}/fit.nc")
    ...     loaded = pmf.load(f"{folder}/fit.nc", model)
    >>> print(loaded)
    Approximation{NormalizingFlowGroup[planar*2, dim=2]}
    """
    model = checked_model(model)
    return Approximation._from_archive(read_archive(path), model, os.fspath(path))
