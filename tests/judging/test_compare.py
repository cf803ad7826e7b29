"""compare: errors in units of the reference, one row a number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import pmflow as pmf
from pmflow.errors import ParameterError

ERRORS = ["mean_error", "sd_ratio", "wasserstein", "q05_error", "q95_error"]
MCSE = ["mean_error_mcse", "sd_ratio_mcse"]


def draws_of(values: Any, name: str = "x", **coords: Any) -> xr.Dataset:
    array = np.asarray(values)
    array = array[None] if array.ndim == 1 else array
    return xr.Dataset({name: (("chain", "draw", *coords), array)}, coords=coords)


GRID = np.linspace(-1.0, 1.0, 1_001)


def test_the_columns_are_the_errors() -> None:
    assert list(pmf.compare(draws_of(GRID), draws_of(GRID)).columns) == ERRORS + MCSE


def test_a_table_is_printed_whole_in_80_columns() -> None:
    table = pmf.compare(
        draws_of(GRID, "a_name_of_variables"), draws_of(GRID, "a_name_of_variables")
    )
    for shown in (table, table.round(2), pd.concat([table] * 100)):
        lines = str(shown).splitlines()
        assert max(map(len, lines)) <= 80
        assert len(lines) < 20
        words = {word for name in table.columns for word in name.split("_")}
        assert words <= set(" ".join(lines[:3]).split())
    assert str(table).splitlines()[-1].split()[1:6] == ["0.000", "1.000", "0.000", "0.000", "0.000"]
    assert "Empty" in str(table.iloc[:0])
    np.testing.assert_array_equal(table.round(2)["sd_ratio"], [1.0])


def test_equal_draws_have_no_error() -> None:
    row = pmf.compare(draws_of(GRID), draws_of(GRID)).loc["x", ERRORS]
    np.testing.assert_allclose(row, [0, 1, 0, 0, 0], atol=1e-12)


def test_a_shift_is_seen_in_units_of_the_reference() -> None:
    sd = GRID.std(ddof=1)
    row = pmf.compare(draws_of(GRID + 0.5 * sd), draws_of(GRID)).loc["x", ERRORS]
    np.testing.assert_allclose(row, [0.5, 1, 0.5, 0.5, 0.5], atol=1e-12)


def test_a_scale_is_seen_in_sd_and_tails() -> None:
    sd = GRID.std(ddof=1)
    row = pmf.compare(draws_of(2 * GRID), draws_of(GRID)).loc["x", ERRORS]
    # quantiles of the uniform grid are -0.9 and 0.9; Wasserstein of 2x from x is the mean of |x|
    expected = [0, 2, np.abs(GRID).mean() / sd, -0.9 / sd, 0.9 / sd]
    np.testing.assert_allclose(row, expected, atol=1e-12)


def test_the_numbers_of_draws_may_differ() -> None:
    rng = np.random.default_rng(0)
    row = pmf.compare(draws_of(rng.normal(size=40_000)), draws_of(rng.normal(size=(4, 5_000))))
    # 5 standard errors of the tail quantiles of 20,000 draws, the worst of the columns
    np.testing.assert_allclose(
        row.loc["x", ERRORS], [0, 1, 0, 0, 0], atol=5 * 2.1 / np.sqrt(20_000)
    )


def test_rows_are_labelled_as_in_arviz() -> None:
    rng = np.random.default_rng(0)
    data = draws_of(rng.normal(size=(1, 10, 2)), "theta", school=["Choate", "Deerfield"])
    assert list(pmf.compare(data, data).index) == ["theta[Choate]", "theta[Deerfield]"]


def test_trees_and_datasets_are_taken() -> None:
    data = draws_of(GRID)
    tree = xr.DataTree.from_dict({"posterior": data})
    assert pmf.compare(tree, data).equals(pmf.compare(data, tree))


def test_only_shared_variables_are_compared() -> None:
    both = draws_of(GRID).assign(y=draws_of(GRID)["x"])
    assert list(pmf.compare(both, draws_of(GRID)).index) == ["x"]


def test_variables_can_be_chosen() -> None:
    both = draws_of(GRID).assign(y=draws_of(GRID)["x"])
    assert list(pmf.compare(both, both, var_names=["y"]).index) == ["y"]


def test_the_order_of_dimensions_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    data = draws_of(rng.normal(size=(2, 10, 3)), place=[1, 2, 3])
    turned = data.transpose("place", "draw", "chain")
    np.testing.assert_allclose(pmf.compare(turned, data)["mean_error"], 0, atol=1e-12)


def table_of(places: list[Any], years: list[Any]) -> xr.Dataset:
    """Draws whose mean tells them apart: 10 * place + year."""
    means = 10.0 * np.arange(1, len(places) + 1)[:, None] + np.arange(1, len(years) + 1)
    values = GRID[None, :, None, None] + means
    return draws_of(values, place=places, year=years)


def test_the_reference_may_have_its_dimensions_in_another_order() -> None:
    data = table_of(list("ab"), [2001, 2002, 2003])
    found = pmf.compare(data, data.transpose("year", "chain", "place", "draw"))
    assert list(found.index[:2]) == ["x[a, 2001]", "x[a, 2002]"]
    np.testing.assert_allclose(found["mean_error"], 0, atol=1e-12)


def test_the_reference_may_have_its_coordinates_in_another_order() -> None:
    data = table_of(list("ab"), [2001, 2002, 2003])
    turned = data.sel(place=["b", "a"], year=[2002, 2003, 2001])
    found = pmf.compare(data, turned)
    assert list(found.index) == list(pmf.compare(data, data).index)
    np.testing.assert_allclose(found["mean_error"], 0, atol=1e-12)


def test_components_without_labels_are_matched_by_position() -> None:
    data = table_of(list("ab"), [2001, 2002])
    found = pmf.compare(data, data.drop_vars(["place", "year"]))
    np.testing.assert_allclose(found["mean_error"], 0, atol=1e-12)


def test_equal_labels_that_repeat_are_matched_by_position() -> None:
    data = table_of(["a", "a"], [2001])
    np.testing.assert_allclose(pmf.compare(data, data)["mean_error"], 0, atol=1e-12)


def test_the_group_of_a_tree_is_taken() -> None:
    tree = xr.DataTree.from_dict({"posterior": draws_of(GRID), "prior": draws_of(GRID)})
    group: Any = tree["posterior"]
    assert pmf.compare(group, tree).equals(pmf.compare(tree, tree))


def test_variables_without_draws_are_left_out() -> None:
    data = draws_of(GRID).assign(constant=1.0)
    assert list(pmf.compare(data, data).index) == ["x"]


@pytest.mark.parametrize("value", [0.0, 0.1, 1e9 / 3], ids=str)  # np.std of 0.1s is 1e-17
def test_a_constant_reference_has_no_unit(value: float) -> None:
    row = pmf.compare(draws_of(GRID), draws_of(np.full(7, value))).loc["x"]
    assert row.isna().all()


def test_constant_draws_of_a_reference_that_varies_have_sd_0() -> None:
    row = pmf.compare(draws_of(np.full(8, 0.5)), draws_of(GRID)).loc["x"]
    np.testing.assert_allclose(row[["mean_error", "sd_ratio"]], [0.5 / GRID.std(ddof=1), 0])


def autoregressive(rho: float, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Chains of sd 1 whose neighbours have the correlation `rho`."""
    noise = rng.normal(size=shape)
    draws = np.empty(shape)
    draws[:, 0] = noise[:, 0]
    for i in range(1, shape[1]):
        draws[:, i] = rho * draws[:, i - 1] + np.sqrt(1 - rho**2) * noise[:, i]
    return draws


