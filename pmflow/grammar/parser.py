"""The grammar of formulas: text in, a tree with spans out. Knows no layer.

::

    formula := term ('-' term)*
    term    := atom ('*' count)?
    atom    := word options? | '(' formula ')'
    options := '[' name '=' value (',' name '=' value)* ']'
    value   := int | float | 'true' | 'false' | word

Case and white space do not matter. Words are ASCII: a letter, then letters, digits or ``_``. Spans
are half-open ranges of characters in the text exactly as the user typed it.

The parser is recursive descent, one method a rule. Whatever is wrong is a
:class:`~pmflow.errors.FormulaError` whose caret stands under the culprit.
"""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from typing import NamedTuple

from pmflow.errors import FormulaError

__all__ = [
    "MAX_DEPTH",
    "MAX_LAYERS",
    "MAX_NUMBER_LENGTH",
    "MAX_TEXT_LENGTH",
    "Chain",
    "Node",
    "Option",
    "Repeat",
    "Span",
    "Value",
    "Word",
    "count_layers",
    "is_word",
    "parse_formula",
    "quote",
]

type Span = tuple[int, int]
type Value = int | float | bool | str
type Node = Word | Repeat | Chain

MAX_TEXT_LENGTH = 10_000
"""Longest formula in characters: a thousand written-out layers fit, a file read by mistake not."""

MAX_LAYERS = 1_000
"""Most layers in a flow. Each becomes a part of the compiled graph, which takes minutes to compile
well before this; a slip such as ``planar*10000`` should not have to be killed by hand."""

MAX_DEPTH = 50
"""Deepest nesting of parentheses. The parser calls itself for each; Python stops at about 1,000."""

MAX_NUMBER_LENGTH = 100
"""Longest number in characters: 100 digits still fit a float, and ``int`` is not asked to read
thousands of them, at which it raises an error of its own."""


@dataclass(frozen=True)
class Option:
    """``name=value`` in the brackets of a word; `name` and a word as value are in lower case."""

    name: str
    value: Value
    name_span: Span
    value_span: Span


@dataclass(frozen=True)
class Word:
    """A layer's word, in lower case, with its options as they were written."""

    word: str
    options: tuple[Option, ...]
    word_span: Span
    span: Span


@dataclass(frozen=True)
class Repeat:
    """``body*count``, with `count` at least 1."""

    body: Node
    count: int
    span: Span


@dataclass(frozen=True)
class Chain:
    """Two or more terms, joined by ``-``; the first is applied first."""

    terms: tuple[Node, ...]
    span: Span


def parse_formula(text: object) -> Node:
    """Parse a formula into a tree.

    Parameters
    ----------
    text : str
        The formula. Anything else is refused with the same exception as a bad formula, so that
        callers have one exception to catch.

    Returns
    -------
    Node
        `Word`, `Repeat` or `Chain`. Parentheses leave no node behind.

    Raises
    ------
    FormulaError
        If the text is not a formula.

    Examples
    --------
    >>> tree = parse_formula("Scale - hh*4")
    >>> [type(term).__name__ for term in tree.terms], count_layers(tree)
    (['Word', 'Repeat'], 5)
    """
    if not isinstance(text, str):
        raise FormulaError(
            f"A formula must be a str, got {type(text).__name__}.",
            text,
            hint="Write the layers as text, for example 'scale-loc' or 'planar*4'.",
        )
    text = str.__str__(text)  # plain str, also from subclasses such as numpy.str_
    if len(text) > MAX_TEXT_LENGTH:
        # no span: the error would print all of it
        raise FormulaError(
            f"A formula has at most {MAX_TEXT_LENGTH} characters, got {len(text)}.",
            text,
            hint="Use counts and parentheses, for example '(planar*2-radial)*3'.",
        )
    return _Parser(text).parse()


def count_layers(node: Node) -> int:
    """Return how many layers a tree stands for, without building them."""
    match node:
        case Word():
            return 1
        case Repeat():
            return node.count * count_layers(node.body)
        case Chain():
            return sum(map(count_layers, node.terms))


