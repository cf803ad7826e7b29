"""Fitting a flow: the inference class."""

from __future__ import annotations

import inspect
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any, Literal

import numpy as np
import pymc as pm
from numpy.typing import NDArray
from pymc.progress_bar.rich_progress import default_progress_theme
from pymc.util import RandomState
from pymc.variational.inference import KLqp
from xarray import DataTree

from pmflow.checkpoint import Checkpoint, checkpoint_for
from pmflow.checks import check_names, checked_count, checked_number
from pmflow.draws.chunks import checked_chunk_draws
from pmflow.draws.sobol import can_use_qmc, check_qmc
from pmflow.errors import FitWarning, ParameterError, UnsupportedError
from pmflow.family.approximation import Approximation, NormalizingFlow
from pmflow.family.flow_group import START_SPREAD
from pmflow.flows.bases.bases import AbstractBase
from pmflow.flows.formula import Formula
from pmflow.frames import Frame
from pmflow.judging.diagnosis import diagnose
from pmflow.objectives.estimators import best_estimator, check_anneal, check_estimator
from pmflow.records import FitState
from pmflow.starts.restarts import Stack, check_restarts, fit_from_starts, sample_starts
from pmflow.training.anneal import Annealing
from pmflow.training.fresh import FreshElbo
from pmflow.training.optimizers import SteadyAdam
from pmflow.training.options import MORE, check_fit_arguments, checked_callbacks
from pmflow.training.progress import FitProgress
from pmflow.training.run import Ended, Trainer
from pmflow.training.run_state import RunState
from pmflow.training.schedule import Schedule, Settings
from pmflow.training.tracker import Tracker

__all__ = ["NFVI", "refuse_with"]

_AUTOMATIC_DRAWS = 64
_ANNEALING_RATE = 0.01

