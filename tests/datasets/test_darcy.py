import builtins
import pickle

import h5py
import numpy as np
import pytest
import scipy.io
import torch

from torch_geometric_flare.datasets import Darcy, matlab
from torch_geometric_flare.fields import Field


def arrays_of(count, seed=0):
    rng = np.random.default_rng(seed)
    coeff = np.where(rng.random((count, 421, 421)) < 0.5, 3.0, 12.0)
    return {"coeff": coeff, "sol": rng.random((count, 421, 421)) / 80}


def write_5(path, arrays, compress=False):
    scipy.io.savemat(path, arrays, do_compression=compress)


def write_73(path, arrays):
    """Write as MATLAB does: axes reversed, 512 bytes of its own in front."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            file[name] = array.T
            file[name].attrs["MATLAB_class"] = np.bytes_("double")
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file".ljust(512))


WRITERS = pytest.mark.parametrize("write", [write_5, write_73])


def path_of(root, number=1):
    path = root / "raw" / "FNO" / "darcy" / f"piececonst_r421_N1024_smooth{number}.mat"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def check_sample(data, coeff, sol, step):
    size = 420 // step + 1
    coeff, sol = (array[::step, ::step].astype(np.float32) for array in (coeff, sol))
    assert set(data.keys()) == {"x", "pos", "y", "permeability", "grid"}
    assert data.grid == (size, size) == coeff.shape
    np.testing.assert_array_equal(data.permeability, coeff.reshape(-1, 1))
    np.testing.assert_array_equal(data.y, sol.reshape(-1, 1))
    axis = (np.arange(size) / (size - 1)).astype(np.float32)
    pos = data.pos.reshape(size, size, 2)
    np.testing.assert_array_equal(pos[:, :, 0], np.repeat(axis[:, None], size, 1))
    np.testing.assert_array_equal(pos[:, :, 1], np.repeat(axis[None], size, 0))
    assert torch.equal(data.x, torch.cat([data.pos, data.permeability], dim=1))
    assert data.y.dtype == data.x.dtype == torch.float32


def check(dataset, arrays, step=5):
    assert len(dataset) == len(arrays["sol"])
    for data, coeff, sol in zip(dataset, *arrays.values(), strict=True):
        check_sample(data, coeff, sol, step)


@WRITERS
def test_both_splits(tmp_path, caplog, check_workers, write):
    train, test = arrays_of(3), arrays_of(2, seed=1)
    write(path_of(tmp_path, 1), train)
    write(path_of(tmp_path, 2), test)
    dataset = Darcy(tmp_path)
    check(dataset, train)
    assert "holds 3 samples; the published train split has 1000" in caplog.text
    check(Darcy(tmp_path, "test"), test)
    assert "holds 2 samples; the published test split has 200" in caplog.text
    assert (str(dataset), dataset.sizes) == ("Darcy(3)", [85 * 85] * 3)
    check_workers(dataset)


@WRITERS
@pytest.mark.parametrize("step", [1, 3, 420])
def test_steps(tmp_path, write, step):
    arrays = arrays_of(2)
    write(path_of(tmp_path), arrays)
    check(Darcy(tmp_path, step=step), arrays, step)
    check(Darcy(tmp_path), arrays)  # another folder
    assert Darcy(tmp_path, step=step).name == f"darcy_step{step}"


def test_a_compressed_file(tmp_path):
    arrays = arrays_of(2)
    write_5(path_of(tmp_path), arrays, compress=True)
    check(Darcy(tmp_path), arrays)


def test_no_more_than_the_split_is_read_block_by_block(tmp_path, monkeypatch):
    monkeypatch.setattr(matlab, "_BLOCK", 7 * 421 * 421)
    with h5py.File(path_of(tmp_path, 2), "w") as file:
        for name in ("coeff", "sol"):
            chunks = (421, 421, 1)
            shape = (421, 421, 203)
            data = file.create_dataset(name, shape, "i1", chunks=chunks, fillvalue=1)
            for index in (0, 6, 7, 199, 200):
                data[120, 60, index] = index % 100 + (name == "sol")
    blocks = list(matlab.mat_blocks(path_of(tmp_path, 2), "sol", 200))
    assert [len(block) for block in blocks] == [7] * 28 + [4]
    dataset = Darcy(tmp_path, "test", step=60)
    assert len(dataset) == 200
    for index in (0, 1, 6, 7, 199):
        coeff = np.ones((421, 421))
        sol = coeff.copy()
        if index != 1:
            coeff[60, 120], sol[60, 120] = index % 100, index % 100 + 1
        check_sample(dataset[index], coeff, sol, 60)


def test_what_is_published():
    assert Darcy.index_ranges == {"train": range(1000), "test": range(200)}
    assert Darcy.published_sizes == {"train": 1000, "test": 200}
    assert Darcy.fields == (Field("pressure", 1, ""),)
    assert Darcy.features == (Field("permeability", 1, ""),)


@pytest.mark.parametrize("step", [0, -5, 8, 421, 840, 2.0, True, "5"])
def test_bad_steps(tmp_path, step):
    with pytest.raises(ValueError, match=r"step must be an integer that divides 420"):
        Darcy(tmp_path, step=step)


@WRITERS
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sol": None}, r"smooth1\.mat' is not .*it lacks sol, and holds \['coeff'"),
        (
            {"sol": np.ones((2, 421, 420))},
            r"smooth1\.mat': sol has the shape \(2, 421, 420\), expected \(n, 421, 421",
        ),
        ({"coeff": np.ones((421, 421, 2))}, r"coeff has the shape \(421, 421, 2\), ex"),
        ({"coeff": np.ones((421, 421))}, r"coeff has the shape \(421, 421\), expected"),
        (
            {"sol": np.ones((1, 421, 421))},
            r"smooth1\.mat' holds different numbers .* \{'coeff': 2, 'sol': 1\}",
        ),
        ({"sol": np.full((2, 421, 421), 1j)}, "not a .mat file .*sol is of .*complex1"),
        (
            {"sol": np.full((2, 421, 421), np.nan)},
            r"sample 0 of '.*smooth1\.mat': sol has values that are not finite",
        ),
        (
            {"sol": np.full((2, 421, 421), 1e200)},
            r"sample 0 of '.*smooth1\.mat': sol has values that are not finite",
        ),
    ],
)
def test_malformed_files(tmp_path, write, change, message):
    arrays = arrays_of(2) | change
    arrays = {name: array for name, array in arrays.items() if array is not None}
    write(path_of(tmp_path), arrays)
    with pytest.raises(ValueError, match=message):
        Darcy(tmp_path)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("text", "char"),
        (np.array([{}, 1], dtype=object), "cell"),
        ({"a": 1.0}, "struct"),
        (scipy.sparse.eye_array(3).tocsc(), "sparse"),
        (np.ones((2, 421, 421), bool), "logical"),
    ],
)
def test_other_classes_of_matlab_5(tmp_path, value, kind):
    write_5(path_of(tmp_path), arrays_of(2) | {"sol": value})
    with pytest.raises(ValueError, match=rf"smooth1\.mat' is not.*class {kind}"):
        Darcy(tmp_path)


def test_other_contents_of_matlab_73(tmp_path):
    path = path_of(tmp_path)
    shape = (421, 421, 2)

    def refuse(make, message):
        write_73(path, arrays_of(2))
        with h5py.File(path, "r+") as file:
            del file["sol"]
            make(file)
        with pytest.raises(ValueError, match=rf"smooth1\.mat' is not.*{message}"):
            Darcy(tmp_path)

    def characters(file):
        file["sol"] = np.ones(shape, np.uint16)
        file["sol"].attrs["MATLAB_class"] = np.bytes_("char")

    def virtual(file):
        layout = h5py.VirtualLayout(shape, "f8")
        layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "sol", shape)
        file.create_virtual_dataset("sol", layout)

    def external(file):
        (tmp_path / "other.bin").write_bytes(bytes(421 * 421 * 2))
        where = (str(tmp_path / "other.bin"), 0, 421 * 421 * 2)
        file.create_dataset("sol", shape, "i1", external=[where])

    def link(file):
        file["sol"] = h5py.ExternalLink(tmp_path / "other.h5", "sol")

    refuse(lambda file: file.create_group("sol"), "not an array in the file itself")
    refuse(virtual, "not an array in the file itself")
    refuse(external, "not an array in the file itself")
    refuse(link, "not an array in the file itself")
    refuse(characters, "sol is of class char and type uint16")
    references = {"shape": shape, "dtype": h5py.ref_dtype}
    refuse(lambda file: file.create_dataset("sol", **references), "type object")


@WRITERS
def test_truncated_files(tmp_path, write):
    path = path_of(tmp_path)
    write(path, arrays_of(1))
    content = path.read_bytes()
    for length in (0, 60, 300, 1000, len(content) // 2, len(content) - 100):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"smooth1\.mat' is not a \.mat file"):
            Darcy(tmp_path)
    path.write_bytes(b"no matrix at all" * 99)
    with pytest.raises(ValueError, match=r"smooth1\.mat' is not a \.mat file"):
        Darcy(tmp_path)


@pytest.mark.parametrize(
    ("write", "module", "kind"),
    [(write_5, "scipy.io", "MATLAB 5"), (write_73, "h5py", r"MATLAB 7\.3")],
)
def test_without_the_library(tmp_path, monkeypatch, write, module, kind):
    write(path_of(tmp_path), arrays_of(1))
    original = builtins.__import__

    def missing(name, *arguments):
        if name == module:
            raise ModuleNotFoundError(name, name=name)
        return original(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=rf"{kind} .*pip install .*\.\[data\]"):
        Darcy(tmp_path)


def test_an_interrupted_run_is_begun_anew(tmp_path, monkeypatch):
    arrays = arrays_of(2)
    write_73(path_of(tmp_path), arrays)
    folder = tmp_path / "processed" / "darcy_step5" / "train"
    original = matlab.mat_blocks

    def interrupt(path, name, count):
        if name == "sol":
            raise KeyboardInterrupt
        yield from original(path, name, count)

    def run(**arguments):
        with (
            monkeypatch.context() as patch,
            pytest.raises(KeyboardInterrupt),
        ):
            patch.setattr("torch_geometric_flare.datasets.darcy.mat_blocks", interrupt)
            Darcy(tmp_path, **arguments)

    run()
    assert sorted(path.name for path in folder.iterdir()) == ["coeff.npy"]
    check(Darcy(tmp_path), arrays)
    assert (folder / "manifest.json").exists()

    # An interrupted `force_reload` leaves no old manifest beside a new copy.
    other = arrays_of(2, seed=3)
    write_73(path_of(tmp_path), other)
    run(force_reload=True)
    assert not (folder / "manifest.json").exists()
    check(Darcy(tmp_path), other)


def test_the_copy_is_verified(tmp_path):
    write_5(path_of(tmp_path), arrays_of(2))
    path = tmp_path / "processed" / "darcy_step5" / "train" / "sol.npy"
    dataset = Darcy(tmp_path)
    loaded = pickle.loads(pickle.dumps(dataset))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert loaded[0].num_nodes == 85 * 85
    with pytest.raises(ValueError, match=r"sample 1 of '.*has changed since"):
        Darcy(tmp_path)[1]
    for damage in (lambda: path.write_bytes(content[:-1]), path.unlink):
        damage()
        with pytest.raises(ValueError, match=r"sol\.npy'.*Pass force_reload=True"):
            Darcy(tmp_path)
    check(Darcy(tmp_path, force_reload=True), arrays_of(2))


def test_what_is_missing(tmp_path):
    with pytest.raises(ConnectionError, match=r"PDESurrogates FNO\.tar\.gz"):
        Darcy(tmp_path)
    write_5(path_of(tmp_path), arrays_of(1))
    message = r"darcy' has no file 'piececonst_r421_N1024_smooth2\.mat'\. Place what"
    with pytest.raises(FileNotFoundError, match=message):
        Darcy(tmp_path, "test")
