"""How fast pmflow is, beside others and beside the limit: ``python -m tests.benchmarks.speed``."""
