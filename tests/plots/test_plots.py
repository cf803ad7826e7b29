"""Figures: what they show, asked of the figure itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from scipy import sparse

from pmflow import Structure, plots, targets
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
        figure = plots.plot_loss([3.0, 2.0, 1.0, 9.0], window=3)
        steps, medians = figure.axes[0].lines
        np.testing.assert_array_equal(steps.get_xydata(), [[1, 3], [2, 2], [3, 1], [4, 9]])
        np.testing.assert_array_equal(medians.get_xydata(), [[2, 2], [4, 9]])
        assert legend(figure) == ["each step", "median of 3 steps"]

    def test_a_short_history_has_nothing_to_smooth(self) -> None:
        # a median of one step each would lie on the line of the steps
        assert len(plots.plot_loss(np.arange(200.0)).axes[0].lines) == 1
        assert len(plots.plot_loss(np.arange(201.0)).axes[0].lines) == 2

    def test_long_histories_are_summed_up_in_200_windows(self) -> None:
        figure = plots.plot_loss(np.arange(10_000.0))
        assert np.shape(figure.axes[0].lines[1].get_xydata()) == (200, 2)

    def test_the_best_possible_loss_is_marked(self) -> None:
        figure = plots.plot_loss([3.0, 2.0], log_evidence=1.5)
        np.testing.assert_array_equal(figure.axes[0].lines[-1].get_ydata(), -1.5)
        assert legend(figure) == ["each step", "best possible"]

    def test_the_axis_is_not_stretched_by_spikes(self) -> None:
        losses = np.ones(1_000)
        losses[500] = 1e9
        assert plots.plot_loss(losses).axes[0].get_ylim()[1] < 1e3

    def test_what_is_not_finite_is_left_out(self) -> None:
        figure = plots.plot_loss([1.0, np.nan, np.inf, 4.0])
        np.testing.assert_array_equal(figure.axes[0].lines[0].get_xdata(), [1, 4])
        assert legend(figure) == ["each step (2 not finite)"]

    def test_the_best_possible_loss_is_in_sight_above_and_below(self) -> None:
        for evidence in (-50.0, 50.0):
            low, high = plots.plot_loss([3.0, 2.0], log_evidence=evidence).axes[0].get_ylim()
            assert low < -evidence < high

    def test_a_single_step_is_a_point(self) -> None:
        assert plots.plot_loss([1.0]).axes[0].lines[0].get_marker() == "o"

    def test_a_window_below_1_is_refused(self) -> None:
        with pytest.raises(ParameterError, match="window must be an integer >= 1, but is 0"):
            plots.plot_loss([1.0], window=0)

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

    def test_a_parameter_can_be_chosen_as_a_string(self) -> None:
        figure = plots.plot_tracker(tracked(), "u_1")
        assert figure.axes[0].get_ylabel() == "$u$ of layer 1"

    def test_a_statistic_called_grad_is_no_gradient(self) -> None:
        data = tracked()[["b_0", "grad_b_0"]].assign(grad_norm=("step", np.arange(50.0)))
        figure = plots.plot_tracker(data)
        assert [ax.get_ylabel() for ax in figure.axes[::2]] == ["$b$ of layer 0", "grad_norm"]

    def test_a_spike_of_a_gradient_does_not_stretch_its_axis(self) -> None:
        data = tracked()
        # of 300 numbers, one: less than the half per cent that the axis leaves out
        data = xr.concat([data] * 2, "step", data_vars="minimal", coords="minimal")
        data["grad_u_0"][7, 1] = 1e9
        assert plots.plot_tracker(data, ["u_0"]).axes[1].get_ylim()[1] < 100

    def test_the_legend_says_which_colour_is_which_coordinate(self) -> None:
        (found,) = plots.plot_tracker(tracked()).legends
        assert [text.get_text() for text in found.get_texts()] == ["0", "1", "2"]

    def test_no_names_are_refused(self) -> None:
        with pytest.raises(ParameterError, match="var_names is empty; tracked are: b_0, u_0"):
            plots.plot_tracker(tracked(), [])

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
        with pytest.raises(ParameterError, match=r"draws must have shape \(draws, 2\)"):
            plots.plot_density(ring, BOUNDS, [1.0, 2.0])

    def test_a_target_brings_its_window_and_its_name(self) -> None:
        target = targets.potential_2
        ax = plots.plot_density(target).axes[0]
        assert ((ax.get_xlim(), ax.get_ylim()), ax.get_title()) == (target.bounds, target.name)

    def test_the_window_and_the_title_given_win_over_those_of_the_target(self) -> None:
        ax = plots.plot_density(targets.potential_2, BOUNDS, title="").axes[0]
        assert ((ax.get_xlim(), ax.get_ylim()), ax.get_title()) == (BOUNDS, "")

    def test_the_draws_shown_are_from_all_along_the_draws(self) -> None:
        points = np.stack([np.arange(2_500.0)] * 2, axis=-1)
        shown = plots.plot_density(ring, BOUNDS, points).axes[0].collections[-1].get_offsets()
        np.testing.assert_array_equal(shown, points[::3])

    def test_where_it_is_not_finite_the_density_is_0(self) -> None:
        # an error of matplotlib's otherwise, or a warning, which is one here
        plots.plot_density(lambda z: np.where(z[:, 0] < 0, np.nan, ring(z)), BOUNDS)

    BAD: dict[str, tuple[Any, Any, str]] = {  # noqa: RUF012 - a table
        "no window": (ring, None, "bounds .* are missing. Only a target brings its own"),
        "window upside down": (ring, ((4, -4), (-3, 3)), "with low < high, but are"),
        "window of one pair": (ring, (-4, 4), "with low < high, but are"),
        "infinite window": (ring, ((-np.inf, 4), (-3, 3)), "with low < high, but are"),
        "no density": (3, BOUNDS, "callable or have a method log_density, .* of type int"),
        "one number": (lambda z: 0.0, BOUNDS, r"log densities of shape \(40000,\), .* shape \(\)"),
        "finite nowhere": (lambda z: np.full(len(z), -np.inf), BOUNDS, "finite somewhere in"),
    }

    @pytest.mark.parametrize("case", BAD.values(), ids=BAD.keys())
    def test_bad_input_is_refused(self, case: tuple[Any, Any, str]) -> None:
        density, bounds, message = case
        with pytest.raises(ParameterError, match=message):
            plots.plot_density(density, bounds)


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

    def test_all_panels_have_the_window_given(self) -> None:
        figure = plots.plot_layers([POINTS, 9 * POINTS], bounds=BOUNDS)
        figure.draw_without_rendering()  # equal scales may move what was set
        assert {(ax.get_xlim(), ax.get_ylim()) for ax in figure.axes} == {BOUNDS}

    BAD: dict[str, tuple[Any, dict[str, Any], str]] = {  # noqa: RUF012 - a table
        "no layers": ([], {}, "at least the base draw"),
        "labels": ([POINTS], {"labels": ["a", "b"]}, "labels must be 1, one per panel, but are 2"),
        "coords": ([POINTS], {"coords": (0, 2)}, r"two of 0 to 1, but are \(0, 2\)"),
        "shape": ([POINTS, POINTS[0]], {}, r"layers\[1\] must have shape"),
        "other draws": ([POINTS, POINTS[:9]], {}, r"layers\[0\] has \(300, 2\) and layers\[1\]"),
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

    def test_a_target_brings_its_window(self) -> None:
        target = targets.potential_1
        figure = plots.plot_comparison(target, draws={"NUTS": POINTS})
        assert {(ax.get_xlim(), ax.get_ylim()) for ax in figure.axes} == {target.bounds}

    def test_more_methods_than_colours_are_all_shown(self) -> None:
        figure = plots.plot_comparison(ring, BOUNDS, {f"method {i}": POINTS for i in range(10)})
        assert len(figure.axes) == 11
        assert all(ax.collections for ax in figure.axes)

    def test_draws_of_another_dimension_are_refused(self) -> None:
        with pytest.raises(ParameterError, match=r"draws\['NUTS'\] must have shape \(draws, 2\)"):
            plots.plot_comparison(ring, BOUNDS, {"NUTS": np.zeros((5, 3))})

    def test_nothing_to_compare_is_refused(self) -> None:
        with pytest.raises(ParameterError, match="at least one method"):
            plots.plot_comparison(ring, BOUNDS, {})


def tree(values: np.ndarray, name: str = "x") -> xr.DataTree:
    dims = ["chain", "draw", *(f"d{i}" for i in range(values.ndim - 2))]
    return xr.DataTree.from_dict({"posterior": xr.Dataset({name: (dims, values)})})


def labelled(values: np.ndarray, labels: list[str]) -> xr.Dataset:
    return tree(values)["posterior"].to_dataset().assign_coords(d0=labels)


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
        with pytest.raises(ParameterError, match="must have variables in common"):
            plots.plot_marginals(one, other)

    def test_components_are_matched_by_label(self) -> None:
        values = RNG.normal(loc=[0, 100], size=(1, 50, 2))
        data = labelled(values, ["a", "b"])
        figure = plots.plot_marginals(data, data.sel(d0=["b", "a"]).transpose())
        assert titles(figure) == ["x[a]", "x[b]"]  # with no share outside
        np.testing.assert_allclose([ax.get_xlim()[0] > 50 for ax in figure.axes], [False, True])

    def test_the_group_of_a_tree_is_taken(self) -> None:
        draws = tree(RNG.normal(size=(1, 50)))
        group: Any = draws["posterior"]
        assert titles(plots.plot_marginals(group, draws)) == ["x"]

    def test_a_fit_far_away_does_not_squeeze_the_reference(self) -> None:
        reference = RNG.normal(size=(1, 500))
        (ax,) = plots.plot_marginals(tree(reference + 1e3), tree(reference)).axes
        assert ax.get_title() == "x (100% outside)"
        assert ax.get_xlim()[1] < 20

    def test_a_constant_is_shown(self) -> None:
        draws = tree(np.full((1, 50), 3.0))
        low, high = plots.plot_marginals(draws, draws).axes[0].get_xlim()
        assert low < 3 < high

    @pytest.mark.slow
    def test_many_numbers_are_cut_and_the_figure_says_so(self) -> None:
        draws = tree(RNG.normal(size=(1, 10, 45)))
        figure = plots.plot_marginals(draws, draws)
        assert len(figure.axes) == 40
        assert figure.get_suptitle() == "the first 40 of 45 numbers"

    BAD: dict[str, tuple[Any, Any, Any, str]] = {  # noqa: RUF012 - a table
        "no tree": (3, tree(POINTS), None, "idata must be a DataTree or a Dataset.* type int"),
        "no draws": (
            tree(POINTS),
            tree(POINTS[:, :0]),
            None,
            "reference must have at least 2 draws",
        ),
        "unknown": (tree(POINTS), tree(POINTS), ["y"], "'y' is not a variable of both"),
        "no names": (tree(POINTS), tree(POINTS), [], "var_names .* is empty. Both have: x"),
        "shape": (tree(np.ones((1, 9, 2))), tree(np.ones((1, 9, 3))), None, "the same shape"),
        "labels": (
            labelled(np.ones((1, 9, 2)), ["a", "b"]),
            labelled(np.ones((1, 9, 2)), ["a", "c"]),
            None,
            "the same coordinates along 'd0'",
        ),
        "nan": (tree(np.full((1, 9), np.nan)), tree(POINTS), None, "draws of x must be finite"),
    }

    @pytest.mark.parametrize("case", BAD.values(), ids=BAD.keys())
    def test_bad_input_is_refused(self, case: tuple[Any, Any, Any, str]) -> None:
        idata, reference, var_names, message = case
        with pytest.raises(ParameterError, match=message):
            plots.plot_marginals(idata, reference, var_names)


DRAWS = tree(RNG.normal(size=(1, 50, 2)))
STRUCTURE = Structure(
    sparse.csr_array(np.array([[1, 1, 1], [1, 1, 0], [1, 0, 1]], dtype=bool)),
    {"tau": slice(0, 1), "u": slice(1, 3)},
    {"tau": "global", "u": "local"},
)
# every figure, and how many axes it wants
PLOTS: dict[str, tuple[Callable[..., Figure], int]] = {
    "comparison": (partial(plots.plot_comparison, ring, BOUNDS, {"a": POINTS, "b": POINTS}), 3),
    "density": (partial(plots.plot_density, ring, BOUNDS), 1),
    "layers": (partial(plots.plot_layers, [POINTS, POINTS]), 2),
    "loss": (partial(plots.plot_loss, [2.0, 1.0]), 1),
    "marginals": (partial(plots.plot_marginals, DRAWS, DRAWS), 2),
    "structure": (partial(plots.plot_structure, STRUCTURE), 1),
    "tracker": (partial(plots.plot_tracker, tracked(layers=1)), 4),
}
each_plot = pytest.mark.parametrize(("plot", "panels"), PLOTS.values(), ids=PLOTS.keys())


def test_every_plot_is_asked_for_its_axes() -> None:
    assert {f"plot_{name}" for name in PLOTS} == set(plots.__all__)


@each_plot
def test_a_plot_is_drawn_in_the_axes_given(plot: Callable[..., Figure], panels: int) -> None:
    figure, axes = plt.subplots(panels, squeeze=False)
    assert plot(axes=axes) is figure
    assert len(plt.get_fignums()) == 1
    assert all(ax.has_data() for ax in axes.flat)


@each_plot
def test_the_axes_given_must_be_one_a_panel(plot: Callable[..., Figure], panels: int) -> None:
    _, axes = plt.subplots(panels + 1)
    with pytest.raises(ParameterError, match=f"axes must be {panels}, .* but are {panels + 1}"):
        plot(axes=axes)


@each_plot
def test_the_size_given_is_that_of_the_figure(plot: Callable[..., Figure], panels: int) -> None:
    figure = plot(figsize=(6.0, 5.0))
    assert tuple(figure.get_size_inches()) == (6, 5)
    assert len(figure.axes) == panels


def test_a_single_axes_need_not_be_a_list() -> None:
    figure, ax = plt.subplots()
    assert plots.plot_loss([1.0], axes=ax) is figure
