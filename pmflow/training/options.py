"""The options of a fit: each is a field of one value, and known nowhere else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import pymc as pm
from pymc.progress_bar.rich_progress import default_progress_theme

from pmflow.checks import check_flags, checked_count, checked_number
from pmflow.draws.chunks import checked_chunk_draws
from pmflow.draws.sobol import can_use_qmc, check_qmc
from pmflow.errors import ParameterError
from pmflow.graphs.devices import over_devices
from pmflow.objectives.estimators import (
    ReverseKL,
    best_estimator,
    check_anneal,
    check_estimator,
    check_estimator_name,
)
from pmflow.objectives.objective import AbstractObjective
from pmflow.training.optimizers import SteadyAdam, optimizer_key
from pmflow.training.option_checks import (
    check_checkpoint,
    check_compilation,
    check_more,
    check_norm,
    check_optimizer,
    check_schedule,
    checked_callbacks,
    checked_devices,
)
from pmflow.training.schedule_state import ScheduleSettings
from pmflow.watch import Watch, watching

__all__ = ["MORE", "FitOptions"]

COMBINE = ("best", "stack")
_STEPS = 10_000
_AUTOMATIC_DRAWS = 64

_COMPILED: dict[str, Any] = {"compiled": True}
"""Marks an option that decides what is compiled."""


@dataclass(frozen=True, eq=False, kw_only=True)
class FitOptions:
    """Options of a fit, checked as far as they say what is wrong by themselves.

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
    seconds : float, optional
        A budget of time: what is best so far when it is over is what comes back, and its
        ``fit_state.ended`` is ``"time"``. It is overrun by at most the longest piece of work that
        can't be cut, such as a compilation, which the log names; and a first result is waited for.
    obj_n_mc : int
        How many draws each gradient averages over; they are evaluated together. More of them make
        the gradient less noisy and cost less than as many steps. Default 1, as PyMC's; 64 without
        `n`.
    chunk_draws : int, optional
        How many of them are evaluated at once, all by default: a divisor of `obj_n_mc`. Memory
        is then that of one chunk. Losses and gradients are means over the chunks of a
        step, which share one minibatch, and are the same as without chunks up to rounding; on
        JAX, without `qmc`, they are of other random numbers. So is the gradient of a mixture's
        trained weights, which compares the draws of a chunk (2 at least). See :doc:`/large`.
    obj_optimizer : callable
        One of PyMC's optimisers. Default ``pm.adam(learning_rate=0.01)`` where `n` is given;
        PyMC's own default, adagrad_window, is known to inflate posterior standard deviations.
    total_grad_norm_constraint : float, optional
        Longest allowed gradient; a longer one is shortened to it.
    objective : ForwardKL, optional
        What is made small: the divergence from the flow to the posterior by default, minus the
        ELBO; or that from draws of the posterior to the flow, see `pmflow.ForwardKL`.
    estimator : {"total", "path"}, optional
        How the gradient is estimated; ``"total"`` by default, ``"path"`` without `n`. ``"total"``
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
        From how many starts to fit, one after the other: the first where the flow is, the others
        within 2 of it in unconstrained space, with a frame of their own where there is one.
        ``approx.starts`` says how far they agree: the only guard against missed modes.
    executor : object with a method submit, optional
        Makes the fits of several starts side by side: see :doc:`/parallel`. The same fits.
    combine : {"best", "stack"}
        What several starts give: the fit with the highest ELBO, or a mixture of all modes that were
        found, by their evidence.
    anneal : bool
        Whether the target moves from where the flow begins to the posterior, as fast as the
        flow can follow. Finds modes that a fit to the posterior itself would leave.
    schedule : ScheduleSettings, optional
        What a fit without `n` may do.
    verdict : bool
        Whether a fit without `n` ends with a diagnosis: a line of the log, a warning where it
        is not good.
    backend : {"numba", "c", "jax"}, optional
        Defaults to PyTensor's.
    devices : int or list of jax.Device, optional
        Over how many of JAX's devices to lay the fit, or over which: the draws of a step, or the
        rows of data where these are more, each device taking a part. Random numbers are those of
        one device, losses are the same up to the order of sums. Where a step is too small for
        parts to be worth it, the log says so and one is used. See :doc:`/devices`.
    compile_kwargs : dict, optional
        Passed on to `pymc.compile`, such as ``{"mode": ...}``.
    include_transformed : bool
        Accepted from `pymc.fit`; `sample(include_transformed=True)` shows these variables.
    checkpoint : path-like, optional
        A file for the state of the fit, written while it runs and when it ends, however it
        ends; `pmflow.resume` goes on from it. See :doc:`/saving`.
    checkpoint_every : float
        Seconds from one state to the next. Default 60.
    more_obj_params, more_updates, more_replacements
        As in PyMC: further shared variables to train, further updates of each step, and variables
        of the model's graph to replace.

    Raises
    ------
    ParameterError, BackendError
    """

    n: int | None = None
    score: bool | None = None
    callbacks: Sequence[Callable[..., Any]] | None = None
    progressbar: bool = True
    progressbar_theme: Any = default_progress_theme
    seconds: float | None = None
    obj_n_mc: int | None = field(default=None, metadata=_COMPILED)
    chunk_draws: int | None = field(default=None, metadata=_COMPILED)
    obj_optimizer: Any = field(default=None, metadata=_COMPILED)
    total_grad_norm_constraint: float | None = field(default=None, metadata=_COMPILED)
    objective: AbstractObjective | None = field(default=None, metadata=_COMPILED)
    estimator: str | None = field(default=None, metadata=_COMPILED)
    qmc: bool | None = field(default=None, metadata=_COMPILED)
    restarts: int = 1
    executor: Any = None
    combine: str = "best"
    anneal: bool = field(default=False, metadata=_COMPILED)
    schedule: ScheduleSettings | None = None
    verdict: bool = True
    backend: str | None = field(default=None, metadata=_COMPILED)
    compile_kwargs: Mapping[str, Any] | None = field(default=None, metadata=_COMPILED)
    devices: Any = None
    include_transformed: bool = False
    checkpoint: str | os.PathLike[str] | None = None
    checkpoint_every: float = 60.0
    more_obj_params: Any = field(default=None, metadata=_COMPILED)
    more_updates: Any = field(default=None, metadata=_COMPILED)
    more_replacements: Any = field(default=None, metadata=_COMPILED)

    def __post_init__(self) -> None:
        for name, least in (("n", 0), ("obj_n_mc", 1), ("chunk_draws", 1), ("restarts", 1)):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, checked_count(name, getattr(self, name), least))
        flags = ("progressbar", "include_transformed", "anneal", "verdict")
        check_flags(**{name: getattr(self, name) for name in flags})
        left_open = ("score", "qmc")
        check_flags(**{name: v for name in left_open if (v := getattr(self, name)) is not None})
        if self.estimator is not None:
            check_estimator_name(self.estimator)
        if self.combine not in COMBINE:
            raise ParameterError(
                f"combine must be one of {', '.join(map(repr, COMBINE))}, but is {self.combine!r}."
            )
        object.__setattr__(self, "callbacks", checked_callbacks(self.callbacks))
        check_norm(self.total_grad_norm_constraint)
        check_optimizer(self.obj_optimizer)
        check_compilation(self.backend, self.compile_kwargs)
        if not isinstance(self.objective, AbstractObjective | None):
            raise ParameterError(
                "objective must be an objective such as pmflow.ForwardKL(draws), or be left out, "
                f"but is {self.objective!r}."
            )
        check_more({name: getattr(self, name) for name in MORE})
        if self.seconds is not None:
            checked_number("seconds", self.seconds, "a number of seconds > 0", least=1e-9)
        check_schedule(self.schedule, self.n)
        check_checkpoint(self.checkpoint, self.checkpoint_every)
        if self.devices is not None:
            uses_jax = self.backend in (None, "jax") and not (self.compile_kwargs or {}).get("mode")
            object.__setattr__(self, "devices", checked_devices(self.devices, uses_jax=uses_jax))
            object.__setattr__(self, "backend", "jax")

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Every option."""
        return tuple(f.name for f in fields(cls))

    @property
    def is_automatic(self) -> bool:
        """Whether the fit chooses its step sizes and its end."""
        return self.n is None and (self.obj_optimizer is None or self.schedule is not None)

    def filled(self, approx: Any, beta: float = 1.0) -> Self:
        """Fill in what was left open, for an approximation; refuse what does not fit it.

        Parameters
        ----------
        approx : Approximation
        beta : float
            Weight of the divergence from the prior.

        Raises
        ------
        ParameterError
        """
        if not approx.params:
            raise ParameterError(
                "There is nothing to train: all parameters were given as fixed values. "
                "Give shared variables (pytensor.shared) for those to be trained."
            )
        is_automatic, objective = self.is_automatic, self.objective or ReverseKL()
        asked = {"estimator": self.estimator, "anneal": self.anneal, "qmc": self.qmc}
        if problem := objective.why_not(approx, beta, asked):
            raise ParameterError(problem)
        is_open = is_automatic and objective.takes_draws
        draws = self.obj_n_mc or (_AUTOMATIC_DRAWS if is_automatic else 1)
        estimator = self.estimator or (best_estimator(approx) if is_open else "total")
        qmc = (is_open and can_use_qmc(approx)) if self.qmc is None else self.qmc
        if self.restarts > 1 and not hasattr(approx, "sample_layers"):
            raise ParameterError(
                "restarts needs one flow over all variables, but this is an approximation of "
                f"{len(approx.groups)} groups. Use pmflow.NFVI with a formula."
            )
        check_anneal(self.anneal, approx)
        check_estimator(estimator, approx)
        check_qmc(qmc, approx)
        default = SteadyAdam() if is_automatic else pm.adam(learning_rate=0.01)
        return replace(
            self,
            n=None if is_automatic else _STEPS if self.n is None else self.n,
            schedule=(self.schedule or ScheduleSettings()) if is_automatic else None,
            obj_n_mc=draws,
            chunk_draws=checked_chunk_draws(self.chunk_draws, draws, approx),
            obj_optimizer=self.obj_optimizer or default,
            objective=objective,
            estimator=estimator,
            qmc=bool(qmc),
        )

    @contextmanager
    def watching(self) -> Iterator[Watch]:
        """Watch over the fit as asked: what is shown, when it is to end, on which devices."""
        shown = {"progressbar": self.progressbar, "theme": self.progressbar_theme}
        with over_devices(self.devices or ()), watching(seconds=self.seconds, **shown) as watch:
            yield watch

    @property
    def step(self) -> dict[str, Any]:
        """The options that decide what is compiled, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.metadata == _COMPILED}

    @property
    def is_exact(self) -> bool:
        """Whether another process must come to the same numbers, to the last digit."""
        return self.checkpoint is not None or self.executor is not None

    @property
    def trackers(self) -> list[Any]:
        """Callbacks whose parameters and gradients the loop records."""
        return [c for c in self.callbacks or () if getattr(c, "watched_names", ())]

    @property
    def key(self) -> dict[str, Any]:
        """Equal for options that one compiled loop can carry out."""
        return {
            **self.step,
            "obj_optimizer": optimizer_key(self.obj_optimizer),
            "record": bool(self.trackers),
            "devices": self.devices,
            "exact": self.is_exact,
        }


MORE = ("more_obj_params", "more_updates", "more_replacements")
"""What PyMC's `fit` takes beyond its named arguments."""
