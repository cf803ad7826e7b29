"""The grammar of formulas, readable as two tables, and what a `Formula` promises."""

from __future__ import annotations

import copy
import doctest
import enum
import pickle
import re
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pmflow.errors import FormulaError
from pmflow.flows.base import AbstractLayer
from pmflow.flows.catalogue import BUILT_IN, _classes, _preserved, register
from pmflow.flows.formula import Formula
from pmflow.flows.layers.householder import Householder
from pmflow.flows.layers.loc import Loc
from pmflow.flows.layers.planar import Planar
from pmflow.flows.layers.radial import Radial
from pmflow.flows.layers.scale import Scale
from pmflow.grammar import (
    MAX_DEPTH,
    MAX_LAYERS,
    MAX_NUMBER_LENGTH,
    MAX_TEXT_LENGTH,
    Repeat,
    Word,
    count_layers,
    parse_formula,
)

LISTED = (
    "bend, bnaf, coupling, hh, householder, iaf, loc, lowrank, lu, maf, naf, p2, perm, planar, "
    "poly, probe, radial, reverse, scale, sinh, sparse, spline, sylvester, tril"
)

PROPERTY = settings(deadline=None, max_examples=200)  # a busy machine is no failure


@dataclass(frozen=True)
class Probe(Loc):
    """A layer with an option of every type."""

    word: ClassVar[str] = "probe"
    aliases: ClassVar[tuple[str, ...]] = ("p2",)

    size: int = 3
    rate: float = 0.5
    tied: bool = False
    act: str = "tanh"

    def __post_init__(self) -> None:
        if self.size == 0:
            raise ValueError("size must not be 0")
        if self.act == "boom":
            raise RuntimeError("the author's own bug")


@pytest.fixture(autouse=True, scope="module")
def probe() -> Iterator[None]:
    with _preserved():
        register(Probe)
        yield


@pytest.fixture
def only_built_in() -> Iterator[None]:
    with _preserved():
        _classes.clear()
        for cls in BUILT_IN:
            register(cls)
        yield


def error_of(text: Any) -> FormulaError:
    with pytest.raises(FormulaError) as caught:
        Formula(text)
    return caught.value


S, L, P, R, H = Scale(), Loc(), Planar(), Radial(), Householder()

# formula -> normal form, layers
VALID: dict[str, tuple[str, list[AbstractLayer]]] = {
    "planar": ("planar", [P]),
    "scale-loc": ("scale-loc", [S, L]),
    "scale-hh*4-loc": ("scale-hh*4-loc", [S, H, H, H, H, L]),
    "planar*4-radial*3": ("planar*4-radial*3", [P] * 4 + [R] * 3),
    # case and space
    "Scale - LOC": ("scale-loc", [S, L]),
    " planar * 2 ": ("planar*2", [P, P]),
    "scale\n-\n\tloc": ("scale-loc", [S, L]),
    "scale\u00a0-\u2003loc": ("scale-loc", [S, L]),
    # aliases
    "householder*2": ("hh*2", [H, H]),
    "HouseHolder": ("hh", [H]),
    # counts
    "planar*1": ("planar", [P]),
    "planar*02": ("planar*2", [P, P]),
    "planar*" + "0" * 200 + "2": ("planar*2", [P, P]),
    # groups
    "(planar*2-radial)*3": ("(planar*2-radial)*3", [P, P, R] * 3),
    "(planar*2)*3": ("(planar*2)*3", [P] * 6),
    "((scale-loc))": ("scale-loc", [S, L]),
    "((planar))*2": ("planar*2", [P, P]),
    "(scale-loc)-planar": ("scale-loc-planar", [S, L, P]),
    "scale-(loc-planar)": ("scale-loc-planar", [S, L, P]),
    "(scale-loc)*1-planar": ("scale-loc-planar", [S, L, P]),
    "(planar*1)*2": ("planar*2", [P, P]),
    "((scale-loc)*1)*2": ("(scale-loc)*2", [S, L] * 2),
    # options
    "probe": ("probe", [Probe()]),
    "probe[size=7]*2": ("probe[size=7]*2", [Probe(size=7)] * 2),
    "P2[ SIZE = 7 , Rate=1 ]": ("probe[size=7,rate=1.0]", [Probe(size=7, rate=1.0)]),
    "probe[act=ReLU,size=7]": ("probe[size=7,act=relu]", [Probe(size=7, act="relu")]),
    "probe[size=3,rate=.5,tied=false,act=tanh]": ("probe", [Probe()]),
    "probe[tied=TRUE]": ("probe[tied=true]", [Probe(tied=True)]),
    "probe[size=-2]": ("probe[size=-2]", [Probe(size=-2)]),
    "probe[size = - 2]": ("probe[size=-2]", [Probe(size=-2)]),
    "probe[rate=1e-3]": ("probe[rate=0.001]", [Probe(rate=1e-3)]),
    "probe[rate=1E+20]": ("probe[rate=1e+20]", [Probe(rate=1e20)]),
    "probe[rate=-2.]": ("probe[rate=-2.0]", [Probe(rate=-2.0)]),
    "(probe[size=7])*2-loc": ("probe[size=7]*2-loc", [Probe(size=7)] * 2 + [L]),
}

