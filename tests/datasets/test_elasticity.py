import shutil

import numpy as np
import pytest
import torch

from torch_geometric_flare.datasets import Airfoil, Elasticity
from torch_geometric_flare.fields import Field


def arrays_of(count, dtype=np.float32):
    rng = np.random.default_rng(count)
    xy = rng.random((972, 2, count)).astype(dtype)
    return xy, rng.normal(200, 150, (972, count)).astype(dtype)


def write(root, xy, sigma):
    folder = root / "raw" / "Geo-FNO" / "elasticity" / "Meshes"
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "Random_UnitCell_XY_10.npy", xy)
    np.save(folder / "Random_UnitCell_sigma_10.npy", sigma)
    return folder


def check(dataset, xy, sigma, indices):
    assert len(dataset) == len(indices)
    for data, index in zip(dataset, indices, strict=True):
        assert set(data.keys()) == {"x", "pos", "y"}
        np.testing.assert_array_equal(data.pos, xy[:, :, index].astype(np.float32))
        np.testing.assert_array_equal(data.y, sigma[:, [index]].astype(np.float32))
        assert torch.equal(data.x, data.pos)
        assert data.y.dtype == data.pos.dtype == torch.float32


def test_both_splits_of_one_file(tmp_path, caplog):
    arrays = arrays_of(1803)
    write(tmp_path, *arrays)
    check(Elasticity(tmp_path), *arrays, range(1000))
    assert caplog.text == ""
    check(Elasticity(tmp_path, "test"), *arrays, [1800, 1801, 1802])
    assert "holds 3 samples; the published test split has 200" in caplog.text


def test_the_published_indices():
    assert Elasticity.index_ranges == {
        "train": range(1000),
        "test": range(1800, 2000),
    }
    assert Elasticity.published_sizes == {"train": 1000, "test": 200}
    assert Elasticity.fields == (Field("stress", 1, "Pa"),)
    assert Elasticity.features == ()


@pytest.mark.parametrize("order", ["C", "F"])
def test_few_samples(tmp_path, caplog, check_workers, order):
    arrays = [array.copy(order) for array in arrays_of(4, np.float64)]
    write(tmp_path, *arrays)
    train = Elasticity(tmp_path)
    check(train, *arrays, range(4))
    assert "holds 4 samples; the published train split has 1000" in caplog.text
    assert (str(train), train.sizes) == ("Elasticity(4)", [972] * 4)
    check_workers(train)
    with pytest.raises(FileNotFoundError, match="4 samples; the test split begins at"):
        Elasticity(tmp_path, "test")


XY, SIGMA = arrays_of(3)
NAN = SIGMA.copy()
NAN[5, 1] = np.nan
INFINITE = XY.copy()
INFINITE[0, 0, 2] = np.inf


@pytest.mark.parametrize(
    ("xy", "sigma", "message"),
    [
        (XY.T, SIGMA, r"XY_10\.npy' has the shape \(3, 2, 972\), expected \(972, 2, n"),
        (
            XY.transpose(2, 0, 1),
            SIGMA,
            r"XY_10\.npy' has the shape \(3, 972, 2\), expected \(972, 2, n\)",
        ),
        (XY, SIGMA.T, r"sigma_10\.npy' has the shape \(3, 972\), expected \(972, n\)"),
        (XY, SIGMA[:, :2], r"along axis -1: \{'XY': 3, 'sigma': 2\}"),
        (XY, SIGMA.astype(complex), r"sigma_10\.npy' is not .* complex128, not real"),
        (XY.astype(object), SIGMA, r"XY_10\.npy' is not .* object, not real numbers"),
        (XY, NAN, r"sample 1 of '.*sigma_10\.npy' has values that are not finite"),
        (INFINITE, SIGMA, r"sample 2 of '.*XY_10\.npy' has values that are not finite"),
    ],
)
def test_malformed_files(tmp_path, xy, sigma, message):
    write(tmp_path, xy, sigma)
    with pytest.raises(ValueError, match=message):
        Elasticity(tmp_path)


def test_a_truncated_file(tmp_path):
    path = write(tmp_path, XY, SIGMA) / "Random_UnitCell_sigma_10.npy"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"sigma_10\.npy' is not a \.npy file"):
        Elasticity(tmp_path)


def test_a_changed_sample(tmp_path):
    write(tmp_path, XY, SIGMA)
    Elasticity(tmp_path)
    write(tmp_path, XY, SIGMA + (np.arange(3) == 1))
    changed = Elasticity(tmp_path)
    assert len([changed[0], changed[2]]) == 2
    with pytest.raises(ValueError, match=r"sample 1 of '.*has changed since"):
        changed[1]


def test_what_is_missing(tmp_path):
    with pytest.raises(ConnectionError) as caught:
        Elasticity(tmp_path)
    assert f"'{tmp_path / 'raw' / 'Geo-FNO.tar.gz'}' by hand" in str(caught.value)
    folder = write(tmp_path, XY, SIGMA)
    (folder / "Random_UnitCell_XY_10.npy").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        Elasticity(tmp_path)
    assert str(caught.value) == (
        f"'{folder}' has no file 'Random_UnitCell_XY_10.npy'. Place what is missing "
        f"there, or move '{tmp_path / 'raw' / 'Geo-FNO'}' away to fetch Geo-FNO.tar.gz "
        "again."
    )


def test_an_archive_never_overwrites_what_was_placed_by_hand(tmp_path):
    write(tmp_path / "scratch", XY, SIGMA)
    raw = tmp_path / "scratch" / "raw"
    shutil.make_archive(str(raw / "Geo-FNO"), "gztar", raw, "Geo-FNO")
    write(tmp_path, XY, SIGMA + 1)
    shutil.move(raw / "Geo-FNO.tar.gz", tmp_path / "raw")
    check(Elasticity(tmp_path), XY, SIGMA + 1, range(3))
    folder = tmp_path / "raw" / "Geo-FNO" / "airfoil" / "naca"
    with pytest.raises(FileNotFoundError) as caught:
        Airfoil(tmp_path)
    assert str(caught.value).startswith(
        f"'{folder}' has no file 'NACA_Cylinder_X.npy', nor 'NACA_Cylinder_Y.npy', nor "
        "'NACA_Cylinder_Q.npy'. Place"
    )
    check(Elasticity(tmp_path), XY, SIGMA + 1, range(3))
    shutil.rmtree(tmp_path / "raw" / "Geo-FNO")
    dataset = Elasticity(tmp_path, force_reload=True)
    check(dataset, XY, SIGMA, range(3))
    assert (tmp_path / "raw" / "Geo-FNO.tar.gz.json").exists()
