"""Fits killed at random moments: those that go on must have the losses of an unbroken one.

    python tests/benchmarks/kill.py --backend numba --kills 50
    python tests/benchmarks/kill.py --backend python --kills 60 --climb tails

With --climb it is `pmflow.fit` of one of two models, which chooses its family, and its checkpoint
says on which rung it was killed: what was tried, the verdicts and the draws are compared.

A fit is begun in a process of its own, killed by SIGKILL after a random time, resumed, killed
again, and so on; when it is over its losses are compared with those of a fit that was left alone,
bit for bit, and another one is begun. Ends with status 1 if they differ.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pymc as pm

import pmflow as pmf
from pmflow.saving.archive import read_archive

BACKENDS = ("python", "numba", "c", "jax")


def regression() -> pm.Model:
    """A small regression on minibatches, so that there are several random generators."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3))
    y = x @ np.array([1.0, 2.0, -1.0]) + rng.normal(size=40)
    with pm.Model() as model:
        slopes = pm.Normal("slopes", 0, 2, shape=3)
        noise = pm.HalfNormal("noise")
        rows, values = pm.Minibatch(x, y, batch_size=10)
        pm.Normal("y", (rows * slopes).sum(-1), noise, observed=values, total_size=40)
    return model


def tails() -> pm.Model:
    """A tail to the left that no Gaussian has: a climb of several rungs."""
    with pm.Model() as model:
        pm.Gamma("g", 0.3, 2.0)
    return model


def hierarchy() -> pm.Model:
    """Counts in groups, whose effects are integrated out."""
    rng = np.random.default_rng(0)
    y = rng.poisson(np.exp(rng.normal(1, 0.6, size=(40, 1))), size=(40, 3))
    with pm.Model() as model:
        mean, sd = pm.Normal("mean", 0, 2), pm.HalfNormal("sd")
        effects = pm.Normal("g", mean, sd, shape=40)
        pm.Poisson("y", pm.math.exp(effects[:, None]), observed=y)
    return model


CLIMBED = {"tails": tails, "hierarchy": hierarchy}


def climb(path: Path, out: Path, backend: str, name: str) -> None:
    """As `fit`, of a fit that chooses its family."""
    model = CLIMBED[name]()
    quiet: dict[str, Any] = {"checkpoint_every": 0.2, "progressbar": False}
    if path.exists():
        approx = pmf.resume(path, model, **quiet)
    else:
        how: dict[str, Any] = {"backend": backend}
        if backend == "python":
            how = {"compile_kwargs": {"mode": "FAST_COMPILE"}}
        approx = pmf.fit(model=model, random_seed=1, restarts=2, checkpoint=path, **quiet, **how)
    elbos = [rung.diagnosis.elbo for rung in approx.ladder.rungs if rung.diagnosis]
    draws: Any = approx.sample(200, random_seed=1)["posterior"]["g"].values
    np.save(out, np.concatenate([elbos, [approx.ladder.taken], draws.ravel()]))


def fit(path: Path, out: Path, backend: str, name: str | None, steps: int) -> None:
    """Begin a fit, or go on with it if there is a file of it; its losses go to `out`."""
    if name is not None:
        climb(path, out, backend, name)
        return
    trackers: list[Any] = []

    def watch(inference: Any) -> list[Any]:
        trackers.append(pmf.Tracker(inference, every=50))
        return trackers

    if path.exists():
        approx = pmf.resume(
            path, regression(), callbacks=watch, checkpoint_every=0, progressbar=False
        )
    else:
        inference = pmf.NFVI("scale-planar-loc", model=regression(), random_seed=1)
        how: dict[str, Any] = {"backend": backend}
        if backend == "python":
            how = {"compile_kwargs": {"mode": "FAST_COMPILE"}}
        approx = inference.fit(
            steps,
            obj_n_mc=4,
            callbacks=watch(inference),
            checkpoint=path,
            checkpoint_every=0,
            progressbar=False,
            **how,
        )
    recorded = [np.ravel(values) for values in trackers[0].hist.values()]
    np.save(out, np.concatenate([approx.hist, *recorded]))


def in_a_process(*args: Any) -> int:
    """Begin `fit` in a copy of this process; its number."""
    child = os.fork()
    if child:
        return child
    try:
        fit(*args)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def ended_within(child: int, seconds: float) -> bool:
    """Whether the process ends by itself; if not, it is killed."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            if status:
                sys.exit(f"a fit ended with status {status}")
            return True
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def rung_of(path: Path) -> str:
    """Where the checkpoint of a climb is, in words."""
    if not path.exists():
        return "before the first file"
    state = read_archive(path).content["state"]["fields"]
    if state.get("climb") is None:
        return "steps"
    within = "" if state["fit"] is None else ", in its steps"
    return f"rung {state['climb']['fields']['number'] + 1}{within}"


def run(backend: str, name: str | None, kills: int, steps: int, seed: int) -> int:
    """How many of the resumed fits had other losses than the unbroken one."""
    rng = np.random.default_rng(seed)
    killed = finished = differing = resumed = 0
    places: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        path, out = folder / "whole.safetensors", folder / "whole.npy"
        began = time.monotonic()
        ended_within(in_a_process(path, out, backend, name, steps), 3600)
        usual = time.monotonic() - began
        whole = np.load(folder / "whole.npy")
        path, out = folder / "broken.safetensors", folder / "broken.npy"
        while killed < kills or path.exists():
            seconds = rng.uniform(0, 1.1 * usual) if killed < kills else 3600
            resumed += path.exists()
            if not ended_within(in_a_process(path, out, backend, name, steps), seconds):
                killed += 1
                places[rung_of(path)] += 1
                continue
            finished += 1
            differing += not np.array_equal(np.load(out), whole)
            path.unlink()
    print(
        f"{backend}: {killed} kills, {resumed} fits went on from a file, {finished} came to their "
        f"end, {differing} of them with other losses or records"
    )
    print("killed on: " + ", ".join(f"{where}: {n}" for where, n in sorted(places.items())))
    return differing


def main() -> int:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=BACKENDS, default="numba")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--climb", choices=CLIMBED, help="by pmflow.fit, of this model")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    return int(run(given.backend, given.climb, given.kills, given.steps, given.seed) > 0)


if __name__ == "__main__":
    sys.exit(main())