# formula -> characters under the caret, part of the message
INVALID: dict[str, tuple[tuple[int, int], str]] = {
    # nothing
    "": ((0, 0), "The formula is empty"),
    "   ": ((0, 3), "The formula is empty"),
    "()": ((0, 2), "nothing between these parentheses"),
    "scale-( )": ((6, 9), "nothing between these parentheses"),
    # joining
    "scale--loc": ((6, 7), "A layer is missing between '-' and this '-'"),
    "scale - - loc": ((8, 9), "A layer is missing between '-' and this '-'"),
    "-scale": ((0, 1), "A layer is missing before this '-'"),
    "(-scale)": ((1, 2), "A layer is missing before this '-'"),
    "scale-": ((5, 6), "A layer is missing after this '-'"),
    "(scale- )*2": ((6, 7), "A layer is missing after this '-'"),
    "scale loc": ((6, 9), "write 'scale-loc'"),
    "planar*2 loc": ((9, 12), "A '-' is missing between '2' and 'loc'"),
    "(scale)(loc)": ((7, 8), "A '-' is missing between ')' and '('"),
    "planar+loc": ((6, 7), "joined by '-'"),
    "scale->loc": ((6, 7), "joined by '-'"),
    "scale\u2013loc": ((5, 6), "EN DASH"),
    "scale.loc": ((5, 9), "joined by '-'"),
    "scale,loc": ((5, 6), "',' stands outside of brackets"),
    "scale=loc": ((5, 6), "'=' stands outside of brackets"),
    # counts
    "planar*": ((6, 7), "The count after this '*' is missing"),
    "planar*-loc": ((6, 7), "The count after this '*' is missing"),
    "planar*0": ((7, 8), "can't be repeated 0 times"),
    "planar*x": ((7, 8), "must be a whole number, got 'x'"),
    "planar*1.5": ((7, 10), "must be a whole number, got '1.5'"),
    "planar*1e3": ((7, 10), "must be a whole number, got '1e3'"),
    "planar*1e-3": ((7, 11), "must be a whole number, got '1e-3'"),
    "planar*4loc": ((7, 11), "must be a whole number, got '4loc'"),
    "planar*(2)": ((7, 8), "must be a whole number, got '('"),
    "planar*-1": ((7, 9), "must be at least 1, got '-1'"),
    "planar* - 1": ((8, 11), "must be at least 1, got '-1'"),
    "planar**2": ((7, 8), "Write 'planar*2'"),
    "planar*2*3": ((8, 10), "Write one count: 'planar*6'"),
    "planar*2*x": ((8, 9), "Write one count"),
    "planar*900*900": ((10, 14), "Write one count, for example 'planar*900'"),
    "2*planar": ((0, 1), "Write 'planar*2'"),
    "loc-2*Planar": ((4, 5), "Write 'Planar*2'"),
    "2planar": ((0, 7), "Write 'planar*2'"),
    "2*(scale-loc)": ((0, 1), "Write '(...)*2'"),
    "2": ((0, 1), "A layer's word should stand here, got '2'"),
    "planar 2": ((7, 8), "Write 'planar*2'"),
    "planar(2)": ((6, 7), "write 'planar*2'"),
    "*2": ((0, 1), "This '*' has no layer to repeat"),
    "scale-*2": ((6, 7), "This '*' has no layer to repeat"),
    "planar^2": ((6, 7), "repeated by '*'"),
    "planar*\u0663": ((7, 8), "digits 0 to 9"),
    "planar*\u00b2": ((7, 8), "digits 0 to 9"),
    # parentheses
    "(planar": ((0, 1), "This '(' is never closed"),
    "(scale-(planar)": ((0, 1), "This '(' is never closed"),
    "scale-(": ((6, 7), "This '(' is never closed"),
    "planar)": ((6, 7), "This ')' closes nothing"),
    ")": ((0, 1), "This ')' closes nothing"),
    "(planar]": ((7, 8), "This ']' closes nothing"),
    "planar]": ((6, 7), "This ']' closes nothing"),
    # options: the syntax
    "probe[]": ((5, 7), "These brackets are empty"),
    "probe[ ]": ((5, 8), "These brackets are empty"),
    "probe[size": ((5, 6), "This '[' is never closed"),
    "probe[size=": ((5, 6), "This '[' is never closed"),
    "probe[size=1": ((5, 6), "This '[' is never closed"),
    "probe[": ((5, 6), "This '[' is never closed"),
    "probe[size=1,": ((5, 6), "This '[' is never closed"),
    "probe[size]": ((6, 10), "Option 'size' has no '='"),
    "probe[size 3]": ((6, 10), "Option 'size' has no '='"),
    "probe[3]": ((6, 7), "write 'probe*3'"),
    "probe[=3]": ((6, 7), "name of an option should stand here, got '='"),
    "probe[size=]": ((6, 11), "Option 'size' has no value"),
    "probe[size=,rate=1]": ((6, 11), "Option 'size' has no value"),
    "probe[size==1]": ((11, 12), "can't begin with '='"),
    "probe[size=-x]": ((11, 13), "can't begin with '-x'"),
    "probe[size=-]": ((11, 12), "can't begin with '-'"),
    "probe[size=1,]": ((12, 13), "An option is missing after this ','"),
    "probe[,size=1]": ((6, 7), "An option is missing before this ','"),
    "probe[size=1,Size=2]": ((13, 17), "Option 'size' is given twice"),
    "probe[size=1 rate=2]": ((13, 17), "After 'size=1' a ',' or a ']' should stand"),
    "probe[size=1)": ((12, 13), "After 'size=1' a ',' or a ']' should stand"),
    "probe[act='relu']": ((10, 11), "Nothing is quoted"),
    "probe{size=1}": ((5, 6), "square brackets"),
    "probe(size=1)": ((5, 6), "options stand in brackets, 'probe[name=value]'"),
    "probe[rate=1.2.3]": ((11, 16), "'1.2.3' is not a number"),
    "probe[rate=1_000]": ((11, 16), "'1_000' is not a number"),
    "probe[rate=.]": ((11, 12), "'.' is not a number"),
    "probe[rate=1e]": ((11, 13), "'1e' is not a number"),
    "probe[rate=1e999]": ((11, 16), "too large for a float"),
    "probe*2[size=1]": ((7, 8), "Options stand before the count"),
    "(probe-loc)[size=1]": ((11, 12), "Options belong to one layer"),
    "probe[size=1][rate=2]": ((13, 14), "one pair of brackets"),
    "[size=1]": ((0, 1), "These options belong to no layer"),
    # options: their meaning
    "probe[Sise=1]": ((6, 10), "Did you mean 'size'? Its options are: size (int, default 3), "),
    "probe[zzz=1]": ((6, 9), "'probe' has no option 'zzz'.\n"),
    "planar[size=1]": ((7, 11), "no options at all: write 'planar'"),
    "probe[size=1.0]": ((11, 14), "'size' of 'probe' must be a whole number, got '1.0'"),
    "probe[size=True]": ((11, 15), "'size' of 'probe' must be a whole number, got 'True'"),
    "probe[size=big]": ((11, 14), "'size' of 'probe' must be a whole number, got 'big'"),
    "probe[rate=true]": ((11, 15), "'rate' of 'probe' must be a number, got 'true'"),
    "probe[rate=inf]": ((11, 14), "'rate' of 'probe' must be a number, got 'inf'"),
    "probe[tied=1]": ((11, 12), "'tied' of 'probe' must be true or false, got '1'"),
    "probe[act=-3]": ((10, 12), "'act' of 'probe' must be a word, got '-3'"),
    "loc-probe[rate=1, size=0]": ((10, 24), "does not accept this: size must not be 0"),
    # words
    "bad-formula": ((0, 3), "There is no layer 'bad'"),
    "scale-Panar*10": ((6, 11), "There is no layer 'Panar'.\n"),
    "panar": ((0, 5), "Did you mean 'planar'?"),
    "planar8": ((0, 7), "Did you mean 'planar*8'?"),
    "HH4-loc": ((0, 3), "Did you mean 'hh*4'?"),
    "nothing": ((0, 7), f"The layers are: {LISTED}."),
    # characters
    "_planar": ((0, 1), "'_' has no meaning in a formula"),
    "planar\u200b": ((6, 7), "it is invisible"),
    "\u0130-loc": ((0, 1), "has no meaning"),  # its lower case is two characters
    "\u212aloc": ((0, 1), "KELVIN SIGN"),  # its lower case is the letter k
    "\ud800": ((0, 1), "U+D800"),
}


