import pytest
import torch

from torch_geometric_flare.visualization import plot_spectra


def test_a_panel_for_each_block_and_a_line_for_each_head():
    values = [torch.rand(3, 6).sort(descending=True).values for _ in range(5)]
    figure = plot_spectra(values, values, title="simulated cars")
    shown = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title() for axis in shown] == [
        f"block {number}, M = 6" for number in range(1, 6)
    ]
    for axis, of_block in zip(shown, values, strict=True):
        lines = axis.get_lines()
        assert len(lines) == 3 + 3 + 2  # both trainings, and two marks
        for line, head in zip(lines[3:6], of_block, strict=True):
            assert line.get_ydata() == pytest.approx(head.double().numpy())
        assert list(lines[6].get_xdata()) == [6, 6]
        assert lines[7].get_ydata()[0] == torch.finfo(torch.float32).eps


def test_zeros_and_rounding_have_a_place():
    figure = plot_spectra([torch.tensor([[1.0, 0.0, -1e-18]])])
    assert min(figure.axes[0].get_lines()[0].get_ydata()) > 0


@pytest.mark.parametrize(
    ("values", "untrained"),
    [([], None), ([torch.rand(2, 3)], []), ([torch.rand(3)], None)],
)
def test_arguments_are_checked(values, untrained):
    with pytest.raises(ValueError, match="values"):
        plot_spectra(values, untrained)
