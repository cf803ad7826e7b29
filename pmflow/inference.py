"""Fitting a flow: the inference class and the functional form."""

from __future__ import annotations

import importlib.util
import logging
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pymc as pm
from numpy.typing import NDArray
from pymc.progress_bar.rich_progress import default_progress_theme
from pymc.util import RandomState
from pymc.variational.inference import Inference, KLqp

from pmflow.approximation import Approximation, NormalizingFlow
from pmflow.callbacks import Tracker
from pmflow.checkpoint import Checkpoint, checkpoint_for
from pmflow.diagnostics import diagnose
from pmflow.errors import BackendError, FitWarning, ParameterError, UnsupportedError
from pmflow.fit_state import FitState
from pmflow.flows.bases import AbstractBase
from pmflow.formula import Formula
from pmflow.frames import Frame
from pmflow.training.estimators import best_estimator, check_estimator
from pmflow.training.fresh import FreshElbo
from pmflow.training.optimizer import SteadyAdam
from pmflow.training.progress import FitProgress
from pmflow.training.quasi import can_use_qmc, check_qmc
from pmflow.training.run_state import RunState
from pmflow.training.schedule import Schedule
from pmflow.training.trainer import Ended, Trainer

__all__ = ["NFVI", "fit"]

_BACKENDS = ("numba", "c", "jax")

