from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import pyvista as pv
import torch
from torch_geometric.loader import DataLoader

from torch_geometric_flare import mesh_io
from torch_geometric_flare.datasets import AhmedML
from torch_geometric_flare.metrics import force_coefficients
from torch_geometric_flare.nn import FLARE
from torch_geometric_flare.surrogates import Surrogate
from torch_geometric_flare.transforms import Normalizer

HEADER = (
    "body-length,body-height,body-width,front-arc-diameter,slant-angle-length,"
    "slant-angle-height,slant-surface-length,slant-angle-degrees"
)
SHAPE = [1187.5, 253.25, 369.5, 194.25, 96.0, 174.5, 199.25, 61.25]
FILES = ("boundary_{}.vtp", "force_mom_{}.csv", "geo_parameters_{}.csv")


@pytest.fixture(autouse=True)
def read_here(monkeypatch):
    """Meshes are read in this process, which is faster."""
    monkeypatch.setattr(mesh_io, "read_mesh", pv.read)


def body(run):
    """A box of 24 quads with fields, of single precision as the files are."""
    rng = np.random.default_rng(run)
    mesh = pv.Box((-1.1, 0.0, -0.2, 0.2, 0.05, 0.35), level=1, quads=True)
    mesh.clear_data()
    mesh.cell_data["pMean"] = rng.normal(-0.1, 0.2, 24).astype(np.float32)
    mesh.cell_data["static(p)_coeffMean"] = 2 * mesh.cell_data["pMean"]
    shear = rng.normal(0, 1e-3, (24, 3)).astype(np.float32)
    mesh.cell_data["wallShearStressMean"] = shear
    return mesh


def coefficients(mesh):
    """Drag and lift by the formula, in double precision."""
    mesh = mesh.compute_cell_sizes(length=False, volume=False)
    normals = np.asarray(mesh.face_normals, np.float64)
    outside = mesh.cell_centers().points - [-0.55, 0.0, 0.2]
    normals *= np.sign((normals * outside).sum(1, keepdims=True))
    stress = mesh["pMean"][:, None] * normals + mesh["wallShearStressMean"]
    force = -(stress * mesh["Area"][:, None]).sum(0)
    return force[[0, 2]] / (0.5 * 0.112032)


def write_run(root, run, shape=SHAPE, header=HEADER):
    folder = root / "raw" / "ahmedml" / f"run_{run}"
    folder.mkdir(parents=True)
    mesh, tables = FILES[0].format(run), [name.format(run) for name in FILES[1:]]
    body(run).save(folder / mesh)
    cd, cl = coefficients(body(run))
    (folder / tables[0]).write_text(f"cd, cl\n{cd:.10e}, {cl:.10e}\n")
    if shape is not None:
        row = ",".join(map(str, shape))
        (folder / tables[1]).write_text(f"{header}\n{row}\n")
    return folder


def test_every_number(tmp_path):
    write_run(tmp_path, 7)
    (data,) = AhmedML(
        tmp_path, runs=[7], num_points=None, fields=("pressure", "wall_shear_stress")
    )
    mesh = body(7)
    y = np.hstack([mesh["pMean"][:, None], mesh["wallShearStressMean"]])
    np.testing.assert_array_equal(data.y.numpy(), y)
    lower, upper = map(np.array, AhmedML.coordinate_bounds)
    centers = mesh.cell_centers().points
    np.testing.assert_allclose(data.pos.numpy(), centers, atol=1e-6)
    x = (centers - lower) / (upper - lower)
    np.testing.assert_allclose(data.x.numpy(), x, atol=1e-5)
    assert data.u.tolist() == [SHAPE] and data.u.dtype == torch.float32
    assert (data.run, data.num_nodes) == (7, 24)
    assert torch.equal(data.weight, data.area) and data.validate()


def test_names_and_units_of_the_parameters():
    named = {field.array: (field.name, field.unit) for field in AhmedML.conditions}
    assert list(named) == HEADER.split(",")
    assert named["slant-angle-degrees"] == ("slant_angle_degrees", "°")
    assert {unit for _, unit in named.values()} == {"mm", "°"}
    assert all(field.channels == 1 for field in AhmedML.conditions)