# ------------------------------------------------------------------------- the tables
@pytest.mark.parametrize(("text", "layers"), [(t, v[1]) for t, v in VALID.items()], ids=VALID)
def test_a_valid_formula_builds_its_layers_left_to_right(
    text: str, layers: list[AbstractLayer]
) -> None:
    assert list(Formula(text).layers) == layers


@pytest.mark.parametrize(("text", "normal"), [(t, v[0]) for t, v in VALID.items()], ids=VALID)
def test_str_is_the_normal_form(text: str, normal: str) -> None:
    assert str(Formula(text)) == normal


@pytest.mark.parametrize("text", VALID)
def test_the_normal_form_is_its_own_normal_form(text: str) -> None:
    normal = str(Formula(text))
    assert str(Formula(normal)) == normal


@pytest.mark.parametrize("text", VALID)
def test_the_normal_form_builds_the_same_layers(text: str) -> None:
    assert Formula(str(Formula(text))) == Formula(text)


@pytest.mark.parametrize(
    ("text", "span"), [(t, v[0]) for t, v in INVALID.items()], ids=map(ascii, INVALID)
)
def test_the_caret_stands_under_the_culprit(text: str, span: tuple[int, int]) -> None:
    assert error_of(text).span == span


@pytest.mark.parametrize(
    ("text", "part"), [(t, v[1]) for t, v in INVALID.items()], ids=map(ascii, INVALID)
)
def test_the_message_says_what_is_wrong(text: str, part: str) -> None:
    assert part in str(error_of(text))


