"""One fit for many sets of data of its model."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Any

import numpy as np
from pymc.util import RandomState

from pmflow.checks import check_seed
from pmflow.embedded.threads import one_thread
from pmflow.errors import BackendError, FitWarning, ParameterError, UnsupportedError
from pmflow.family.approximation import Approximation
from pmflow.graphs.evaluate import GLOBAL_STATE
from pmflow.graphs.minibatches import in_minibatches
from pmflow.graphs.private import seed_from
from pmflow.ladder.again import Again, Asked, Refitted
from pmflow.ladder.refits import Refits
from pmflow.posterior.own_data import OwnData, checked_data
from pmflow.posterior.packages import without_package
from pmflow.starts.executors import NOTHING_DONE, Executor, Lost, check_executor, done_by
from pmflow.watch import Stopped, stage, tick, watching, why_stopped

__all__ = ["Job", "made_again", "refit"]

_DRAWS = 400
"""By whose mean the fits begin."""
_PIECES = 64
"""Pieces of work at most that an executor gets: each takes the model with it."""


def refit(
    approx: Approximation,
    datasets: Iterable[Mapping[str, Any]],
    *,
    random_seed: RandomState = None,
    executor: Executor | None = None,
    progressbar: bool = True,
) -> Refits:
    """Fit the model of a fit to many other sets of data, each judged as by `pmflow.fit`.

    Each begins where `approx` is, and what was compiled for one is there for all: where data differ
    in what is observed alone, and not in predictors, little is compiled at all. What comes of a
    set of data does not depend on the others, nor on the executor.

    Parameters
    ----------
    approx : Approximation
        As `pmflow.fit` returns it, of a model that has all of its data.
    datasets : iterable of dict of str to array_like
        Each by the names of `pymc.Data` or of observed variables, all the same ones, in the shapes
        that the model has. What is not named stays as it is.
    random_seed : int, Generator or RandomState, optional
        The same seed gives the same fits.
    executor : Executor, optional
        Anything with `submit`: `concurrent.futures.ProcessPoolExecutor`, the `Client` of
        `dask.distributed`, loky. By default one fit follows the other in this process. The work of
        a worker that dies is done once more by another one.
    progressbar : bool

    Returns
    -------
    Refits
        A sequence of approximations, with all verdicts. After Ctrl-C, those that were done.

    Raises
    ------
    ParameterError
        If data do not fit the model, before anything is fitted.
    UnsupportedError
        If the model observes minibatches.
    BackendError
        If nothing comes back from the executor.

    Warns
    -----
    FitWarning
        If some could not be fitted, or it was stopped.

    Examples
    --------
    >>> import numpy as np, pymc as pm, pmflow as pmf
    >>> with pm.Model() as model:
    ...     mu = pm.Normal("mu", 0, 10)
    ...     y = pm.Normal("y", mu, 1, observed=np.zeros(5))
    >>> approx = pmf.fit(model=model, random_seed=1, progressbar=False)
    >>> fits = pmf.refit(approx, [{"y": np.full(5, k)} for k in range(3)], progressbar=False)
    >>> fits
    3 fits: 3 reliable
    >>> float(fits[2].sample(1000, random_seed=1).posterior["mu"].mean().round(1))
    2.0
    """
    if not isinstance(approx, Approximation):
        raise ParameterError(
            f"approx must be a fit of pmflow, but is of type {type(approx).__name__}."
        )
    if in_minibatches(approx.model):
        raise UnsupportedError(
            "A fit by minibatches can't be made again for other data: each of these would be rows "
            "of their own. Give the rows to pmflow.fit(rows=...), one fit for each."
        )
    check_seed(random_seed)
    check_executor(executor)
    if isinstance(datasets, Mapping):
        raise ParameterError(
            "datasets must be a list of dicts, one for each fit, but is a dict. Write "
            "[{'y': first}, {'y': second}]."
        )
    found = [checked_data(approx.model, x, f"datasets[{k}]") for k, x in enumerate(datasets)]
    if not found:
        raise ParameterError("datasets must hold one set of data at least, but is empty.")
    if any(x.keys() != found[0].keys() for x in found):
        raise ParameterError(
            "datasets must all name the same data, as what is left out would be that of the fit "
            f"before, but the first names {', '.join(found[0])}, and another one does not."
        )
    seeds = np.random.default_rng(seed_from(random_seed)).integers(2**30, size=len(found))
    asked = [Asked(data, int(seed), {}) for data, seed in zip(found, seeds, strict=True)]
    states, retried = made_again(
        Job.of(approx, list(found[0])), asked, executor, progressbar=progressbar
    )
    return Refits(approx, [x.data for x in asked[: len(states)]], states, retried)


@dataclass(frozen=True)
class Job:
    """What a fit is made again from: it can be pickled.

    Attributes
    ----------
    packed : bytes
        By cloudpickle, of what `Again` takes.
    """

    packed: bytes

    @classmethod
    def of(cls, approx: Approximation, names: Sequence[str]) -> Job:
        """That of a fit, in which data of these names are set anew."""
        # a model has no plain pickle; cloudpickle is what PyMC itself sends models with
        import cloudpickle

        free = tuple(rv.name for rv in approx.model.free_RVs)
        drawn = approx.draw(_DRAWS, 0, free).constrained
        start = {name: drawn[name].mean(0) for name in free}
        with GLOBAL_STATE:  # PyMC changes PyTensor's flags as it makes variables
            model = without_package(approx.model)
            return cls(cloudpickle.dumps((model, tuple(names), approx.to_state(), start)))

    def again(self) -> Again:
        """What makes the fits."""
        import cloudpickle

        model, names, state, start = cloudpickle.loads(self.packed)
        return Again(OwnData(model, names), state, start)


@lru_cache(maxsize=1)
def _again(job: Job) -> Again:
    """Made once in a worker."""
    return job.again()


def _worked(piece: tuple[Job, Sequence[Asked]]) -> list[Refitted] | Exception:
    """What an executor's worker does."""
    job, every = piece
    try:
        with one_thread():  # those of BLAS in several processes wait for each other
            return [_again(job)(asked) for asked in every]
    except Exception as error:  # raised where it was asked for: what a worker raises is a lost one
        return error


