import hashlib

import numpy as np
import pytest
import pyvista as pv
import torch
from torch_geometric.data import Batch

from torch_geometric_flare.datasets import MeshFolder
from torch_geometric_flare.fields import Field
from torch_geometric_flare.mesh_io import add_notes, read_mesh
from torch_geometric_flare.surrogates import Surrogate

PRESSURE, VELOCITY = Field("pressure", 1, "Pa"), Field("velocity", 3, "m/s")


def in_this_process(path):
    """VTK itself: a reader process per file would take a second each."""
    return pv.read(path)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr("torch_geometric_flare.mesh_io.read_mesh", in_this_process)


def sphere(number=0, resolution=8):
    mesh = pv.Sphere(
        radius=1 + 0.1 * number, theta_resolution=resolution, phi_resolution=8
    )
    mesh.clear_data()
    for data, places in (
        (mesh.cell_data, mesh.cell_centers().points),
        (mesh.point_data, mesh.points),
    ):
        data["pressure"] = 3.0 * places[:, 0] + number
        data["velocity"] = places * (2, 3, 4)
    mesh.field_data["speed"] = np.array([10.0 + number])
    return mesh


@pytest.fixture
def folder(tmp_path, quick):
    for number in range(10):
        mesh = sphere(number, 8 + number)
        if number % 2:
            mesh.cast_to_unstructured_grid().save(tmp_path / f"m{number}.vtu")
        else:
            mesh.save(tmp_path / f"m{number}.vtp")
    (tmp_path / "notes.txt").write_text("not a mesh")
    (tmp_path / ".hidden.vtp").write_text("not a mesh")
    return tmp_path


def open_all(folder, **options):
    options = {"fields": [PRESSURE], **options}
    return {s: MeshFolder(folder, s, **options) for s in ("train", "val", "test")}


@pytest.mark.parametrize("location", ["cell", "point"])
def test_samples_are_what_the_files_hold(folder, location):
    options = {"location": location, "features": ["speed", Field("normal", 3)]}
    dataset = MeshFolder(folder, fields=[PRESSURE, VELOCITY], **options)
    assert len(dataset) == 8
    for data, name in zip(dataset, dataset.sample_names(), strict=True):
        number = int(name[1])
        mesh = sphere(number, 8 + number)
        places = (mesh.cell_centers() if location == "cell" else mesh).points
        np.testing.assert_allclose(data.pos, places, atol=1e-6)
        np.testing.assert_allclose(data.y[:, 0], 3 * places[:, 0] + number, atol=1e-5)
        np.testing.assert_allclose(data.y[:, 1:], places * (2, 3, 4), atol=1e-5)
        assert data.speed.shape == (len(places), 1)
        assert (data.speed == 10 + number).all()
        assert float(data.area.sum()) == pytest.approx(mesh.area, rel=1e-5)
        outward = (data.normal * data.pos).sum(1) / data.pos.norm(dim=1)
        assert outward.min() > 0.9
        assert "x" not in data
    assert dataset.sizes == [data.num_nodes for data in dataset]
    assert len(set(dataset.sizes)) == 8
    batch = Batch.from_data_list(list(dataset))
    assert batch.num_nodes == sum(dataset.sizes)


def test_splits_are_disjoint_and_follow_the_seed(folder):
    def names(**options):
        return {s: d.sample_names() for s, d in open_all(folder, **options).items()}

    first = names()
    assert sorted(sum(first.values(), [])) == sorted(
        path.name for path in folder.glob("m*.vt?")
    )
    assert names() == first
    assert any(names(seed=seed) != first for seed in (1, 2))
    shares = names(fractions=(0.5, 0.2, 0.3), seed=1)
    place = {
        name: int(hashlib.sha256(f"1/{name}".encode()).hexdigest()[:16], 16) / 2**64
        for name in sum(shares.values(), [])
    }
    assert all(place[name] < 0.2 for name in shares["val"])
    assert all(0.2 <= place[name] < 0.5 for name in shares["test"])
    assert all(place[name] >= 0.5 for name in shares["train"])


