"""The README is true."""

from __future__ import annotations

import re
import sys
import warnings
from pathlib import Path
from typing import Any

import pymc as pm
import pytensor
import pytest

import pmflow as pmf
from pmflow.flows.catalogue import words
from pmflow.ladder import climb as auto
from pmflow.ladder.rungs import GaussianRung

README = (Path(__file__).parents[1] / "README.md").read_text()


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)
    assert found
    return found.group(1)


def test_the_example_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sample = pm.sample

    def short(**kwargs: Any) -> Any:
        kwargs |= {"draws": 20, "tune": 20, "chains": 1, "progressbar": False}
        return sample(**kwargs, step=pm.Metropolis())

    monkeypatch.setattr(pm, "sample", short)
    monkeypatch.setattr(auto, "RUNGS", (GaussianRung(),))  # the Gaussian is there at once
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert "pmf.fit(model=model" in blocks[0]
    code = "\n".join(blocks).replace("10_000", "20").replace("5_000", "20")
    with pytensor.config.change_flags(mode="FAST_COMPILE", cxx=""), warnings.catch_warnings():
        warnings.simplefilter("ignore", pmf.errors.FitWarning)
        exec(code, {})
    shown = capsys.readouterr().out
    assert "-> Gaussian" in shown
    assert "Verdict: " in shown
    assert "wasserstein" in shown
    assert "intercept" in shown


def test_the_error_is_what_is_printed() -> None:
    with pytest.raises(pmf.errors.FormulaError) as caught:
        pmf.Formula("scale-panar*4-loc")
    assert str(caught.value) == block("text").rstrip("\n")


def test_the_table_has_every_layer() -> None:
    cells = re.findall(r"^\| (`\w.*?) \|", README, flags=re.MULTILINE)
    rows = {word for cell in cells for word in re.findall(r"`(\w+)", cell)}
    assert rows == set(words()) - {"householder"}


def test_the_linked_files_exist() -> None:
    root = Path(__file__).parents[1]
    for link in re.findall(r"\]\(((?!http)[^)]+)\)", README):
        assert (root / link).exists(), link


def test_the_python_it_asks_for_is_the_one_of_the_package() -> None:
    assert "Python 3.12" in README
    assert sys.version_info >= (3, 12)
