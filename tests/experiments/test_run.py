import functools
import json
import shlex
from dataclasses import dataclass, replace
from operator import mul
from typing import ClassVar

import numpy as np
import pytest
import pyvista as pv
import torch
from torch_geometric.data import Data

from torch_geometric_flare.experiments import (
    Benchmark,
    RunConfig,
    Selection,
    load_simulated,
    run_benchmark,
    run_command_line,
)
from torch_geometric_flare.experiments.command_line import run_parser
from torch_geometric_flare.experiments.options import parse
from torch_geometric_flare.experiments.output import plot_sample
from torch_geometric_flare.fields import Field
from torch_geometric_flare.nn import FNO, DeepONet, Transolver
from torch_geometric_flare.recipes import FLARE_DRIVAERML_QUICK, INFER, Recipe
from torch_geometric_flare.surrogates import load_surrogate
from torch_geometric_flare.training import evaluate
from torch_geometric_flare.visualization import plot_comparison, plot_training_curves


@dataclass(frozen=True)
class Channel:
    """A flow through a straight channel whose inlet velocity is a feature."""

    name: ClassVar[str] = "simulated_channel"
    fields: ClassVar[tuple] = (Field("velocity", 2, "m/s"), Field("pressure", 1, "Pa"))
    features: ClassVar[tuple] = (Field("inlet", 1, "m/s"),)
    coordinate_bounds: ClassVar[tuple] = ((0.0, 0.0), (4.0, 1.0))

    def sample(self, rng):
        y, x = np.meshgrid(np.linspace(0, 1, 7), np.linspace(0, 4, 11), indexing="ij")
        inlet = rng.uniform(1, 2)
        profile = 4 * inlet * y * (1 - y)
        return {
            "pos": np.stack((x, y), axis=-1).reshape(-1, 2),
            "velocity": np.stack((profile, 0 * profile), axis=-1).reshape(-1, 2),
            "pressure": 8e5 * inlet * (4 - x).reshape(-1),
            "inlet": np.full(77, inlet),
            "grid": np.array([7, 11]),
        }


# The flow has no velocity across the channel.
pytestmark = pytest.mark.filterwarnings("ignore:channel 1 is 0 at all:UserWarning")


def flux(data, fields):
    velocity = fields.get("velocity")
    known = velocity is not None
    return {"flux": velocity[:, 0].mean().item() if known else None, "drag": None}


CHANNEL = Benchmark(
    name="channel",
    sample="channel",
    load_simulated=lambda selection: load_simulated(
        Channel(), selection, num_train=3, num_test=3
    ),
    recipes={
        ("FLARE", "quick"): Recipe(
            model_class=FLARE_DRIVAERML_QUICK.model_class,
            model={"hidden_channels": 16, "num_layers": 1, "num_latents": 4},
            epochs=2,
        )
    },
    quantities_of_interest=flux,
    plot=functools.partial(plot_comparison, window=((0, 4), (0, 1))),
)


def run(folder, problem=CHANNEL, **options):
    """Run on the CPU."""
    config = RunConfig(problem=problem, folder=str(folder), device="cpu", **options)
    return run_benchmark(config)