_AUTOMATIC_DRAWS = 64

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
        if isinstance(flow, Approximation):
            given = {"model": model, "random_seed": random_seed, "start": start, "jitter": jitter}
            given |= {"base": base, "frame": frame}
            _refuse_with("an approximation, which exists already", given)
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
        if isinstance(beta, bool) or not isinstance(beta, int | float) or not beta >= 0:
            raise ParameterError(f"beta must be a number >= 0, but is {beta!r}.")
        super().__init__(approx, beta=beta)
        self.hist: NDArray[np.float64] = np.empty(0)
        self.skipped = 0
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
        obj_optimizer: Any = None,
        total_grad_norm_constraint: float | None = None,
        estimator: str | None = None,
        qmc: bool | None = None,
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
            After 100 steps in a row without a finite loss and gradient. The approximation keeps
            the last good parameters.
        """
        is_automatic = n is None and obj_optimizer is None
        n = 10_000 if n is None else n
        obj_n_mc = (_AUTOMATIC_DRAWS if is_automatic else 1) if obj_n_mc is None else obj_n_mc
        check_fit_arguments(n, obj_n_mc, total_grad_norm_constraint, backend, compile_kwargs)
        if estimator is None:
            estimator = best_estimator(self.approx) if is_automatic else "total"
        if qmc is None:
            qmc = is_automatic and can_use_qmc(self.approx)
        check_estimator(estimator, self.approx)
        check_qmc(qmc, self.approx)
        callbacks = tuple(callbacks or ())
        self._check_trackers(callbacks)
        if not self.approx.params:
            raise ParameterError(
                "There is nothing to train: all parameters were given as fixed values. "
                "Give shared variables (pytensor.shared) for those to be trained."
            )
        settings = {
            "backend": backend,
            "compile_kwargs": compile_kwargs,
            "obj_n_mc": int(obj_n_mc),
            "obj_optimizer": obj_optimizer or (SteadyAdam() if is_automatic else _adam()),
            "total_grad_norm_constraint": total_grad_norm_constraint,
            "estimator": estimator,
            "qmc": bool(qmc),
            **kwargs,
        }
        keeper = checkpoint_for(
            self, checkpoint, checkpoint_every, settings, callbacks, automatic=is_automatic
        )
        plan = {"score": self._maybe_score(score), "settings": settings, "keeper": keeper}
        seed = int(self.approx.rng.randint(2**30, dtype=np.int64))
        self._trainer.begin(callbacks, seed=seed, **plan)
        if not is_automatic:
            return self.refine(n, progressbar, progressbar_theme)
        with FitProgress(None, visible=progressbar, theme=progressbar_theme) as progress:
            self._run_automatically(progress)
        self._tell_verdict()
        return self.approx

    def _run_automatically(self, progress: FitProgress) -> None:
        schedule = Schedule(
            lambda: self._trainer.handles,
            FreshElbo(self.approx),
            dim=self.approx.ddim,
            seed=int(self.approx.rng.randint(2**30, dtype=np.int64)),
        )
        before, skipped = len(self.hist), self.skipped
        ended: Ended | Literal["converged", "failed"] = "failed"
        try:
            ended = self._trainer.run(schedule.segments(), progress)
        finally:
            schedule.finish()
            if ended == "steps" and schedule.has_converged:
                ended = "converged"
            self.approx.fit_state = FitState(
                len(self.hist) - before, self.skipped - skipped, ended, schedule.message
            )

    def _tell_verdict(self) -> None:
        """One line on how good the fit is, as a warning where it is not good."""
        try:
            found = diagnose(self.approx, random_seed=0)
        except UnsupportedError as error:
            _log.info("Not diagnosed: %s", error)
            return
        if found.verdict == "reliable":
            _log.info("The fit is %s", found.summary)
            return
        why = "; ".join(found.reasons)
        warnings.warn(
            f"The fit is {found.summary}. {why}. See pmflow.diagnose(approx) for what to try.",
            FitWarning,
            stacklevel=3,
        )

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
        check_fit_arguments(n)
        with FitProgress(n, visible=progressbar, theme=progressbar_theme) as progress:
            ended = self._trainer.run([n], progress)
            self.approx.fit_state = FitState(len(self.hist), self.skipped, ended)
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
        return self.refine(run.end - run.done, progressbar)

    def __reduce__(self) -> tuple[Any, ...]:
        # compiled functions stay behind: the copy can be fitted, not refined
        beta = float(self.objective.op.beta)
        return _revived, (type(self), self.approx, beta, self.hist, self.skipped)

    def _check_trackers(self, callbacks: tuple[Callable[..., Any], ...]) -> None:
        for callback in callbacks:
            if not callable(callback):
                raise ParameterError(f"callbacks must be callable, but one is {callback!r}.")
            if isinstance(callback, Tracker) and callback.inference not in (None, self):
                raise ParameterError(
                    "A Tracker among the callbacks belongs to another inference. "
                    "Make one with pmflow.Tracker(inference) for this one."
                )


def fit(
    n: int = 10_000,
    method: str | Inference = "nfvi",
    model: pm.Model | None = None,
    random_seed: RandomState = None,
    start: Mapping[str, Any] | None = None,
    inf_kwargs: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> Any:
    """Fit a model in one call.

    Parameters
    ----------
    n : int
        Steps.
    method : str or Inference
        ``'nfvi'``, ``'nfvi=<formula>'``, an inference object, or a method of `pymc.fit` such as
        ``'advi'``. Case does not matter.
    model : pymc.Model, optional
        Defaults to the model of the context.
    random_seed, start
        As for `NFVI`.
    inf_kwargs : dict, optional
        Further arguments of the inference class, such as ``{"jitter": 1.0}``.
    **kwargs
        Passed on to its `fit`.

    Returns
    -------
    Approximation

    Raises
    ------
    FormulaError
        If the formula is wrong.
    ParameterError
        If an argument can't be honoured, such as a seed for an inference that exists already.

    Examples
    --------
    >>> import pymc as pm, pmflow as pmf
    >>> with pm.Model() as model:
    ...     x = pm.Normal("x")
    >>> approx = pmf.fit(
    ...     10, method="nfvi=planar*2", model=model, progressbar=False,
    ...     compile_kwargs={"mode": "FAST_COMPILE"},
    ... )
    >>> print(approx.formula)
    planar*2
    """
    given = dict(inf_kwargs or {})
    for name, value in {"random_seed": random_seed, "start": start}.items():
        if value is not None:
            given[name] = value
    if isinstance(method, Inference):
        _refuse_with("an inference object, which exists already", {**given, "model": model})
        return method.fit(n, **kwargs)
    if not isinstance(method, str):
        raise ParameterError(
            "method must be 'nfvi', 'nfvi=<formula>', a method of pymc.fit, or an inference "
            f"object, but is of type {type(method).__name__}."
        )
    name, _, formula = method.partition("=")
    if name.strip().lower() != "nfvi":
        return pm.fit(n, method=method.lower(), model=model, inf_kwargs=given, **kwargs)
    if formula:
        if "flow" in given:
            raise ParameterError(
                f"The formula is given twice: method={method!r} and "
                f"inf_kwargs['flow']={given['flow']!r}. Leave one out."
            )
        given["flow"] = formula
    return NFVI(model=model, **given).fit(n, **kwargs)


def _revived(
    kind: type[NFVI], approx: Approximation, beta: float, hist: NDArray[np.float64], skipped: int
) -> NFVI:
    """What `NFVI.__reduce__` took apart."""
    made = kind(approx, beta=beta)
    made.hist, made.skipped = hist, skipped
    return made


def _adam() -> Any:
    return pm.adam(learning_rate=0.01)


def _refuse_with(what: str, given: Mapping[str, Any]) -> None:
    names = [name for name, value in given.items() if value is not None]
    if names:
        raise ParameterError(
            f"{', '.join(names)} can't be honoured together with {what}. "
            "Give them where you make it."
        )


def check_fit_arguments(
    n: int,
    obj_n_mc: int = 1,
    total_grad_norm_constraint: float | None = None,
    backend: str | None = None,
    compile_kwargs: Mapping[str, Any] | None = None,
) -> None:
    for name, value, least in (("n", n, 0), ("obj_n_mc", obj_n_mc, 1)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise ParameterError(f"{name} must be an integer >= {least}, but is {value!r}.")
    if total_grad_norm_constraint is not None and not total_grad_norm_constraint > 0:
        raise ParameterError(
            "total_grad_norm_constraint must be a positive number, "
            f"but is {total_grad_norm_constraint!r}."
        )
    if backend is None:
        return
    if backend not in _BACKENDS:
        raise BackendError(f"backend must be one of {', '.join(_BACKENDS)}, but is {backend!r}.")
    if compile_kwargs and "mode" in compile_kwargs:
        raise ParameterError("backend and compile_kwargs['mode'] say the same: give only one.")
    if backend == "jax" and importlib.util.find_spec("jax") is None:
        raise BackendError(
            "backend='jax' needs JAX, which is not installed: pip install 'pmflow[jax]'."
        )
