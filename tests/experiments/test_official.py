"""What each benchmark makes of official files, written here in their formats."""

import numpy as np
import pytest
import scipy.io
import torch
from huggingface_hub import constants

from torch_geometric_flare import datasets
from torch_geometric_flare.experiments import (
    AIRFOIL,
    DARCY,
    ELASTICITY,
    LPBF,
    PIPE,
    Selection,
)
from torch_geometric_flare.fields import Field

RNG = np.random.default_rng(0)
FEW = {"train": range(3), "test": range(3, 5)}


def elasticity(root, monkeypatch):
    monkeypatch.setattr(datasets.Elasticity, "index_ranges", FEW)
    folder = root / "raw/Geo-FNO/elasticity/Meshes"
    folder.mkdir(parents=True)
    np.save(folder / "Random_UnitCell_XY_10.npy", RNG.random((972, 2, 5)))
    np.save(folder / "Random_UnitCell_sigma_10.npy", RNG.normal(200, 90, (972, 5)))


def airfoil(root, monkeypatch):
    monkeypatch.setattr(datasets.Airfoil, "index_ranges", FEW)
    folder = root / "raw/Geo-FNO/airfoil/naca"
    folder.mkdir(parents=True)
    for name in "XY":
        np.save(folder / f"NACA_Cylinder_{name}.npy", RNG.normal(size=(5, 221, 51)))
    np.save(folder / "NACA_Cylinder_Q.npy", RNG.normal(0.7, 0.2, (5, 5, 221, 51)))


def pipe(root, monkeypatch):
    monkeypatch.setattr(datasets.Pipe, "index_ranges", FEW)
    folder = root / "raw/Geo-FNO/pipe"
    folder.mkdir(parents=True)
    for name in "XY":
        np.save(folder / f"Pipe_{name}.npy", RNG.normal(5, 3, (5, 129, 129)))
    np.save(folder / "Pipe_Q.npy", RNG.normal(0.5, 0.3, (5, 3, 129, 129)))


def darcy(root, monkeypatch):
    folder = root / "raw/FNO/darcy"
    folder.mkdir(parents=True)
    for number, count in ((1, 3), (2, 2)):
        coeff = np.where(RNG.random((count, 421, 421)) < 0.5, 3.0, 12.0)
        arrays = {"coeff": coeff, "sol": RNG.random(coeff.shape) / 80}
        path = folder / f"piececonst_r421_N1024_smooth{number}.mat"
        scipy.io.savemat(path, arrays)


def lpbf(root, monkeypatch):
    for split, count in (("train", 3), ("test", 2)):
        folder = root / "raw/LPBF_FLARE" / split
        folder.mkdir(parents=True)
        for number in range(count):
            np.savez(
                folder / f"part_{number}.npz",
                pos=RNG.uniform(0, (30, 30, 60), (9, 3)),
                disp=RNG.normal(0, 0.1, (9, 3)),
                vmstr=RNG.uniform(0, 900, (9, 1)),
                temp=RNG.uniform(300, 900, (9, 1)),
                edge_index=RNG.integers(0, 9, (2, 14)),
                elems=RNG.integers(0, 9, (2, 8)),
            )