def test_a_benchmark_in_the_plane_with_features_and_two_fields(tmp_path):
    folder = tmp_path / "run"
    selection = Selection(root=str(tmp_path / "data"))
    results = run(folder, selection=selection)
    assert json.loads((folder / "metrics.json").read_text()) == results
    assert results["data"] == "simulated" and results["num_points"] == 77
    pair = [results["relative_l2_velocity"], results["relative_l2_pressure"]]
    assert results["relative_l2"] == pytest.approx(sum(pair) / 2)
    assert results["drag_true"] is results["drag_predicted"] is None
    splits = CHANNEL.load(selection)
    means = torch.stack([data.y[:, 0].mean() for data in splits.test])
    assert results["flux_true"] == pytest.approx(means.mean().item(), rel=1e-6)
    assert results["flux_predicted"] != results["flux_true"]
    for name in ("fields_velocity.png", "fields_pressure.png", "loss.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    surrogate = load_surrogate(folder / "last.ckpt")
    assert surrogate.fields == Channel.fields and surrogate.features == Channel.features
    assert surrogate.location == "point"
    inputs = torch.cat([data.x[:, 2:] for data in splits.train])
    assert surrogate.feature_bounds == (
        inputs.amin(0).tolist(),
        inputs.amax(0).tolist(),
    )
    # Samples with x, and with the named inputs alone.
    sample = splits.test[0]
    with_input = surrogate.predict(sample)
    del sample.x
    torch.testing.assert_close(surrogate.predict(sample), with_input)
    cloud = pv.read(folder / "prediction.vtp")
    assert cloud.field_data["velocity_unit"].tolist() == ["m/s"]
    arrays = cloud.point_data
    wrong, true = (arrays[f"pressure_{n}"] for n in ("error", "truth"))
    error = np.linalg.norm(wrong.astype(float)) / np.linalg.norm(true.astype(float))
    title = f"simulated channel, relative L2 error {error:.1%} on 77 points"
    assert cloud.field_data["pressure_title"][0] == title
    velocities = [data.y[:, :2].numpy() for data in splits.test]
    drawn = cloud.point_data["velocity_truth"]
    assert any(np.array_equal(drawn, velocity) for velocity in velocities)


def test_metrics_list_errors_of_zero_fields(tmp_path):
    def with_zero(selection):
        splits = CHANNEL.load_simulated(selection)
        splits.test[1].y[:, 2] = 0
        return splits

    problem = replace(CHANNEL, load_simulated=with_zero)
    selection = Selection(root=str(tmp_path / "data"))
    with pytest.warns(UserWarning, match=r"'pressure'.* 1\b"):
        results = run(tmp_path / "run", problem, selection=selection)
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == results
    surrogate = load_surrogate(tmp_path / "run" / "last.ckpt")
    predicted = surrogate.predict(with_zero(selection).test[1])[:, 2]
    scale = surrogate.target_normalizer.scale[2].item()
    error = predicted.square().mean().sqrt().item() / scale
    assert results["absolute_errors"] == {
        "pressure": {
            "number": 1,
            "samples": [1],
            "mean_absolute_error": pytest.approx(error, rel=1e-5),
            "scale": [scale],
        }
    }


def test_samples_to_validate_on_change_no_weight(tmp_path, monkeypatch):
    drawn = []
    plot = "torch_geometric_flare.experiments.output.plot_training_curves"

    def record(curves, **others):
        drawn.append(curves)
        return plot_training_curves(curves, **others)

    monkeypatch.setattr(plot, record)
    sample = "torch_geometric_flare.experiments.run.plot_sample"
    monkeypatch.setattr(sample, lambda *_: None)
    root = str(tmp_path / "data")

    def train(folder, **change):
        selection = Selection(root=root, fields=("pressure",), **change)
        return run(folder, selection=selection, epochs=21, progress=False)

    without, validated = train(tmp_path / "a"), train(tmp_path / "b", num_val=2)
    assert (without["num_val"], validated["num_val"]) == (0, 2)
    assert validated["relative_l2"] == without["relative_l2"]
    assert [name.split(",")[0] for name in drawn[0]] == ["training"]
    assert [name.split(",")[0] for name in drawn[1]] == ["training", "validation"]
    (training, _), (epochs, errors) = drawn[1].values()
    # After so many epochs; the validations are ten.
    assert training == list(range(1, 22)) and epochs == list(range(2, 21, 2))
    surrogate = load_surrogate(tmp_path / "b" / "last.ckpt")
    val = CHANNEL.load(Selection(root=root, fields=("pressure",), num_val=2)).val
    assert errors[-1] == pytest.approx(evaluate(surrogate, val).mean().item(), rel=0.2)


@pytest.mark.usefixtures("without_pictures")
def test_the_best_weights_are_measured(tmp_path):
    selection = Selection(root=str(tmp_path / "data"), num_val=1)
    folder = tmp_path / "run"
    results = run(folder, selection=selection, epochs=3, progress=False, keep_best=True)
    best = load_surrogate(folder / "best.ckpt")
    test = CHANNEL.load(selection).test
    assert results["relative_l2"] == pytest.approx(evaluate(best, test).mean().item())
    for option in ({"keep_best": True}, {"patience": 2}):
        with pytest.raises(ValueError, match="give --num-val"):
            RunConfig(problem=CHANNEL, **option)


def test_the_command_line_validates_on_simulated_samples():
    def number(*arguments):
        values = parse(run_parser(CHANNEL, "Learn."), arguments)
        return RunConfig.from_options(values).selection.num_val

    assert number() == 5
    assert number("--num-val=0") == 0
    assert number("--data=official") == 0
    assert number("--data=official", "--num-val=7") == 7


def test_one_chosen_field_and_the_same_result_for_the_same_seed(tmp_path):
    selection = Selection(root=str(tmp_path / "data"), fields=("pressure",))
    errors = [
        run(tmp_path / name, selection=selection, epochs=1, seed=seed)["relative_l2"]
        for name, seed in (("a", 5), ("b", 5), ("c", 6))
    ]
    assert errors[0] == errors[1] != errors[2]
    cloud = pv.read(tmp_path / "a" / "prediction.vtp")
    assert set(cloud.point_data.keys()) == {"truth", "prediction", "error"}
    assert (tmp_path / "a" / "fields.png").exists()


@pytest.mark.usefixtures("without_pictures")
def test_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_command_line(
        CHANNEL, "Learn.", ["--num-train=2", "--epochs=1", "--device=cpu", "--seed=3"]
    )
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("channel-simulated-")
    output = capsys.readouterr().out
    assert f" --resume={folder}\n" in output
    assert (
        "2 simulated channels to train on, 5 to validate on, 3 to test on; FLARE(3"
        in output
    )
    for wrong, message in (
        ("--fields=speed", "among ['velocity', 'pressure'], each once, got ('speed',)"),
        ("--fields=", "expected names"),
        ("--data=official", "channel has no official data"),
    ):
        with pytest.raises(SystemExit) as caught:
            run_command_line(CHANNEL, "Learn.", [wrong])
        assert caught.value.code == 2
        assert message in capsys.readouterr().err
    assert list((tmp_path / "runs").iterdir()) == [folder]  # and no empty ones


def test_the_title_of_a_sample_with_gaps_in_its_truth(tmp_path):
    pos = torch.rand(30, 2, generator=torch.Generator().manual_seed(0))
    truth = torch.ones(30, 1)
    truth[[3, 8]] = torch.nan
    pressure = (Field("pressure", 1, "Pa"),)
    data = Data(pos=pos, y=truth)
    plot_sample(tmp_path, CHANNEL, data, 1.25 + 0 * pos[:, :1], pressure, "channel")
    (title,) = pv.read(tmp_path / "prediction.vtp").field_data["title"]
    assert title == "channel, relative L2 error 25.0% on 28 points"


def test_every_benchmark_takes_the_same_options():
    parser = run_parser(CHANNEL, "Learn.\n\nMore.")
    options = parser._option_string_actions
    wanted = "data root num-points num-train num-test fields model recipe epochs resume"
    for name in f"{wanted} device precision seed".split():
        assert f"--{name}" in options
    assert parser.description == "Learn."


def test_a_recipe_for_another_grid_is_refused_with_a_remedy(tmp_path):
    bound = Recipe(
        model_class=Transolver, model={"hidden_channels": 8, "grid": (9, 9)}, epochs=1
    )
    benchmark = replace(CHANNEL, recipes={("Transolver", "paper"): bound})
    selection = Selection(root=str(tmp_path / "data"))
    with pytest.raises(
        ValueError, match=r"\(9, 9\), .* \(7, 11\): give --num-points=81"
    ):
        run(
            tmp_path / "run",
            benchmark,
            model="Transolver",
            recipe="paper",
            selection=selection,
        )


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize(
    ("model_class", "arguments", "filled"),
    [
        (DeepONet, {"num_points": INFER}, ("num_points", 77)),
        (Transolver, {"grid": INFER, "num_layers": 1}, ("grid", (7, 11))),
        (FNO, {"grid": INFER, "modes": (4, 4)}, ("grid", (7, 11))),
    ],
)
def test_a_network_that_the_samples_decide(tmp_path, model_class, arguments, filled):
    if model_class is FNO:
        pytest.importorskip("neuralop")
    recipe = Recipe(
        model_class=model_class, model={"hidden_channels": 16, **arguments}, epochs=1
    )
    name = model_class.__name__
    results = run(
        tmp_path,
        replace(CHANNEL, recipes={(name, "quick"): recipe}),
        model=name,
        selection=Selection(root=str(tmp_path / "data")),
        progress=False,
    )
    network = load_surrogate(tmp_path / "last.ckpt").model
    assert type(network) is model_class
    assert getattr(network, filled[0]) == filled[1]
    counted = (2 if p.is_complex() else 1 for p in network.parameters())
    sizes = (p.numel() for p in network.parameters())
    assert results["parameters"] == sum(map(mul, counted, sizes))


def test_resume_alone_takes_the_options_of_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = []

    def load(selection):
        raise KeyboardInterrupt  # before the first epoch ends

    def note(config, *, resume):
        seen.append((config.seed, config.epochs, config.selection.num_train, resume))
        return {}

    killed = replace(CHANNEL, load_simulated=load)
    with pytest.raises(KeyboardInterrupt):
        run_command_line(killed, "Learn.", ["--epochs=7", "--seed=3", "--num-train=2"])
    (folder,) = (tmp_path / "runs").iterdir()
    name = "torch_geometric_flare.experiments.command_line.run_benchmark"
    monkeypatch.setattr(name, note)
    run_command_line(CHANNEL, "Learn.", [f"--resume=runs/{folder.name}"])
    run_command_line(CHANNEL, "Learn.", [f"--resume={folder}", "--epochs=9"])
    assert seen == [(3, 7, 2, True), (3, 9, 2, True)]
    (folder / "config.yaml").write_text("problem: darcy")
    with pytest.raises(SystemExit):
        run_command_line(CHANNEL, "Learn.", [f"--resume={folder}"])
    assert len(seen) == 2


@pytest.mark.usefixtures("without_pictures")
def test_the_printed_command_resumes_from_another_folder(tmp_path, monkeypatch, capsys):
    place, other = tmp_path / "with a space", tmp_path / "other"
    place.mkdir(), other.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setattr("sys.argv", ["scripts/learn.py"])
    killed = replace(CHANNEL, load_simulated=mock_load(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        options = ["--epochs=1", "--root=my data", "--device=cpu", "--num-val=0"]
        run_command_line(killed, "Learn.", options)
    _, line, *_ = capsys.readouterr().out.splitlines()
    python, script, *arguments = shlex.split(line)
    assert (python, script) == ("python", str(place / "scripts/learn.py"))
    monkeypatch.chdir(other)
    refused = replace(CHANNEL, load_simulated=mock_load(ValueError("no")))
    with pytest.raises(SystemExit):  # which keeps the folder
        run_command_line(refused, "Learn.", arguments)
    run_command_line(CHANNEL, "Learn.", arguments)
    (folder,) = (place / "runs").iterdir()
    assert json.loads((folder / "metrics.json").read_text())["epochs"] == 1
    assert (place / "my data").is_dir() and list(other.iterdir()) == []


def mock_load(error):
    def load(selection):
        raise error

    return load


@pytest.mark.usefixtures("without_pictures")
def test_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    options = ["--epochs=1", "--folder=~/mine", "--device=cpu", "--num-val=0"]
    run_command_line(CHANNEL, "Learn.", options)
    written = {path.name for path in (tmp_path / "mine").iterdir()}
    assert {"config.yaml", "last.ckpt", "metrics.json"} <= written
    assert not (tmp_path / "~").exists()


@pytest.mark.usefixtures("without_pictures")
def test_a_resumed_run_notes_the_options_that_it_has(tmp_path):
    root, folder = str(tmp_path / "data"), tmp_path / "run"

    def train(num_test, **options):
        config = RunConfig(
            problem=CHANNEL,
            selection=Selection(root=root, num_test=num_test),
            epochs=1,
            folder=str(folder),
            progress=False,
            device="cpu",
            **options,
        )
        return run_benchmark(config, resume=True)

    file = folder / "config.yaml"
    train(2)
    assert "num_test: 2" in file.read_text()
    assert train(1)["num_test"] == 1
    assert "num_test: 1" in file.read_text()
    with pytest.raises(ValueError, match="seed"):
        train(3, seed=1)
    assert "num_test: 1" in file.read_text()


@pytest.mark.usefixtures("without_pictures")
def test_a_run_starts_from_the_file_of_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = run(tmp_path / "first", epochs=1, seed=4, recipe="quick")
    config = tmp_path / "first" / "config.yaml"
    run_command_line(CHANNEL, "Learn.", [f"--config={config}"])
    (folder,) = (tmp_path / "runs").iterdir()
    again = json.loads((folder / "metrics.json").read_text())
    assert again["relative_l2"] == first["relative_l2"] and again["epochs"] == 1
    assert (folder / "config.yaml").read_text() == config.read_text()


@pytest.mark.usefixtures("without_pictures")
def test_steps_end_a_training(tmp_path):
    results = run(tmp_path, steps=3, progress=False)
    assert (results["steps"], results["epochs"]) == (3, 2)  # of two batches each
