"""The demo, with few steps and no machine code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pymc as pm
import pytensor
import pytest

from pmflow import demo
from pmflow.ladder import climb
from pmflow.ladder.rungs import GaussianRung

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Any:
    sample = pm.sample

    def short(*args: Any, **kwargs: Any) -> Any:
        kwargs |= {"tune": 10, "chains": 2, "cores": 1}
        return sample(10, step=pm.Metropolis(model=kwargs["model"]), **kwargs)

    monkeypatch.setattr(pm, "sample", short)
    monkeypatch.setattr(climb, "RUNGS", (GaussianRung(),))
    with pytensor.config.change_flags(mode="FAST_COMPILE", cxx=""):
        yield


FIGURES = {
    "potential_1": ["comparison", "density", "layers", "loss"],
    "eight_schools": ["marginals"],
    "two_groups": ["marginals"],
    "clinics": ["marginals"],
}
SAID = {"potential_1": ("ELBO", "KL divergence left")}


@pytest.mark.parametrize(("name", "figures"), FIGURES.items(), ids=FIGURES.keys())
def test_tables_are_printed_and_figures_written(
    name: str, figures: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo.main([name, "--out", str(tmp_path), "--steps", "8"])
    written = sorted(path.name for path in tmp_path.iterdir())
    assert written == [f"{name}_{figure}.png" for figure in figures]
    shown = capsys.readouterr().out
    for text in SAID.get(name, ("-> Gaussian", "R-hat", "pmf.fit(model=model) beside NUTS")):
        assert text in shown


def test_an_unknown_target_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        demo.main(["potential_9"])
    assert "no target 'potential_9': take any of potential_1" in capsys.readouterr().err