@pytest.mark.parametrize("text", INVALID, ids=map(ascii, INVALID))
def test_the_error_keeps_the_formula_as_typed(text: str) -> None:
    assert error_of(text).formula == text


@pytest.mark.parametrize("text", INVALID, ids=map(ascii, INVALID))
def test_a_reason_is_one_line(text: str) -> None:
    assert "\n" not in error_of(text).reason


@pytest.mark.parametrize("text", INVALID, ids=map(ascii, INVALID))
def test_an_error_has_a_remedy(text: str) -> None:
    assert error_of(text).hint.endswith(".")


# -------------------------------------------------------------------------- the errors
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "Scale--LOC",
            "A layer is missing between '-' and this '-'.\n"
            "  Scale--LOC\n"
            "        ^\n"
            "Name a layer, or drop the '-'.",
        ),
        (
            "scale-panar*10",
            "There is no layer 'panar'.\n"
            "  scale-panar*10\n"
            "        ^^^^^\n"
            "Did you mean 'planar'? "
            f"The layers are: {LISTED}.",
        ),
        (
            "probe[size=2.5]-loc",
            "Option 'size' of 'probe' must be a whole number, got '2.5'.\n"
            "  probe[size=2.5]-loc\n"
            "             ^^^\n"
            "Its options are: size (int, default 3), rate (float, default 0.5), "
            "tied (bool, default false), act (str, default tanh).",
        ),
    ],
    ids=["double minus", "unknown word", "ill-typed option"],
)
def test_the_whole_message_reads(text: str, message: str) -> None:
    assert str(error_of(text)) == message


