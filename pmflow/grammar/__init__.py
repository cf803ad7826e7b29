"""The grammar of formulas: text to a tree with spans, and how to complain about it."""

from pmflow.grammar.characters import is_word, quote
from pmflow.grammar.limits import MAX_DEPTH, MAX_LAYERS, MAX_NUMBER_LENGTH, MAX_TEXT_LENGTH
from pmflow.grammar.parser import parse_formula
from pmflow.grammar.tree import Node, Option, Repeat, Series, Span, Value, Word, count_layers

__all__ = [
    "MAX_DEPTH",
    "MAX_LAYERS",
    "MAX_NUMBER_LENGTH",
    "MAX_TEXT_LENGTH",
    "Node",
    "Option",
    "Repeat",
    "Series",
    "Span",
    "Value",
    "Word",
    "count_layers",
    "is_word",
    "parse_formula",
    "quote",
]
