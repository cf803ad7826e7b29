"""Classes that are no layers: what they say, before anything is compiled."""

# wrong types are the subject
# mypy: disable-error-code="misc, assignment, arg-type, call-overload"

from __future__ import annotations

import dataclasses

import pytest
from wrong import Rows, check

import pmflow as pmf
from pmflow.errors import LayerError
from pmflow.flows import Householder

ROWS = Rows()
add, add_all = ROWS.add, ROWS.add_all

add_all(
    "register",
    {
        "5": 5,
        "instance": Householder(),
        "class": dict,
        "abstract": pmf.flows.AbstractLayer,
        "subclass without dataclass": type("Sub", (Householder,), {}),
        "taken word": dataclasses.make_dataclass(
            "Taken", [], bases=(Householder,), frozen=True, namespace={"word": "loc"}
        ),
        "no word": dataclasses.make_dataclass(
            "NoWord", [], bases=(Householder,), frozen=True, namespace={"word": "1 2"}
        ),
        "option without default": dataclasses.make_dataclass(
            "Bare",
            [("size", int)],
            bases=(Householder,),
            frozen=True,
            namespace={"word": "bare", "aliases": ()},
        ),
        "option of a list": dataclasses.make_dataclass(
            "Listed",
            [("sizes", tuple, ())],
            bases=(Householder,),
            frozen=True,
            namespace={"word": "listed", "aliases": ()},
        ),
    },
    lambda w, v: pmf.flows.register(v),
    LayerError,
)


@pytest.mark.parametrize("name", ROWS.table)
def test_what_is_wrong_is_said_before_anything_is_compiled(name: str) -> None:
    check(ROWS.table[name])
