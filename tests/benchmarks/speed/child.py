"""One measurement, in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import sys
from typing import Any

from .launch import report
from .rows import Row
from .subjects import build_subject, entry_for
from .timing import measure_subject

__all__ = ["measure_row"]


def measure_row(spec: dict[str, Any]) -> dict[str, Any]:
    """Measure ``spec["subject"]`` on ``spec["row"]`` in runs of ``spec["seconds"]``."""
    needs = entry_for(spec["subject"]).needs
    if importlib.util.find_spec(needs) is None:
        return {"error": "not installed"}
    subject = build_subject(spec["subject"], Row(**spec["row"]), seconds=spec["seconds"])
    result = measure_subject(subject, seconds=spec["seconds"])
    rates = getattr(subject, "rates", None)
    return result | ({"variants": rates} if rates else {})


if __name__ == "__main__":
    report(measure_row(json.loads(sys.argv[1])))
