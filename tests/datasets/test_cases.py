"""Conditions of meshes from `cases.csv` and field data, up to a prediction."""

import warnings

import numpy as np
import pytest
import pyvista as pv
import torch
from torch_geometric.data import Batch

from torch_geometric_flare import FLARE
from torch_geometric_flare.cli import main
from torch_geometric_flare.datasets import MeshFolder
from torch_geometric_flare.fields import Field
from torch_geometric_flare.mesh_io import add_case, find_conditions
from torch_geometric_flare.nn import LNO
from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.surrogates import Surrogate, load_surrogate, save_surrogate
from torch_geometric_flare.training import SurrogateModule

SPEED, ANGLE = Field("speed", 1, "m/s"), Field("angle", 1, "°")
MESHES = [f"m{number}.vtp" for number in range(6)]
SPEEDS = {name: 20.0 + 5 * number for number, name in enumerate(MESHES)}
WIDTHS = {"hidden_channels": 8, "num_layers": 1, "heads": 2}
TABLE = "mesh,speed (m/s),note\n" + "".join(f"{m},{v},x\n" for m, v in SPEEDS.items())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    # VTK itself: a reader process per file would take a second each.
    name = "torch_geometric_flare.mesh_io.read_mesh"
    monkeypatch.setattr(name, lambda path, **part: pv.read(path))
    root = tmp_path / "wings"
    root.mkdir()
    for number, name in enumerate(MESHES):
        mesh = pv.Sphere(theta_resolution=5 + number, phi_resolution=5)
        mesh.clear_data()
        mesh.cell_data["pressure"] = mesh.cell_centers().points[:, 0]
        mesh.field_data["angle"] = [number - 2.0]
        mesh.save(root / name)
    (root / "cases.csv").write_text(TABLE, encoding="utf-8")
    return root


def read(folder, split="train", conditions=(SPEED, ANGLE), **options):
    given = {"fractions": (0.5, 0, 0.5), "seed": 3, "fields": ["pressure"]}
    options = {**given, **options}
    return MeshFolder(folder, split, conditions=conditions, **options)


def put(folder, text):
    (folder / "cases.csv").write_text(text, encoding="utf-8")


def expected(dataset):
    names = dataset.sample_names()
    return torch.tensor([[SPEEDS[n], MESHES.index(n) - 2.0] for n in names])


def test_both_places_give_conditions(folder):
    for split in ("train", "test"):
        dataset = read(folder, split)
        u = Batch.from_data_list(list(dataset)).u
        assert torch.equal(u, expected(dataset))
        assert u.dtype == torch.float32
    assert dataset.conditions == (SPEED, ANGLE)
    assert "speed" not in dataset[0]


def test_normaliser_and_bounds_are_those_of_the_training_split(folder):
    train = read(folder)
    u, arguments = expected(train), train.surrogate_arguments()
    normalizer = arguments["condition_normalizer"]
    torch.testing.assert_close(normalizer.shift, u.mean(0))
    torch.testing.assert_close(normalizer.scale, u.std(0))
    assert arguments["condition_bounds"] == (u.amin(0).tolist(), u.amax(0).tolist())
    assert arguments["features"] == () and arguments["input_normalizer"] is None


def test_broadcast_makes_them_features(folder):
    train = read(folder, broadcast=True)
    assert train.features == (SPEED, ANGLE) and train.conditions == ()
    for data, row in zip(train, expected(train), strict=True):
        assert "u" not in data
        columns = torch.cat([data.speed, data.angle], dim=1)
        assert torch.equal(columns, row.expand(len(data.pos), -1))
    arguments = train.surrogate_arguments()
    assert arguments["conditions"] == () and arguments["condition_normalizer"] is None
    assert arguments["feature_bounds"] == (
        expected(train).amin(0).tolist(),
        expected(train).amax(0).tolist(),
    )
    recipe = Recipe(model_class=LNO, model={**WIDTHS, "num_modes": 4})
    surrogate = Surrogate(recipe.build_for(train), **arguments)  # without `u`
    assert surrogate.predict(train[0]).shape == train[0].y.shape
    with pytest.raises(ValueError, match="condition_channels is 2, but LNO"):
        recipe.build_for(read(folder))


def test_no_conditions_leave_all_as_it_was(folder):
    plain = read(folder, conditions=(), seed=0)
    put(folder, "not a table")
    again = read(folder, conditions=(), seed=0)
    assert again.name == plain.name == "cells_21311afc_4b6815fb"
    assert "u" not in again[0] and again.surrogate_arguments()["conditions"] == ()


@pytest.mark.parametrize("stored", [False, True])
def test_a_changed_table_counts_when_opened_again(folder, stored, monkeypatch):
    options = {"pre_transform": halve} if stored else {}
    first = read(folder, **options).sample_names()[0]
    put(folder, TABLE.replace(f",{SPEEDS[first]},", ",99.0,"))
    monkeypatch.setattr("torch_geometric_flare.mesh_io.read_mesh", None)  # not again
    u = read(folder, **options)[0].u
    assert u[0, 0] == (49.5 if stored else 99.0)


