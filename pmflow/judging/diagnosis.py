"""How good a fit is: numbers from its own draws, and what they say in words."""

from __future__ import annotations

from dataclasses import dataclass, fields
from html import escape
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from pmflow.checks import check_seed, checked_count
from pmflow.judging.components import component_table
from pmflow.judging.importance import (
    MIN_DRAWS,
    Shifts,
    check_densities,
    importance_weights,
    weighted_shifts,
)
from pmflow.judging.verdict import advise, bounds, judge
from pmflow.records import FitState, Starts, State
from pmflow.watch import piece

__all__ = ["Diagnosis", "diagnose"]

type Array = NDArray[np.float64]

_BLIND = "A mode that no draw has reached can't be seen here."


@dataclass(frozen=True, eq=False)
class Diagnosis(State):
    """What the draws of an approximation say about its distance from the posterior.

    Made by `diagnose`; printed, it is a table with the verdict on top. All of it is blind to a mode
    that the approximation has missed; only `starts` may show one.

    Attributes
    ----------
    verdict : {"reliable", "usable after importance resampling", "not reliable"}
        *Reliable*: no mean is off by more than 0.07 sd and no sd by more than 7 %, three standard
        errors included, and the weights can be trusted to see it. *Usable after importance
        resampling*: the fit is further off, but not so far that weights could not mend it; see
        `importance_resample`. *Not reliable*: they could not.
    reasons : tuple of str
        What led to the verdict.
    advice : tuple of str
        What to try next.
    draws : int
        Draws behind the numbers.
    non_finite : int
        Those whose log p or log q is not finite. They are left out, and count as weight 0 for the
        evidence where ``log_p`` is -inf.
    elbo, elbo_se : float
        Evidence lower bound, the mean of log p - log q, and its Monte Carlo standard error. In
        unconstrained space, as are all densities here; the bound is the same in either.
    log_evidence, log_evidence_se : float
        Log of the mean smoothed importance weight.
    kl, kl_se : float
        Estimated divergence from the approximation to the posterior, ``log_evidence - elbo``. Too
        small where `k_hat` is high.
    k_hat, k_threshold : float
        Shape of the tail of the importance weights, and the limit for so many draws,
        min(1 - 1 / log10(draws), 0.7). 0 where the largest weights are equal. Says nothing where
        `ess` is near 1: then the tail has no size.
    ess : float
        Effective sample size of the smoothed weights, as a fraction of the draws.
    shifts : pandas.DataFrame
        A row a component, labelled ``theta[Choate]``, constrained space, deterministics included:
        ``mean_shift``, how far weighting moves the mean, in units of the weighted sd, and
        ``sd_ratio``, the sd before over the sd after weighting (below 1 the fit is too narrow),
        each followed by its Monte Carlo error (``_mcse``), then ``mean_before``, ``mean_after``,
        ``sd_before``, ``sd_after``. NaN where a component does not vary.
    fit_state : FitState or None
        How training ended, where the approximation knows.
    starts : Starts or None
        Whether several starts agree, where there were several.

    References
    ----------
    Vehtari et al. (2024), Pareto smoothed importance sampling,
    https://jmlr.org/papers/v25/19-556.html

    Yao et al. (2018), Yes, but did it work?, https://arxiv.org/abs/1802.02538
    """

    verdict: Literal["reliable", "usable after importance resampling", "not reliable"]
    reasons: tuple[str, ...]
    advice: tuple[str, ...]
    draws: int
    non_finite: int
    elbo: float
    elbo_se: float
    log_evidence: float
    log_evidence_se: float
    kl: float
    kl_se: float
    k_hat: float
    k_threshold: float
    ess: float
    shifts: pd.DataFrame
    fit_state: FitState | None = None
    starts: Starts | None = None

    @property
    def summary(self) -> str:
        """The verdict and what matters most, in one line."""
        if np.isnan(self.k_hat):
            return f"{self.verdict}: {self.reasons[0]}"
        return (
            f"{self.verdict}: ELBO {_with_error(self.elbo, self.elbo_se)}, "
            f"KL {_with_error(self.kl, self.kl_se)}, k-hat {self.k_hat:.2f} "
            f"(limit {self.k_threshold:.2f}), ESS {self.ess:.0%}"
        )

    def _rows(self) -> list[tuple[str, str, str]]:
        """What, its value, and what to hold it against."""
        rows = []
        if np.isnan(self.k_hat):
            rows.append(("finite draws", f"{self.draws - self.non_finite:,}", f"of {self.draws:,}"))
        else:
            tail = "" if self.ess < 1 - 5e-4 else ", all weights are nearly equal"
            rows += [
                ("ELBO", _with_error(self.elbo, self.elbo_se), "a bound of the log evidence"),
                ("log evidence", _with_error(self.log_evidence, self.log_evidence_se), ""),
                ("KL to posterior", _with_error(self.kl, self.kl_se), "0 is exact"),
                ("k-hat", f"{self.k_hat:.2f}", f"limit {self.k_threshold:.2f}{tail}"),
                ("effective draws", f"{self.ess:.0%}", f"of {self.draws:,}"),
            ]
            if self.non_finite:
                rows.append(("not finite", f"{self.non_finite:,}", f"of {self.draws:,} draws"))
            rows += self._extremes()
        if self.fit_state is not None:
            rows.append(("training", str(self.fit_state), ""))
        if self.starts is not None:
            rows.append(("starts", self.starts.summary, ""))
        return rows

    def _extremes(self) -> list[tuple[str, str, str]]:
        """The components that weighting changes most."""
        rows = []
        for bound, name, what in zip(
            bounds(self.shifts),
            ("mean_shift", "sd_ratio"),
            ("largest shift of a mean", "largest change of an sd"),
            strict=True,
        ):
            if not bound.notna().any():
                continue
            row = self.shifts.iloc[int(np.nanargmax(bound.to_numpy()))]
            number = f"{row[name]:+.3f}" if name == "mean_shift" else f"{row[name]:.3f}"
            unit, note = (" sd", "") if name == "mean_shift" else ("", ", fit / posterior")
            error = row[f"{name}_mcse"]
            rows.append((what, f"{number} ± {error:.3f}{unit}", f"of {row.name}{note}"))
        return rows

    def _lists(self) -> list[tuple[str, tuple[str, ...]]]:
        return [("Why", self.reasons), ("Try", self.advice)]

    def __str__(self) -> str:
        rows = self._rows()
        widths = [max(len(row[i]) for row in rows if row[2] or i == 0) for i in (0, 1)]
        lines = [f"Verdict: {self.verdict}", ""]
        lines += [f"  {a:<{widths[0]}}  {b:<{widths[1]}}  {c}".rstrip() for a, b, c in rows]
        for title, items in self._lists():
            if items:
                lines += ["", title, *(f"  - {item}" for item in items)]
        if self.starts is None:
            lines += ["", _BLIND]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        # no colours of its own: it takes those of the page, dark or light
        cell = 'style="text-align: left; background: none; color: inherit"'
        body = "".join(
            "<tr>" + "".join(f"<td {cell}>{escape(text)}</td>" for text in row) + "</tr>"
            for row in self._rows()
        )
        lists = "".join(
            f"<div>{title}</div><ul>{''.join(f'<li>{escape(i)}</li>' for i in items)}</ul>"
            for title, items in self._lists()
            if items
        )
        blind = f"<div><em>{_BLIND}</em></div>" if self.starts is None else ""
        return (
            f'<div style="color: inherit"><strong>{escape(self.verdict)}</strong>'
            f'<table style="border: none; background: none; color: inherit">{body}</table>'
            f"{lists}{blind}</div>"
        )


