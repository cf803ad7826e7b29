"""What every test shares: no windows, how hard hypothesis tries, marks, a count of compilations."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

os.environ.setdefault("MPLBACKEND", "Agg")  # before anything imports matplotlib
# with empty caches, compilers took most of the time of all tests: numba does not optimise
os.environ.setdefault("NUMBA_OPT", "1")
# PyTensor notes at each node where it was made: a twentieth of the time of all tests
_FLAGS = os.environ.get("PYTENSOR_FLAGS")
os.environ["PYTENSOR_FLAGS"] = ",".join(filter(None, [_FLAGS, "traceback__limit=0"]))
# threads of BLAS in several processes wait for each other
os.environ.setdefault("OMP_NUM_THREADS", "1")
# graphs are made of millions of objects that refer to each other: to look for garbage among them
# every 2,000 took a tenth of the time
gc.set_threshold(50_000, 10, 10)
# a process that a shell starts in the background ignores Ctrl-C, and fits would run on for ever
signal.signal(signal.SIGINT, signal.default_int_handler)

# no deadline: a busy machine is no failure. `pytest --hypothesis-profile=thorough` for more.
settings.register_profile("fast", deadline=None, max_examples=50, derandomize=True)
settings.register_profile("thorough", deadline=None, max_examples=10_000)
settings.load_profile("fast")

collect_ignore_glob = ["benchmarks/accuracy/*"]  # packages of programs, imported as such


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is run once a backend by the backend that it is run on."""
    marks = {"numba": pytest.mark.numba, "jax": pytest.mark.jax, "c": pytest.mark.slow}
    for item in items:
        values = getattr(item, "callspec", None)
        backend = values.params.get("backend") if values is not None else None
        if isinstance(backend, str) and backend.lower() in marks:
            item.add_marker(marks[backend.lower()])


@pytest.fixture(autouse=True)
def _c_for_its_own_tests_alone(request: pytest.FixtureRequest) -> Iterator[None]:
    """Loops in Python stay in Python: PyTensor would compile all that it can by C."""
    import pytensor  # here: after the choice of matplotlib's backend

    values = getattr(request.node, "callspec", None)
    backend = values.params.get("backend") if values is not None else None
    flags = {"gcc__cxxflags": "-O0"} if backend in ("c", "CVM") else {"cxx": ""}
    with pytensor.config.change_flags(**flags):
        yield


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """One entry a loop that is compiled from now on."""
    # here: after the choice of matplotlib's backend
    from pmflow.training import trainer
    from pmflow.training.loops.engine import compile_loop

    calls: list[Any] = []

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(kwargs)
        return compile_loop(*args, **kwargs)

    monkeypatch.setattr(trainer, "compile_loop", counted)
    return calls
