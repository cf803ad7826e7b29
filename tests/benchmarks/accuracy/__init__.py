"""How near fits come to posteriors that are known: ``python -m tests.benchmarks.accuracy``."""
