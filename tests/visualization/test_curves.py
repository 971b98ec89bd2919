import io

import numpy as np
import pytest
import torch

from torch_geometric_flare.visualization import plot_training_curves


def test_curves_are_the_given_numbers_on_a_log_axis():
    figure = plot_training_curves(
        {
            "training": (range(4), [1.0, 0.5, 0.25, 0.125]),
            "validation": (torch.tensor([1, 3]), torch.tensor([0.6, 0.2])),
        },
        title="Simulated cars",
        xlabel="epoch",
    )
    (axis,) = figure.axes
    training, validation = axis.get_lines()
    assert training.get_xdata().tolist() == [0, 1, 2, 3]
    assert training.get_ydata().tolist() == [1.0, 0.5, 0.25, 0.125]
    np.testing.assert_allclose(validation.get_ydata(), [0.6, 0.2], rtol=1e-6)
    assert axis.get_yscale() == "log"
    assert axis.get_title() == "Simulated cars"
    assert axis.get_xlabel() == "epoch"
    assert axis.get_ylabel() == "relative L2 error"
    assert [t.get_text() for t in axis.get_legend().get_texts()] == [
        "training",
        "validation",
    ]


def test_values_off_the_axis_leave_gaps_and_the_figure_saves():
    values = [1.0, 0.0, -1.0, float("nan"), float("inf"), 2.0]
    figure = plot_training_curves({"loss": (range(6), values)})
    drawn = figure.axes[0].get_lines()[0].get_ydata()
    assert np.isnan(drawn).tolist() == [False, True, True, True, True, False]
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=30)
    assert buffer.getvalue().startswith(b"\x89PNG")


def test_a_single_point_is_visible_and_a_long_curve_has_no_markers():
    figure = plot_training_curves(
        {"short": ([0], [1.0]), "long": (range(100), torch.ones(100))}
    )
    short, long = figure.axes[0].get_lines()
    assert short.get_marker() == "o"
    assert long.get_marker() == "None"


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ({}, "metrics is empty"),
        ({"loss": ([0, 1], [1.0])}, r"metrics\['loss'\] needs as many"),
        ({"loss": ([[0]], [[1.0]])}, "one dimension"),
    ],
)
def test_errors(metrics, message):
    with pytest.raises(ValueError, match=message):
        plot_training_curves(metrics)
