"""Ctrl-C at random moments of each stage of a fit: how soon it is answered, and what is lost.

    python tests/benchmarks/interrupt.py --backend jax --stages search training --shots 20
    python tests/benchmarks/interrupt.py --model hierarchy --stages integrating judging

A fit runs in a process of its own, which gets a real SIGINT after a random part of the stage.
Every answer must come within a second, or name the piece of work that can't be cut; must return an
approximation, or raise KeyboardInterrupt where there is none yet; and must leave behind the signal
handler, PyTensor's flags and threads as they were. All fits of one run are of one model in one
process, so that each shows that the one before has left nothing broken. Ends with status 1 if one
of them did not do so.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

STAGES = {
    "search": ("Finding the mode", "Following paths to a mode", "Finding the Gaussian"),
    "compilation": ("Compiling",),
    "training": ("Fitting",),
    "judging": ("Judging",),
    "sampling": ("Drawing",),
    "reading": ("Reading the model",),
    "integrating": ("Integrating local variables out",),
}
MODELS = {
    "regression": ("search", "compilation", "training", "judging", "sampling"),
    "hierarchy": ("reading", "integrating", "judging", "sampling"),
}
"""The models, and the stages that a fit of each goes through."""
BACKENDS = ("jax", "numba", "python")
WITHIN = 1.0
FORMULA = "scale-planar*2-loc"
DRAWS = 40_000


def regression(rows: int) -> Any:
    """A logistic regression with groups."""
    import pymc as pm

    rng = np.random.default_rng(0)
    x, group = rng.normal(size=(rows, 4)), rng.integers(8, size=rows)
    y = rng.random(rows) < 1 / (1 + np.exp(-x @ [1.0, -0.5, 0.3, 0.0] - 0.5 * (group - 4)))
    with pm.Model() as model:
        sd = pm.HalfNormal("sd")
        levels = pm.Normal("levels", 0, sd, shape=8)
        slopes = pm.Normal("slopes", 0, 2, shape=4)
        pm.Bernoulli("y", logit_p=levels[group] + x @ slopes, observed=y)
    return model


def hierarchy(rows: int) -> Any:
    """Counts in groups of five rows, with an intercept and a slope each."""
    import pymc as pm

    rng = np.random.default_rng(0)
    size = rows // 5
    x, group = rng.normal(size=rows), np.arange(rows) % size
    levels = rng.multivariate_normal([1.0, 0.3], [[0.3, 0.05], [0.05, 0.1]], size)
    y = rng.poisson(np.exp(levels[group, 0] + levels[group, 1] * x))
    with pm.Model() as model:
        mean = pm.Normal("mean", 0, 2, shape=2)
        sd = pm.HalfNormal("sd", shape=2)
        effect = pm.Normal("effect", mean, sd, shape=(size, 2))
        pm.Poisson("y", pm.math.exp(effect[group, 0] + effect[group, 1] * x), observed=y)
    return model


# The process that fits


def tell(**what: Any) -> None:
    """A line for the other process."""
    os.write(1, (json.dumps(what) + "\n").encode())


def tell_of_stages() -> None:
    """Have each stage say when it begins and ends."""
    from pmflow.watch.display import Line

    begin, end = Line.begin, Line.end

    def began(line: Line, total: int | None) -> None:
        tell(begins=line.name, at=time.monotonic())
        begin(line, total)

    def ended(line: Line) -> float:
        tell(ends=line.name, at=time.monotonic())
        return end(line)

    patched: Any = Line
    patched.begin, patched.end = began, ended


class Said(logging.Handler):
    """What the log says."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the line."""
        self.lines.append(record.getMessage())


def child(backend: str, name: str, rows: int) -> None:
    """Fit whenever a line comes in, and say what came of it."""
    warnings.filterwarnings("ignore")
    # a shell in the background has its children ignore Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
    import pytensor

    import pmflow as pmf
    from pmflow.ladder import climb
    from pmflow.ladder.rungs import FlowRung, GaussianRung

    if name == "regression":  # else the rungs that a fit chooses
        vars(climb)["RUNGS"] = GaussianRung(), FlowRung(FORMULA)
    how: dict[str, Any] = {"backend": backend}
    if backend == "python":
        how = {"compile_kwargs": {"mode": "FAST_COMPILE"}}
    said = Said()
    logging.getLogger("pmflow").addHandler(said)
    model = regression(rows) if name == "regression" else hierarchy(rows)

    def fit() -> Any:
        return pmf.fit(model=model, random_seed=1, progressbar=True, **how)

    tell_of_stages()
    flags = pytensor.config.cxx, pytensor.config.traceback__limit, pytensor.config.floatX
    fitted: Any = None
    for order in sys.stdin:
        if order.strip() == "sample" and fitted is None:
            fitted = fit()
        tell(ready=True)
        run = fit if order.strip() == "fit" else partial(fitted.sample, DRAWS)
        threads, outcome = threading.active_count(), "returned"
        said.lines.clear()
        try:
            result = run()
        except KeyboardInterrupt:
            outcome, result = "raised", None
        at = time.monotonic()
        left = signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        now = pytensor.config.cxx, pytensor.config.traceback__limit, pytensor.config.floatX
        left |= now != flags or threading.active_count() > threads
        state = getattr(result, "fit_state", None)
        tell(
            outcome=outcome,
            at=at,
            left_behind=left,
            ended="" if state is None else state.ended,
            said=list(said.lines),
        )


