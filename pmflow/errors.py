"""Every exception that pmflow raises on purpose.

Each is also a built-in exception, so that ``except ValueError`` keeps working. Messages say what
was expected, what came, and what to do.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "BackendError",
    "FitWarning",
    "FormulaError",
    "LayerError",
    "MethodError",
    "NonFiniteError",
    "NotContinuousError",
    "ParameterError",
    "PmflowError",
    "RootError",
    "StorageError",
    "UnsupportedError",
]


class PmflowError(Exception):
    """Base class of pmflow's exceptions."""


class FormulaError(PmflowError, KeyError, ValueError):
    """A formula that does not parse or names what does not exist.

    Parameters
    ----------
    reason : str
        What is wrong, in one sentence.
    formula : object
        What the user passed, verbatim.
    span : tuple of int, optional
        Half-open range of characters in `formula` that is to blame; a caret is drawn under it.
    hint : str
        What to write instead: the accepted words, a suggestion.
    """

    def __init__(
        self,
        reason: str,
        formula: object = None,
        span: tuple[int, int] | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(reason, formula, span, hint)
        self.reason = reason
        self.formula = formula
        self.span = span
        self.hint = hint

    def __str__(self) -> str:
        lines = [self.reason]
        if isinstance(self.formula, str) and self.span is not None:
            start, stop = self.span
            # a line break or a tab inside the formula would shift the caret
            shown = "".join(c if c.isprintable() else " " for c in self.formula)
            lines += [f"  {shown}", "  " + " " * start + "^" * max(1, stop - start)]
        if self.hint:
            lines.append(self.hint)
        return "\n".join(lines)


class LayerError(PmflowError, TypeError, ValueError):
    """A layer class that can't be registered, or that breaks the contract of a layer."""


class ParameterError(PmflowError, ValueError, TypeError):
    """An argument that is out of range, of the wrong type, or of the wrong shape."""


class MethodError(ParameterError, KeyError):
    """A method that is none of those that `pmflow.fit` knows."""

    __str__ = Exception.__str__  # that of KeyError puts it in quotes


class NotContinuousError(PmflowError, ValueError):
    """A discrete free variable was given to a flow."""


class UnsupportedError(PmflowError, NotImplementedError):
    """The request is well formed, but this family or model can't answer it."""


class BackendError(PmflowError, ImportError, ValueError):
    """A backend that is unknown or not installed."""


class RootError(PmflowError, ArithmeticError):
    """The inverse of a layer was not found; a wrong one is never returned."""


class StorageError(PmflowError, ValueError, OSError):
    """A file that can't be written or read, is damaged, or does not fit the model."""


class FitWarning(UserWarning):
    """A fit that is not reliable as it is."""


class NonFiniteError(PmflowError, FloatingPointError):
    """Loss or gradient stayed infinite or NaN; the last good parameters are kept.

    Parameters
    ----------
    message : str
        What happened and what to look at.
    step : int
        The first step of the run of failures, counted from 1.
    variables : tuple of str
        Names of the model's variables whose log-probability or gradient is not finite.
    """

    def __init__(self, message: str, step: int = 0, variables: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.step = step
        self.variables = variables

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.step, self.variables)
