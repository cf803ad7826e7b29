"""What every test shares: no windows, and how hard hypothesis tries."""

from __future__ import annotations

import os

from hypothesis import settings

os.environ.setdefault("MPLBACKEND", "Agg")  # before anything imports matplotlib

# no deadline: a busy machine is no failure. `pytest --hypothesis-profile=thorough` for more.
settings.register_profile("fast", deadline=None, max_examples=50, derandomize=True)
settings.register_profile("thorough", deadline=None, max_examples=10_000)
settings.load_profile("fast")

collect_ignore_glob = ["benchmarks/accuracy/*"]  # packages of programs, imported as such
