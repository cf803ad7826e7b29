"""A place in the tokens of a formula, and errors that point into its text."""

from __future__ import annotations

from pmflow.errors import FormulaError
from pmflow.grammar.characters import Token, stray_character, tokens_of
from pmflow.grammar.tree import Span

__all__ = ["Cursor"]


class Cursor:
    """Where the parser is in the tokens of one text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._tokens = tokens_of(text)
        self._position = 0

    @property
    def next(self) -> Token:
        """The token ahead. A stray character is refused here, so that errors come left to right."""
        token = self._tokens[self._position]
        if token.kind == "stray":
            raise stray_character(token, self.text)
        return token

    @property
    def before(self) -> Token:
        """The token behind; at the beginning one of the kind ``start``."""
        return self._tokens[self._position - 1] if self._position else Token("start", "", (0, 0))

    def after(self, places: int = 1) -> Token:
        """The token some places after the one ahead, or the last one; stray ones too."""
        return self._tokens[min(self._position + places, len(self._tokens) - 1)]

    def take(self) -> Token:
        """Move past the token ahead."""
        token = self.next
        self._position += 1
        return token

    def source(self, span: Span) -> str:
        """What the user typed there."""
        return self.text[span[0] : span[1]]

    def error(self, reason: str, span: Span, hint: str) -> FormulaError:
        """An error whose caret stands under `span`."""
        return FormulaError(reason, self.text, span, hint)
