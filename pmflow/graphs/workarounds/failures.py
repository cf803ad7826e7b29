"""Rewrites that fail, told to those who look for it alone.

A rewrite of PyTensor's that fails is left out, and the graph is as right as before. PyTensor 3.3
prints its traceback even so, such as that of `_eye` for a batch of identity matrices, and a line
where it gives up after many rounds: nothing that a user of a model can do something about.

This can go when PyTensor logs these at a level that is not shown by default.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytensor

__all__ = ["failures_as_details"]

_log = logging.getLogger("pmflow")
_pytensor_log = logging.getLogger("pytensor.graph.rewriting.basic")


@contextmanager
def failures_as_details() -> Iterator[None]:
    """What PyTensor logs of rewrites that fail goes to pmflow's logger, as details.

    Not where the flag ``on_opt_error`` asks for more than a warning.
    """
    if pytensor.config.on_opt_error != "warn":
        yield
        return

    def as_detail(record: logging.LogRecord) -> bool:
        _log.debug("PyTensor, as it compiles: %s", record.getMessage())
        return False

    _pytensor_log.addFilter(as_detail)
    try:
        yield
    finally:
        _pytensor_log.removeFilter(as_detail)
