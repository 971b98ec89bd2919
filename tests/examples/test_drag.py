import json

import numpy as np
import pytest
import torch

from torch_geometric_flare.datasets.simulator import sample_rng
from torch_geometric_flare.simulation import Notchback, NotchbackShape


@pytest.fixture
def drag(load_here):
    return load_here("drag")


def test_writes_what_it_promises(drag, tmp_path, capsys):
    results = drag.main(["--num-train=3", "--num-test=2", "--epochs=2"])
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.startswith("drag-simulated-")
    assert json.loads((run / "metrics.json").read_text()) == results
    assert (run / "drag.png").read_bytes().startswith(b"\x89PNG")
    assert results["data"] == "simulated"
    assert 0.1 < results["training_mean"] < 0.3
    assert results["rank_correlation"] in (None, pytest.approx(1), pytest.approx(-1))
    line = capsys.readouterr().out.splitlines()[-2]
    error = results["mean_absolute_error_of_training_mean"]
    assert line.startswith("drag coefficient: ") and f"{error:.3g}," in line
    assert f"R² {results['r2']:.2f}" in line


def test_the_picture_has_equal_axes(drag, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        drag.Figure, "savefig", lambda figure, *args, **options: drawn.append(figure)
    )
    true, predicted = torch.tensor([0.1, 0.3]), torch.tensor([0.2, 0.3])
    errors = drag.quantity_errors(predicted, true)
    drag.plot(true, predicted, errors, tmp_path / "drag.png")
    (axes,) = drawn[0].axes
    assert axes.get_aspect() == 1 and axes.get_xlim() == axes.get_ylim()
    assert axes.get_xlim() == pytest.approx((0.09, 0.31))
    # The square of 0.1 over twice that of 0.1.
    assert "R² 0.50" in axes.get_title()


def test_true_drag_is_that_of_many_random_points(drag):
    x, found = drag.load_cars(2, "train")
    assert x.shape == (2, 32 * 12, 30)
    car = Notchback(num_points=40_000, panels_along=32, panels_around=12)
    for index in range(2):
        rng = sample_rng(0, "train", index, 0)
        flow = car.solve(NotchbackShape.sample(rng))
        points = car.surface_points(flow, np.random.default_rng(0))
        force = -(points["pressure"][:, 0] * points["normal"][:, 0] * points["area"])
        expected = force.sum() / (0.5 * car.speed**2 * car.reference_area)
        assert found[index].item() == pytest.approx(expected, abs=0.005)


def test_cars_of_a_batch_do_not_see_each_other(drag):
    model = drag.LatentReadout(30, 8, 1, heads=2)
    x = torch.randn(3, 50, 30)
    alone = torch.cat([drag.predict(model, car.unsqueeze(0)) for car in x])
    torch.testing.assert_close(drag.predict(model, x), alone)


@pytest.mark.parametrize("option", ["--num-train=1", "--num-test=1", "--epochs=0"])
def test_options_that_make_no_sense(drag, option, capsys):
    with pytest.raises(SystemExit):
        drag.main([option])
    assert option.partition("=")[0] in capsys.readouterr().err


@pytest.mark.slow
def test_beats_the_constant(drag):
    results = drag.main(["--num-train=100", "--num-test=30", "--epochs=100"])
    constant = results["mean_absolute_error_of_training_mean"]
    assert results["mean_absolute_error"] < 0.75 * constant
    assert results["r2"] > 0.4 and results["rank_correlation"] > 0.4
