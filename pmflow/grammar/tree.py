"""The tree of a formula, with the places of its parts in the text. Knows no layer."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Node", "Option", "Repeat", "Series", "Span", "Value", "Word", "count_layers"]

type Span = tuple[int, int]
type Value = int | float | bool | str
type Node = Word | Repeat | Series


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
class Series:
    """Two or more terms, joined by ``-``; the first is applied first."""

    terms: tuple[Node, ...]
    span: Span


def count_layers(node: Node) -> int:
    """Return how many layers a tree stands for, without building them."""
    match node:
        case Word():
            return 1
        case Repeat():
            return node.count * count_layers(node.body)
        case Series():
            return sum(map(count_layers, node.terms))