def test_forces_are_those_of_the_file(tmp_path):
    write_run(tmp_path, 2)
    fields = ("pressure", "wall_shear_stress")
    (data,) = AhmedML(tmp_path, runs=[2], num_points=None, fields=fields)
    found = force_coefficients(
        data.y[:, 0],
        data.normal,
        data.area,
        speed=AhmedML.speed,
        reference_area=AhmedML.reference_area,
        shear_stress=-data.wall_shear_stress,
    )
    torch.testing.assert_close(found.drag, data.cd, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.lift, data.cl, rtol=1e-5, atol=1e-6)


def test_splits(tmp_path):
    # First and last runs of each part of the permutation; 500 is the 141st.
    for run in (43, 33, 281, 203):
        write_run(tmp_path, run)
    write_run(tmp_path, 500, shape=None)
    write_run(tmp_path, 501)
    runs = {
        split: [data.run for data in AhmedML(tmp_path, split, num_points=4)]
        for split in ("train", "val", "test")
    }
    assert runs == {"train": [33, 43], "val": [281], "test": [203]}
    other = tmp_path / "other"
    write_run(other, 500)
    assert [data.run for data in AhmedML(other, num_points=4)] == [500]


def test_sizes_of_the_splits():
    from torch_geometric_flare.datasets.ahmedml import _splits

    sizes = {split: _splits().count(split) for split in set(_splits())}
    assert sizes == AhmedML.published_sizes


def test_parameters_condition_a_surrogate(tmp_path):
    shorter = [value - 10 for value in SHAPE]
    write_run(tmp_path, 43)
    write_run(tmp_path, 33, shorter)
    bodies = AhmedML(tmp_path, num_points=8)
    surrogate = Surrogate(
        FLARE(3, 8, 1, num_layers=1, heads=2, num_latents=4, condition_channels=8),
        Normalizer([AhmedML.pressure_mean], [AhmedML.pressure_std]),
        fields=bodies.fields,
        conditions=AhmedML.conditions,
        condition_normalizer=Normalizer.gaussian(data.u for data in bodies),
    )
    for parameter in surrogate.parameters():
        torch.nn.init.normal_(parameter)
    (batch,) = DataLoader(bodies, batch_size=2)
    assert batch.u.tolist() == [shorter, SHAPE]
    together = surrogate.predict(batch)
    torch.testing.assert_close(together[:8], surrogate.predict(bodies[0]))
    assert not torch.allclose(
        surrogate.predict(bodies[0]),
        surrogate.predict(bodies[0].clone().update({"u": bodies[1].u})),
    )


@pytest.mark.parametrize(
    ("header", "shape", "message"),
    [
        (HEADER.replace("body-width", "width"), SHAPE, "body-width.*holds.* width,"),
        (HEADER, SHAPE[:7], "not a table"),
        (HEADER, ["a", *SHAPE[1:]], "not a table"),
        (HEADER, ["nan", *SHAPE[1:]], "finite body-length"),
        ("", [], "not a table"),
    ],
)
def test_malformed_parameters(tmp_path, header, shape, message):
    write_run(tmp_path, 1, shape, header)
    with pytest.raises(ValueError, match=rf"geo_parameters_1\.csv' .*{message}"):
        AhmedML(tmp_path, runs=[1], num_points=4)


def test_upper_case_and_further_columns(tmp_path):
    write_run(tmp_path, 1, ["run 1", *SHAPE], "Name, " + HEADER.upper())
    assert AhmedML(tmp_path, runs=[1], num_points=4)[0].u.tolist() == [SHAPE]


def test_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"run_N/boundary_N\.vtp") as caught:
        AhmedML(tmp_path)
    for part in ("hf download neashton/ahmedml", "geo_parameters_1.csv", "60 to 90 MB"):
        assert part in str(caught.value)
    write_run(tmp_path, 43, shape=None)
    with pytest.raises(ConnectionError, match="geo_parameters_43.csv' is missing"):
        AhmedML(tmp_path, num_points=4)


def test_fetching_named_runs(tmp_path, monkeypatch):
    source = write_run(tmp_path / "hub", 9)
    calls = []

    def download(repo_id, filename, repo_type, revision, local_dir):
        calls.append((repo_id, filename))
        target = Path(local_dir, filename)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((source / target.name).read_bytes())
        return str(target)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert AhmedML(tmp_path, runs=(9,), num_points=4)[0].u.tolist() == [SHAPE]
    names = [f"run_9/{name.format(9)}" for name in FILES]
    assert calls == [("neashton/ahmedml", name) for name in names]
