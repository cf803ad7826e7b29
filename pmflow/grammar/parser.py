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

from pmflow.errors import FormulaError
from pmflow.grammar import complaints
from pmflow.grammar.characters import FLOAT, INTEGER, Token, quote
from pmflow.grammar.cursor import Cursor
from pmflow.grammar.limits import MAX_DEPTH, MAX_LAYERS, MAX_NUMBER_LENGTH, MAX_TEXT_LENGTH
from pmflow.grammar.tree import Node, Option, Repeat, Series, Span, Value, Word, count_layers

__all__ = ["parse_formula"]


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
        `Word`, `Repeat` or `Series`. Parentheses leave no node behind.

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


class _Parser:
    """Recursive descent: each rule reads from the cursor and leaves it behind what it has read."""

    def __init__(self, text: str) -> None:
        self.at = Cursor(text)
        self.depth = 0

    def parse(self) -> Node:
        if self.at.next.kind == "end":
            raise self.at.error(
                "The formula is empty.",
                (0, len(self.at.text)),
                "Name a layer, for example 'planar*4'.",
            )
        node = self.formula()
        if self.at.next.kind != "end":
            raise complaints.after_term(self.at, None)
        return node

    def formula(self) -> Node:
        terms = [self.term()]
        n_layers = count_layers(terms[0])
        while self.at.next.text == "-":
            self.at.take()
            terms.append(self.term())
            n_layers += count_layers(terms[-1])
            self.check_layers(n_layers, terms[-1].span)
        if len(terms) == 1:
            return terms[0]
        return Series(tuple(terms), (terms[0].span[0], terms[-1].span[1]))

    def term(self) -> Node:
        atom = self.atom()
        if self.at.next.text != "*":
            return atom
        self.at.take()
        count, span = self.count(atom)
        if self.at.next.text == "*":
            raise complaints.second_count(self.at, atom, count)
        return Repeat(atom, count, (atom.span[0], span[1]))

    def atom(self) -> Node:
        token = self.at.next
        if token.text == "(":
            return self.group()
        if token.kind != "word":
            raise complaints.no_layer(self.at, token)
        self.at.take()
        options: tuple[Option, ...] = ()
        stop = token.span[1]
        if self.at.next.text == "[":
            options, stop = self.options(token)
        return Word(token.text.lower(), options, token.span, (token.span[0], stop))

    def group(self) -> Node:
        opening = self.at.take()
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.at.error(
                f"Parentheses are nested more than {MAX_DEPTH} deep.",
                opening.span,
                "Drop those that only wrap a single layer or a single group.",
            )
        node = self.formula()
        if self.at.next.text != ")":
            raise complaints.after_term(self.at, opening)
        self.at.take()
        self.depth -= 1
        return node

    def count(self, atom: Node) -> tuple[int, Span]:
        """Read the count behind a ``*`` that was just taken."""
        token = self.at.next
        if token.kind != "number" or not INTEGER.fullmatch(token.text):
            raise complaints.no_count(self.at, atom)
        self.at.take()
        digits = token.text.lstrip("0")
        if not digits:
            raise self.at.error(
                "A layer can't be repeated 0 times.",
                token.span,
                "Leave the layer out, or give a count of at least 1.",
            )
        if len(digits) > len(str(MAX_LAYERS)):  # never ask int() for thousands of digits
            raise self.too_many_layers(token.span)
        self.check_layers(int(digits) * count_layers(atom), token.span)
        return int(digits), token.span

    def options(self, word: Token) -> tuple[tuple[Option, ...], int]:
        """Read ``[name=value, ...]``; the second result is where the bracket ends."""
        opening = self.at.take()
        if self.at.next.text == "]":
            raise self.at.error(
                "These brackets are empty.",
                (opening.span[0], self.at.next.span[1]),
                f"Write {quote(word.text)} for the defaults, "
                f"or options as in {quote(word.text + '[name=value]')}.",
            )
        options: dict[str, Option] = {}
        while True:
            option = self.option(word, opening)
            if option.name in options:
                raise self.at.error(
                    f"Option {quote(option.name)} is given twice.",
                    option.name_span,
                    "Keep one of the two.",
                )
            options[option.name] = option
            token = self.at.take()
            if token.text == "]":
                return tuple(options.values()), token.span[1]
            if token.text != ",":
                raise complaints.after_option(self.at, option, token, opening)

    def option(self, word: Token, opening: Token) -> Option:
        name = self.at.next
        if name.kind != "word":
            raise complaints.no_option(self.at, word, opening)
        self.at.take()
        if self.at.next.kind == "end":
            raise complaints.never_closed(self.at, opening)
        if self.at.next.text != "=":
            raise self.at.error(
                f"Option {quote(name.text)} has no '='.",
                name.span,
                f"Write {quote(name.text + '=value')}.",
            )
        self.at.take()
        value, span = self.value(name, opening)
        return Option(name.text.lower(), value, name.span, span)

    def value(self, name: Token, opening: Token) -> tuple[Value, Span]:
        first = self.at.next
        if first.text == "-":
            self.at.take()
        token = self.at.next
        if token.kind == "number":
            self.at.take()
            span = (first.span[0], token.span[1])
            number = self.number(token.text, span)
            return (number if first is token else -number), span
        if token.kind == "word" and first is token:
            self.at.take()
            word = token.text.lower()
            return {"true": True, "false": False}.get(word, word), token.span
        if token.kind == "end":
            raise complaints.never_closed(self.at, opening)
        raise complaints.no_value(self.at, name, first)

    def number(self, text: str, span: Span) -> int | float:
        if len(text) > MAX_NUMBER_LENGTH:
            raise self.at.error(
                f"A number has at most {MAX_NUMBER_LENGTH} characters, got {len(text)}.",
                span,
                "Write it shorter, for example '1e-3'.",
            )
        if INTEGER.fullmatch(text):
            return int(text)
        if not FLOAT.fullmatch(text):
            raise self.at.error(
                f"{quote(text)} is not a number.", span, "Write it as '32', '-0.5' or '1e-3'."
            )
        if math.isinf(number := float(text)):
            raise self.at.error(
                f"{quote(text)} is too large for a float.", span, "Write a number below 1e308."
            )
        return number

    def check_layers(self, n_layers: int, span: Span) -> None:
        if n_layers > MAX_LAYERS:
            raise self.too_many_layers(span)

    def too_many_layers(self, span: Span) -> FormulaError:
        return self.at.error(
            f"Up to here the formula has more than {MAX_LAYERS} layers.",
            span,
            "Lower the counts: a flow seldom gains from more than a few dozen layers.",
        )