def diagnose(approx: Any, draws: int = 4000, random_seed: Any = None) -> Diagnosis:
    """How far an approximation is from the posterior, from its own draws.

    Draws of the approximation are weighted by p / q. If it were the posterior, all weights would be
    equal; weights that can be trusted say how far means and standard deviations are off, and the
    tail of the weights (k-hat) says whether they can.

    Blind to a mode that the approximation has missed: see `Starts`.

    Parameters
    ----------
    approx : Approximation
        What `fit` returns.
    draws : int
        At least 100. More of them make errors smaller, and see further into the tails.
    random_seed : int, Generator or RandomState, optional
        The same seed gives the same numbers. By default the seed continues from that of the
        approximation.

    Returns
    -------
    Diagnosis

    Raises
    ------
    ParameterError
        If `draws` is not an integer of 100 or more, or `approx` no approximation.
    UnsupportedError
        If a group has no density, or the model observes minibatches: its log density is an
        estimate then. The message says how to diagnose on all of the data.

    References
    ----------
    Yao et al. (2018), Yes, but did it work?, https://arxiv.org/abs/1802.02538

    Examples
    --------
    >>> import pymc as pm, pmflow as pmf
    >>> with pm.Model():
    ...     x = pm.Normal("x", 0, 1)
    ...     approx = pmf.NormalizingFlow("scale-loc", jitter=0.01, random_seed=1)
    >>> found = pmf.diagnose(approx, random_seed=1)
    >>> found.verdict
    'reliable'
    >>> list(found.shifts.index)
    ['x']
    """
    draws = checked_count("draws", draws, MIN_DRAWS)
    check_densities(approx, "diagnose")
    check_seed(random_seed)
    found = approx.sample(draws, random_seed=random_seed)
    stats = found["sample_stats"].to_dataset()
    with piece("weighing the draws", can_be_cut=True):
        weights = importance_weights(stats["log_p"].values.ravel(), stats["log_q"].values.ravel())
        shifts = _shift_table(found["posterior"].to_dataset(), weights.log_weights)
    # a flow of one group answers for its group, which may not have all attributes
    fit_state, starts = (getattr(approx, name, None) for name in ("fit_state", "starts"))
    judgement = judge(weights, shifts, starts)
    advice = advise(
        judgement,
        weights,
        shifts,
        formula=getattr(approx, "formula", None),
        dim=approx.ddim,
        fit_state=fit_state,
        starts=starts,
    )
    shared = {field.name for field in fields(weights)} & {field.name for field in fields(Diagnosis)}
    return Diagnosis(
        verdict=judgement.verdict,
        reasons=judgement.reasons,
        advice=advice,
        shifts=shifts,
        fit_state=fit_state,
        starts=starts,
        **{name: getattr(weights, name) for name in shared},
    )


