"""Toy formats of verified data sets, as different as can be, and their files."""

import csv
from pathlib import Path

import numpy as np
import torch
from torch_geometric.data import Data

from torch_geometric_flare.datasets import FilePerSample, StackedArrays
from torch_geometric_flare.datasets.arrays import open_npy, to_tensor
from torch_geometric_flare.fields import Field
from torch_geometric_flare.transforms import make_input


class Stress(StackedArrays):
    """Point sets in the plane: two arrays hold all samples, along their last axis."""

    repo_id = "owner/problems"
    published_sizes = {"train": 3, "test": 2}
    fields = (Field("stress"),)
    sample_axis = -1
    index_ranges = {"train": range(3), "test": range(4, 6)}

    @property
    def name(self):
        return "stress"

    @property
    def raw_file_names(self):
        return ["Problems/stress/XY.npy", "Problems/stress/sigma.npy"]

    def hub_files(self):
        return ["Problems.tar.gz"]

    def open_arrays(self):
        xy, sigma = (open_npy(Path(path)) for path in self.raw_paths)
        return {"XY": xy, "sigma": sigma}

    def make_sample(self, arrays, name):
        where = f"sample {name} of '{self.source(name)}'"
        data = Data(
            pos=to_tensor(arrays["XY"], 2, f"{where}: XY"),
            y=to_tensor(arrays["sigma"][:, None], 1, f"{where}: sigma"),
        )
        data.x = make_input(data)
        return data


class Flow(StackedArrays):
    """A coefficient on a grid, in an archive that cannot be mapped: converted once."""

    repo_id = "owner/problems"
    published_sizes = {"train": 4}
    fields = (Field("pressure"),)
    features = (Field("permeability", unit="m²"),)
    index_ranges = {"train": range(4)}
    converted = 0

    @property
    def name(self):
        return "flow"

    @property
    def raw_file_names(self):
        return ["flow.npz"]

    def hub_files(self):
        return ["flow.npz"]

    def convert(self):
        Flow.converted += 1
        with np.load(self.raw_paths[0]) as arrays:
            for key in ("coeff", "sol"):
                np.save(Path(self.processed_dir, f"{key}.npy"), arrays[key][:, ::2])

    def open_arrays(self):
        folder = Path(self.processed_dir)
        return {key: open_npy(folder / f"{key}.npy") for key in ("coeff", "sol")}

    def make_sample(self, arrays, name):
        height, width = arrays["coeff"].shape
        axes = torch.linspace(0, 1, height), torch.linspace(0, 1, width)
        data = Data(
            pos=torch.cartesian_prod(*axes),
            permeability=to_tensor(arrays["coeff"].reshape(-1, 1), 1, "coeff"),
            y=to_tensor(arrays["sol"].reshape(-1, 1), 1, "sol"),
            grid=(height, width),
        )
        data.x = make_input(data, self.features)
        return data


class Parts(FilePerSample):
    """Printed parts: a file for each, fetched one by one as an index lists them."""

    repo_id = "owner/parts"
    published_sizes = {"train": 2, "test": 1}
    fields = (Field("displacement", 3, "mm"),)
    array_names = ("pos", "disp", "edge_index", "elems")

    @property
    def name(self):
        return "parts"

    @property
    def raw_file_names(self):
        if not Path(self.raw_dir, "index.csv").exists():
            return ["index.csv"]
        return ["index.csv", *self.listed()]

    def listed(self):
        with open(Path(self.raw_dir, "index.csv"), newline="") as file:
            rows = list(csv.DictReader(file))
        return [row["file"] for row in rows if row["file"].startswith(self.split)]

    def hub_files(self):
        yield "index.csv"
        yield from self.listed()

    def sample_paths(self):
        return [Path(self.raw_dir, name) for name in self.listed()]

    def make_sample(self, arrays, name):
        source = self.source(name)
        data = Data(
            pos=to_tensor(arrays["pos"], 3, f"'{source}': pos"),
            y=to_tensor(arrays["disp"], 3, f"'{source}': disp"),
            edge_index=torch.from_numpy(arrays["edge_index"].astype(np.int64)),
            cells=torch.from_numpy(arrays["elems"].astype(np.int64)),
        )
        data.x = make_input(data)
        return data


def stress_arrays(count=6):
    rng = np.random.default_rng(0)
    return rng.random((7, 2, count)), rng.random((7, count))


def write_stress(root, count=6):
    folder = root / "raw" / "Problems" / "stress"
    folder.mkdir(parents=True, exist_ok=True)
    xy, sigma = stress_arrays(count)
    np.save(folder / "XY.npy", xy)
    np.save(folder / "sigma.npy", sigma)
    return folder


def part_arrays(number):
    rng = np.random.default_rng(number)
    size = 8 + number
    return {
        "pos": rng.random((size, 3)),
        "disp": rng.random((size, 3)),
        "edge_index": rng.integers(0, size, (2, 20)),
        "elems": np.arange(8)[None],
        "_metadata": np.array([print], dtype=object),
    }


def write_parts(folder):
    names = ["train/b_7.npz", "train/a_1.npz", "test/c_2.npz"]
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **part_arrays(number))
    (folder / "index.csv").write_text("\n".join(["file", *names]) + "\n")
    return names


def halve(data):
    half = data.num_nodes // 2
    return Data(x=data.x[:half], pos=data.pos[:half], y=data.y[:half])
