"""Fitting a flow: the inference class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pymc as pm
from numpy.typing import NDArray
from pymc.progress_bar.rich_progress import default_progress_theme
from pymc.util import RandomState
from pymc.variational.inference import KLqp
from xarray import DataTree

from pmflow.checks import check_flags, check_names, checked_count, checked_number
from pmflow.errors import ParameterError
from pmflow.family.approximation import Approximation
from pmflow.flows.bases import AbstractBase
from pmflow.flows.formula import Formula
from pmflow.frames import Frame
from pmflow.inference.approx import approximation_for
from pmflow.inference.checkpoint import Checkpoint, FitCheckpoint, FitKeeper, checkpoint_for
from pmflow.inference.random_starts import FitOnce, check_elsewhere, random_starts, start_seeds
from pmflow.inference.verdict import judge_and_tell
from pmflow.records import FitState, Outcome
from pmflow.starts.restarts import StartsState, fit_from_starts, sample_starts
from pmflow.training.course import Course, InTurn, Steps
from pmflow.training.courses import course_for
from pmflow.training.options import FitOptions
from pmflow.training.progress import FitProgress
from pmflow.training.run import Run
from pmflow.training.signature import with_fit_options
from pmflow.training.tracker import check_trackers
from pmflow.training.trainer import Trainer
from pmflow.watch import watching

__all__ = ["NFVI"]


class NFVI(KLqp):
    """Normalizing-flow variational inference.

    Minimises the Kullback-Leibler divergence from a flow to the posterior, over all continuous
    free variables of a model, in the unconstrained space.

    Parameters
    ----------
    flow : str, Formula or Approximation
        A formula (``'scale-hh*4-loc'``), or an approximation made of groups (see `Group`).
    model : pymc.Model, optional
        Defaults to the model of the context.
    random_seed : int, Generator or RandomState, optional
        Seeds the start of the parameters, every step, and the draws.
    start : dict of str to array_like, optional
        Where the flow is centred at the start, by variable, in constrained space; defaults to the
        model's initial point.
    jitter : float, optional
        Spread of the parameters around the identity at the start. Default 0.1.
    beta : float
        Weight of the divergence from the prior in the objective; 1 is the ELBO.
    base : str, optional
        The distribution that the first layer sees, see `NormalizingFlow`. Default ``'normal'``.
    frame : {"gaussian", "laplace", "pathfinder", "sparse"} or Frame, optional
        Where the posterior is and how wide, found before any training: see `NormalizingFlow`.

    Attributes
    ----------
    approx : Approximation
    hist : ndarray, shape (steps,)
        Loss (negative ELBO estimate) of every step so far, `refine` included.
    skipped : int
        Steps so far whose loss or gradient was not finite: they changed no parameter.

    References
    ----------
    Rezende & Mohamed (2015), Variational inference with normalizing flows,
    https://arxiv.org/abs/1505.05770

    Examples
    --------
    >>> import pymc as pm, pmflow as pmf
    >>> with pm.Model() as model:
    ...     x = pm.Normal("x", 3, 2)
    >>> inference = pmf.NFVI("scale-loc", model=model, random_seed=1)
    >>> approx = inference.fit(
    ...     500, obj_n_mc=10, progressbar=False, compile_kwargs={"mode": "FAST_COMPILE"}
    ... )
    >>> bool(abs(approx.sample(1000)["posterior"]["x"].mean() - 3) < 0.5)
    True
    """

    def __init__(
        self,
        flow: str | Formula | Approximation = "scale-loc",
        *,
        model: pm.Model | None = None,
        random_seed: RandomState = None,
        start: Mapping[str, Any] | None = None,
        jitter: float | None = None,
        beta: float = 1.0,
        base: str | AbstractBase | None = None,
        frame: str | Frame | None = None,
    ) -> None:
        checked_number("beta", beta, "a finite number >= 0", least=0)
        given = {"model": model, "random_seed": random_seed, "start": start, "jitter": jitter}
        approx = approximation_for(flow, **given, base=base, frame=frame)
        super().__init__(approx, beta=beta)
        self.hist: NDArray[np.float64] = np.empty(0)
        self.skipped = 0
        self._steps_done = 0
        self._trainer = Trainer(approx, beta)
        self._run: Run | None = None

    @property
    def watched_names(self) -> list[str]:
        """Names of what a `Tracker` of this inference records."""
        names = self.approx.param_names
        return [*names, *(f"grad_{name}" for name in names)]

    @with_fit_options
    def fit(
        self,
        n: int | None = None,
        score: bool | None = None,  # noqa: FBT001 - PyMC's signature
        callbacks: Sequence[Callable[..., Any]] | None = None,
        progressbar: bool = True,  # noqa: FBT001, FBT002 - PyMC's signature
        progressbar_theme: Any = default_progress_theme,
        **options: Any,
    ) -> Approximation:
        """Train the approximation.

        Parameters
        ----------
        %(options)s

        Returns
        -------
        Approximation
            Also when interrupted: everything fitted so far is kept, here and in `hist`.

        Raises
        ------
        ParameterError, BackendError
            If an argument is wrong; nothing has been compiled then.
        NonFiniteError
            If the model has no finite log density at any draw at the start; nothing has been
            compiled then. After 100 steps in a row without a finite loss and gradient. The
            approximation keeps the last good parameters.
        """
        check_names(options, FitOptions.names(), "fit")
        given = {"n": n, "score": score, "callbacks": callbacks, "progressbar": progressbar}
        return self.carry_out(
            FitOptions(**given, progressbar_theme=progressbar_theme, **options)  # type: ignore[arg-type]
        )

    def carry_out(
        self,
        options: FitOptions,
        *,
        file: Checkpoint | None = None,
        begun: FitCheckpoint | None = None,
        moves: Sequence[Callable[[], None]] | None = None,
    ) -> Approximation:
        """Train the approximation as `fit` does, with the options as one value.

        Parameters
        ----------
        options : FitOptions
        file : Checkpoint, optional
            Where the fit is kept; by default in one of its own, where the options ask for it.
        begun : FitCheckpoint, optional
            Where the fit was broken off; the approximation is as it was there.
        moves : sequence of callable, optional
            Each takes the flow to a further start, in place of random ones.
        """
        options = options.filled(self.approx, float(self.objective.op.beta))
        options = replace(options, score=self._maybe_score(options.score))
        check_elsewhere(options)
        check_trackers(options.callbacks or (), self)
        file = file or checkpoint_for(options, self.approx.model)
        if begun is not None:
            move_seeds = begun.move_seeds
            self.take_on(Outcome(begun.run.losses, begun.run.begin, 0, self.approx.fit_state))
        else:
            move_seeds = start_seeds(self.approx, options) if moves is None else ()
        self.approx.receive(replace(self.approx.report, starts=None, points=()))
        left = [begun]  # the start that was under way is taken up once

        def fit_here(at: StartsState) -> FitState | None:
            start = left.pop() if left else None
            keep = None if file is None else partial(FitKeeper, self, options, file, at, move_seeds)
            return self.fit_once(options, keep, start)

        fit: FitOnce = fit_here
        if moves is None:
            moves, fit = random_starts(self, options, move_seeds, fit)
        starts = None if begun is None else begun.starts
        with options.watching():
            result = fit_from_starts(self.approx, moves, options.combine, fit, starts)
            if options.is_automatic and options.verdict:
                judge_and_tell(result)
        return result

    def fit_once(
        self,
        options: FitOptions,
        keep: Callable[[int], FitKeeper] | None = None,
        begun: FitCheckpoint | None = None,
    ) -> FitState | None:
        """Train from where the flow is, or go on where the fit was broken off."""
        if begun is None:
            seed = self.approx.next_seed()
            has_draws = options.anneal or options.n is None
            course_seed = self.approx.next_seed() if has_draws else 0
        else:
            seed, course_seed = begun.run.seed, begun.course_seed
        run = Run(
            self._trainer,
            options,
            seed,
            self.so_far,
            keeper=keep and keep(course_seed),
            begun=None if begun is None else begun.run,
        )
        course = course_for(self.approx, self.objective.op.beta, options, course_seed)
        total = None if options.is_automatic or options.anneal else options.n
        shown = {"visible": options.progressbar, "theme": options.progressbar_theme}
        with FitProgress(total, **shown) as progress:
            return self._train(run, course, progress)

    def _train(self, run: Run, course: Course, progress: FitProgress) -> FitState | None:
        """Do the steps, and say how they ended, whatever ended them."""
        self._run = run
        try:
            run.go(course, progress)
        finally:
            state = self.take_on(run.last)
        return state

    def sample_starts(self, draws: int = 500, *, random_seed: RandomState = None) -> DataTree:
        """Draw from the fit of each start: a DataTree with the start as the chain.

        Raises
        ------
        ParameterError
            If the last fit had one start only.
        """
        return sample_starts(self.approx, draws, random_seed)

    def refine(
        self,
        n: int,
        progressbar: bool = True,  # noqa: FBT001, FBT002 - PyMC's signature
        progressbar_theme: Any = default_progress_theme,
    ) -> Approximation:
        """Go on for `n` more steps with the optimiser, callbacks and function of the last `fit`.

        Raises
        ------
        ParameterError
            If there was no fit yet.
        """
        if self._run is None:
            raise ParameterError("refine goes on with a fit, but there was none: call `fit` first.")
        n = checked_count("n", n, 0)
        check_flags(progressbar=progressbar)
        shown = FitProgress(n, visible=progressbar, theme=progressbar_theme)
        with watching(progressbar=False), shown as progress:
            self._train(self._run, InTurn([Steps(n)]), progress)
        return self.approx

    def __reduce__(self) -> tuple[Any, ...]:
        # compiled functions stay behind: the copy can be fitted, not refined
        beta = float(self.objective.op.beta)
        return _revived, (type(self), self.approx, beta, self.so_far)

    @property
    def so_far(self) -> Outcome:
        """What the fits so far have come to."""
        return Outcome(self.hist, self._steps_done, self.skipped, self.approx.fit_state)

    def take_on(self, outcome: Outcome) -> FitState | None:
        """Go on from what fits have come to."""
        self.hist, self.skipped, self._steps_done = outcome.losses, outcome.skipped, outcome.steps
        report = replace(self.approx.report, hist=outcome.losses, fit_state=outcome.fit_state)
        self.approx.receive(report)
        return outcome.fit_state


def _revived(kind: type[NFVI], approx: Approximation, beta: float, so_far: Outcome) -> NFVI:
    """What `NFVI.__reduce__` took apart."""
    (made := kind(approx, beta=beta)).take_on(so_far)
    return made