@pytest.mark.parametrize("kind", [KeyError, ValueError], ids=lambda kind: kind.__name__)
def test_a_formula_error_is_caught_as(kind: type[Exception]) -> None:
    with pytest.raises(kind):
        Formula("scale--loc")


def test_a_formula_error_survives_pickling() -> None:
    error = error_of("scale--loc")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize(
    ("value", "name"),
    [(None, "NoneType"), (3, "int"), (b"loc", "bytes"), (["loc"], "list"), (Loc(), "Loc")],
    ids=["None", "int", "bytes", "list", "layer"],
)
def test_what_is_no_text_is_refused_by_its_type(value: object, name: str) -> None:
    assert error_of(value).reason == f"A formula must be a str, got {name}."


def test_the_first_of_two_errors_is_reported() -> None:
    assert error_of("scale--loc+planar").span == (6, 7)


def test_an_exception_of_the_layers_author_reaches_the_user() -> None:
    with pytest.raises(RuntimeError, match="the author's own bug"):
        Formula("probe[act=boom]")


def test_the_layers_own_error_is_the_cause() -> None:
    assert repr(error_of("probe[size=0]").__cause__) == "ValueError('size must not be 0')"


def test_a_long_word_is_shortened_in_the_reason() -> None:
    assert len(error_of("x" * 5000).reason) < 80


# -------------------------------------------------------------------------- the limits
def test_as_many_layers_as_allowed_are_built() -> None:
    assert len(Formula(f"loc*{MAX_LAYERS}")) == MAX_LAYERS


@pytest.mark.parametrize(
    ("text", "span"),
    [
        (f"loc*{MAX_LAYERS + 1}", (4, 8)),
        ("loc*" + "9" * 5000, (4, 5004)),
        ("((loc*100)*100)*100", (11, 14)),
        ("(" * 40 + "loc" + "*100)" * 40, (49, 52)),
        ("loc*600-scale*600", (8, 17)),
        ("-".join(["loc"] * (MAX_LAYERS + 1)), (4 * MAX_LAYERS, 4 * MAX_LAYERS + 3)),
    ],
    ids=["count", "huge count", "nested", "nested 40 times", "sum", "written out"],
)
def test_too_many_layers_are_refused_without_building_them(
    text: str, span: tuple[int, int]
) -> None:
    error = error_of(text)
    assert (error.reason, error.span) == ("Up to here the formula has more than 1000 layers.", span)