def halve(data):
    data.u = data.u / 2
    return data


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("name,speed\nm0.vtp,1\n", r"cases.csv.*'name', 'speed'.*'mesh'"),
        ("", "'mesh'"),
        (TABLE.replace("m/s", "km/h"), r"'speed \(km/h\)' in 'km/h'.*'m/s'"),
        (TABLE.replace("note", "speed"), r"\['speed \(m/s\)', 'speed'\]"),
        (TABLE + "m1.vtp,3,x\n", "line 8: 'm1.vtp' .*twice"),
        (
            TABLE.replace("25.0", "nan"),
            r"line 3, mesh 'm1.vtp': 'speed \(m/s\)'.*'nan'",
        ),
        (TABLE.replace("25.0", ""), "'m1.vtp'.* is ''"),
        (TABLE.replace("25.0", "25,0"), "'m1.vtp' has 4 values.*3 columns"),
        (TABLE.replace("note", "mesh"), "two columns called 'mesh'"),
        (TABLE.replace("25.0", "fast"), "'m1.vtp'.* is 'fast'"),
        (TABLE.replace("m1.vtp,25.0,x\n", ""), r"m1.vtp' lacks .*speed \(m/s\).*m/s"),
        (TABLE.replace("speed (m/s)", "v"), r"lacks .*speed \(m/s\).*'speed' in m/s"),
        (
            TABLE.replace("note", "angle").replace(",x", ",9"),
            r"angle \(°\) twice.*9\.0",
        ),
    ],
)
def test_errors_of_a_table(folder, table, message):
    put(folder, table)
    with pytest.raises(ValueError, match=message):
        for split in ("train", "test"):
            read(folder, split)


def test_columns_by_source_and_of_several_channels(folder):
    lines = [f"{m},{v},{-v},{v / 2}\n" for m, v in SPEEDS.items()]
    put(folder, "mesh,U [m/s],wind[0] (m/s),wind[1]\n" + "".join(lines) + "other,,,\n")
    conditions = (Field("speed", 1, "m/s", source="U"), Field("wind", 2, "m/s"))
    train = read(folder, conditions=conditions)
    v = expected(train)[:, :1]
    u = torch.cat([data.u for data in train])
    assert torch.equal(u, torch.cat([v, -v, v / 2], dim=1))
    put(folder, "mesh,U,wind[0]\n")
    with pytest.raises(ValueError, match=r"wind\[0\].*not all 2"):
        read(folder, conditions=conditions)


def test_large_numbers_keep_their_digits(folder):
    lines = [f"{m},{1.7e9 + 0.25 * n}\n" for n, m in enumerate(MESHES)]
    put(folder, "mesh,time\n" + "".join(lines))
    u = torch.cat([data.u for data in read(folder, conditions=["time"])])
    assert u.dtype == torch.float64 and len(u.unique()) == len(u)


def test_field_data_in_another_unit(folder):
    mesh = pv.Sphere()
    mesh.field_data["speed"], mesh.field_data["speed_unit"] = [3.0], ["m/s"]
    assert find_conditions(mesh, (SPEED,))["speed"].tolist() == [[3.0]]
    mesh.field_data["speed_unit"] = ["kn"]
    with pytest.raises(ValueError, match="speed.*'kn'.*'m/s'"):
        find_conditions(mesh, (SPEED,))


@pytest.fixture
def trained(folder, tmp_path):
    """A checkpoint whose prediction depends on `u`, though never trained."""
    train = read(folder)
    recipe = Recipe(model_class=FLARE, model={**WIDTHS, "num_latents": 4})
    torch.manual_seed(0)
    module = SurrogateModule(
        recipe.build_for(train), recipe=recipe, **train.surrogate_arguments()
    )
    for name, parameter in module.named_parameters():
        if name.endswith("modulation"):
            torch.nn.init.normal_(parameter)
    save_surrogate(module.surrogate, tmp_path / "a.ckpt")
    return module.surrogate, tmp_path / "a.ckpt", train


def test_a_checkpoint_and_its_command(folder, trained, tmp_path, capsys):
    surrogate, path, train = trained
    (folder / "cases.csv").rename(tmp_path / "elsewhere.csv")
    loaded = load_surrogate(path)
    assert loaded.condition_bounds == train.surrogate_arguments()["condition_bounds"]
    assert torch.equal(loaded.predict(train[0]), surrogate.predict(train[0]))

    mesh, low = str(folder / train.sample_names()[0]), train[0].clone()
    low.u[0, 0] = 30.0
    out = tmp_path / "out.vtp"

    def run(*options):
        status = main(["predict", str(path), mesh, f"--output={out}", *options])
        said = capsys.readouterr()
        return status, said.out + said.err

    for given in ("speed=30", "speed=30 m/s"):
        assert run("--set", given)[0] == 0
        written = pv.read(out).cell_data["pressure"]
        np.testing.assert_allclose(written, surrogate.predict(low)[:, 0], rtol=1e-4)
    for options, message in (
        ((), "lacks the condition speed (m/s)"),
        (("--set=speed=30 km/h",), "'km/h'"),
        (("--set=sped=30",), "'sped' is set"),
    ):
        status, said = run(*options)
        assert status == 2 and message in said and said.count("\n") == 1
    status, said = run("--set=speed=400")
    first, last = (side[0] for side in loaded.condition_bounds)
    assert status == 0 and "speed of the mesh is 400 m/s" in said
    assert f"{first:.4g} to {last:.4g} m/s" in said


