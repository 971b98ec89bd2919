"""Meshes that are written again, and folders that grow."""

import os
import shutil

import numpy as np
import pytest
import pyvista as pv
import torch

from torch_geometric_flare.datasets import MeshFolder

SPLITS = ("train", "val", "test")


@pytest.fixture(autouse=True)
def reads(monkeypatch):
    """VTK itself, and the names of the files that were read."""
    read = []

    def read_mesh(path):
        read.append(path.name)
        return pv.read(path)

    monkeypatch.setattr("torch_geometric_flare.mesh_io.read_mesh", read_mesh)
    return read


def write(folder, number, value):
    mesh = pv.Sphere(radius=1 + number / 100, theta_resolution=5, phi_resolution=5)
    mesh.clear_data()
    mesh.cell_data["u"] = np.full(mesh.n_cells, float(value))
    mesh.save(folder / f"b{number:02}.vtp")


@pytest.fixture
def folder(tmp_path):
    for number in range(4):
        write(tmp_path, number, number)
    return tmp_path


def values(folder, **options):
    dataset = MeshFolder(folder, fields=["u"], **{"fractions": (1, 0, 0), **options})
    return [data.y.unique().item() for data in dataset]


def halve(data):
    data.y = data.y / 2
    return data


@pytest.mark.parametrize("number", [0, 3])
@pytest.mark.parametrize("transform", [None, halve])
def test_a_mesh_that_is_written_again_is_read_again(folder, reads, number, transform):
    factor = 1 if transform is None else 0.5
    options = {"pre_transform": transform}
    expected = [0.0, 1.0, 2.0, 3.0]
    assert values(folder, **options) == [factor * value for value in expected]
    del reads[:]
    write(folder, number, 7)  # as many bytes
    expected[number] = 7.0
    assert values(folder, **options) == [factor * value for value in expected]
    assert reads == [f"b{number:02}.vtp"]
    assert values(folder, **options) == [factor * value for value in expected]
    assert len(reads) == 1


def test_a_mesh_of_the_same_size_with_its_old_time_is_read_again(folder):
    assert values(folder, split="train") == [0, 1, 2, 3]
    path = folder / "b02.vtp"
    before = path.stat()
    write(folder, 2, 7)  # as many bytes
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert values(folder, split="train") == [0, 1, 7, 3]


def test_other_splits_of_the_same_meshes_see_it_too(folder):
    other = {"fractions": (0.5, 0, 0.5), "split": "test", "seed": 3}
    (index, *_) = [int(value) for value in values(folder, **other)]
    values(folder)
    write(folder, index, 50)
    assert 50 in values(folder)
    assert 50 in values(folder, **other)


def test_a_copy_of_the_same_bytes_is_not_read_again(folder, reads):
    values(folder)
    del reads[:]
    shutil.copyfile(folder / "b01.vtp", folder / "copy")
    os.replace(folder / "copy", folder / "b01.vtp")
    os.utime(folder / "b02.vtp", (1, 1))
    assert values(folder) == [0, 1, 2, 3]
    assert reads == []
    assert values(folder, seed=1) == [0, 1, 2, 3]
    assert reads == []


def test_a_data_set_that_is_open_refuses_what_has_changed(folder):
    dataset = MeshFolder(folder, fields=["u"], fractions=(1, 0, 0))
    write(folder, 2, 50)
    values(folder)
    with pytest.raises(ValueError, match="b02"):
        dataset[2]
    assert torch.equal(dataset[1].y, torch.ones_like(dataset[1].y))


@pytest.mark.parametrize("seed", range(4))
def test_a_folder_that_grows_trains_on_nothing_that_was_held_out(folder, seed):
    before = None
    for number in (4, 6, 12):
        for new in range(4, number):
            write(folder, new, new)
        options = {"fields": ["u"], "seed": seed}
        opened = {split: MeshFolder(folder, split, **options) for split in SPLITS}
        found = {split: opened[split].sample_names() for split in SPLITS}
        assert sorted(sum(found.values(), [])) == [
            f"b{k:02}.vtp" for k in range(number)
        ]
        assert all(found.values())
        for dataset in opened.values():
            for name, data in zip(dataset.sample_names(), dataset, strict=True):
                assert data.y.unique().item() == int(name[1:3])
        for split in ("val", "test") if before else ():
            assert set(before[split]) <= set(found[split])
        before = found


def test_a_mesh_that_is_gone(folder):
    assert values(folder) == [0, 1, 2, 3]
    (folder / "b01.vtp").unlink()
    assert values(folder) == [0, 2, 3]
