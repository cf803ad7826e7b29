"""The characters of a formula: words, numbers and symbols, and those that mean nothing."""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from pmflow.errors import FormulaError
from pmflow.grammar.tree import Span

__all__ = [
    "BRACKETS",
    "FLOAT",
    "INTEGER",
    "JOIN",
    "REPEAT",
    "Token",
    "is_word",
    "quote",
    "stray_character",
    "tokens_of",
]

_MAX_QUOTED = 40

_LOWER_WORD = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
INTEGER = re.compile(r"[0-9]+")
FLOAT = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")

# Every alternative begins with another character and none backtracks: linear in the text. A number
# takes in whatever is glued to it ('1.5.2', '2planar'), to be refused as a whole; a sign belongs
# to it only within an exponent.
_TOKEN = re.compile(
    r"""
      (?P<space>  \s+ )
    | (?P<word>   [A-Za-z][A-Za-z0-9_]* )
    | (?P<number> [0-9.] (?: [0-9A-Za-z_.] | (?<=[0-9.][eE]) [+-] (?=[0-9]) )* )
    | (?P<symbol> [-*()\[\]=,] )
    | (?P<stray>  . )
    """,
    re.VERBOSE | re.DOTALL,
)

JOIN = "Layers are joined by '-', for example 'scale-loc'."
REPEAT = "A layer is repeated by '*', for example 'planar*4'."
BRACKETS = "Options stand in square brackets, for example 'word[name=value]'."
_UNQUOTED = "Nothing is quoted inside a formula."
_STRAY_HINTS = (
    dict.fromkeys("+/|&;:<>~@\\", JOIN)
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\uff0d\u2192", JOIN)
    | dict.fromkeys("^\u00d7\u00b7\u22c5\u2217\uff0a", REPEAT)
    | dict.fromkeys("'\"`\u2018\u2019\u201c\u201d", _UNQUOTED)
    | dict.fromkeys("{}", BRACKETS + " Layers are grouped by '(' and ')'.")
)


class Token(NamedTuple):
    """A piece of the text that has a meaning of its own, or none (kind ``stray``)."""

    kind: str
    text: str
    span: Span


def tokens_of(text: str) -> list[Token]:
    """The tokens of a text without its white space, and one for its end."""
    tokens = [
        Token(str(match.lastgroup), match.group(), match.span())
        for match in _TOKEN.finditer(text)
        if match.lastgroup != "space"
    ]
    return [*tokens, Token("end", "", (len(text), len(text)))]


def is_word(text: object) -> bool:
    """Whether `text` is a word in normal form: a lower-case letter, then letters, digits, ``_``."""
    return isinstance(text, str) and _LOWER_WORD.fullmatch(text) is not None


def quote(text: str) -> str:
    """Quote a piece of a formula for a message, shortened where it would flood the screen."""
    return f"'{text}'" if len(text) <= _MAX_QUOTED else f"'{text[: _MAX_QUOTED - 3]}...'"


def stray_character(token: Token, text: str) -> FormulaError:
    """What to say of a character that means nothing, and what may have been meant."""
    char = token.text
    name = "" if char.isascii() else f" ({unicodedata.name(char, f'U+{ord(char):04X}')})"
    if char in _STRAY_HINTS:
        hint = _STRAY_HINTS[char]
    elif char.isdigit():
        hint = "Write numbers with the digits 0 to 9."
    elif not char.isprintable():
        hint = "Delete it: it is invisible, and probably came along with copied text."
    else:
        hint = "A formula is made of words, counts and - * ( ) [ ] = , only."
    return FormulaError(f"{char!r}{name} has no meaning in a formula.", text, token.span, hint)
