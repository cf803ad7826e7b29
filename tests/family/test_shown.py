"""What an approximation and a ladder say of themselves, as text and on a page."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import override

import numpy as np
import pymc as pm
import pytest

import pmflow as pmf


@pytest.fixture(scope="module")
def model() -> pm.Model:
    with pm.Model() as model:
        location = pm.Normal("a<b>")
        spread = pm.HalfNormal("spread")
        pm.Normal("y", location, spread, observed=np.array([1.0, 2.0, 4.0]))
    return model


@pytest.fixture(scope="module")
def fitted(model: pm.Model) -> pmf.Approximation:
    return pmf.fit(model=model, random_seed=1, progressbar=False)


class Page(HTMLParser):
    """Whether every tag is closed, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.feed(html)

    @override
    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag != "br":
            self.open.append(tag)

    @override
    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    @override
    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_fit_says_what_it_is_of_what_and_how_good(fitted: pmf.Approximation) -> None:
    for text in (type(fitted).__name__, "2 dimensions", "a<b>, spread", fitted.diagnosis.summary):
        assert text in str(fitted)
    assert repr(fitted) == str(fitted)


def test_one_that_was_not_judged_says_how_to(model: pm.Model) -> None:
    approx = pmf.NormalizingFlow("planar*2", model=model)
    assert "planar*2" in str(approx)
    assert "pmflow.diagnose(approx)" in str(approx)
    assert "pmflow.diagnose(approx)" in Page(approx._repr_html_()).text


def test_a_page_has_the_diagnosis_and_what_was_tried(fitted: pmf.Approximation) -> None:
    page = Page(fitted._repr_html_())
    assert not page.open
    for rung in fitted.ladder.rungs:
        assert rung.formula in page.text
        assert rung.found in page.text
    for text in (fitted.diagnosis.verdict, "a<b>", *fitted.diagnosis.reasons):
        assert text in page.text


def test_a_page_has_no_colours_of_its_own(fitted: pmf.Approximation) -> None:
    colours = re.findall(r"(?:color|background)\s*:\s*([^;\"]+)", fitted._repr_html_())
    assert {*colours} == {"inherit", "none"}
