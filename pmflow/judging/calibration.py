"""Whether fits to simulated data are as sure as they should be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, override

import numpy as np
import pandas as pd
import xarray as xr

from pmflow.errors import ParameterError
from pmflow.judging.components import component_table

__all__ = ["Calibration"]

type Kept = Literal["reliable", "not reliable", "all"]

_KEPT = ("reliable", "not reliable", "all")


class Calibration:
    r"""Where true values are among the draws of fits to data that they have made.

    If fits are right, each of these shares is uniform between 0 and 1 (Talts et al., 2018). A
    verdict looks at data and draws alone, so it stays so among those fits that are called
    *reliable*. Shares that come in the middle too often are of fits that are too wide; at both ends
    too often, of fits that are too narrow.

    Parameters
    ----------
    below : Dataset
        For each variable the share of draws that are below its true value, with the dim ``draw``
        for the fits; NaN where there is none.
    verdicts : sequence of str
        That of each fit, as of `Refits`.
    failures : dict of int to str
        Why there is no fit, by its number.
    retried : int
        How many fits were begun again, as a worker had died.

    Attributes
    ----------
    below, verdicts, failures, retried
        As given.

    References
    ----------
    Talts et al. (2018), Validating Bayesian inference algorithms with simulation-based calibration,
    https://arxiv.org/abs/1804.06788
    """

    def __init__(
        self,
        below: xr.Dataset,
        verdicts: Sequence[str],
        failures: dict[int, str] | None = None,
        retried: int = 0,
    ) -> None:
        self.below, self.verdicts = below, tuple(verdicts)
        self.failures, self.retried = dict(failures or {}), retried

    def of(self, kept: Kept = "reliable") -> xr.Dataset:
        """The shares of some of the fits.

        Parameters
        ----------
        kept : {"reliable", "not reliable", "all"}
            By verdict. *Usable after importance resampling* is not reliable as it is.

        Raises
        ------
        ParameterError
            If there is none of them.
        """
        if kept not in _KEPT:
            raise ParameterError(f"kept must be one of {', '.join(_KEPT)}, but is {kept!r}.")
        good = np.array([verdict == "reliable" for verdict in self.verdicts])
        there = np.array([number not in self.failures for number in range(len(good))])
        wanted = {"reliable": good, "not reliable": ~good & there, "all": there}[kept]
        if not wanted.any():
            raise ParameterError(f"None of the fits is {kept}: {self._counts}. Take kept='all'.")
        return self.below.isel(draw=np.flatnonzero(wanted))

    def p_values(self, kept: Kept = "reliable") -> pd.Series:
        """The p-value of a test of uniformity, for each number of the model.

        By the pointwise order-based test of ArviZ (Tesso & Vehtari, 2026). Of a hundred numbers one
        is below 0.01 by chance: divide by how many there are.

        Parameters
        ----------
        kept : {"reliable", "not reliable", "all"}
            By verdict.

        Returns
        -------
        pandas.Series
            By label, as of `compare`.
        """
        import arviz_stats  # noqa: F401 - it registers what is called here; slow to import

        found, *_ = self.of(kept).azstats.uniformity_test(dim="draw")
        labels, values = component_table(found.expand_dims(["chain", "draw"]))
        return pd.Series(values[0], index=labels, name="p_value")

    def to_datatree(self, kept: Kept = "reliable") -> xr.DataTree:
        """For ``arviz_plots.plot_ecdf_pit``, in the layout of simuk: a group ``prior_sbc``.

        Parameters
        ----------
        kept : {"reliable", "not reliable", "all"}
            By verdict.
        """
        return xr.DataTree.from_dict({"prior_sbc": self.of(kept).expand_dims("chain")})

    @property
    def _counts(self) -> str:
        return ", ".join(f"{n} {what}" for what, n in Counter(self.verdicts).most_common())

    @override
    def __repr__(self) -> str:
        text = f"{len(self.verdicts)} fits: {self._counts}"
        if "reliable" not in self.verdicts:
            return text
        values = self.p_values()
        return (
            f"{text}\nOf those called reliable, the smallest of {len(values)} p-values of "
            f"uniformity is {values.min():.2g} ({values.idxmin()})"
        )