def conditions_of(mesh):
    return [float(mesh.field_data[name][0]) for name in ("speed", "angle")]


def test_a_command_on_a_folder_reads_the_table(
    folder, trained, tmp_path, capsys, monkeypatch
):
    surrogate, path, _ = trained
    out = tmp_path / "out"
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    # A shell does not replace this `~`.
    assert main(["predict", str(path), str(folder), "--output=~/out"]) == 0
    for number, name in enumerate(MESHES):
        written = pv.read(out / f"m{number}_vtp_predicted.vtp")
        assert conditions_of(written) == [SPEEDS[name], number - 2.0]
        mesh = pv.read(folder / name)
        given = {"speed": [SPEEDS[name]]}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = surrogate.predict_mesh(mesh, constants=given)
            from_file = surrogate.predict_mesh(folder / name)
            monkeypatch.setenv("HOME", str(folder))
            monkeypatch.setenv("USERPROFILE", str(folder))
            from_home = surrogate.predict_mesh(f"~/{name}")
        for same in (written, from_file, from_home):
            np.testing.assert_allclose(
                same["pressure"], expected["pressure"], rtol=1e-5, atol=1e-6
            )
    put(folder, TABLE.replace("m1.vtp,25.0,x\n", ""))
    capsys.readouterr()
    assert main(["predict", str(path), str(folder), f"--output={out}"]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if "lacks" in line]
    assert len(said) == 1 and "m1.vtp" in said[0] and "speed (m/s)" in said[0]


def test_a_table_gives_way_to_field_data_and_these_to_an_option(folder, trained):
    path, mesh = trained[1], pv.read(folder / MESHES[2])
    out = folder / "out.vtp"

    def predicted(*options):
        arguments = ["predict", str(path), str(folder / MESHES[2]), f"--output={out}"]
        assert main([*arguments, *options]) == 0
        return np.asarray(pv.read(out)["pressure"])

    table = predicted()
    mesh.field_data["speed"] = [SPEEDS[MESHES[3]]]
    mesh.save(folder / MESHES[2])
    of_mesh = predicted()
    option = predicted(f"--set=speed={SPEEDS[MESHES[2]]}")
    np.testing.assert_allclose(table, option, rtol=1e-5)
    assert np.abs(of_mesh - option).max() > 1e-3
    put(folder, "not,a table of meshes\n")  # not needed, not read
    assert np.array_equal(predicted(), of_mesh)


def test_a_table_gives_features_that_were_conditions(folder):
    train = read(folder, broadcast=True)
    recipe = Recipe(model_class=LNO, model={**WIDTHS, "num_modes": 4})
    surrogate = Surrogate(recipe.build_for(train), **train.surrogate_arguments())
    name = train.sample_names()[0]
    written = surrogate.predict_mesh(folder / name)["pressure"]
    expected = surrogate.predict(train[0])[:, 0]
    np.testing.assert_allclose(written, expected, rtol=1e-4, atol=1e-6)


def test_areas_are_not_those_of_the_table(tmp_path):
    (tmp_path / "cases.csv").write_text("mesh,area,speed\na.vtp,2.0,3.0\n")
    mesh = pv.Sphere()
    add_case(mesh, tmp_path / "a.vtp", (Field("area", 1, "m²"), Field("speed")))
    assert "area" not in mesh.field_data and mesh.field_data["speed"] == [3.0]


def test_a_card_states_the_range(trained, tmp_path):
    pytest.importorskip("safetensors")
    surrogate, _, train = trained
    surrogate.save_pretrained(tmp_path / "card")
    low, high = expected(train).amin(0), expected(train).amax(0)
    card = (tmp_path / "card" / "README.md").read_text(encoding="utf-8")
    assert f"| speed | 1 | m/s | {low[0]:g} | {high[0]:g} |" in card


@pytest.mark.parametrize("bounds", [([1.0], [2.0]), ([0.0, 3.0], [1.0, 2.0])])
def test_wrong_bounds(trained, bounds):
    arguments = trained[2].surrogate_arguments() | {"condition_bounds": bounds}
    with pytest.raises(ValueError, match="condition_bounds"):
        Surrogate(trained[0].model, **arguments)


def test_no_warning_within_the_range(folder, trained):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trained[0].predict_mesh(pv.read(folder / MESHES[3]), constants={"speed": [35]})
