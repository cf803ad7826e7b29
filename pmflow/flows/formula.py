"""Formulas: text such as ``scale-hh*4-loc`` to the layers of a flow."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from pmflow.errors import FormulaError
from pmflow.flows.base import AbstractLayer
from pmflow.flows.bases import BASES, AbstractBase
from pmflow.flows.catalogue import LayerOption, layer_class, options_of
from pmflow.grammar import (
    Node,
    Option,
    Repeat,
    Series,
    Span,
    Value,
    Word,
    parse_formula,
    quote,
)

__all__ = ["Formula", "base_text", "parse_base"]

_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}


@dataclass(frozen=True, init=False, repr=False)
class Formula:
    """The layers of a flow, written as text.

    ``-`` joins layers, the left one is applied first; ``*`` repeats; parentheses group; options
    stand in brackets. Case and white space do not matter. Two formulas are equal if they build
    the same layers, however they are written.

    Parameters
    ----------
    text : str or Formula
        The formula.

    Attributes
    ----------
    layers : tuple of AbstractLayer
        The layers in order of application. They hold options, no parameters.

    Raises
    ------
    FormulaError
        If the text does not parse, or names a layer or an option that does not exist. It is both
        a ``KeyError`` and a ``ValueError``, and puts a caret under the culprit.

    Examples
    --------
    >>> formula = Formula("Scale - Householder*4 - (loc)")
    >>> formula
    Formula('scale-hh*4-loc')
    >>> len(formula), formula.layers[0]
    (6, Scale())
    >>> Formula("planar*2") == Formula("planar-planar")
    True
    """

    layers: tuple[AbstractLayer, ...]
    _text: str = field(compare=False)

    def __init__(self, text: str | Formula) -> None:
        if isinstance(text, Formula):
            layers, normal_form = text.layers, str(text)
        else:
            tree = parse_formula(text)
            layers, normal_form, _ = _build(tree, str.__str__(text))  # also of an enum's member
        # the only way to set the fields of a frozen dataclass
        object.__setattr__(self, "layers", layers)
        object.__setattr__(self, "_text", normal_form)

    def __str__(self) -> str:
        """Return the normal form; parsing it gives the same formula, and the same normal form."""
        return self._text

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._text!r})"

    def __len__(self) -> int:
        """Return the number of layers."""
        return len(self.layers)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._text,)


def parse_base(text: str | AbstractBase) -> AbstractBase:
    """Build the base distribution that a text such as ``student_t[df=3]`` names.

    Raises
    ------
    FormulaError
        If the text is not one word with its options, or names no base or no option of it.
    """
    if isinstance(text, AbstractBase):
        return text
    tree = parse_formula(text)
    source = str.__str__(text)
    if not isinstance(tree, Word):
        raise FormulaError(
            "A base is one word, with options in brackets if need be.",
            source,
            (0, len(source)),
            f"The bases are: {', '.join(BASES)}.",
        )
    return _instance(tree, source, _base_class)[0]


def base_text(base: AbstractBase) -> str | None:
    """The text that names a base, ``student_t[df=3.0]``; None for one of the user's own."""
    if type(base) not in BASES.values():
        return None
    options = ((f.name, getattr(base, f.name), f.default) for f in fields(base))  # type: ignore[arg-type]
    given = ",".join(
        f"{name}={_print(value)}" for name, value, default in options if value != default
    )
    return f"{base.word}[{given}]" if given else base.word


def _base_class(word: str) -> type[AbstractBase]:
    try:
        return BASES[word.lower()]
    except KeyError:
        near = difflib.get_close_matches(word.lower(), BASES, n=1)
        hint = f"Did you mean {quote(near[0])}? " if near else ""
        raise FormulaError(
            f"There is no base {quote(word)}.",
            word,
            (0, len(word)),
            f"{hint}The bases are: {', '.join(BASES)}.",
        ) from None


class _Part(NamedTuple):
    """What a node of the tree stands for."""

    layers: tuple[AbstractLayer, ...]
    text: str  # normal form
    is_atom: bool  # whether a count may follow `text` without parentheses


def _build(node: Node, source: str) -> _Part:
    """Build the layers of a node and its normal form; `source` is what errors show."""
    match node:
        case Word():
            return _build_word(node, source)
        case Repeat():
            body = _build(node.body, source)
            if node.count == 1:
                return body
            text = body.text if body.is_atom else f"({body.text})"
            return _Part(body.layers * node.count, f"{text}*{node.count}", is_atom=False)
        case Series():
            parts = [_build(term, source) for term in node.terms]
            layers = tuple(layer for part in parts for layer in part.layers)
            return _Part(layers, "-".join(part.text for part in parts), is_atom=False)


def _build_word(node: Word, source: str) -> _Part:
    layer, text = _instance(node, source, layer_class)
    return _Part((layer,), text, is_atom=True)


def _instance(node: Word, source: str, class_of: Callable[[str], Any]) -> tuple[Any, str]:
    """Build what a word with options stands for, and its normal form."""
    try:
        cls = class_of(source[slice(*node.word_span)])
    except FormulaError as error:
        raise FormulaError(error.reason, source, node.word_span, error.hint) from None
    accepted = options_of(cls)
    given = {option.name: _value(option, cls, accepted, source) for option in node.options}
    try:
        built = cls(**given)
    except ValueError as error:
        span = node.word_span
        if node.options:
            span = (node.options[0].name_span[0], node.options[-1].value_span[1])
        raise FormulaError(
            f"{quote(cls.word)} does not accept this: {error}", source, span, _list(accepted)
        ) from error
    # what was written, not what the class made of it: this is sure to parse again
    written = ",".join(
        f"{name}={_print(given[name])}"
        for name, option in accepted.items()
        if name in given and given[name] != option.default
    )
    return built, f"{cls.word}[{written}]" if written else cls.word


def _value(option: Option, cls: type[Any], accepted: dict[str, LayerOption], source: str) -> Value:
    """Return the value of an option in the type of its field."""
    if option.name not in accepted:
        raise _unknown_option(option, cls, accepted, source)
    expected = accepted[option.name].type
    if expected is float and type(option.value) is int:
        return float(option.value)
    if type(option.value) is expected:
        return option.value
    got = _source(option.value_span, source)
    raise FormulaError(
        f"Option {quote(option.name)} of {quote(cls.word)} must be {_KINDS[expected]}, "
        f"got {quote(got)}.",
        source,
        option.value_span,
        _list(accepted),
    )


def _unknown_option(
    option: Option, cls: type[Any], accepted: dict[str, LayerOption], source: str
) -> FormulaError:
    reason = f"{quote(cls.word)} has no option {quote(option.name)}."
    hint = _list(accepted) if accepted else f"It has no options at all: write {quote(cls.word)}."
    near = difflib.get_close_matches(option.name, accepted, n=1)
    if near:
        hint = f"Did you mean {quote(near[0])}? {hint}"
    return FormulaError(reason, source, option.name_span, hint)


def _list(accepted: dict[str, LayerOption]) -> str:
    return f"Its options are: {', '.join(map(str, accepted.values()))}." if accepted else ""


def _print(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else repr(value)


def _source(span: Span, source: str) -> str:
    return source[span[0] : span[1]]
