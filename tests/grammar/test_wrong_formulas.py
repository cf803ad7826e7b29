"""Formulas that are none: what they say, before anything is compiled."""

# wrong types are the subject
# mypy: disable-error-code="misc, assignment, arg-type, call-overload"

from __future__ import annotations

import pytest
from wrong import NO_FORMULA, Rows, check

import pmflow as pmf
from pmflow.errors import FormulaError
from pmflow.flows.catalogue import layer_class, options_of, words

ROWS = Rows()
add, add_all = ROWS.add, ROWS.add_all

for label, value in NO_FORMULA.items():
    add(f"Formula({label})", lambda w, v=value: pmf.Formula(v), FormulaError)
add("Formula: a suggestion", lambda w: pmf.Formula("plannar"), FormulaError, "Did you mean")
add("Formula: the list", lambda w: pmf.Formula("nope"), FormulaError, "The layers are: bend, bnaf,")
MAY_BE_ZERO = ("lu seed", "perm seed", "poly degree", "spline hidden")
for word in sorted({layer_class(w).word for w in words()}):
    for name, option in options_of(layer_class(word)).items():
        wrong: dict[type, list[str]] = {
            int: ["1.5", "true", "tanh", "-1", *([] if f"{word} {name}" in MAY_BE_ZERO else ["0"])],
            float: ["true", "tanh", "-1", "0"],
            bool: ["5", "tanh"],
            str: ["5", "true", "nope"],
        }
        for bad in wrong[option.type]:
            text = f"{word}[{name}={bad}]"
            add(
                f"Formula({text})",
                lambda w, text=text: pmf.Formula(text),
                FormulaError,
                name,
                "ts options are",
            )
add("Formula: an option of inf", lambda w: pmf.Formula("spline[bound=1e999]"), FormulaError)

for text, words_of in {
    "lowrank[rank=1000000]": ("rank must be at most 200", "got 1000000"),
    "sylvester[m=1000000]": ("m must be at most 100", "got 1000000"),
    "maf[depth=1000000]": ("depth must be from 1 to 50", "got 1000000"),
    "poly[degree=1000000]": ("degree must be from 0 to 10",),
    "poly[terms=1000000]": ("terms must be from 1 to 20",),
    "spline[bins=1000000]": ("bins must be from 2 to 500",),
}.items():
    add(f"Formula({text})", lambda w, t=text: pmf.Formula(t), FormulaError, "^^^", *words_of)


@pytest.mark.parametrize("name", ROWS.table)
def test_what_is_wrong_is_said_before_anything_is_compiled(name: str) -> None:
    check(ROWS.table[name])
