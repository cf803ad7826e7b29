"""The catalogue: which class each word of a formula stands for. The only such list."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pmflow.errors import FormulaError, LayerError
from pmflow.flows.base import AbstractLayer
from pmflow.flows.layers.bend import Bend
from pmflow.flows.layers.bnaf import BNAF
from pmflow.flows.layers.coupling import Coupling
from pmflow.flows.layers.householder import Householder
from pmflow.flows.layers.iaf import IAF
from pmflow.flows.layers.loc import Loc
from pmflow.flows.layers.lowrank import LowRank
from pmflow.flows.layers.lu import LU
from pmflow.flows.layers.maf import MAF
from pmflow.flows.layers.naf import NAF
from pmflow.flows.layers.perm import Permutation
from pmflow.flows.layers.planar import Planar
from pmflow.flows.layers.poly import Polynomial
from pmflow.flows.layers.radial import Radial
from pmflow.flows.layers.reverse import Reverse
from pmflow.flows.layers.scale import Scale
from pmflow.flows.layers.sinh import SinhArcsinh
from pmflow.flows.layers.sparse import Sparse
from pmflow.flows.layers.spline import Spline
from pmflow.flows.layers.sylvester import Sylvester
from pmflow.flows.layers.tril import Tril
from pmflow.grammar import is_word, quote

__all__ = ["BUILT_IN", "LayerOption", "layer_class", "options_of", "register", "words"]

BUILT_IN = (
    Loc,
    Scale,
    LowRank,
    Tril,
    Sparse,
    LU,
    Householder,
    Permutation,
    Reverse,
    SinhArcsinh,
    Planar,
    Radial,
    Sylvester,
    Bend,
    IAF,
    MAF,
    NAF,
    BNAF,
    Polynomial,
    Coupling,
    Spline,
)
"""The layers of pmflow. A new one is added here, and nowhere else."""

OPTION_TYPES = (int, float, bool, str)
"""What an option may be: what the grammar can write."""


@dataclass(frozen=True)
class LayerOption:
    """One option of a layer: a field of its dataclass."""

    name: str
    type: type[int] | type[float] | type[bool] | type[str]
    default: int | float | bool | str

    def __str__(self) -> str:
        default = str(self.default).lower() if self.type is bool else self.default
        return f"{self.name} ({self.type.__name__}, default {default})"


_classes: dict[str, type[AbstractLayer]] = {}  # every accepted word, aliases included


def register[L: type[AbstractLayer]](cls: L) -> L:
    """Add a layer to the words that a formula may use; also usable as a decorator.

    A class of the same module and qualified name is replaced, so that a notebook cell can be run
    again. Formulas that were built before keep the class they were built with.

    Parameters
    ----------
    cls : type
        A concrete subclass of `AbstractLayer` that is a frozen dataclass, sets a `word` of its
        own, and whose fields, if any, have a default and one of the types ``int``, ``float``,
        ``bool`` and ``str``.

    Returns
    -------
    type
        The class, unchanged.

    Raises
    ------
    LayerError
        If the class is none of that, or its word or an alias belongs to another class.

    Examples
    --------
    ::

        @register
        @dataclass(frozen=True)
        class Shear(AbstractLayer):
            word: ClassVar[str] = "shear"
            ...
    """
    _check_class(cls)
    own_words = _words_of(cls)
    for word in own_words:
        owner = _classes.get(word)
        if owner is not None and _identity(owner) != _identity(cls):
            raise LayerError(
                f"The words of {cls.__name__} must be new, but {quote(word)} already stands for "
                f"{'.'.join(_identity(owner))}. Choose another word; taken are: {_listed()}."
            )
    options_of(cls)
    # nothing is changed before every check has passed
    for word in [word for word, old in _classes.items() if _identity(old) == _identity(cls)]:
        del _classes[word]
    _classes.update(dict.fromkeys(own_words, cls))
    return cls


def words() -> tuple[str, ...]:
    """Every word that a formula accepts, aliases included, in alphabetical order.

    Examples
    --------
    >>> words()[:6]
    ('bend', 'bnaf', 'coupling', 'hh', 'householder', 'iaf')
    """
    return tuple(sorted(_classes))


def layer_class(word: str) -> type[AbstractLayer]:
    """Look up the class that a word or an alias stands for; case does not matter.

    Raises
    ------
    FormulaError
        If there is none; it names the nearest words and all accepted ones.

    Examples
    --------
    >>> layer_class("householder").word
    'hh'
    """
    cls = _classes.get(word.lower())
    if cls is None:
        near = _nearest(word.lower())
        hint = f"Did you mean {near}? " if near else ""
        raise FormulaError(
            f"There is no layer {quote(word)}.",
            word,
            (0, len(word)),
            f"{hint}The layers are: {_listed()}.",
        )
    return cls


def options_of(cls: type[AbstractLayer]) -> dict[str, LayerOption]:
    """Return the options that a layer takes in brackets, by name, in the order of its fields.

    Raises
    ------
    LayerError
        If a field can't be an option: no default, or a type or default that no formula can write.
    """
    return {field.name: _option(cls, field) for field in dataclasses.fields(cls) if field.init}


def _check_class(cls: object) -> None:
    if not (isinstance(cls, type) and issubclass(cls, AbstractLayer)):
        what = (
            "Register the class, not an instance"
            if isinstance(cls, AbstractLayer)
            else ("Derive it from pmflow.flows.AbstractLayer")
        )
        raise LayerError(f"A layer must be a subclass of AbstractLayer, got {cls!r}. {what}.")
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(cls.__abstractmethods__))
        raise LayerError(
            f"A layer must define every abstract method, but {cls.__name__} lacks: {missing}. "
            "Define them, with the signatures of AbstractLayer."
        )
    params = vars(cls).get("__dataclass_params__")  # not inherited: the fields would be missed
    if params is None or not (params.frozen and params.eq):
        got = "not a dataclass itself" if params is None else "one without frozen=True and eq=True"
        raise LayerError(
            f"A layer must be a frozen dataclass, but {cls.__name__} is {got}. "
            "Write @dataclass(frozen=True) above the class, and @register above that."
        )


def _words_of(cls: type[AbstractLayer]) -> tuple[str, ...]:
    """Return the word and the aliases of a class, checked."""
    word: object = getattr(cls, "word", None)
    if not is_word(word):
        raise LayerError(
            f"The word of {cls.__name__} must be a lower-case letter, then letters, digits or '_', "
            f"got {word!r}. Set for example: word: ClassVar[str] = {cls.__name__.lower()!r}."
        )
    aliases: object = cls.aliases
    if not isinstance(aliases, tuple) or not all(map(is_word, aliases)):
        raise LayerError(
            f"The aliases of {cls.__name__} must be a tuple of lower-case words, got {aliases!r}. "
            'Set for example: aliases: ClassVar[tuple[str, ...]] = ("other",).'
        )
    return (cls.word, *aliases)


def _option(cls: type[AbstractLayer], field: dataclasses.Field[Any]) -> LayerOption:
    where = f"Option {field.name!r} of {cls.__name__}"
    if not is_word(field.name):
        raise LayerError(
            f"{where} must be named by a lower-case letter, then letters, digits or '_', because "
            "case does not matter in formulas. Rename the field."
        )
    # with postponed annotations the type is its source text
    written = field.type.strip("'\"") if isinstance(field.type, str) else field.type
    names = ", ".join(t.__name__ for t in OPTION_TYPES)
    for kind in OPTION_TYPES:
        if written in (kind, kind.__name__):
            break
    else:
        raise LayerError(
            f"{where} must have one of the types {names}, got {written!r}. Annotate it with one "
            "of them, or make it a ClassVar if it is not an option."
        )
    default = field.default
    if default is dataclasses.MISSING:
        raise LayerError(
            f"{where} must have a default, got none. Write {field.name}: {kind.__name__} = ..."
        )
    accepted = (int, float) if kind is float else (kind,)
    if type(default) not in accepted:
        raise LayerError(
            f"{where} must have a default of type {kind.__name__}, got {default!r}. "
            "Change the default or the annotation."
        )
    if kind is str and (not is_word(default) or default in ("true", "false")):
        raise LayerError(
            f"{where} must have a default that a formula can write, a lower-case word other than "
            f"true and false, got {default!r}. Rename the choice."
        )
    return LayerOption(field.name, kind, default)


def _identity(cls: type[AbstractLayer]) -> tuple[str, str]:
    return cls.__module__, cls.__qualname__


def _listed() -> str:
    return ", ".join(words())


def _nearest(word: str) -> str:
    """Return what the user may have meant, quoted; empty if nothing is near."""
    stem = word.rstrip("0123456789")
    if stem in _classes:
        return quote(f"{stem}*{word[len(stem) :]}")
    return " or ".join(map(quote, difflib.get_close_matches(word, words(), n=2)))


@contextmanager
def _preserved() -> Iterator[None]:
    """Undo, on leaving, whatever was registered inside: for tests."""
    before = dict(_classes)
    try:
        yield
    finally:
        _classes.clear()
        _classes.update(before)


for _cls in BUILT_IN:
    register(_cls)
