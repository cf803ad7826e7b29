"""``python -m tests.benchmarks.honesty_large``; see `runs`."""

import importlib

if __name__ == "__main__":
    importlib.import_module("tests.benchmarks.honesty_large.runs").main()
