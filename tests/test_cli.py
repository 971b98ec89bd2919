"""The command `tgflare`, on a tiny benchmark."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import pyvista as pv
import torch

from torch_geometric_flare.cli import main
from torch_geometric_flare.experiments import RunConfig, Selection, find_benchmark
from torch_geometric_flare.experiments.config import CONFIG
from torch_geometric_flare.fields import Field
from torch_geometric_flare.mesh_io import mesh_weights
from torch_geometric_flare.metrics import area_weighted_relative_l2, relative_l2
from torch_geometric_flare.nn import FLARE
from torch_geometric_flare.surrogates import Surrogate, load_surrogate, save_surrogate
from torch_geometric_flare.training import evaluate
from torch_geometric_flare.transforms import Normalizer

CHANNEL = "tests.experiments.channels:CHANNEL"
TINY = [f"--problem={CHANNEL}", "--num-train=2", "--num-test=1"]


@pytest.fixture(autouse=True)
def in_a_new_folder(monkeypatch, tmp_path, without_pictures):
    monkeypatch.chdir(tmp_path)


def train(tmp_path, *options):
    assert main(["train", *TINY, "--epochs=1", "--device=cpu", *options]) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    return folder


def refused(capsys, *arguments):
    """What the user reads."""
    with pytest.raises(SystemExit) as caught:
        raise SystemExit(main(arguments))
    assert caught.value.code == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


def one_line(capsys, *arguments):
    """What a wrong command line says."""
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    "content", [b"epoch: 3", b"", b"- a", b"epochs: three", b"\xff", b"seed: ["]
)
def test_a_wrong_file_of_options_is_named(tmp_path, capsys, content):
    file = tmp_path / "wrong.yaml"
    file.write_bytes(content)
    assert str(file) in one_line(capsys, "train", *TINY, f"--config={file}")
    assert str(file) in one_line(capsys, "train", "--config", str(file))


def test_train_evaluate_and_info(tmp_path, capsys):
    folder = train(tmp_path, "--seed=3", "--num-val=0")
    assert f"  tgflare train --resume={folder}\n" in capsys.readouterr().out
    config = RunConfig.load(folder / CONFIG)
    assert (config.seed, config.selection.num_train, config.epochs) == (3, 2, 1)
    stored = json.loads((folder / "metrics.json").read_text())
    checkpoint = str(folder / "last.ckpt")
    assert config.benchmark is find_benchmark(CHANNEL)
    assert main(["evaluate", checkpoint]) == 0
    output = capsys.readouterr().out
    assert f"{stored['relative_l2']:.4g}" in output
    assert main(["evaluate", checkpoint, "--num-test=3"]) == 0
    selection = Selection(num_train=2, num_test=3)
    test = find_benchmark(CHANNEL).load(selection).test
    error = evaluate(load_surrogate(checkpoint), test).mean().item()
    assert f"{error:.4g}" in capsys.readouterr().out
    assert main(["info", checkpoint]) == 0
    output = capsys.readouterr().out
    assert "FLARE(" in output and "simulated channels" in output


def test_evaluate_with_conditions_of_a_table(capsys):
    surrogate = Surrogate(
        FLARE(3, 16, 1, num_layers=1, heads=2, num_latents=4, condition_channels=1),
        Normalizer([1.0], [2.0]),
        Normalizer.from_bounds([-1.0] * 3, [1.0] * 3),
        fields=(Field("pressure"),),
        conditions=(Field("speed", unit="m/s"),),
    )
    save_surrogate(surrogate, "last.ckpt")
    body = pv.Sphere(theta_resolution=6, phi_resolution=5)
    body["pressure"] = np.ones(body.n_points, np.float32)
    body.save("body.vtp")
    assert "speed" in refused(capsys, "evaluate", "last.ckpt", "body.vtp")
    Path("cases.csv").write_text("mesh,speed (m/s)\nbody.vtp,30\n")
    assert main(["evaluate", "last.ckpt", "body.vtp"]) == 0


def test_evaluate_on_meshes(capsys):
    surrogate = Surrogate(
        FLARE(3, 16, 1, num_layers=1, heads=2, num_latents=4),
        Normalizer([1.0], [2.0]),
        Normalizer.from_bounds([-1.0] * 3, [1.0] * 3),
        fields=(Field("pressure"),),
    )
    save_surrogate(surrogate, "last.ckpt")
    expected, weighted = [], []
    for number in range(2):
        body = pv.Sphere(theta_resolution=6, phi_resolution=5 + number)
        body["pressure"] = np.cos(body.points[:, 0]).astype(np.float32)
        body.save(f"body_{number}.vtp")
        true = torch.from_numpy(np.array(body["pressure"]))[:, None]
        predicted = surrogate.predict(torch.from_numpy(np.array(body.points)))
        expected.append(relative_l2(predicted, true).item())
        weighted.append(
            area_weighted_relative_l2(predicted, true, mesh_weights(body)).item()
        )
    assert main(["evaluate", "last.ckpt", "body_0.vtp", "body_1.vtp"]) == 0
    first, second, _, mean, area_weighted = capsys.readouterr().out.splitlines()
    assert f"{sum(weighted) / 2:.4g}" in area_weighted
    assert f"{expected[0]:.4g}" in first and f"{expected[1]:.4g}" in second
    assert f"{sum(expected) / 2:.4g}" in mean
    body["pressure"][:] = 0  # measured in units of the scale, 2
    body.save("still.vtp")
    assert main(["evaluate", "last.ckpt", "body_0.vtp", "still.vtp"]) == 0
    output = capsys.readouterr().out
    absolute = predicted.square().mean().sqrt().item() / 2
    assert f"'still.vtp': {absolute:.6g}"[:18] in output
    assert f"{(expected[0] + absolute) / 2:.4g}" in output.splitlines()[-3]
    body["pressure"][:] = np.nan
    body.save("unknown.vtp")
    with pytest.warns(UserWarning, match="pressure_true"):
        assert main(["evaluate", "last.ckpt", "body_0.vtp", "unknown.vtp"]) == 0
    *_, mean, area_weighted = capsys.readouterr().out.splitlines()
    assert f"{expected[0]:.4g}" in mean and f"{weighted[0]:.4g}" in area_weighted
    pv.Sphere().save("bare.vtp")
    assert "bare.vtp" in refused(capsys, "evaluate", "last.ckpt", "bare.vtp")
    assert "--fields" in refused(capsys, "evaluate", "last.ckpt", *TINY)


def test_print_config_and_help(capsys):
    for arguments, shown in (
        (["train", *TINY, "--print_config"], "num_train: 2"),
        (["train", "--help"], "--keep-best"),
        (["compare", "--help"], "--models"),
        (["evaluate", "--help"], "meshes"),
        (["simulate", "--help"], "--num-train"),
        (["spectrum", "--help"], "--vectors"),
        (["ablate", "--help"], "--over"),
        (["--help"], "simulate"),
        (["--version"], "tgflare"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 0
        assert shown in capsys.readouterr().out


def test_simulate(capsys, tmp_path):
    assert main(["simulate", *TINY, "--root=made"]) == 0
    assert "2 to train on, 1 to test on, of 35 points, in made" in (
        capsys.readouterr().out
    )
    assert any((tmp_path / "made").rglob("*"))
    assert "official" in refused(capsys, "simulate", *TINY, "--data=official")


def test_what_the_user_can_mend(capsys):
    assert "dracy" in refused(capsys, "train", "--problem=dracy")
    assert "--bogus" in refused(capsys, "train", *TINY, "--bogus=1")
    assert "--seed is many" in refused(capsys, "train", *TINY, "--seed=many")
    assert "Flair" in refused(capsys, "compare", *TINY, "--models=Flair")
    assert "none.ckpt" in refused(capsys, "info", "none.ckpt")
    assert "'trian'" in one_line(capsys, "trian")
    assert "'areas'" in one_line(capsys, "predict", "a", "b", "--weight=areas")
    assert "mesh" in one_line(capsys, "predict", "last.ckpt")
    assert "none.ckpt" in refused(capsys, "evaluate", "none.ckpt", "body.vtp")
    with pytest.raises(SystemExit) as caught:
        main(["fly"])
    assert caught.value.code == 2


@pytest.mark.slow
def test_the_core_alone():
    hidden = ("jsonargparse", "lightning", "matplotlib", "pyvista", "scipy", "skfem")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({hidden!r}))\n"
        "from torch_geometric_flare.cli import main\n"
        "print(main(['info']), main(['train']))"
    )
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True
    )
    assert result.stdout.splitlines()[-1] == "0 2", result.stderr
    assert "attention backends" in result.stdout
    assert "train,data,simulation,viz" in result.stderr