@pytest.mark.parametrize("rho", [0.0, 0.8], ids=lambda rho: f"correlation {rho}")
def test_errors_are_those_of_repetitions(rho: float) -> None:
    rng = np.random.default_rng(0)
    tables = [
        pmf.compare(
            draws_of(0.5 + 1.2 * rng.normal(size=2_000)),
            draws_of(autoregressive(rho, (4, 500), rng)),
        ).loc["x"]
        for _ in range(200)
    ]
    for name in ("mean_error", "sd_ratio"):
        spread = np.std([row[name] for row in tables])
        claimed = np.median([row[f"{name}_mcse"] for row in tables])
        # an sd of 200 repetitions has an error of 5 %, and so have effective sample sizes
        assert 0.75 < claimed / spread < 1.25, name


def test_autocorrelation_makes_errors_larger() -> None:
    rng = np.random.default_rng(0)
    ours = draws_of(rng.normal(size=100_000))
    mixing, sticky = (
        pmf.compare(ours, draws_of(autoregressive(rho, (4, 1_000), rng))).loc["x"]
        for rho in (0.0, 0.9)
    )
    # (1 + rho) / (1 - rho) = 19 times fewer effective draws for the mean, 9.5 for the variance
    assert 3 < sticky["mean_error_mcse"] / mixing["mean_error_mcse"] < 6
    assert 2 < sticky["sd_ratio_mcse"] / mixing["sd_ratio_mcse"] < 4.5


