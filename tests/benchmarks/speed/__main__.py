"""``python -m tests.benchmarks.speed``; see `cli`."""

import importlib
import sys
from pathlib import Path

if __name__ == "__main__":
    if not __package__:  # run as a file or as a directory
        sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
    importlib.import_module("tests.benchmarks.speed.cli").main()