def is_word(text: object) -> bool:
    """Whether `text` is a word in normal form: a lower-case letter, then letters, digits, ``_``."""
    return isinstance(text, str) and _LOWER_WORD.fullmatch(text) is not None


def quote(text: str) -> str:
    """Quote a piece of a formula for a message, shortened where it would flood the screen."""
    return f"'{text}'" if len(text) <= _MAX_QUOTED else f"'{text[: _MAX_QUOTED - 3]}...'"


_MAX_QUOTED = 40

_LOWER_WORD = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
_INTEGER = re.compile(r"[0-9]+")
_FLOAT = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")

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

_JOIN = "Layers are joined by '-', for example 'scale-loc'."
_REPEAT = "A layer is repeated by '*', for example 'planar*4'."
_BRACKETS = "Options stand in square brackets, for example 'word[name=value]'."
_UNQUOTED = "Nothing is quoted inside a formula."
_STRAY_HINTS = (
    dict.fromkeys("+/|&;:<>~@\\", _JOIN)
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\uff0d\u2192", _JOIN)
    | dict.fromkeys("^\u00d7\u00b7\u22c5\u2217\uff0a", _REPEAT)
    | dict.fromkeys("'\"`\u2018\u2019\u201c\u201d", _UNQUOTED)
    | dict.fromkeys("{}", _BRACKETS + " Layers are grouped by '(' and ')'.")
)


class _Token(NamedTuple):
    kind: str
    text: str
    span: Span


