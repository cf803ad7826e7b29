"""Figures: what they show, asked of the figure itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from pmflow import plots, targets
from pmflow.errors import ParameterError

RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(300, 2))


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def titles(figure: Figure) -> list[str]:
    return [ax.get_title() for ax in figure.axes if ax.get_visible()]


def legend(figure: Figure) -> list[str]:
    found = figure.axes[0].get_legend()
    assert found is not None
    return [text.get_text() for text in found.get_texts()]


def ring(z: np.ndarray) -> np.ndarray:
    return targets.potential_1.log_density(z)


BOUNDS = ((-4.0, 4.0), (-3.0, 3.0))


class TestLoss:
    def test_it_shows_each_step_and_the_median_of_windows(self) -> None:
        figure = plots.plot_loss([3.0, 2.0, 1.0])
        steps, medians = figure.axes[0].lines
        np.testing.assert_array_equal(steps.get_xydata(), [[1, 3], [2, 2], [3, 1]])
        np.testing.assert_array_equal(medians.get_ydata(), [3, 2, 1])

    def test_long_histories_are_summed_up_in_200_windows(self) -> None:
        figure = plots.plot_loss(np.arange(10_000.0))
        assert np.shape(figure.axes[0].lines[1].get_xydata()) == (200, 2)

    def test_the_best_possible_loss_is_marked(self) -> None:
        figure = plots.plot_loss([3.0, 2.0], log_evidence=1.5)
        np.testing.assert_array_equal(figure.axes[0].lines[2].get_ydata(), -1.5)
        assert legend(figure) == ["each step", "median of windows", "best possible"]

    def test_the_axis_is_not_stretched_by_spikes(self) -> None:
        losses = np.ones(1_000)
        losses[500] = 1e9
        assert plots.plot_loss(losses).axes[0].get_ylim()[1] < 1e3

    def test_what_is_not_finite_is_left_out(self) -> None:
        figure = plots.plot_loss([1.0, np.nan, np.inf, 4.0])
        np.testing.assert_array_equal(figure.axes[0].lines[0].get_xdata(), [1, 4])

    def test_axes_are_labelled(self) -> None:
        ax = plots.plot_loss([1.0]).axes[0]
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", "loss (negative ELBO, nats)")

    @pytest.mark.parametrize("hist", [[], [np.nan]], ids=["empty", "nan"])
    def test_nothing_to_show_is_said(self, hist: list[float]) -> None:
        with pytest.raises(ParameterError, match="at least one finite loss"):
            plots.plot_loss(hist)


def tracked(layers: int = 2) -> xr.Dataset:
    shapes = {"b": (), "u": (3,)}
    data = {}
    for layer in range(layers):
        for name, shape in shapes.items():
            for full in (f"{name}_{layer}", f"grad_{name}_{layer}"):
                dims = ["step", *(f"{full}_dim" for _ in shape)]
                data[full] = (dims, RNG.normal(size=(50, *shape)))
    return xr.Dataset(data, coords={"step": np.arange(2, 102, 2)})


class TestTracker:
    def test_there_is_a_row_for_each_parameter(self) -> None:
        figure = plots.plot_tracker(tracked())
        labels = [ax.get_ylabel() for ax in figure.axes[::2]]
        assert labels == [f"${name}$ of layer {k}" for k in (0, 1) for name in ("b", "u")]

    def test_parameters_stand_left_and_gradients_right(self) -> None:
        data = tracked()
        figure = plots.plot_tracker(data)
        assert titles(figure)[:2] == ["parameter", "gradient"]
        left, right = figure.axes[2], figure.axes[3]
        np.testing.assert_array_equal(left.lines[1].get_ydata(), data["u_0"][:, 1])
        np.testing.assert_array_equal(right.lines[2].get_ydata(), data["grad_u_0"][:, 2])
        np.testing.assert_array_equal(left.lines[0].get_xdata(), data["step"])

    def test_without_gradients_the_right_side_is_empty(self) -> None:
        data = tracked()
        only = data[[n for n in data.data_vars if not str(n).startswith("grad")]]
        assert not any(ax.get_visible() for ax in plots.plot_tracker(only).axes[1::2])

    def test_many_parameters_are_cut_and_the_figure_says_so(self) -> None:
        figure = plots.plot_tracker(tracked(layers=10))
        assert len(figure.axes) == 2 * 12
        assert figure.get_suptitle() == "the first 12 of 20 parameters"

    def test_parameters_can_be_chosen(self) -> None:
        figure = plots.plot_tracker(tracked(layers=10), ["u_9"])
        assert [ax.get_ylabel() for ax in figure.axes] == ["$u$ of layer 9", ""]

    def test_an_unknown_parameter_is_refused(self) -> None:
        with pytest.raises(ParameterError, match="v_0 is not tracked; tracked are: b_0, u_0"):
            plots.plot_tracker(tracked(), ["v_0"])

    def test_an_empty_record_is_refused(self) -> None:
        with pytest.raises(ParameterError, match="nothing to plot"):
            plots.plot_tracker(tracked().isel(step=slice(0)))


class TestDensity:
    def test_the_window_is_the_one_given(self) -> None:
        ax = plots.plot_density(ring, BOUNDS, title="ring").axes[0]
        assert (ax.get_xlim(), ax.get_ylim()) == BOUNDS
        assert ax.get_title() == "ring"

    def test_draws_lie_on_top(self) -> None:
        ax = plots.plot_density(ring, BOUNDS, POINTS).axes[0]
        np.testing.assert_array_equal(ax.collections[-1].get_offsets(), POINTS)

    def test_the_density_is_asked_for_rows_of_points(self) -> None:
        shapes: list[tuple[int, ...]] = []

        def asked(z: np.ndarray) -> np.ndarray:
            shapes.append(z.shape)
            return ring(z)

        plots.plot_density(asked, BOUNDS)
        assert shapes == [(200 * 200, 2)]

    def test_draws_of_another_shape_are_refused(self) -> None:
        with pytest.raises(ParameterError, match=r"draws must have shape \(draws, dim\)"):
            plots.plot_density(ring, BOUNDS, [1.0, 2.0])


class TestLayers:
    def test_there_is_a_panel_for_the_base_and_for_each_layer(self) -> None:
        figure = plots.plot_layers([POINTS, POINTS + 1, POINTS + 2])
        assert titles(figure) == ["base", "layer 1", "layer 2"]
        np.testing.assert_array_equal(figure.axes[1].collections[0].get_offsets(), POINTS + 1)

    def test_a_point_keeps_its_colour(self) -> None:
        figure = plots.plot_layers([POINTS, POINTS[:, ::-1]])
        first, second = (ax.collections[0].get_array() for ax in figure.axes)
        np.testing.assert_array_equal(first, second)

    def test_the_coordinates_can_be_chosen(self) -> None:
        points = RNG.normal(size=(20, 4))
        ax = plots.plot_layers([points], coords=(3, 1)).axes[0]
        np.testing.assert_array_equal(ax.collections[0].get_offsets(), points[:, [3, 1]])
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("$z_{3}$", "$z_{1}$")

    def test_one_dimension_is_shown_as_histograms(self) -> None:
        ax = plots.plot_layers([POINTS[:, :1]]).axes[0]
        assert len(ax.patches) == 60

    BAD: dict[str, tuple[Any, dict[str, Any], str]] = {  # noqa: RUF012 - a table
        "no layers": ([], {}, "at least the base draw"),
        "labels": ([POINTS], {"labels": ["a", "b"]}, "labels must be 1, one a panel, but are 2"),
        "coords": ([POINTS], {"coords": (0, 2)}, r"two of 0 to 1, but are \(0, 2\)"),
        "shape": ([POINTS, POINTS[0]], {}, r"layers\[1\] must have shape"),
    }

    @pytest.mark.parametrize("case", BAD.values(), ids=BAD.keys())
    def test_bad_input_is_refused(self, case: tuple[Any, dict[str, Any], str]) -> None:
        layers, arguments, message = case
        with pytest.raises(ParameterError, match=message):
            plots.plot_layers(layers, **arguments)


class TestComparison:
    def test_the_target_stands_beside_each_method(self) -> None:
        figure = plots.plot_comparison(ring, BOUNDS, {"NUTS": POINTS / 2, "flow": POINTS / 2})
        assert titles(figure) == ["target", "NUTS", "flow"]
        assert {(ax.get_xlim(), ax.get_ylim()) for ax in figure.axes} == {BOUNDS}

    def test_what_lies_outside_of_the_window_is_said(self) -> None:
        points = np.concatenate([np.zeros((3, 2)), np.full((1, 2), 9.0)])
        figure = plots.plot_comparison(ring, BOUNDS, {"NUTS": points})
        assert titles(figure)[1] == "NUTS (25.0% outside)"

    def test_nothing_to_compare_is_refused(self) -> None:
        with pytest.raises(ParameterError, match="at least one method"):
            plots.plot_comparison(ring, BOUNDS, {})


def tree(values: np.ndarray, name: str = "x") -> xr.DataTree:
    dims = ["chain", "draw", *(f"d{i}" for i in range(values.ndim - 2))]
    return xr.DataTree.from_dict({"posterior": xr.Dataset({name: (dims, values)})})


class TestMarginals:
    def test_there_is_a_panel_for_each_number(self) -> None:
        draws = tree(RNG.normal(size=(2, 50, 3)))
        figure = plots.plot_marginals(draws, draws)
        assert titles(figure) == ["x[0]", "x[1]", "x[2]"]

    def test_the_legend_names_the_methods(self) -> None:
        draws = tree(RNG.normal(size=(1, 50)))
        figure = plots.plot_marginals(draws, draws, names=("planar", "NUTS"))
        assert [t.get_text() for t in figure.legends[0].get_texts()] == ["planar", "NUTS"]

    def test_nothing_in_common_is_refused(self) -> None:
        one, other = (tree(RNG.normal(size=(1, 9)), name) for name in "ab")
        with pytest.raises(ParameterError, match="must share variables"):
            plots.plot_marginals(one, other)
