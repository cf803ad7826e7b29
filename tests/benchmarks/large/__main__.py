"""Large models beside NUTS: ``python -m tests.benchmarks.large``.

Hierarchies, crossed effects, item response, volatility and a survey, in `models/`, with data that
are drawn: measured as the models of the catalogue are (`tests/benchmarks/catalogue/cli.py`, which
has the options), the hierarchy centred and not. NUTS takes minutes at each.
"""

import importlib
from pathlib import Path

if __name__ == "__main__":
    here = Path(__file__).parent
    cli = importlib.import_module("tests.benchmarks.catalogue.cli")
    cli.main(here, here.parent / "results" / "large.md")