def test_too_few_draws_for_an_error_have_none() -> None:
    row = pmf.compare(draws_of([1.0, 2.0, 3.0]), draws_of(GRID)).loc["x"]
    assert row[MCSE].isna().all()
    assert row[ERRORS].notna().all()


NAN = np.where(GRID > 0.5, np.nan, GRID)

BAD: dict[str, tuple[Any, Any, Any, str]] = {
    "no tree": (3, draws_of(GRID), None, "idata must be a DataTree or a Dataset.* type int"),
    "no posterior": (
        draws_of(GRID),
        xr.DataTree.from_dict({"prior": draws_of(GRID)}),
        None,
        "reference must have a group 'posterior', but its groups are: prior",
    ),
    "no draws": (xr.Dataset({"x": 1.0}), draws_of(GRID), None, "lacks chain and draw"),
    "nothing shared": (draws_of(GRID, "a"), draws_of(GRID, "b"), None, "but have a and b"),
    "unknown name": (draws_of(GRID), draws_of(GRID), ["X"], "'X' is not a variable of both"),
    "a near name": (
        draws_of(GRID, "theta"),
        draws_of(GRID, "theta"),
        ["teta"],
        r"Did you mean 'theta'\?",
    ),
    "other shape": (
        draws_of(np.zeros((1, 9, 2)), place=[1, 2]),
        draws_of(np.zeros((1, 9, 3)), place=[1, 2, 3]),
        None,
        r"'x' must have the same shape in both, but is \(2,\) in idata and \(3,\) in reference",
    ),
    "other dimensions": (
        draws_of(np.zeros((1, 9, 2)), place=[1, 2]),
        draws_of(np.zeros((1, 9, 2)), site=[1, 2]),
        None,
        r"same dimensions in both, but has \('place',\) in idata and \('site',\) in reference",
    ),
    "other coordinates": (
        table_of(list("ab"), [2001]),
        table_of(list("ac"), [2001]),
        None,
        "same coordinates along 'place' in both, .* has a, b in idata and a, c in reference",
    ),
    "coordinates that repeat": (
        table_of(list("aab"), [2001]),
        table_of(list("aba"), [2001]),
        None,
        "each once, but has a, a, b in idata and a, b, a in reference",
    ),
    "other coordinates, many": (
        table_of(list("abcdefgh"), [2001]),
        table_of(list("bcdefghi"), [2001]),
        None,
        r"a, b, c, d, e, f \.\.\. in idata",
    ),
    "strings": (
        draws_of(np.array(["a", "b", "c"])),
        draws_of(np.array(["a", "b", "c"])),
        None,
        "draws of x must be numbers, but are <U1",
    ),
    "one draw": (draws_of([1.0]), draws_of(GRID), None, "idata must have at least 2 .* has 1"),
    "none drawn": (draws_of(GRID), draws_of([]), None, "reference must have at least 2 .* has 0"),
    "no names": (draws_of(GRID), draws_of(GRID), [], "var_names .* is empty. Both have: x"),
    "not finite": (draws_of(NAN), draws_of(GRID), None, "draws of x must be finite, but 250 of"),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused(case: tuple[Any, Any, Any, str]) -> None:
    idata, reference, var_names, message = case
    with pytest.raises(ParameterError, match=message):
        pmf.compare(idata, reference, var_names)
