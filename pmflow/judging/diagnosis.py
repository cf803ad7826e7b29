"""How good a fit is: numbers from its own draws, and what they say in words."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from pmflow.checks import check_seed, checked_count
from pmflow.graphs.private import seed_from
from pmflow.judging.advice import NUTS, advise
from pmflow.judging.densities import check_densities
from pmflow.judging.nested import nested_judgement, nested_shifts
from pmflow.judging.report import as_html, as_text, with_error
from pmflow.judging.shifts import shift_table
from pmflow.judging.verdict import ESS_RESAMPLED, judge, with_images
from pmflow.judging.weights import MIN_DRAWS, importance_weights
from pmflow.records import FitState, Images, Starts, State
from pmflow.watch import piece

__all__ = ["Diagnosis", "as_resampled", "diagnose"]


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
        What to try next, the most promising first: a sentence, and below it a line of Python that
        runs as it is printed where ``pmf`` is pmflow, ``pm`` is PyMC, ``model`` the model and
        ``approx`` the fit. `code` has the lines alone.
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
        A row a component, labelled ``theta[Choate]``, constrained space, deterministics of up to
        1,000 numbers included: ``mean_shift``, how far weighting moves the mean, in units of the
        weighted sd, and ``sd_ratio``, the sd before over the sd after weighting (below 1 the fit is
        too narrow), each followed by its Monte Carlo error (``_mcse``), then ``mean_before``,
        ``mean_after``, ``sd_before``, ``sd_after``. NaN where a component does not vary.
    fit_state : FitState or None
        How training ended, where the approximation knows.
    starts : Starts or None
        Whether several starts agree, where there were several.
    images : int
        How many mirror images the fit has, as a `Symmetrized` does; 1 for others.

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
    images: int = 1

    @property
    def code(self) -> tuple[str, ...]:
        """The lines of Python in `advice`."""
        return tuple(text.partition("\n")[2] for text in self.advice)

    @property
    def summary(self) -> str:
        """The verdict and what matters most, in one line."""
        if not np.isfinite(self.elbo):
            return f"{self.verdict}: {self.reasons[0]}"
        found = (
            f"{self.verdict}: ELBO {with_error(self.elbo, self.elbo_se)}, "
            f"KL {with_error(self.kl, self.kl_se)}"
        )
        if np.isnan(self.k_hat):
            return found
        return f"{found}, k-hat {self.k_hat:.2f} (limit {self.k_threshold:.2f}), ESS {self.ess:.0%}"

    def __str__(self) -> str:
        return as_text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return as_html(self)


def diagnose(approx: Any, draws: int = 4000, random_seed: Any = None) -> Diagnosis:
    """How far an approximation is from the posterior, from its own draws.

    Draws of the approximation are weighted by p / q. If it were the posterior, all weights would be
    equal; weights that can be trusted say how far means and standard deviations are off, and the
    tail of the weights (k-hat) says whether they can.

    Where the model observes minibatches, all rows are gone through, a few thousand at a time: it
    takes as long as there are rows times draws.

    Blind to a mode that the approximation has missed: see `Starts`.

    Parameters
    ----------
    approx : Approximation
        What `fit` returns.
    draws : int
        At least 100. More of them make errors smaller, and see further into the tails. An
        `EmbeddedLaplace` chooses for itself how many it takes.
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
        If a group has no density, or what the model observes in minibatches is no sum over rows.

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
    if getattr(approx, "is_resampled", False):
        found = diagnose(approx.proposal, draws, random_seed)
        found = replace(found, fit_state=approx.fit_state, starts=approx.starts)
        return as_resampled(found, approx.report.images)
    if getattr(approx, "is_nested", False):
        return _of_nested(approx, random_seed)
    found = approx.judged(draws, random_seed)
    stats = found["sample_stats"].to_dataset()
    with piece("weighing the draws", can_be_cut=True):
        weights = importance_weights(stats["log_p"].values.ravel(), stats["log_q"].values.ravel())
        shifts = shift_table(found["posterior"].to_dataset(), weights.log_weights)
    judgement = judge(weights, shifts, approx.starts, approx.report.images)
    advice = advise(judgement, weights, shifts, approx.facts, approx.starts)
    shared = {field.name for field in fields(weights)} & {field.name for field in fields(Diagnosis)}
    return Diagnosis(
        verdict=judgement.verdict,
        reasons=judgement.reasons,
        advice=tuple(map(str, advice)),
        shifts=shifts,
        fit_state=approx.fit_state,
        starts=approx.starts,
        images=approx.images,
        **{name: getattr(weights, name) for name in shared},
    )


def _of_nested(approx: Any, random_seed: Any) -> Diagnosis:
    """The diagnosis of global variables by their marginal and local ones given them."""
    seed = approx.next_seed() if random_seed is None else seed_from(random_seed)
    check = approx.check(seed)
    shifts = nested_shifts(check, approx.coordinate_names)
    is_good, reasons = nested_judgement(check, shifts, approx.report.images)
    weights, (elbo, log_evidence, kl) = check.of_globals, check.estimates
    return Diagnosis(
        verdict="reliable" if is_good else "not reliable",
        reasons=reasons,
        advice=() if is_good else (str(NUTS),),
        draws=check.log_weights.size,
        non_finite=int((~np.isfinite(check.log_weights)).sum()),
        elbo=elbo.value,
        elbo_se=elbo.error,
        log_evidence=log_evidence.value,
        log_evidence_se=log_evidence.error,
        kl=kl.value,
        kl_se=kl.error,
        k_hat=np.nan if weights is None else weights.k_hat,
        k_threshold=np.nan if weights is None else float(weights.k_threshold),
        ess=np.nan if weights is None else weights.ess,
        shifts=shifts,
        fit_state=approx.fit_state,
        starts=approx.starts,
    )


def as_resampled(found: Diagnosis, images: Images | None = None) -> Diagnosis:
    """The diagnosis of draws that are weighted and chosen anew, from that of the proposal.

    Weights that lead to the posterior mend what is wrong with the proposal; where they do not, it
    stays *not reliable*. `shifts` says what they move.
    """
    if found.verdict == "not reliable":
        return found
    is_good = found.ess >= ESS_RESAMPLED
    reason = (
        f"draws are weighted and chosen anew; of the proposal they are worth {found.ess:.0%} of "
        f"their number, with a k-hat of {found.k_hat:.2f}"
    )
    if not is_good:
        reason += ": few enough that what the proposal hardly reaches may be missed"
    return replace(
        found,
        verdict="reliable" if is_good else "usable after importance resampling",
        reasons=with_images([reason], images),
        advice=() if is_good else (str(NUTS),),
    )
