"""Start a measurement in a new process, wait for it, and read its one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MARK", "empty_cache", "environment", "launch", "report"]

MARK = "RESULT "
"""What the line begins with, since others may print too."""

_ROOT = Path(__file__).parents[3]


def report(result: dict[str, Any]) -> None:
    """Hand a result to the parent process."""
    print(MARK + json.dumps(result), flush=True)


@contextmanager
def empty_cache() -> Iterator[Path]:
    """A new directory for what is compiled, removed at the end."""
    with tempfile.TemporaryDirectory(prefix="pmflow-speed-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def launch(module: str, arguments: Sequence[str], *, cache: Path, timeout: float) -> dict[str, Any]:
    """Run a module of this package and return what it reports, with the seconds it took in all.

    Parameters
    ----------
    module : str
    arguments : sequence of str
    cache : Path
        Where PyTensor and numba keep what they compiled. JAX keeps nothing.
    timeout : float
        Seconds after which it is given up.
    """
    command = [sys.executable, "-m", f"{__package__}.{module}", *arguments]
    begin = time.perf_counter()
    try:
        done = subprocess.run(
            command,
            cwd=_ROOT,
            env=environment(cache),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"no result within {timeout:.0f} s"}
    wall = time.perf_counter() - begin
    lines = [x for x in done.stdout.splitlines() if x.startswith(MARK)]
    if done.returncode or not lines:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        return {"error": last[:200]}
    return {**json.loads(lines[-1].removeprefix(MARK)), "wall_s": wall}


def environment(cache: Path) -> dict[str, str]:
    """Float64 everywhere and caches of our own."""
    env = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    flags = [env.get("PYTENSOR_FLAGS", ""), "floatX=float64", f"base_compiledir={cache}/pytensor"]
    return env | {
        "JAX_ENABLE_X64": "1",
        "JAX_PLATFORMS": "cpu",
        "NUMBA_CACHE_DIR": f"{cache}/numba",
        "PYTENSOR_FLAGS": ",".join(filter(None, flags)),
    }