def test_parentheses_may_nest_as_deep_as_allowed() -> None:
    assert str(Formula("(" * MAX_DEPTH + "loc" + ")" * MAX_DEPTH)) == "loc"


def test_many_groups_side_by_side_are_not_deep() -> None:
    assert len(Formula("-".join(["(loc)"] * (2 * MAX_DEPTH)))) == 2 * MAX_DEPTH


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, MAX_TEXT_LENGTH], ids=["one more", "far more"])
def test_deeper_nesting_is_refused(depth: int) -> None:
    assert error_of("(" * depth).span == (MAX_DEPTH, MAX_DEPTH + 1)


def test_a_long_text_is_refused_and_not_printed() -> None:
    assert len(str(error_of("loc-" * MAX_TEXT_LENGTH))) < 200


def test_a_long_number_is_refused() -> None:
    error = error_of(f"probe[size={'9' * (MAX_NUMBER_LENGTH + 1)}]")
    assert error.reason == "A number has at most 100 characters, got 101."


def test_the_longest_number_fits_a_float() -> None:
    (layer,) = Formula(f"probe[rate={'9' * MAX_NUMBER_LENGTH}]").layers
    assert layer == Probe(rate=1e100)


# ------------------------------------------------------------------------- the object
def test_repr_is_code_that_builds_it() -> None:
    assert repr(Formula("Scale - hh*4 - loc")) == "Formula('scale-hh*4-loc')"


def test_a_formula_of_a_formula_is_equal_to_it() -> None:
    assert Formula(Formula("scale-loc")) == Formula("scale-loc")


def test_a_formula_of_a_formula_keeps_the_written_structure() -> None:
    assert str(Formula(Formula("(planar*2)*3"))) == "(planar*2)*3"


def test_formulas_that_build_the_same_layers_are_equal() -> None:
    assert Formula("planar-planar") == Formula("planar*2")


def test_equal_formulas_have_equal_hashes() -> None:
    assert hash(Formula("planar-planar")) == hash(Formula("planar*2"))


@pytest.mark.parametrize(
    "other",
    ["loc-scale", "scale-loc*2", "scale", "scale-probe"],
    ids=["order", "count", "fewer", "another layer"],
)
def test_formulas_that_build_other_layers_differ(other: str) -> None:
    assert Formula("scale-loc") != Formula(other)


def test_formulas_with_other_options_differ() -> None:
    assert Formula("probe[size=4]") != Formula("probe[size=5]")


def test_a_formula_is_not_its_text() -> None:
    text: object = "loc"
    assert Formula("loc") != text


def test_the_written_structure_is_kept() -> None:
    assert str(Formula("planar-planar")) == "planar-planar"


def test_len_counts_layers() -> None:
    assert len(Formula("(planar*2-radial)*3")) == 9


def test_a_formula_is_immutable() -> None:
    with pytest.raises(FrozenInstanceError):
        Formula("loc").layers = ()  # type: ignore[misc]


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, lambda f: pickle.loads(pickle.dumps(f))],
    ids=["copy", "deepcopy", "pickle"],
)
@pytest.mark.parametrize("text", ["scale-hh*4-loc", "(probe[rate=0.1]*2-loc)*3"])
def test_a_duplicate_is_equal_and_prints_the_same(duplicate: Any, text: str) -> None:
    formula = Formula(text)
    assert (duplicate(formula), str(duplicate(formula))) == (formula, text)


def test_a_member_of_a_text_enum_stands_for_its_value() -> None:
    class Choice(str, enum.Enum):  # noqa: UP042 - str() of this older kind is 'Choice.FLOW'
        FLOW = "scale-loc"

    assert str(Formula(Choice.FLOW)) == "scale-loc"


# ------------------------------------------------------------------------ the grammar
def test_the_grammar_knows_no_layer() -> None:
    assert count_layers(parse_formula("no-such*2-(layer[option=1]-here)*3")) == 9