_log = logging.getLogger("pmflow")


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
    frame : {"gaussian", "laplace", "pathfinder"} or Frame, optional
        Where the posterior is and how wide, found before any training: see `NormalizingFlow`.

    Attributes
    ----------
    approx : Approximation
    hist : ndarray, shape (steps,)
        Loss (negative ELBO estimate) of every step so far, `refine` included.
    skipped : int
        Steps so far whose loss or gradient was not finite: they changed no parameter.
    schedule : pmflow.training.schedule.Settings
        What a fit without a number of steps may do; may be replaced.
    tells_verdict : bool
        Whether such a fit ends with a diagnosis: a line of the log, a warning where it is not
        good.

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
        if isinstance(flow, Approximation):
            given = {"model": model, "random_seed": random_seed, "start": start, "jitter": jitter}
            given |= {"base": base, "frame": frame}
            refuse_with("an approximation, which exists already", given)
            if isinstance(flow, Stack):
                raise ParameterError(
                    "flow must not be a Stack: it is several fits, and is not trained further. "
                    "Train the flow of the inference that made it, or begin with a formula."
                )
            approx = flow
        else:
            approx = NormalizingFlow(
                flow,
                model=model,
                random_seed=random_seed,
                start=start,
                jitter=jitter,
                base="normal" if base is None else base,
                frame=frame,
            )
        super().__init__(approx, beta=beta)
        self.hist: NDArray[np.float64] = np.empty(0)
        self.skipped = 0
        self.schedule = Settings()
        self.tells_verdict = True
        self._trainer = Trainer(self)

    @property
    def watched_names(self) -> list[str]:
        """Names of what a `Tracker` of this inference records."""
        names = self.approx.param_names
        return [*names, *(f"grad_{name}" for name in names)]

    def fit(
        self,
        n: int | None = None,
        score: bool | None = None,  # noqa: FBT001 - PyMC's signature
        callbacks: Sequence[Callable[..., Any]] | None = None,
        progressbar: bool = True,  # noqa: FBT001, FBT002 - PyMC's signature
        progressbar_theme: Any = default_progress_theme,
        *,
        obj_n_mc: int | None = None,
        chunk_draws: int | None = None,
        obj_optimizer: Any = None,
        total_grad_norm_constraint: float | None = None,
        estimator: str | None = None,
        qmc: bool | None = None,
        restarts: int = 1,
        combine: str = "best",
        anneal: bool = False,
        backend: str | None = None,
        compile_kwargs: dict[str, Any] | None = None,
        include_transformed: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: float = 60.0,
        **kwargs: Any,
    ) -> Approximation:
        """Train the approximation.

        Parameters
        ----------
        n : int, optional
            Steps. Left out, together with `obj_optimizer`, the fit chooses its step sizes and
            knows when it is done; see :doc:`/training`. 10,000 with an optimiser of yours.
        score : bool
            Whether to keep the loss of every step in `hist`. Default True.
        callbacks : list of callable, optional
            Called after each step with the approximation, the losses so far (None without `score`)
            and the number of the step, counted from 1 over all fits of this inference. One that
            raises StopIteration ends the fit.
        progressbar : bool
        progressbar_theme : rich.theme.Theme
        obj_n_mc : int
            Draws behind each gradient, evaluated together. More of them make the gradient less
            noisy and cost less than as many steps. Default 1, as PyMC's; 64 without `n`.
        chunk_draws : int, optional
            How many of them are evaluated at once, all by default: a divisor of `obj_n_mc`. Memory
            is then that of so many draws. Losses and gradients are means over the chunks of a
            step, which share one minibatch, and are the same as without chunks up to rounding; on
            JAX, without `qmc`, they are of other random numbers. So is the gradient of a mixture's
            trained weights, which compares the draws of a chunk (2 at least). See :doc:`/large`.
        obj_optimizer : callable
            One of PyMC's optimisers. Default ``pm.adam(learning_rate=0.01)`` where `n` is given;
            PyMC's own default, adagrad_window, is known to inflate posterior standard deviations.
        total_grad_norm_constraint : float, optional
            Longest allowed gradient; a longer one is shortened to it.
        estimator : {"total", "path"}, optional
            Of the gradient; ``"total"`` by default, ``"path"`` without `n`. ``"total"``
            differentiates the loss as it stands. ``"path"`` leaves out the part that is zero on
            average, the derivative of log q by the parameters at fixed draws (Roeder et al., 2017,
            https://arxiv.org/abs/1703.09194): the better the fit, the less noise is left, none at
            a perfect fit. Far from it it may be noisier. A step costs one more pass through the
            layers, and for layers with a dense Jacobian (``naf``, ``bnaf``, ``poly``, ``iaf``,
            your own) `dim` more. The losses are the same.
        qmc : bool, optional
            Whether the draws of a step fill space evenly; by default False, True without `n`. They
            are a scrambled Sobol set, shifted at random at every step, in place of independent
            draws. Unbiased, with less noise the smoother the model and the fewer its dimensions.
            Best with `obj_n_mc` a power of two, 16 and more; other numbers work too (SciPy's
            warning about them is not shown). Drawing from the approximation is not affected.
        restarts : int
            Fits from so many starts, one after the other: the first where the flow is, the others
            within 2 of it in unconstrained space, with a frame of their own where there is one.
            ``approx.starts`` says how far they agree: the only guard against missed modes.
        combine : {"best", "stack"}
            Of several starts, the one with the highest ELBO, or a mixture of all modes that were
            found, by their evidence.
        anneal : bool
            Whether the target moves from where the flow begins to the posterior, as fast as the
            flow can follow. Finds modes that a fit to the posterior itself would leave.
        backend : {"numba", "c", "jax"}, optional
            Defaults to PyTensor's.
        compile_kwargs : dict, optional
            Passed on to `pymc.compile`, such as ``{"mode": ...}``.
        include_transformed : bool
            Accepted from `pymc.fit`; `sample(include_transformed=True)` shows these variables.
        checkpoint : path-like, optional
            A netCDF file for the state of the fit, written while it runs and when it ends, however
            it ends; `pmflow.resume` goes on from it. Only with `n`. See :doc:`/saving`.
        checkpoint_every : float
            Seconds from one state to the next. Default 60.
        **kwargs
            `more_obj_params`, `more_updates`, `more_replacements` as in PyMC.

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
        check_names(kwargs, [*inspect.signature(self.fit).parameters, *MORE], "fit")
        check_fit_arguments(
            {
                **{"n": n, "score": score, "callbacks": callbacks, "progressbar": progressbar},
                **{"obj_n_mc": obj_n_mc, "chunk_draws": chunk_draws, "qmc": qmc},
                **{"obj_optimizer": obj_optimizer},
                **{"total_grad_norm_constraint": total_grad_norm_constraint, "backend": backend},
                **{"estimator": estimator, "compile_kwargs": compile_kwargs},
                **{"include_transformed": include_transformed, **kwargs},
            }
        )
        is_automatic = n is None and obj_optimizer is None
        n = 10_000 if n is None else n
        if obj_n_mc is None:
            obj_n_mc = _AUTOMATIC_DRAWS if is_automatic else 1
        check_restarts(self.approx, restarts, combine)
        callbacks = checked_callbacks(callbacks)
        settings = {
            "backend": backend,
            "compile_kwargs": compile_kwargs,
            "obj_n_mc": int(obj_n_mc),
            "chunk_draws": checked_chunk_draws(chunk_draws, obj_n_mc, self.approx),
            "obj_optimizer": obj_optimizer or (SteadyAdam() if is_automatic else _adam()),
            "total_grad_norm_constraint": total_grad_norm_constraint,
            **self._checked_estimate(estimator, qmc=qmc, anneal=anneal, is_automatic=is_automatic),
            **kwargs,
        }
        self._check_trackers(callbacks)
        score = self._maybe_score(score)
        is_plain = not is_automatic and restarts == 1 and not anneal
        keeper = checkpoint_for(
            self, checkpoint, checkpoint_every, settings, callbacks, automatic=not is_plain
        )

        def fit_once() -> None:
            seed = int(self.approx.rng.randint(2**30, dtype=np.int64))
            self._trainer.begin(callbacks, score=score, settings=settings, seed=seed, keeper=keeper)
            total = None if is_automatic or anneal else n
            with FitProgress(total, visible=progressbar, theme=progressbar_theme) as progress:
                self._run(None if is_automatic else n, progress, anneal=anneal)

        self.approx.starts, self.approx.captured_starts = None, []
        if restarts == 1:
            fit_once()
            result = self.approx
        else:
            # the start of an annealed fit covers its neighbourhood itself
            spread = 0.0 if anneal else START_SPREAD
            seeds = self.approx.rng.randint(2**30, size=restarts - 1, dtype=np.int64)
            group = self.approx.groups[0]
            moves = [partial(group.move, int(seed), spread) for seed in seeds]
            result = fit_from_starts(self.approx, moves, combine, fit_once)
        if is_automatic and self.tells_verdict:
            _tell_verdict(result)
        return result

    def _checked_estimate(
        self, estimator: str | None, *, qmc: bool | None, anneal: bool, is_automatic: bool
    ) -> dict[str, Any]:
        """How the gradient is estimated, with what was left open filled in."""
        if not self.approx.params:
            raise ParameterError(
                "There is nothing to train: all parameters were given as fixed values. "
                "Give shared variables (pytensor.shared) for those to be trained."
            )
        if estimator is None:
            estimator = best_estimator(self.approx) if is_automatic else "total"
        if qmc is None:
            qmc = is_automatic and can_use_qmc(self.approx)
        check_anneal(anneal, self.approx)
        check_estimator(estimator, self.approx)
        check_qmc(qmc, self.approx)
        return {"estimator": estimator, "qmc": bool(qmc), "anneal": anneal}

    def _run(self, n: int | None, progress: FitProgress, *, anneal: bool) -> None:
        """Do `n` steps, or as many as it takes."""
        parts: list[Iterable[int]] = []
        schedule = annealing = None
        seed = int(self.approx.rng.randint(2**30, dtype=np.int64)) if anneal or n is None else 0
        beta = self.objective.op.beta
        if anneal:
            ratio = FreshElbo(self.approx, beta=beta, from_start=True)
            rate = _ANNEALING_RATE if n is None else None
            annealing = Annealing(lambda: self._trainer.handles, ratio, seed, rate=rate)
            parts.append(annealing.segments())
        if n is None:
            elbo = FreshElbo(self.approx, beta=beta)
            schedule = Schedule(
                lambda: self._trainer.handles, elbo, self.approx.ddim, seed, self.schedule
            )
            parts.append(schedule.segments())
        else:
            parts.append([n])
        self._train(chain(*parts), progress, annealing, schedule)

    def _train(
        self,
        segments: Iterable[int],
        progress: FitProgress,
        annealing: Annealing | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        """Do the steps, and say how they ended, whatever ended them."""
        before, skipped = self._trainer.steps_done, self.skipped
        ended: Ended | Literal["converged", "limit", "failed"] = "failed"
        try:
            ended = self._trainer.run(segments, progress)
        finally:
            if annealing is not None:
                annealing.finish()
            if schedule is not None:
                schedule.finish()
                if ended == "steps":
                    ended = "converged" if schedule.has_converged else "limit"
            self.approx.fit_state = FitState(
                self._trainer.steps_done - before,
                self.skipped - skipped,
                ended,
                "" if schedule is None else schedule.message,
            )

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
        if not self._trainer.has_begun:
            raise ParameterError("refine goes on with a fit, but there was none: call `fit` first.")
        check_fit_arguments({"n": checked_count("n", n, 0), "progressbar": progressbar})
        with FitProgress(n, visible=progressbar, theme=progressbar_theme) as progress:
            self._train([n], progress)
        return self.approx

    def _go_on(
        self,
        run: RunState,
        keeper: Checkpoint | None,
        callbacks: tuple[Callable[..., Any], ...],
        *,
        progressbar: bool,
        **plan: Any,
    ) -> Approximation:
        """Do the rest of a fit that was broken off (see `pmflow.resume`)."""
        self._check_trackers(callbacks)
        self.hist, self.skipped = run.losses, run.skipped
        self._trainer.begin(callbacks, seed=run.seed, keeper=keeper, **plan)
        self._trainer.go_back(run)
        self.refine(run.end - run.done, progressbar)
        state = self.approx.fit_state
        assert state is not None
        before = {"steps": run.done - run.begin, "skipped": run.skipped}
        self.approx.fit_state = replace(
            state, steps=state.steps + before["steps"], skipped=state.skipped + before["skipped"]
        )
        return self.approx

    def __reduce__(self) -> tuple[Any, ...]:
        # compiled functions stay behind: the copy can be fitted, not refined
        beta = float(self.objective.op.beta)
        return _revived, (type(self), self.approx, beta, self.hist, self.skipped)

    def _check_trackers(self, callbacks: tuple[Callable[..., Any], ...]) -> None:
        for callback in callbacks:
            if isinstance(callback, Tracker) and callback.inference not in (None, self):
                raise ParameterError(
                    "A Tracker among the callbacks belongs to another inference. "
                    "Make one with pmflow.Tracker(inference) for this one."
                )


def _tell_verdict(approx: Approximation) -> None:
    """One line on how good the fit is, as a warning where it is not good."""
    try:
        found = diagnose(approx, random_seed=0)
    except UnsupportedError as error:
        _log.info("Not diagnosed: %s", error)
        return
    if found.verdict == "reliable":
        _log.info("The fit is %s", found.summary)
        return
    warnings.warn(
        f"The fit is {found.summary}. {' '.join(found.reasons)}. "
        "See pmflow.diagnose(approx) for what to try.",
        FitWarning,
        stacklevel=3,
    )


def _revived(
    kind: type[NFVI], approx: Approximation, beta: float, hist: NDArray[np.float64], skipped: int
) -> NFVI:
    """What `NFVI.__reduce__` took apart."""
    made = kind(approx, beta=beta)
    made.hist, made.skipped = hist, skipped
    return made


def _adam() -> Any:
    return pm.adam(learning_rate=0.01)


def refuse_with(what: str, given: Mapping[str, Any]) -> None:
    """Refuse arguments that come too late, by name.

    Raises
    ------
    ParameterError
    """
    names = [name for name, value in given.items() if value is not None]
    if names:
        raise ParameterError(
            f"{', '.join(names)} can't be honoured together with {what}. "
            "Give them where you make it."
        )
