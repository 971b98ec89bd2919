from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.lib.format import open_memmap

from torch_geometric_flare.datasets import Airfoil, Pipe
from torch_geometric_flare.datasets.geo_fno import GeoFNOFlow
from torch_geometric_flare.fields import Field


@dataclass
class Case:
    """What the files of a set hold, as published."""

    dataset: type[GeoFNOFlow]
    stem: str
    grid: tuple[int, int]
    channels: int
    target: int
    field: str

    @property
    def shapes(self):
        return {"X": self.grid, "Y": self.grid, "Q": (self.channels, *self.grid)}

    @property
    def num_points(self):
        return self.grid[0] * self.grid[1]

    def arrays(self, count, dtype=np.float32):
        rng = np.random.default_rng(count)
        return {
            name: rng.normal(size=(count, *shape)).astype(dtype)
            for name, shape in self.shapes.items()
        }

    def changed(self, name, index, value):
        arrays = self.arrays(2)
        arrays[name][index] = value
        return arrays

    def path(self, root, name):
        path = root / "raw" / "Geo-FNO" / f"{self.stem}_{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write(self, root, arrays):
        for name, array in arrays.items():
            np.save(self.path(root, name), array)

    def check(self, dataset, arrays):
        assert len(dataset) == len(arrays["X"])
        for index, data in enumerate(dataset):
            assert set(data.keys()) == {"x", "pos", "y", "grid"}
            assert data.grid == self.grid
            x, y = (arrays[name][index].astype(np.float32) for name in "XY")
            target = arrays["Q"][index, self.target].astype(np.float32)
            np.testing.assert_array_equal(data.pos[:, 0].reshape(data.grid), x)
            np.testing.assert_array_equal(data.pos[:, 1].reshape(data.grid), y)
            np.testing.assert_array_equal(data.y[:, 0].reshape(data.grid), target)
            assert data.y.shape == (self.num_points, 1)
            assert torch.equal(data.x, data.pos)


CASES = [
    Case(Airfoil, "airfoil/naca/NACA_Cylinder", (221, 51), 5, 4, "mach_number"),
    Case(Pipe, "pipe/Pipe", (129, 129), 3, 0, "velocity_x"),
]


@pytest.fixture(params=CASES, ids=lambda case: case.dataset.__name__)
def case(request):
    return request.param


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_train(case, tmp_path, caplog, check_workers, dtype):
    arrays = case.arrays(2, dtype)
    case.write(tmp_path, arrays)
    dataset = case.dataset(tmp_path)
    case.check(dataset, arrays)
    assert "holds 2 samples; the published train split has 1000" in caplog.text
    assert str(dataset) == f"{case.dataset.__name__}(2)"
    assert dataset.sizes == [case.num_points] * 2
    check_workers(dataset)
    with pytest.raises(FileNotFoundError, match="2 samples; the test split begins at"):
        case.dataset(tmp_path, "test")


def test_test(case, tmp_path, caplog):
    arrays = case.arrays(3)
    for name, array in arrays.items():
        # A file with holes: what is not written takes no space.
        shape = (1003, *case.shapes[name])
        target = open_memmap(case.path(tmp_path, name), "w+", np.float32, shape)
        target[1000:] = array
        target.flush()
    dataset = case.dataset(tmp_path, "test")
    case.check(dataset, arrays)
    assert "holds 3 samples; the published test split has 200" in caplog.text
    dataset.split = "train"
    names = dataset.sample_names()
    assert (len(names), names[0], names[-1]) == (1000, "000000", "000999")


def test_what_is_published(case):
    ranges = {"train": range(1000), "test": range(1000, 1200)}
    assert case.dataset.index_ranges == ranges
    assert case.dataset.published_sizes == {"train": 1000, "test": 200}
    assert case.dataset.fields == (Field(case.field, 1, ""),)
    assert case.dataset.features == ()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("X", lambda x: x[:, :, :-1]),
        ("Y", lambda y: y[0]),
        ("Q", lambda q: q[:, 1:]),
    ],
)
def test_files_of_another_shape(case, tmp_path, name, change):
    arrays = case.arrays(2)
    arrays[name] = change(arrays[name])
    case.write(tmp_path, arrays)
    found = ", ".join(map(str, arrays[name].shape))
    expected = ", ".join(map(str, case.shapes[name]))
    message = rf"{name}\.npy' has the shape \({found}\), expected \(n, {expected}\)"
    with pytest.raises(ValueError, match=message):
        case.dataset(tmp_path)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("Q", lambda q: q[:1], r"axis 0: \{'X': 2, 'Y': 2, 'Q': 1\}"),
        ("Q", lambda q: q.astype(complex), r"Q\.npy' is not .* complex128"),
        ("X", lambda x: x.astype(str), r"X\.npy' is not .*, not real numbers"),
    ],
)
def test_malformed_files(case, tmp_path, name, change, message):
    arrays = case.arrays(2)
    case.write(tmp_path, arrays | {name: change(arrays[name])})
    with pytest.raises(ValueError, match=message):
        case.dataset(tmp_path)


@pytest.mark.parametrize("name", ["X", "Y", "Q"])
def test_values_that_are_not_finite(case, tmp_path, name):
    index = (1, case.target, 2, 2) if name == "Q" else (1, 3, 4)
    case.write(tmp_path, case.changed(name, index, np.nan))
    with pytest.raises(ValueError, match=rf"sample 1 of '.*{name}\.npy' has values"):
        case.dataset(tmp_path)


def test_channels_that_are_not_read_do_not_matter(case, tmp_path):
    arrays = case.changed("Q", (1, 1, 2, 2), np.nan)
    case.write(tmp_path, arrays)
    case.check(case.dataset(tmp_path), arrays)


def test_missing_and_truncated_files(case, tmp_path):
    case.write(tmp_path, case.arrays(1))
    path = case.path(tmp_path, "Y")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"Y\.npy' is not a \.npy file"):
        case.dataset(tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=rf"has no file '{path.name}'\. Place"):
        case.dataset(tmp_path)


def test_a_changed_sample(case, tmp_path):
    case.write(tmp_path, case.arrays(2))
    case.dataset(tmp_path)
    case.write(tmp_path, case.changed("Q", (1, case.target, 0, 0), 7))
    dataset = case.dataset(tmp_path)
    assert dataset[0].num_nodes == case.num_points
    with pytest.raises(ValueError, match=r"sample 1 of '.*has changed since"):
        dataset[1]