def test_a_word_of_the_tree_is_in_lower_case() -> None:
    assert parse_formula("LOC") == Word("loc", (), (0, 3), (0, 3))


def test_spans_count_characters_as_typed() -> None:
    tree = parse_formula("  ( Loc - P[a=1] ) * 2 ")
    assert isinstance(tree, Repeat)
    assert (tree.span, tree.body.span) == ((4, 22), (4, 16))


# --------------------------------------------------------------------------- the page
PAGE = (Path(__file__).parents[2] / "docs" / "formula.md").read_text(encoding="utf-8")
SESSIONS = re.findall(r"^```pycon\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.usefixtures("only_built_in")
@pytest.mark.parametrize("session", SESSIONS, ids=lambda session: session.splitlines()[0])
def test_the_page_shows_real_output(session: str) -> None:
    test = doctest.DocTestParser().get_doctest(session, {"Formula": Formula}, "page", None, 0)
    assert doctest.DocTestRunner(verbose=False).run(test).failed == 0


@pytest.mark.parametrize("cls", BUILT_IN, ids=lambda cls: cls.__name__)
def test_every_layer_has_a_row_on_the_page(cls: type[AbstractLayer]) -> None:
    named = ", ".join(f"`{word}`" for word in (cls.word, *cls.aliases))
    assert f"| {named} | `{cls.__name__}` |" in PAGE


# ------------------------------------------------------------------------ any formula
type Piece = tuple[list[str], tuple[AbstractLayer, ...], bool]  # tokens, layers, is an atom

WORDS: dict[str, AbstractLayer] = {
    "loc": L,
    "scale": S,
    "planar": P,
    "radial": R,
    "hh": H,
    "householder": H,
}
OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    "size": st.integers(-(10**30), 10**30).filter(bool),
    "rate": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-99, 99).map(float),
    "tied": st.booleans(),
    "act": st.sampled_from(["relu", "tanh", "elu_2"]),
}


def write(options: dict[str, Any]) -> list[str]:
    tokens = [t for name, value in options.items() for t in (",", name, "=", str(value))]
    return ["[", *tokens[1:], "]"] if tokens else []


def atom(piece: Piece) -> Piece:
    tokens, layers, is_atom = piece
    return piece if is_atom else (["(", *tokens, ")"], layers, True)


def grow(pieces: st.SearchStrategy[Piece]) -> st.SearchStrategy[Piece]:
    def repeat(piece: Piece, count: int) -> Piece:
        tokens, layers, _ = atom(piece)
        return [*tokens, "*", str(count)], layers * count, False

    def chain(parts: list[Piece]) -> Piece:
        tokens = [token for part in parts for token in ("-", *part[0])]
        return tokens[1:], tuple(layer for part in parts for layer in part[1]), False

    def group(piece: Piece) -> Piece:
        return ["(", *piece[0], ")"], piece[1], True

    return (
        st.builds(repeat, pieces, st.integers(1, 3))
        | st.lists(pieces, min_size=2, max_size=3).map(chain)
        | pieces.map(group)
    )


pieces: st.SearchStrategy[Piece] = st.recursive(
    st.sampled_from(sorted(WORDS)).map(lambda word: ([word], (WORDS[word],), True))
    | st.fixed_dictionaries({}, optional=OPTIONS).map(
        lambda options: (["probe", *write(options)], (Probe(**options),), True)
    ),
    grow,
    max_leaves=6,
)


@st.composite
def formulas(draw: st.DrawFn) -> tuple[str, tuple[AbstractLayer, ...]]:
    """Return a random formula and, from the same choices but not by parsing, its layers."""
    tokens, layers, _ = draw(pieces)
    assume(len(layers) <= MAX_LAYERS)
    space = st.sampled_from(["", "", "", " ", "\t", "\n ", "\u00a0"])
    case = st.sampled_from([str.lower, str.upper, str.title])
    return draw(space) + "".join(draw(case)(token) + draw(space) for token in tokens), layers


