"""A posterior of many dimensions with two modes: no one Gaussian is called reliable."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest

import pmflow as pmf

DIM, AT, SD, SHARE = 45, 0.5, 0.1, 0.1


@pytest.mark.slow
def test_no_mode_is_missed() -> None:
    """A tenth of a uniform prior's evidence is around one point, the rest around another."""
    with pm.Model() as model:
        x = pm.Uniform("x", -2.0, 2.0, shape=DIM)
        parts = [
            pt.log(share) + pm.logp(pm.Normal.dist(at, SD), x).sum()
            for share, at in ((SHARE, AT), (1 - SHARE, -AT))
        ]
        pm.Potential("two", pm.math.logsumexp(pt.stack(parts)))
    approx = pmf.fit(model=model, random_seed=1, progressbar=False)
    by_name = {rung.formula: rung for rung in approx.ladder.rungs}
    assert "several modes" in by_name["sparse Gaussian"].left_out
    assert approx.diagnosis.verdict == "reliable"
    assert abs(approx.diagnosis.log_evidence + DIM * np.log(4.0)) < 0.05
    draws = np.asarray(approx.sample(2_000, random_seed=1)["posterior"]["x"])[0]
    assert abs((draws.mean(1) > 0).mean() - SHARE) < 0.02