PROBLEMS = {
    elasticity: (ELASTICITY, Field("stress", 1, "Pa")),
    airfoil: (AIRFOIL, Field("mach_number")),
    pipe: (PIPE, Field("velocity_x")),
    darcy: (DARCY, Field("pressure")),
    lpbf: (LPBF, Field("displacement_z", 1, "mm")),
}


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.mark.parametrize("write", PROBLEMS, ids=lambda write: write.__name__)
def test_statistics_are_those_of_the_training_split(write, tmp_path, monkeypatch):
    benchmark, field = PROBLEMS[write]
    write(tmp_path, monkeypatch)
    splits = benchmark.load(Selection(data="official", root=str(tmp_path)))
    assert (len(splits.train), len(splits.test)) == (3, 2)
    assert splits.fields == (field,)
    y = torch.cat([data.y for data in splits.train])
    torch.testing.assert_close(splits.target_normalizer.shift, y.mean(0))
    torch.testing.assert_close(splits.target_normalizer.scale, y.std(0))
    x = torch.cat([data.x for data in splits.train])
    normalised = {"pipe": [0, 1], "darcy": [2]}.get(benchmark.name, [])
    if normalised:
        shift, scale = torch.zeros(x.size(1)), torch.ones(x.size(1))
        shift[normalised] = x.mean(0)[normalised]
        scale[normalised] = x.std(0)[normalised]
        torch.testing.assert_close(splits.input_normalizer.shift, shift)
        torch.testing.assert_close(splits.input_normalizer.scale, scale)
    else:
        assert splits.input_normalizer is None
    # What makes x of new positions is what made it of these.
    data = splits.test[0]
    coordinates = data.x[:, : data.pos.size(1)]
    if splits.coordinate_normalizer is None:
        assert torch.equal(coordinates, data.pos)
    else:
        made = splits.coordinate_normalizer.encode(data.pos)
        torch.testing.assert_close(coordinates, made)
    fewer = Selection(data="official", root=str(tmp_path), num_train=2, num_test=1)
    assert len(benchmark.load(fewer).train) == 2


def test_options_that_choose_the_points(tmp_path, monkeypatch):
    darcy(tmp_path, monkeypatch)
    coarse = Selection(data="official", root=str(tmp_path), num_points="1849")
    assert DARCY.load(coarse).test[0].grid == (43, 43)
    for number in ("1850", "4096", "49"):
        wrong = Selection(data="official", root=str(tmp_path), num_points=number)
        with pytest.raises(ValueError, match=f"--num-points is {number}, but"):
            DARCY.load(wrong)
    for benchmark in (ELASTICITY, PIPE, LPBF):
        for data in ("official", "simulated"):
            fixed = Selection(data=data, root=str(tmp_path), num_points="100")
            with pytest.raises(ValueError, match="--num-points is 100, but .*leave it"):
                benchmark.load(fixed)


def test_every_nth_point_of_an_airfoil(tmp_path, monkeypatch):
    airfoil(tmp_path, monkeypatch)
    root = str(tmp_path)
    whole = AIRFOIL.load(Selection(data="official", root=root)).test[0]
    coarse = Selection(data="official", root=root, num_points="2886")
    sample = AIRFOIL.load(coarse).test[0]
    assert whole.grid == (221, 51) and sample.grid == (111, 26)
    assert sample.pos.equal(whole.pos.view(221, 51, 2)[::2, ::2].flatten(0, 1))
    for data in ("official", "simulated"):
        wrong = Selection(data=data, root=root, num_points="100")
        with pytest.raises(ValueError, match="--num-points is 100, but .*give one of"):
            AIRFOIL.load(wrong)


@pytest.mark.parametrize("benchmark", [ELASTICITY, AIRFOIL, PIPE, DARCY, LPBF])
def test_unknown_fields_are_refused_before_any_file_is_sought(benchmark, tmp_path):
    root = str(tmp_path)
    for names in (("speed",), ("speed", "pressure")):
        selection = Selection(data="official", root=root, fields=names)
        with pytest.raises(ValueError, match="fields must be .* among"):
            benchmark.load(selection)


def test_parts_have_further_fields(tmp_path, monkeypatch):
    lpbf(tmp_path, monkeypatch)
    names = ("von_mises_stress", "displacement")
    selection = Selection(data="official", root=str(tmp_path), fields=names)
    splits = LPBF.load(selection)
    assert tuple(field.name for field in splits.fields) == names
    assert splits.train[0].y.shape == (9, 4)


def test_the_legacy_error_is_that_of_the_displacement_along_z():
    true = {"displacement_z": torch.tensor([[1.0], [2.0]])}
    predicted = {"displacement_z": torch.tensor([[1.0], [3.0]])}
    ((name, error),) = LPBF.errors(predicted, true).items()
    shift, scale = 0.45098527, 0.34212604
    norm = ((scale + shift) ** 2 + (2 * scale + shift) ** 2) ** 0.5
    assert name == "legacy_error" and error == pytest.approx(scale / norm, rel=1e-6)
    assert LPBF.errors({"temperature": true}, {"temperature": true}) == {}
