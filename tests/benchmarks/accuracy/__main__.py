"""``python -m tests.benchmarks.accuracy``; see `cli`."""

import importlib
import os
import sys
from pathlib import Path

if __name__ == "__main__":
    if not __package__:  # run as a file or as a directory
        sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
    launch = importlib.import_module("tests.benchmarks.speed.launch")
    with launch.empty_cache() as cache:
        # before anything imports PyTensor: it reads where its cache is only then
        os.environ.update(launch.environment(cache))
        importlib.import_module("tests.benchmarks.accuracy.cli").main()