def test_normalisers_are_those_of_the_training_split(folder):
    dataset = MeshFolder(folder, fields=[PRESSURE], features=["speed"])
    arguments = dataset.surrogate_arguments()
    samples = list(dataset)
    y = torch.cat([data.y for data in samples])
    pos = torch.cat([data.pos for data in samples])
    speed = torch.cat([data.speed for data in samples])
    torch.testing.assert_close(arguments["target_normalizer"].shift, y.mean(0))
    torch.testing.assert_close(arguments["target_normalizer"].scale, y.std(0))
    box = arguments["coordinate_normalizer"]
    torch.testing.assert_close(box.encode(pos).amin(0), torch.zeros(3))
    torch.testing.assert_close(box.encode(pos).amax(0), torch.ones(3))
    assert arguments["input_normalizer"].shift[:3].tolist() == [0, 0, 0]
    torch.testing.assert_close(arguments["input_normalizer"].shift[3:], speed.mean(0))
    bounds = ([speed.min().item()], [speed.max().item()])
    assert arguments["feature_bounds"] == bounds and bounds[0] < bounds[1]
    surrogate = Surrogate(torch.nn.Identity(), **arguments)
    assert surrogate.encode_input(samples[0]).shape == (samples[0].num_nodes, 4)
    with pytest.raises(ValueError, match="split='val': normalizers"):
        MeshFolder(folder, "val", fields=[PRESSURE]).surrogate_arguments()


def test_meshes_are_read_once_and_changes_are_found_out(folder, monkeypatch):
    options = {"fields": [PRESSURE]}
    before = [data.y for data in open_all(folder)["train"]]

    def fail(path):
        raise AssertionError(f"{path} is read again")

    monkeypatch.setattr("torch_geometric_flare.mesh_io.read_mesh", fail)
    again = MeshFolder(folder, **options)
    assert all(torch.equal(a, b.y) for a, b in zip(before, again, strict=True))
    MeshFolder(folder, **options, seed=5)  # splits of all seeds share what was read
    path = again.converted_dir / f"{again.sample_names()[0]}.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="has changed since the data set was"):
        again[0]


def test_an_array_that_is_missing(folder):
    name = MeshFolder(folder, fields=[PRESSURE]).sample_names()[0]
    with pytest.raises(ValueError) as error:
        MeshFolder(folder, fields=["stress"])
    assert f"{name}' has no cell data 'stress'" in str(error.value)
    assert "cell data: ['pressure', 'velocity']" in str(error.value)
    with pytest.raises(ValueError, match=r"have 3 channels, not 1: pass Field\('velo"):
        MeshFolder(folder, fields=["velocity"])
    with pytest.raises(ValueError) as error:
        MeshFolder(folder, fields=[PRESSURE], features=["angle"])
    assert f"{name}': the mesh lacks the input angle" in str(error.value)
    assert "field data: ['speed']" in str(error.value)
    with pytest.raises(ValueError, match="'speed' must be 2 numbers, got 1"):
        MeshFolder(folder, fields=[PRESSURE], features=[Field("speed", 2)])


@pytest.mark.parametrize("suffix", [".stl", ".ply", ".obj"])
def test_formats_without_fields_give_shapes(tmp_path, suffix, quick):
    for number in range(3):
        sphere(number).save(tmp_path / f"m{number}{suffix}")
    with pytest.raises(ValueError, match=f"VTK reads no fields from {suffix}: save it"):
        MeshFolder(tmp_path, fields=[PRESSURE])
    dataset = MeshFolder(tmp_path, fields=(), fractions=(1, 0, 0))
    assert len(dataset) == 3
    assert "y" not in dataset[0] and len(dataset[0].area) == len(dataset[0].pos)
    with pytest.raises(ValueError, match="fields is empty"):
        dataset.surrogate_arguments()


def test_flat_and_volume_meshes(tmp_path, quick):
    for kind in ("flat", "room"):
        (tmp_path / kind).mkdir()
        for number in range(3):
            grid = pv.ImageData(dimensions=(4, 3, 3))
            if kind == "flat":
                grid = pv.Plane(i_size=3, j_size=2, i_resolution=3, j_resolution=2)
            grid = grid.cast_to_unstructured_grid()
            grid.cell_data["pressure"] = np.arange(grid.n_cells) + number
            grid.save(tmp_path / kind / f"{number}.vtu")
    flat = MeshFolder(tmp_path / "flat", fields=[PRESSURE])
    assert flat[0].pos.shape == (6, 2)
    assert flat[0].area.tolist() == [1.0] * 6 and "normal" not in flat[0]
    room = MeshFolder(tmp_path / "room", fields=[PRESSURE])
    assert room[0].pos.shape == (12, 3) and "area" not in room[0]
    pv.read(tmp_path / "room" / "0.vtu").save(tmp_path / "flat" / "3.vtu")
    mixed = MeshFolder(tmp_path / "flat", fields=["pressure"], fractions=(1, 0, 0))
    with pytest.raises(ValueError, match="3.vtu' has 3 coordinates, but .*0.vtu' has"):
        mixed.coordinate_bounds()


