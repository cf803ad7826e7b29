"""Methods that take the options of a fit show them in their signature and documentation."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from pmflow.training.options import FitOptions

__all__ = ["with_fit_options"]


def with_fit_options[F: Callable[..., Any]](method: F) -> F:
    """Give a method that takes ``**options`` of a fit their signature and their documentation.

    ``%(options)s`` in its docstring stands for the documented options that the method does not
    name itself.
    """
    signature = inspect.signature(method)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    further = [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default)
        for f in fields(FitOptions)
        if f.name not in signature.parameters
    ]
    documented = inspect.cleandoc(FitOptions.__doc__ or "")
    documented = documented.split("----------\n", 1)[1].split("\nRaises\n", 1)[0].strip()
    vars(method)["__signature__"] = signature.replace(parameters=[*own, *further])
    text = inspect.cleandoc(method.__doc__ or "")
    method.__doc__ = text.replace("%(options)s", documented)
    return method