def made_again(
    job: Job, asked: Sequence[Asked], executor: Executor | None, *, progressbar: bool
) -> tuple[list[Refitted], int]:
    """Make fits, here or elsewhere, as many as there is time for before Ctrl-C.

    Returns
    -------
    list of Refitted
        In the order of `asked`.
    int
        How many were begun again.
    """
    found: list[Refitted] = []
    retried = 0
    with watching(progressbar=progressbar):
        try:
            with stage("Fitting again", total=len(asked)):
                for some, again in _pieces(job, asked, executor):
                    found += some
                    retried += again * len(some)
                    tick(len(found))
        except Stopped:
            if not found:
                raise
    if len(found) < len(asked):
        warnings.warn(
            f"Stopped: {len(found)} of {len(asked)} fits were made, and are returned.",
            FitWarning,
            stacklevel=3,
        )
    failed = [one.why_not for one in found if one.state is None]
    if failed:
        warnings.warn(
            f"{len(failed)} of {len(found)} fits could not be made. The first: {failed[0]}",
            FitWarning,
            stacklevel=3,
        )
    return found, retried


def _pieces(
    job: Job, asked: Sequence[Asked], executor: Executor | None
) -> Iterator[tuple[list[Refitted], int]]:
    if executor is None:
        again = job.again()
        for one in asked:
            made = again(one)
            if why_stopped() is not None:  # it was broken off
                return
            yield [made], 0
        return
    size = ceil(len(asked) / _PIECES)
    pieces = [(job, asked[i : i + size]) for i in range(0, len(asked), size)]
    lost: list[Lost] = []
    for number, found, times in done_by(executor, _worked, pieces):
        if isinstance(found, Exception):
            raise found
        if not isinstance(found, Lost):
            yield found, times
            continue
        lost.append(found)
        if len(lost) == len(pieces):
            raise BackendError(f"{NOTHING_DONE}: {found.why}")
        none = Refitted(None, f"Its worker was lost twice. {found.why}")
        yield [none] * len(pieces[number][1]), times
