"""What watches over a fit while it runs: Ctrl-C, a budget of time, what it shows, its times."""

from pmflow.watch.here import (
    grace,
    importing,
    is_watched,
    piece,
    result_exists,
    show,
    stage,
    tick,
    watching,
    why_stopped,
)
from pmflow.watch.watch import Interrupted, OutOfTime, Stopped, Watch

__all__ = [
    "Interrupted",
    "OutOfTime",
    "Stopped",
    "Watch",
    "grace",
    "importing",
    "is_watched",
    "piece",
    "result_exists",
    "show",
    "stage",
    "tick",
    "watching",
    "why_stopped",
]
