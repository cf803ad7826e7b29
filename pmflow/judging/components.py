"""Draws as a table: a column for each component of each variable."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pmflow.watch import piece

__all__ = ["component_table"]

type Array = NDArray[np.float64]

_SAMPLE_DIMS = ("chain", "draw")


def component_table(posterior: xr.Dataset) -> tuple[list[str], Array]:
    """Labels of all components, ``theta[Choate]``, and their draws.

    Parameters
    ----------
    posterior : Dataset
        With dimensions ``chain`` and ``draw``. Variables that are not numbers are left out.

    Returns
    -------
    list of str, length components
    ndarray, shape (draws of all chains, components)
    """
    with piece("importing ArviZ"):
        from arviz_base import labels, xarray_sel_iter  # slow: it loads JAX if it is there

    names, columns = [], []
    labeller = labels.BaseLabeller()
    for name, array in ((str(key), array) for key, array in posterior.data_vars.items()):
        if array.dtype.kind not in "buif":
            continue
        # components in the order in which ArviZ goes through them: the last dimension fastest
        names += [
            labeller.make_label_flat(name, selection, index)
            for _, selection, index in xarray_sel_iter(
                array.to_dataset(name=name), skip_dims={*_SAMPLE_DIMS}
            )
        ]
        ordered = array.transpose(*_SAMPLE_DIMS, ...).values
        columns.append(ordered.reshape(ordered.shape[0] * ordered.shape[1], -1))
    return names, np.concatenate(columns, axis=1).astype(float)
