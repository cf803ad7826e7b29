"""``python -m tests.benchmarks.catalogue``; see `cli`."""

import importlib

if __name__ == "__main__":
    importlib.import_module("tests.benchmarks.catalogue.cli").main()