class _Parser:
    """Recursive descent over the tokens of one text; each rule leaves `position` behind itself."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = [
            _Token(str(match.lastgroup), match.group(), match.span())
            for match in _TOKEN.finditer(text)
            if match.lastgroup != "space"
        ]
        self.tokens.append(_Token("end", "", (len(text), len(text))))
        self.position = 0
        self.depth = 0

    # ------------------------------------------------------------------ tokens
    @property
    def next(self) -> _Token:
        """The token ahead. A stray character is refused here, so that errors come left to right."""
        token = self.tokens[self.position]
        if token.kind == "stray":
            raise self.stray(token)
        return token

    def take(self) -> _Token:
        token = self.next
        self.position += 1
        return token

    def source(self, span: Span) -> str:
        return self.text[span[0] : span[1]]

    def error(self, reason: str, span: Span, hint: str) -> FormulaError:
        return FormulaError(reason, self.text, span, hint)

    # ------------------------------------------------------------------- rules
    def parse(self) -> Node:
        if self.next.kind == "end":
            raise self.error(
                "The formula is empty.",
                (0, len(self.text)),
                "Name a layer, for example 'planar*4'.",
            )
        node = self.formula()
        if self.next.kind != "end":
            raise self.after_term(None)
        return node

    def formula(self) -> Node:
        terms = [self.term()]
        n_layers = count_layers(terms[0])
        while self.next.text == "-":
            self.take()
            terms.append(self.term())
            n_layers += count_layers(terms[-1])
            self.check_layers(n_layers, terms[-1].span)
        if len(terms) == 1:
            return terms[0]
        return Chain(tuple(terms), (terms[0].span[0], terms[-1].span[1]))

    def term(self) -> Node:
        atom = self.atom()
        if self.next.text != "*":
            return atom
        self.take()
        count, span = self.count(atom)
        if self.next.text == "*":
            raise self.second_count(atom, count)
        return Repeat(atom, count, (atom.span[0], span[1]))

    def atom(self) -> Node:
        token = self.next
        if token.text == "(":
            return self.group()
        if token.kind != "word":
            raise self.no_layer(token)
        self.take()
        options: tuple[Option, ...] = ()
        stop = token.span[1]
        if self.next.text == "[":
            options, stop = self.options(token)
        return Word(token.text.lower(), options, token.span, (token.span[0], stop))

    def group(self) -> Node:
        opening = self.take()
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error(
                f"Parentheses are nested more than {MAX_DEPTH} deep.",
                opening.span,
                "Drop those that only wrap a single layer or a single group.",
            )
        node = self.formula()
        if self.next.text != ")":
            raise self.after_term(opening)
        self.take()
        self.depth -= 1
        return node

    def count(self, atom: Node) -> tuple[int, Span]:
        """Read the count behind a ``*`` that was just taken."""
        token = self.next
        if token.kind != "number" or not _INTEGER.fullmatch(token.text):
            raise self.no_count(atom)
        self.take()
        digits = token.text.lstrip("0")
        if not digits:
            raise self.error(
                "A layer can't be repeated 0 times.",
                token.span,
                "Leave the layer out, or give a count of at least 1.",
            )
        if len(digits) > len(str(MAX_LAYERS)):  # never ask int() for thousands of digits
            raise self.too_many_layers(token.span)
        self.check_layers(int(digits) * count_layers(atom), token.span)
        return int(digits), token.span

    def options(self, word: _Token) -> tuple[tuple[Option, ...], int]:
        """Read ``[name=value, ...]``; the second result is where the bracket ends."""
        opening = self.take()
        if self.next.text == "]":
            raise self.error(
                "These brackets are empty.",
                (opening.span[0], self.next.span[1]),
                f"Write {quote(word.text)} for the defaults, "
                f"or options as in {quote(word.text + '[name=value]')}.",
            )
        options: dict[str, Option] = {}
        while True:
            option = self.option(word, opening)
            if option.name in options:
                raise self.error(
                    f"Option {quote(option.name)} is given twice.",
                    option.name_span,
                    "Keep one of the two.",
                )
            options[option.name] = option
            token = self.take()
            if token.text == "]":
                return tuple(options.values()), token.span[1]
            if token.text != ",":
                raise self.after_option(option, token, opening)

    def option(self, word: _Token, opening: _Token) -> Option:
        name = self.next
        if name.kind != "word":
            raise self.no_option(word, opening)
        self.take()
        if self.next.kind == "end":
            raise self.never_closed(opening)
        if self.next.text != "=":
            raise self.error(
                f"Option {quote(name.text)} has no '='.",
                name.span,
                f"Write {quote(name.text + '=value')}.",
            )
        self.take()
        value, span = self.value(name, opening)
        return Option(name.text.lower(), value, name.span, span)

    def value(self, name: _Token, opening: _Token) -> tuple[Value, Span]:
        first = self.next
        if first.text == "-":
            self.take()
        token = self.next
        if token.kind == "number":
            self.take()
            span = (first.span[0], token.span[1])
            number = self.number(token.text, span)
            return (number if first is token else -number), span
        if token.kind == "word" and first is token:
            self.take()
            word = token.text.lower()
            return {"true": True, "false": False}.get(word, word), token.span
        if token.kind == "end":
            raise self.never_closed(opening)
        raise self.no_value(name, first)

    def number(self, text: str, span: Span) -> int | float:
        if len(text) > MAX_NUMBER_LENGTH:
            raise self.error(
                f"A number has at most {MAX_NUMBER_LENGTH} characters, got {len(text)}.",
                span,
                "Write it shorter, for example '1e-3'.",
            )
        if _INTEGER.fullmatch(text):
            return int(text)
        if not _FLOAT.fullmatch(text):
            raise self.error(
                f"{quote(text)} is not a number.", span, "Write it as '32', '-0.5' or '1e-3'."
            )
        if math.isinf(number := float(text)):
            raise self.error(
                f"{quote(text)} is too large for a float.", span, "Write a number below 1e308."
            )
        return number

    # ------------------------------------------------------------------ limits
    def check_layers(self, n_layers: int, span: Span) -> None:
        if n_layers > MAX_LAYERS:
            raise self.too_many_layers(span)

    def too_many_layers(self, span: Span) -> FormulaError:
        return self.error(
            f"Up to here the formula has more than {MAX_LAYERS} layers.",
            span,
            "Lower the counts: a flow seldom gains from more than a few dozen layers.",
        )

    # ------------------------------------------------------------------ errors
    def stray(self, token: _Token) -> FormulaError:
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
        return self.error(f"{char!r}{name} has no meaning in a formula.", token.span, hint)

    def no_layer(self, token: _Token) -> FormulaError:
        """Explain `token`, which stands where a layer should begin."""
        before = self.tokens[self.position - 1] if self.position else None
        drop = "Name a layer, or drop the '-'."
        if token.kind == "number":
            return self.count_first(token)
        if token.kind == "end" and before and before.text == "(":
            return self.never_closed(before)
        if before and before.text == "-" and (token.kind == "end" or token.text == ")"):
            return self.error("A layer is missing after this '-'.", before.span, drop)
        if token.text == ")" and before:
            span, hint = (before.span[0], token.span[1]), "Put layers between them, or drop them."
            return self.error("There is nothing between these parentheses.", span, hint)
        if token.text == "-":
            where = "between '-' and" if before and before.text == "-" else "before"
            return self.error(f"A layer is missing {where} this '-'.", token.span, drop)
        if token.text == "*":
            return self.error("This '*' has no layer to repeat.", token.span, _REPEAT)
        if token.text == "[":
            return self.error("These options belong to no layer.", token.span, _BRACKETS)
        return self.misplaced(token)

    def count_first(self, token: _Token) -> FormulaError:
        """Explain a number where a layer should begin: ``2*planar``, ``2planar``."""
        hint = _REPEAT
        if digits := _INTEGER.match(token.text):
            after = "".join(t.text for t in self.tokens[self.position + 1 : self.position + 3])
            rest = token.text[digits.end() :] or after.removeprefix("*")
            if rest == "(" or is_word(rest.lower()):
                rest = rest.replace("(", "(...)")
                hint = f"Write {quote(f'{rest}*{digits.group()}')}."
        reason = f"A layer's word should stand here, got {quote(token.text)}: counts come after it."
        return self.error(reason, token.span, hint)

    def no_count(self, atom: Node) -> FormulaError:
        """Explain what stands behind a ``*`` and is no whole number."""
        star, token = self.tokens[self.position - 1], self.next
        after = self.tokens[min(self.position + 1, len(self.tokens) - 1)]
        hint = f"Write for example {quote(self.source(atom.span) + '*4')}."
        if token.text == "*":
            if _INTEGER.fullmatch(after.text):
                hint = f"Write {quote(f'{self.source(atom.span)}*{after.text}')}."
            return self.error("A layer is repeated by one '*', not by '**'.", token.span, hint)
        if token.text == "-" and after.kind == "number":
            return self.error(
                f"The count after '*' must be at least 1, got {quote('-' + after.text)}.",
                (token.span[0], after.span[1]),
                hint,
            )
        if token.kind in ("word", "number") or token.text == "(":
            return self.error(
                f"The count after '*' must be a whole number, got {quote(token.text)}.",
                token.span,
                f"{hint} {_JOIN}" if token.kind == "word" else hint,
            )
        return self.error("The count after this '*' is missing.", star.span, hint)

    def second_count(self, atom: Node, count: int) -> FormulaError:
        star = self.take()
        token = self.next
        source = self.source(atom.span)
        hint = f"Write one count, for example {quote(f'{source}*{count}')}."
        span = star.span
        if token.kind == "number" and _INTEGER.fullmatch(token.text):
            span = (star.span[0], token.span[1])
            if len(token.text) < 5 and 0 < count * int(token.text) <= MAX_LAYERS:
                hint = f"Write one count: {quote(f'{source}*{count * int(token.text)}')}."
        return self.error("A layer takes one count, and here is a second one.", span, hint)

    def after_term(self, opening: _Token | None) -> FormulaError:
        """Explain what can't follow a complete term; `opening` is the innermost ``(``."""
        token = self.next
        before = self.tokens[self.position - 1]
        if token.kind == "end" and opening:
            return self.never_closed(opening)
        if token.text in (")", "]"):
            return self.closes_nothing(token, opening)
        if token.text == "[":
            if before.text == "]":
                reason, hint = "A layer takes one pair of brackets.", "Join the options by ','."
            elif before.text == ")":
                reason, hint = "Options belong to one layer, not to a group.", _BRACKETS
            else:
                reason = "Options stand before the count."
                hint = "Write them directly after the word, for example 'word[name=value]*2'."
            return self.error(reason, token.span, hint)
        if token.kind == "number":
            hint = _JOIN if token.text.startswith(".") else _REPEAT
            if before.kind == "word" and _INTEGER.fullmatch(token.text):
                hint = f"Write {quote(f'{before.text}*{token.text}')} to repeat the layer."
            reason = f"{quote(before.text)} and {quote(token.text)} stand side by side."
            return self.error(reason, token.span, hint)
        if token.kind == "word" or token.text == "(":
            after = self.tokens[self.position + 1]
            hint = "Layers are joined by '-'"
            if token.kind == before.kind == "word":
                hint += f": write {quote(f'{before.text}-{token.text}')}."
            elif before.kind == "word" and _INTEGER.fullmatch(after.text):
                hint += f"; to repeat the layer, write {quote(f'{before.text}*{after.text}')}."
            elif before.kind == "word":
                hint += f"; options stand in brackets, {quote(before.text + '[name=value]')}."
            else:
                hint += ", for example '(planar-radial)*2-loc'."
            reason = f"A '-' is missing between {quote(before.text)} and {quote(token.text)}."
            return self.error(reason, token.span, hint)
        return self.misplaced(token)

    def no_option(self, word: _Token, opening: _Token) -> FormulaError:
        """Explain what stands in brackets where the name of an option should."""
        token = self.next
        if token.kind == "end":
            return self.never_closed(opening)
        if token.kind == "number":
            hint = f"Write {quote(word.text + '[name=value]')}"
            if _INTEGER.fullmatch(token.text):
                hint += f"; to repeat the layer, write {quote(f'{word.text}*{token.text}')}"
            return self.error(
                f"An option is written name=value, got {quote(token.text)}.", token.span, hint + "."
            )
        if token.text in (",", "]"):
            before = self.tokens[self.position - 1]
            culprit = before if before.text == "," else token
            reason = f"An option is missing {'after' if culprit is before else 'before'} this ','."
            return self.error(reason, culprit.span, "Drop the ',' or write name=value.")
        reason = f"The name of an option should stand here, got {quote(token.text)}."
        return self.error(reason, token.span, _BRACKETS)

    def no_value(self, name: _Token, first: _Token) -> FormulaError:
        """Explain what stands behind ``name=`` and is no value; `first` may be a minus."""
        token = self.next
        hint = "A value is a number, true, false, or a word."
        if first.text in (",", "]"):
            span = (name.span[0], self.tokens[self.position - 1].span[1])
            return self.error(f"Option {quote(name.text)} has no value.", span, hint)
        stop = first.span[1] if token.text in (",", "]") else token.span[1]
        span = (first.span[0], stop)
        wrong = quote(self.source(span))
        reason = f"The value of option {quote(name.text)} can't begin with {wrong}."
        return self.error(reason, span, hint)

    def after_option(self, option: Option, token: _Token, opening: _Token) -> FormulaError:
        if token.kind == "end":
            return self.never_closed(opening)
        source = self.source((option.name_span[0], option.value_span[1]))
        reason = f"After {quote(source)} a ',' or a ']' should stand, got {quote(token.text)}."
        return self.error(reason, token.span, "Options are separated by ',' and end with ']'.")

    def never_closed(self, opening: _Token) -> FormulaError:
        closing = {"(": ")", "[": "]"}[opening.text]
        reason = f"This '{opening.text}' is never closed."
        return self.error(reason, opening.span, f"Add the '{closing}'.")

    def closes_nothing(self, token: _Token, opening: _Token | None = None) -> FormulaError:
        if opening:
            hint = f"The '{opening.text}' before it is closed by ')'."
        else:
            missing = {")": "(", "]": "["}[token.text]
            hint = f"Drop it, or add the '{missing}' that it should close."
        return self.error(f"This '{token.text}' closes nothing.", token.span, hint)

    def misplaced(self, token: _Token) -> FormulaError:
        if token.text in (")", "]"):
            return self.closes_nothing(token)
        reason = f"{quote(token.text)} stands outside of brackets."
        return self.error(reason, token.span, f"{_JOIN} {_BRACKETS}")