@PROPERTY
@given(formulas())
def test_any_formula_builds_what_it_says(case: tuple[str, tuple[AbstractLayer, ...]]) -> None:
    text, layers = case
    assert Formula(text).layers == layers


@PROPERTY
@given(formulas())
def test_any_formula_is_what_its_normal_form_parses_to(
    case: tuple[str, tuple[AbstractLayer, ...]],
) -> None:
    formula = Formula(case[0])
    assert Formula(str(formula)) == formula


@PROPERTY
@given(formulas())
def test_any_normal_form_is_stable(case: tuple[str, tuple[AbstractLayer, ...]]) -> None:
    normal = str(Formula(case[0]))
    assert str(Formula(normal)) == normal


@PROPERTY
@given(formulas())
def test_any_normal_form_is_lower_case_without_space(
    case: tuple[str, tuple[AbstractLayer, ...]],
) -> None:
    normal = str(Formula(case[0]))
    assert normal == "".join(normal.lower().split())


FRAGMENTS = ["planar", "loc", "probe", "size", "true", *"-*()[]=,.0123456789 eE+_'"]


FUZZ = settings(deadline=None, max_examples=300, parent=settings.get_profile("fast"))
if settings.get_current_profile_name() == "thorough":
    FUZZ = settings.get_profile("thorough")  # 10,000 examples


@pytest.mark.slow
@FUZZ
@given(
    st.text(max_size=300)
    # near to a formula: a good one with characters put in, taken out, doubled
    | st.builds(
        lambda text, at, junk, cut: text[: at % (len(text) + 1)] + junk + text[at + cut :],
        st.sampled_from(["scale-hh*4-loc", "(planar*2-radial)*3", "spline[bins=4,bound=3.5]"]),
        st.integers(0, 30),
        st.text(max_size=5) | st.sampled_from(["*999999999", "((((", "[[", "--", "\u0130", "\x00"]),
        st.integers(0, 9),
    )
    # nested, counted and long
    | st.builds(
        lambda deep, count, times: "(" * deep + "loc" + f"*{count})" * deep + "-loc" * times,
        st.integers(0, 300),
        st.integers(-3, 10**12),
        st.integers(0, 3_000),
    )
)
@example("((((((((loc*999999999)*999999999)*999999999)*999999999)*999999999)*9)*9)*9)")
@example("loc*" + "9" * 4_000)
@example("\U0001f600" * 1_000)
@example("scale\ud800-loc")
@example("spline[bins=" + "1" * 90 + "]")
@example("iaf[hidden=1,hidden=2]" * 100)
def test_any_text_is_a_formula_or_a_formula_error_at_once(text: str) -> None:
    tracemalloc.start()
    began = time.perf_counter()
    formula, said = None, ""
    try:
        formula = Formula(text)
    except FormulaError as error:
        said = str(error)
    finally:
        seconds = time.perf_counter() - began
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    if formula is None:
        assert said
    else:
        assert 1 <= len(formula) <= MAX_LAYERS
        assert Formula(str(formula)) == formula
    assert seconds < 10  # a hang, not a slow machine
    assert most < 50 * 2**20


@PROPERTY
@given(st.text() | st.lists(st.sampled_from(FRAGMENTS), max_size=20).map("".join))
@example("(" * MAX_TEXT_LENGTH)
@example("9" * MAX_TEXT_LENGTH)
@example("1e-" * 3000)
@example("x" * MAX_TEXT_LENGTH)
@example(" " * MAX_TEXT_LENGTH)
def test_any_text_is_a_formula_or_a_formula_error_within_it(text: str) -> None:
    try:
        Formula(text)
    except FormulaError as error:
        start, stop = error.span or (-1, -1)
    else:
        start, stop = 0, 0
    assert 0 <= start <= stop <= len(text)
