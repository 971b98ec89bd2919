import numpy as np
import pytest
import torch
from numpy.lib.format import open_memmap

from torch_geometric_flare.datasets import Airfoil
from torch_geometric_flare.fields import Field

pytestmark = pytest.mark.usefixtures("offline")

SHAPES = {"X": (221, 51), "Y": (221, 51), "Q": (5, 221, 51)}


def arrays_of(count, dtype=np.float32):
    rng = np.random.default_rng(count)
    return {
        name: rng.normal(size=(count, *shape)).astype(dtype)
        for name, shape in SHAPES.items()
    }


def path_of(root, name):
    path = root / "raw" / "Geo-FNO" / "airfoil" / "naca" / f"NACA_Cylinder_{name}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write(root, arrays):
    for name, array in arrays.items():
        np.save(path_of(root, name), array)


def check(dataset, arrays):
    assert len(dataset) == len(arrays["X"])
    for index, data in enumerate(dataset):
        assert set(data.keys()) == {"x", "pos", "y", "grid"}
        assert data.grid == (221, 51)
        x, y = (arrays[name][index].astype(np.float32) for name in "XY")
        target = arrays["Q"][index, 4].astype(np.float32)
        np.testing.assert_array_equal(data.pos[:, 0].reshape(data.grid), x)
        np.testing.assert_array_equal(data.pos[:, 1].reshape(data.grid), y)
        np.testing.assert_array_equal(data.y[:, 0].reshape(data.grid), target)
        assert data.y.shape == (221 * 51, 1)
        assert torch.equal(data.x, data.pos)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_train(tmp_path, caplog, check_workers, dtype):
    arrays = arrays_of(2, dtype)
    write(tmp_path, arrays)
    dataset = Airfoil(tmp_path)
    check(dataset, arrays)
    assert "holds 2 samples; the published train split has 1000" in caplog.text
    assert (str(dataset), dataset.sizes) == ("Airfoil(2)", [221 * 51] * 2)
    check_workers(dataset)
    with pytest.raises(FileNotFoundError, match="2 samples; the test split begins at"):
        Airfoil(tmp_path, "test")


def test_test(tmp_path, caplog):
    arrays = arrays_of(3)
    for name, array in arrays.items():
        # A file with holes: what is not written takes no space.
        shape = (1003, *SHAPES[name])
        target = open_memmap(path_of(tmp_path, name), "w+", np.float32, shape)
        target[1000:] = array
        target.flush()
    dataset = Airfoil(tmp_path, "test")
    check(dataset, arrays)
    assert "holds 3 samples; the published test split has 200" in caplog.text
    dataset.split = "train"
    names = dataset.sample_names()
    assert (len(names), names[0], names[-1]) == (1000, "000000", "000999")


def test_what_is_published():
    assert Airfoil.index_ranges == {"train": range(1000), "test": range(1000, 1200)}
    assert Airfoil.published_sizes == {"train": 1000, "test": 200}
    assert Airfoil.fields == (Field("mach_number", 1, ""),)
    assert Airfoil.features == ()


def changed(name, index, value):
    arrays = arrays_of(2)
    arrays[name][index] = value
    return arrays


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "X",
            lambda x: x[:, :, :-1],
            r"X\.npy' has the shape \(2, 221, 50\), expected \(n, 221, 51\)",
        ),
        ("Y", lambda y: y[0], r"Y\.npy' has the shape \(221, 51\), expected \(n, 221"),
        (
            "Q",
            lambda q: q[:, 1:],
            r"Q\.npy' has the shape \(2, 4, 221, 51\), expected \(n, 5, 221, 51\)",
        ),
        ("Q", lambda q: q[:1], r"axis 0: \{'X': 2, 'Y': 2, 'Q': 1\}"),
        ("Q", lambda q: q.astype(complex), r"Q\.npy' is not .* complex128"),
        ("X", lambda x: x.astype(str), r"X\.npy' is not .*, not real numbers"),
    ],
)
def test_malformed_files(tmp_path, name, change, message):
    arrays = arrays_of(2)
    write(tmp_path, arrays | {name: change(arrays[name])})
    with pytest.raises(ValueError, match=message):
        Airfoil(tmp_path)


@pytest.mark.parametrize(
    ("name", "index"), [("X", (1, 3, 4)), ("Y", (1, 0, 0)), ("Q", (1, 4, 2, 2))]
)
def test_values_that_are_not_finite(tmp_path, name, index):
    write(tmp_path, changed(name, index, np.nan))
    with pytest.raises(ValueError, match=rf"sample 1 of '.*{name}\.npy' has values"):
        Airfoil(tmp_path)


def test_channels_that_are_not_read_do_not_matter(tmp_path):
    arrays = changed("Q", (1, 1, 2, 2), np.nan)
    write(tmp_path, arrays)
    check(Airfoil(tmp_path), arrays)


def test_missing_and_truncated_files(tmp_path):
    write(tmp_path, arrays_of(1))
    path = path_of(tmp_path, "Y")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"Y\.npy' is not a \.npy file"):
        Airfoil(tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=rf"has no file '{path.name}'\. Place"):
        Airfoil(tmp_path)


def test_a_changed_sample(tmp_path):
    write(tmp_path, arrays_of(2))
    Airfoil(tmp_path)
    write(tmp_path, changed("Q", (1, 4, 0, 0), 7))
    dataset = Airfoil(tmp_path)
    assert dataset[0].num_nodes == 221 * 51
    with pytest.raises(ValueError, match=r"sample 1 of '.*has changed since"):
        dataset[1]