def test_values_that_are_not_finite(tmp_path, quick):
    mesh = sphere()
    mesh.cell_data["pressure"][3] = np.nan
    mesh.save(tmp_path / "broken.vtp")
    with pytest.raises(ValueError, match="broken.vtp': y has values that are not"):
        MeshFolder(tmp_path, fields=[PRESSURE], fractions=(1, 0, 0))


def test_predictions_are_no_data(tmp_path, quick):
    mesh = sphere()
    add_notes(mesh, {"provenance": "predicted by FLARE"})
    mesh.save(tmp_path / "m.vtp")
    with pytest.raises(ValueError, match="m.vtp' is not data, but predicted by FLARE"):
        MeshFolder(tmp_path, fields=[PRESSURE], fractions=(1, 0, 0))


def test_wrong_arguments(folder, tmp_path):
    def refused(message, error=ValueError, root=folder, **options):
        with pytest.raises(error, match=message):
            MeshFolder(root, **{"fields": [PRESSURE], **options})

    refused("location must be 'cell' or 'point', got 'face'", location="face")
    refused("split must be one of", split="dev")
    refused("pass a list", fields="pressure")
    refused("fields holds 3, expected a Field", fields=[3])
    refused("two fields are called 'pressure'", features=["pressure"])
    refused("three shares of sum 1", fractions=(0.5, 0.5))
    refused("three shares of sum 1", fractions=(0.5, 0.6, -0.1))
    refused("the val split of .* is empty", split="val", fractions=(0.9, 0, 0.1))
    absent = tmp_path / "absent"
    refused("absent' is not a folder", FileNotFoundError, absent)
    assert not absent.exists()
    absent.mkdir()
    refused("holds no meshes", FileNotFoundError, absent)
    sphere().save(absent / "a.vtp")
    refused("1 meshes are too few", root=absent)


def test_files_are_read_by_a_process_of_their_own(tmp_path):
    assert "torch_geometric_flare.mesh_io.read" in read_mesh.__module__
    sphere().save(tmp_path / "good.vtp")
    (tmp_path / "broken.vtp").write_text("not a mesh\n")
    with pytest.raises(ValueError, match="broken.vtp' cannot be read: broken?"):
        MeshFolder(tmp_path, fields=[PRESSURE], fractions=(1, 0, 0))


@pytest.mark.parametrize("place", [None, "elsewhere"])
def test_nothing_is_written_among_the_meshes(folder, tmp_path_factory, place):
    cache = None if place is None else tmp_path_factory.mktemp(place) / "new" / "deep"
    before = sorted(path.name for path in folder.iterdir())
    train = MeshFolder(folder, "train", fields=[PRESSURE], cache=cache)
    assert sorted(path.name for path in folder.iterdir()) == before
    expected = folder.with_name(f"{folder.name}_processed") if cache is None else cache
    assert train.cache_dir == expected
    assert list(expected.rglob("manifest.json")) and list(expected.rglob("*.npz"))
    again = MeshFolder(folder, "train", fields=[PRESSURE], cache=cache)
    assert torch.equal(again[0].y, train[0].y)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_default_dtype_changes_nothing(folder, tmp_path_factory, dtype):
    expected = MeshFolder(folder, fields=[PRESSURE])[0]
    torch.set_default_dtype(dtype)
    try:
        cache = tmp_path_factory.mktemp("cache")
        found = MeshFolder(folder, fields=[PRESSURE], cache=cache)[0]
    finally:
        torch.set_default_dtype(torch.float32)
    assert {name: value.dtype for name, value in found} == {
        name: value.dtype for name, value in expected
    }
    assert torch.equal(found.y, expected.y)


