"""Which classes the catalogue takes in, and what it says to the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from pmflow.errors import FormulaError, LayerError
from pmflow.flows.base import AbstractLayer
from pmflow.flows.catalogue import (
    BUILT_IN,
    LayerOption,
    _preserved,
    layer_class,
    options_of,
    register,
    words,
)
from pmflow.flows.formula import Formula
from pmflow.flows.layers.householder import Householder
from pmflow.flows.layers.loc import Loc

LISTED = (
    "bend, bnaf, coupling, hh, householder, iaf, loc, lowrank, lu, maf, naf, perm, planar, poly, "
    "radial, reverse, scale, sinh, sparse, spline, sylvester, tril"
)


@pytest.fixture(autouse=True)
def preserved() -> Iterator[None]:
    with _preserved():
        yield


def make(
    word: object = "shear",
    aliases: object = (),
    name: str = "Shear",
    fields: dict[str, tuple[Any, Any]] | None = None,
    module: str = __name__,
) -> type[Loc]:
    """Make a layer class with the given word and the given fields (type, default)."""
    fields = fields or {}
    namespace = {
        "__module__": module,
        "__qualname__": name,
        "__annotations__": {field: kind for field, (kind, _) in fields.items()},
        "word": word,
        "aliases": aliases,
        **{field: default for field, (_, default) in fields.items()},
    }
    return dataclass(frozen=True)(type(name, (Loc,), namespace))


def refusal(cls: Any) -> str:
    with pytest.raises(LayerError) as caught:
        register(cls)
    return str(caught.value)


# --------------------------------------------------------------------- what is there
def test_the_words_are_those_of_the_built_in_layers() -> None:
    assert words() == tuple(LISTED.split(", "))


@pytest.mark.parametrize("cls", BUILT_IN, ids=lambda cls: cls.__name__)
def test_a_built_in_layer_is_found_by_its_word(cls: type[AbstractLayer]) -> None:
    assert layer_class(cls.word) is cls


def test_an_alias_stands_for_the_same_class() -> None:
    assert layer_class("householder") is Householder


def test_case_does_not_matter_in_a_lookup() -> None:
    assert layer_class("LOC") is Loc


def test_an_unknown_word_is_answered_by_the_nearest_and_all_words() -> None:
    with pytest.raises(FormulaError) as caught:
        layer_class("scal")
    assert caught.value.hint == f"Did you mean 'scale'? The layers are: {LISTED}."


# ------------------------------------------------------------------------- registering
def test_register_returns_the_class() -> None:
    cls = make()
    assert register(cls) is cls


def test_a_registered_layer_can_be_used_in_a_formula() -> None:
    cls = register(make("shear"))
    assert Formula("scale-shear").layers[1] == cls()


def test_register_is_a_decorator() -> None:
    @register
    @dataclass(frozen=True)
    class Twist(Loc):
        word: ClassVar[str] = "twist"

    assert layer_class("twist") is Twist


def test_the_aliases_are_registered_too() -> None:
    cls = register(make("shear", ("skew",)))
    assert layer_class("skew") is cls


def test_a_class_of_the_same_name_is_replaced() -> None:
    register(make())
    again = register(make())
    assert layer_class("shear") is again


def test_replacing_a_class_forgets_its_old_words() -> None:
    register(make("shear", ("skew",)))
    register(make("slant"))
    assert {"shear", "skew"}.isdisjoint(words())


def test_a_refused_class_changes_nothing() -> None:
    register(make("shear", ("skew",)))
    before = words()
    refusal(make("loc"))
    assert words() == before


def test_what_was_registered_inside_is_forgotten_outside() -> None:
    with _preserved():
        register(make())
    assert "shear" not in words()


# ---------------------------------------------------------------------------- refusals
def half_done() -> type:
    @dataclass(frozen=True)
    class HalfDone(AbstractLayer):
        word: ClassVar[str] = "half"

    return HalfDone


def undecorated() -> type:
    class Bare(Loc):
        word: ClassVar[str] = "bare"
        size: int = 3

    return Bare


def without_eq() -> type:
    @dataclass(frozen=True, eq=False)
    class NoEq(Loc):
        word: ClassVar[str] = "noeq"

    return NoEq


REFUSED: dict[str, tuple[Callable[[], object], list[str]]] = {
    "no layer": (lambda: int, ["subclass of AbstractLayer", "got <class 'int'>", "Derive it"]),
    "no class": (lambda: "loc", ["subclass of AbstractLayer", "got 'loc'"]),
    "an instance": (lambda: Loc(), ["got Loc()", "Register the class, not an instance"]),
    "abstract": (half_done, ["HalfDone lacks: forward, init_params, inverse, param_shapes"]),
    "no dataclass": (undecorated, ["Bare is not a dataclass itself", "@dataclass(frozen=True)"]),
    "eq=False": (without_eq, ["NoEq is one without frozen=True and eq=True"]),
    "upper-case word": (lambda: make("Shear"), ["got 'Shear'", "ClassVar[str] = 'shear'"]),
    "word with a minus": (lambda: make("a-b"), ["got 'a-b'"]),
    "word of digits": (lambda: make("2d"), ["got '2d'"]),
    "non-ASCII word": (lambda: make("möbius"), ["got 'möbius'"]),
    "empty word": (lambda: make(""), ["got ''"]),
    "no word": (lambda: make(None), ["got None"]),
    "aliases as text": (lambda: make(aliases="skew"), ["tuple of lower-case words", "got 'skew'"]),
    "upper-case alias": (lambda: make(aliases=("Skew",)), ["got ('Skew',)"]),
    "taken word": (lambda: make("loc"), ["'loc' already stands for pmflow.flows.layers.loc.Loc"]),
    "taken alias": (lambda: make("householder"), ["'householder' already stands for"]),
    "alias that is taken": (lambda: make(aliases=("hh",)), ["'hh' already stands for"]),
    "inherited word": (lambda: make(Loc.word), ["Choose another word; taken are: bend, "]),
    "same name, other module": (
        lambda: make("loc", name="Loc", module="__main__"),
        ["'loc' already stands for pmflow.flows.layers.loc.Loc"],
    ),
    "type list": (
        lambda: make(fields={"sizes": (list[int], ())}),
        ["Option 'sizes' of Shear", "int, float, bool, str", "got list[int]"],
    ),
    "type unknown text": (
        lambda: make(fields={"size": ("int | None", None)}),
        ["one of the types int, float, bool, str, got 'int | None'"],
    ),
    "default of another type": (
        lambda: make(fields={"size": (int, 1.5)}),
        ["default of type int, got 1.5"],
    ),
    "bool as int": (lambda: make(fields={"size": (int, True)}), ["default of type int, got True"]),
    "upper-case option": (
        lambda: make(fields={"Size": (int, 1)}),
        ["Option 'Size' of Shear", "case does not matter"],
    ),
    "default with upper case": (
        lambda: make(fields={"act": (str, "ReLU")}),
        ["a lower-case word", "got 'ReLU'"],
    ),
    "text default that reads as a bool": (
        lambda: make(fields={"act": (str, "true")}),
        ["other than true and false", "got 'true'"],
    ),
}


@pytest.mark.parametrize(("build", "parts"), REFUSED.values(), ids=REFUSED)
def test_register_refuses_and_says_why(build: Callable[[], object], parts: list[str]) -> None:
    message = refusal(build())
    assert [part for part in parts if part not in message] == []


def test_an_option_needs_a_default() -> None:
    @dataclass(frozen=True)
    class Needy(Loc):
        word: ClassVar[str] = "needy"
        size: int

    assert "must have a default, got none. Write size: int = ..." in refusal(Needy)


def test_the_whole_refusal_reads() -> None:
    assert refusal(make("loc")) == (
        "The words of Shear must be new, but 'loc' already stands for pmflow.flows.layers.loc.Loc. "
        f"Choose another word; taken are: {LISTED}."
    )


@pytest.mark.parametrize("kind", [TypeError, ValueError], ids=lambda kind: kind.__name__)
def test_a_refusal_is_caught_as(kind: type[Exception]) -> None:
    with pytest.raises(kind):
        register(int)  # type: ignore[type-var]


# ----------------------------------------------------------------------------- options
def test_a_layer_without_fields_has_no_options() -> None:
    assert options_of(Loc) == {}


@pytest.mark.parametrize(
    ("written", "kind", "default"),
    [
        (int, int, 3),
        ("int", int, 3),
        ("'int'", int, 3),
        (float, float, 0.5),
        ("float", float, 1),
        (bool, bool, True),
        ("bool", bool, False),
        (str, str, "tanh"),
        ("str", str, "tanh"),
    ],
    ids=str,
)
def test_an_option_has_the_type_and_default_of_its_field(
    written: Any, kind: Any, default: Any
) -> None:
    cls = make(fields={"x": (written, default)})
    assert options_of(cls) == {"x": LayerOption("x", kind, default)}


def test_options_come_in_the_order_of_the_fields() -> None:
    assert list(options_of(make(fields={"b": (int, 1), "a": (int, 1)}))) == ["b", "a"]


def test_an_option_prints_as_a_formula_would_write_it() -> None:
    assert str(LayerOption("tied", bool, False)) == "tied (bool, default false)"