# The process that interrupts it


class Shot:
    """What is heard of one fit: when its stages begin and end, and how it ended itself."""

    def __init__(self) -> None:
        self.begins: dict[str, float] = {}
        self.ends: dict[str, float] = {}
        self.sent = 0.0
        self.is_ready = self.has_judged = False
        self.answer: dict[str, Any] = {}

    def hear(self, line: dict[str, Any]) -> None:
        """Take note of what the other process says."""
        if "ready" in line:
            self.is_ready = True
        elif "outcome" in line:
            self.answer = line
        elif self.is_ready:
            name = line.get("begins") or line.get("ends")
            for stage, names in STAGES.items():
                # what is compiled before the first fit is judged are quick functions for NumPy
                if name in names and (stage != "compilation" or self.has_judged):
                    if "begins" in line:
                        self.begins.setdefault(stage, line["at"])
                    else:
                        self.ends[stage] = line["at"]
            self.has_judged |= line.get("ends") == "Judging"

    def seconds(self, stage: str) -> float:
        """From the first beginning of a stage to its last end."""
        return self.ends[stage] - self.begins[stage]


def shoot(process: Any, stage: str, delay: float | None) -> Shot:
    """One fit; a signal so many seconds after its stage begins, or none."""
    shot = Shot()
    process.stdin.write("sample\n" if stage == "sampling" else "fit\n")
    process.stdin.flush()

    def send() -> None:
        if not shot.answer:
            shot.sent = time.monotonic()
            os.kill(process.pid, signal.SIGINT)

    timer = None
    for text in process.stdout:
        if not text.startswith("{"):
            continue
        shot.hear(json.loads(text))
        if shot.answer:
            break
        if delay is not None and timer is None and stage in shot.begins:
            timer = threading.Timer(max(0.0, shot.begins[stage] + delay - time.monotonic()), send)
            timer.start()
    if timer is not None:
        timer.cancel()
    return shot


def measure(
    backend: str, name: str, stages: Sequence[str], shots: int, rows: int, seed: int
) -> list[dict[str, Any]]:
    """Answers to signals at so many random moments of each stage."""
    rng, found = np.random.default_rng(seed), list[dict[str, Any]]()
    arguments = ["--child", "--backend", backend, "--model", name, "--rows", str(rows)]
    process = subprocess.Popen(
        [sys.executable, __file__, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        whole = shoot(process, stages[0], None)
        for stage in stages:
            if stage == "sampling":
                whole = shoot(process, stage, None)
            seconds, done = whole.seconds(stage), 0
            while done < shots:
                delay = rng.uniform(0.0, seconds)
                shot = shoot(process, stage, delay)
                if not shot.sent or shot.sent > shot.answer["at"]:
                    seconds *= 0.9  # it was over before: this one is quicker than the first
                    continue
                waited = shot.answer["at"] - shot.sent
                found.append({**shot.answer, "delay": delay, "waited": waited, "stage": stage})
                done += 1
    finally:
        process.kill()
        process.wait()
    return found


def is_good(answer: dict[str, Any]) -> bool:
    """Whether it came in time, or says why not, and leaves nothing behind and nothing lost."""
    is_late = answer["waited"] > WITHIN and not any("can't be cut" in s for s in answer["said"])
    is_lost = answer["outcome"] == "returned" and not answer["said"]
    return not (is_late or is_lost or answer["left_behind"])


def describe(backend: str, stage: str, answers: list[dict[str, Any]]) -> str:
    """One line on the answers in a stage, and one for each piece that was named, or bad answer."""
    waited = np.array([answer["waited"] for answer in answers])
    late = [answer for answer in answers if answer["waited"] > WITHIN]
    named = sorted({s for answer in late for s in answer["said"] if "can't be cut" in s})
    returned = sum(answer["outcome"] == "returned" for answer in answers)
    bad = [str(answer) for answer in answers if not is_good(answer)]
    line = (
        f"{backend}, {stage}: {len(answers)} signals, answered after {np.median(waited):.2f} s "
        f"(median), {np.quantile(waited, 0.9):.2f} s (90 %), {waited.max():.2f} s (longest); "
        f"{len(late)} later than {WITHIN:g} s; {returned} returned, {len(answers) - returned} "
        f"raised; {len(bad)} bad"
    )
    return "\n    ".join([line, *named[:2], *bad])


def main() -> int:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=BACKENDS, default="python")
    parser.add_argument("--model", choices=MODELS, default="regression")
    parser.add_argument("--stages", choices=STAGES, nargs="+", help="all of the model by default")
    parser.add_argument("--shots", type=int, default=20)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--child", action="store_true")
    given = parser.parse_args()
    if given.child:
        child(given.backend, given.model, given.rows)
        return 0
    stages = given.stages or MODELS[given.model]
    answers = measure(given.backend, given.model, stages, given.shots, given.rows, given.seed)
    for stage in stages:
        print(describe(given.backend, stage, [a for a in answers if a["stage"] == stage]))
    return int(not all(map(is_good, answers)))


if __name__ == "__main__":
    sys.exit(main())