_SHIFT_COLUMNS = (
    *("mean_shift", "mean_shift_mcse", "sd_ratio", "sd_ratio_mcse"),
    *("mean_before", "mean_after", "sd_before", "sd_after"),
)


def _shift_table(posterior: xr.Dataset, log_weights: Array) -> pd.DataFrame:
    labels, values = component_table(posterior)
    if not np.isfinite(log_weights).any():
        return pd.DataFrame(np.nan, index=labels, columns=list(_SHIFT_COLUMNS))
    found: Shifts = weighted_shifts(values, log_weights)
    table = {name: getattr(found, name) for name in _SHIFT_COLUMNS}
    # what does not vary still has a mean, and is told from what is not finite by it
    kept = values[np.isfinite(log_weights)]
    still = np.isnan(found.mean_before) & np.isfinite(kept).all(0)
    for name in ("mean_before", "mean_after"):
        table[name] = np.where(still, kept[0], table[name])
    for name in ("sd_before", "sd_after"):
        table[name] = np.where(still, 0.0, table[name])
    return pd.DataFrame(table, index=labels)


def _with_error(value: float, error: float) -> str:
    """``-12.34 ± 0.02``: as many digits as the error has, two of it."""
    if not np.isfinite(error) or error <= 0:
        return f"{value:.4g}"
    digits = int(np.clip(1 - np.floor(np.log10(error)), 0, 4))
    return f"{value:,.{digits}f} ± {error:.{digits}f}"