def test_a_full_cache_may_be_read_only(folder, monkeypatch):
    stored = [
        MeshFolder(folder, split, fields=[PRESSURE])
        for split in ("train", "val", "test")
    ]

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    for name in ("mesh_files.TemporaryFile", "mesh_folder.write_json"):
        monkeypatch.setattr(f"torch_geometric_flare.datasets.{name}", refuse)
    for name in ("records", "sources", "verified"):
        monkeypatch.setattr(
            f"torch_geometric_flare.datasets.{name}.write_atomic", refuse
        )
    for split, before in zip(("train", "val", "test"), stored, strict=True):
        again = MeshFolder(folder, split, fields=[PRESSURE])
        assert len(again) == len(before) and torch.equal(again[0].y, before[0].y)
    with pytest.raises(OSError, match="cache='.*Permission denied"):
        MeshFolder(folder, "train", fields=[PRESSURE], seed=5)


def test_a_cache_that_cannot_be_written_is_named(folder):
    (folder / "file").write_text("")
    with pytest.raises(OSError, match=r"cache='.*file/sub'"):
        MeshFolder(folder, "train", fields=[PRESSURE], cache=folder / "file" / "sub")


@pytest.mark.parametrize("root", ["~/meshes", "meshes", "../home/meshes"])
def test_folders_of_the_home_and_of_the_working_folder(
    tmp_path, monkeypatch, quick, root
):
    home = tmp_path / "home"
    (home / "meshes").mkdir(parents=True)
    for number in range(4):
        sphere(number).save(home / "meshes" / f"m{number}.vtp")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    train = MeshFolder(root, "train", fields=[PRESSURE], fractions=(1, 0, 0))
    monkeypatch.chdir("/")
    assert train.root == str(home / "meshes")
    assert len(train) == 4 and train[1].y.shape[1] == 1
    assert (home / "meshes_processed").is_dir()


@pytest.mark.parametrize("number, gap", [(1, np.nan), (7, np.inf)])
def test_gaps_in_a_field_name_array_file_and_number(folder, number, gap):
    mesh = sphere()
    mesh.cell_data["pressure"][5 : 5 + number] = gap
    mesh.save(folder / "m0.vtp")
    message = rf"m0.vtp'.* {number} of {mesh.n_cells} of 'pressure', .* point 5\b"
    with pytest.raises(ValueError, match=message):
        open_all(folder)


def test_slices_of_constant_x(tmp_path, quick):
    for number, width in enumerate((1.0, 2.0, 1.5)):
        mesh = pv.Plane(
            center=(3.0, 0, 0), direction=(1, 0, 0), i_size=width, j_size=2 * width
        )
        mesh.clear_data()
        mesh.cell_data["pressure"] = np.arange(mesh.n_cells, dtype=float)
        mesh.save(tmp_path / f"s{number}.vtp")
    train = MeshFolder(
        tmp_path, "train", fields=[PRESSURE], fractions=(1.0, 0.0, 0.0), cache=None
    )
    assert train[0].pos.shape[1] == 3
    box = train.surrogate_arguments()["coordinate_normalizer"]
    size = max(high - low for low, high in zip(*train.coordinate_bounds(), strict=True))
    # As thick as it is large, about the place of the slices.
    assert box.scale[0].item() == pytest.approx(size.item())
    encoded = box.encode(train[1].pos)
    assert encoded[:, 0].tolist() == pytest.approx([0.5] * len(encoded))
    surrogate = Surrogate(FirstChannel(), **train.surrogate_arguments())
    found = surrogate.predict_mesh(pv.read(tmp_path / "s1.vtp"), location="cell")
    assert np.isfinite(found.cell_data["pressure"]).all()


class FirstChannel(torch.nn.Module):
    def forward(self, x):
        return x[:, :1]


def test_blocks_of_files_of_other_kinds(tmp_path):
    for number in range(2):
        blocks = pv.MultiBlock({"wing": sphere(number), "tail": sphere(number + 5)})
        blocks.save(tmp_path / f"m{number}.vtm")
    train = MeshFolder(
        tmp_path,
        "train",
        fields=[PRESSURE],
        fractions=(1.0, 0.0, 0.0),
        suffixes=[".vtm"],
        block="tail",
    )
    assert train[1].pos.norm(dim=1).max().item() == pytest.approx(1.6, rel=0.1)


def test_meshes_are_read_on_the_cpu_whatever_the_default_device(folder):
    options = {"fields": [PRESSURE], "features": [VELOCITY, "area"]}
    with torch.device("meta"):
        found = MeshFolder(folder, "train", **options)[0]
    expected = MeshFolder(folder, "train", **options)[0]
    for name in ("pos", "y", "velocity", "area"):
        assert torch.equal(found[name], expected[name])
