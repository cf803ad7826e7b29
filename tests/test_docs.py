"""The code on the pages of the documentation runs, page by page, from top to bottom.

With fewer steps and draws than are printed there; whole fits by `pmf.fit` are made as they are.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytest
from models import conjugate_normal, gaussian

import pmflow as pmf
from pmflow.demo import two_groups
from pmflow.errors import FitWarning
from pmflow.flows import catalogue
from pmflow.training.schedule_state import ScheduleSettings

DOCS = Path(__file__).parents[1] / "docs"
RNG = np.random.default_rng(1)
MOST = 60
"""Steps, draws and rows, where a page has thousands."""

type Names = dict[str, Any]


def code_of(page: str) -> str:
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    return "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))


def shortened(code: str) -> str:
    """With no number above `MOST` that is written in thousands."""
    return re.sub(r"\b\d{1,3}(?:_\d{3})+\b", lambda n: str(min(int(n[0]), MOST)), code)


def plane() -> Names:
    return {"model": gaussian([0.0, 1.0], [[1.0, 0.5], [0.5, 1.0]])}


def with_a_fit() -> Names:
    model = conjugate_normal(RNG.normal(2.0, 1.0, size=30))
    return {"model": model, "approx": pmf.fit(model=model, random_seed=1, progressbar=False)}


def rows() -> Names:
    """Rows in memory, and in a file in the folder of the test."""
    x = RNG.normal(size=(3_000, 8))
    y = (RNG.random(3_000) < 1 / (1 + np.exp(-x[:, 0]))).astype("int32")
    miles, hour = x[:, :2].T
    pd.DataFrame({"miles": miles, "hour": hour, "tipped": 1.0 * y}).to_parquet("rides.parquet")
    days = [
        {"rides": x[part, :2], "tips": 1.0 * y[part]} for part in (slice(1_500), slice(1_500, None))
    ]
    return {"x": x, "y": y, "rows_of_monday": days[0], "rows_of_tuesday": days[1]}


def kept_rows() -> Names:
    np.memmap("rows.dat", dtype="float64", mode="w+", shape=(5_000,))[:] = RNG.normal(size=5_000)
    return {"data": RNG.normal(2.0, 1.0, size=1_000)}


PAGES: dict[str, Callable[[], Names]] = {
    "auto": lambda: {"model": two_groups()},
    "devices": dict,
    "extending": dict,
    "formula": plane,
    "frames": plane,
    "how_good": with_a_fit,
    "index": dict,
    "large": kept_rows,
    "large_models": lambda: {"returns": RNG.standard_t(5, size=MOST)},
    "minibatches": rows,
    "parallel": dict,
    "sampling": dict,
    "saving": plane,
    "training": plane,
}
NOT_HERE = {"integrations": "by test_integrations.py", "contributing": "a line out of a function"}
IN_CONTEXT = {"frames", "training"}
"""Pages whose calls take the model from its context."""
FEWER = {
    "parallel": [
        ("range(20)", "range(4)"),
        ("model, 200", "model, 20"),
        # optional extras: Dask is not called, as this is not the main program
        ("from dask.distributed import Client, LocalCluster", ""),
        ("from joblib import Parallel, delayed", ""),
    ],
    "sampling": [
        ("size=200", "size=20"),
        ("shape=200", "shape=20"),
        ("pmf.sample(model,", "pmf.sample(model, 20, tune=20, chains=1, cores=1,"),
    ],
}


def one_by_one(**_: Any) -> Any:
    """As joblib's Parallel, one job after the other."""
    return lambda jobs: [job() for job in jobs]


def later(work: Callable[..., Any]) -> Any:
    """As joblib's delayed."""
    return partial(partial, work)


def test_every_page_with_code_is_run() -> None:
    pages = {path.stem for path in DOCS.glob("*.md") if "```python" in path.read_text("utf-8")}
    assert pages == {*PAGES, *NOT_HERE}


@pytest.fixture
def in_a_hurry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder of its own, and fits that soon give up."""
    monkeypatch.chdir(tmp_path)
    short = ScheduleSettings(rates=(0.01,), trial=5, window=20, most_windows=3, stages=1)
    monkeypatch.setattr(ScheduleSettings.__init__, "__defaults__", tuple(vars(short).values()))
    sample = partial(pm.sample, draws=100, tune=100, chains=2, progressbar=False, cores=1)
    monkeypatch.setattr(pm, "sample", sample)
    monkeypatch.setattr(catalogue, "_classes", dict(catalogue._classes))  # layers of a page go
    with pytensor.config.change_flags(mode="FAST_COMPILE", cxx=""), warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)
        yield
    plt.close("all")


@pytest.mark.slow
@pytest.mark.usefixtures("in_a_hurry")
@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_a_page_runs(page: str) -> None:
    code = shortened(code_of(page))
    for long, short in FEWER.get(page, ()):
        assert long in code
        code = code.replace(long, short)
    names: Names = {"np": np, "pm": pm, "pmf": pmf, "Parallel": one_by_one, "delayed": later}
    names |= PAGES[page]()
    with names["model"] if page in IN_CONTEXT else nullcontext():
        exec(compile(code, f"{page}.md", "exec", dont_inherit=True), names)
