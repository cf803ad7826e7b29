"""The pages on other packages: their code runs, and what they say of formulas and names is so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pymc as pm
import pytest
import xarray as xr

import pmflow as pmf
from pmflow.flows.formula import Formula

DOCS = Path(__file__).parents[1] / "docs"
RNG = np.random.default_rng(1)


def blocks(title: str) -> str:
    """The code below a title of the page of integrations."""
    page = (DOCS / "integrations.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    return "\n".join(re.findall(r"```python\n(.*?)```", section, re.DOTALL))


@pytest.fixture(scope="module")
def model() -> pm.Model:
    with pm.Model(coords={"school": list("abc")}) as model:
        mu = pm.Normal("mu", 0, 2)
        effect = pm.Normal("effect", mu, 1, dims="school")
        pm.Normal("y", effect[np.repeat(range(3), 10)], 0.5, observed=RNG.normal(size=30))
    return model


@pytest.fixture(scope="module")
def names(model: pm.Model) -> dict[str, Any]:
    approx = pmf.fit(model=model, random_seed=1, progressbar=False)
    return {"pm": pm, "pmf": pmf, "az": az, "model": model, "approx": approx}


def test_pymc(names: dict[str, Any]) -> None:
    exec(blocks("PyMC"), names)
    idata = names["idata"]
    assert idata["posterior"].sizes["chain"] == 4
    assert idata["posterior_predictive"]["y"].shape == (4, 1_000, 30)
    assert idata["log_likelihood"]["y"].shape == (4, 1_000, 30)


def test_nutpie(names: dict[str, Any]) -> None:
    nutpie = pytest.importorskip("nutpie")
    found = {}

    def sample(compiled: Any) -> xr.DataTree:
        found["tree"] = nutpie.sample(
            compiled, draws=200, tune=200, chains=2, seed=1, progress_bar=False
        )
        return found["tree"]

    code = blocks("nutpie").replace("nutpie.sample(compiled)", "short(compiled)")
    exec(code, {**names, "short": sample})
    assert found["tree"]["posterior"]["effect"].dims == ("chain", "draw", "school")


@pytest.mark.filterwarnings("ignore:For backward compatibility:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Bambi's interpret plotting functions:FutureWarning")
def test_bambi() -> None:
    pytest.importorskip("bambi")
    data = pd.DataFrame({"x": RNG.normal(10, 2, 40), "group": list("abcd" * 10)})
    data["y"] = 3 + 2.5 * data["x"] + RNG.normal(size=40)
    code = "import pmflow as pmf\n" + blocks("Bambi").split("def finish")[0]
    code = code.replace("fit(model=model)", "fit(model=model, random_seed=1, progressbar=False)")
    names: dict[str, Any] = {"data": data, "new_data": data.head(2)}
    exec(code, names)
    assert names["idata"]["posterior"]["mu"].shape == (4, 1_000, 2)
    plt.close("all")


class TestArviz:
    def test_all_columns_of_a_summary_are_there(self, names: dict[str, Any]) -> None:
        table = az.summary(names["approx"].sample(500, chains=4, random_seed=1), kind="all")
        assert not table.isna().any(axis=None)
        assert (table["r_hat"].astype(float) < 1.02).all()

    def test_leave_one_out_is_that_of_nuts(self, names: dict[str, Any]) -> None:
        tree = names["approx"].sample(1_000, chains=4, random_seed=1, log_likelihood=True)
        nuts = pm.sample(1_000, model=names["model"], chains=2, random_seed=1, progressbar=False)
        pm.compute_log_likelihood(nuts, model=names["model"], progressbar=False)
        table = az.compare({"flow": tree, "nuts": nuts})
        assert abs(table.loc["flow", "elpd"] - table.loc["nuts", "elpd"]) < 0.2

    def test_the_names_of_the_page_are_those_of_arviz(self) -> None:
        page = (DOCS / "integrations.md").read_text(encoding="utf-8")
        named = set(re.findall(r"`az\.(\w+)", page))
        assert {"summary", "loo", "compare", "plot_forest"} <= named
        assert not [name for name in named if not hasattr(az, name)]


def test_formulas_of_those_who_come_from_elsewhere_are_formulas() -> None:
    page = (DOCS / "coming_from.md").read_text(encoding="utf-8")
    rows = [row.split(" | ")[-1] for row in page.splitlines() if row.startswith("| ")]
    found = re.findall(r"`'(?:nfvi=)?([^']+)'`", "\n".join(rows))
    assert len(found) > 15
    for text in found:
        assert str(Formula(text))
