"""A small simulator, and data sets of it."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from torch_geometric_flare.datasets import SimulatedDataset
from torch_geometric_flare.fields import Field


@dataclass(frozen=True)
class Toy:
    """One target and no parameters; a subclass has a name and draws."""

    fields: ClassVar = (Field("total"),)
    features: ClassVar = ()
    coordinate_bounds: ClassVar = None


@dataclass(frozen=True)
class Noise:
    """Draws; notes each sample in a log; fails once where a trap is set."""

    log: str
    num_points: int = 5
    sizes: tuple[int, ...] = (1, 2)

    name: ClassVar[str] = "simulated_noise"
    fields: ClassVar = (Field("total", 1, "m"),)
    features: ClassVar = ()
    coordinate_bounds: ClassVar = ((0.0, 0.0, 0.0), (2.0, 2.0, 2.0))

    def sample(self, rng):
        pos = rng.random((self.num_points, 3)).astype(np.float32)
        with open(self.log, "a") as file:
            file.write("sample\n")
        if os.path.exists(f"{self.log}.trap") and self.samples() == 3:
            os.remove(f"{self.log}.trap")
            raise FloatingPointError("the solver diverged")
        return {"pos": pos, "total": pos.sum(axis=1, keepdims=True)}

    def samples(self):
        return len(Path(self.log).read_text().splitlines())


def make(tmp_path, simulator, num_samples=4, **options):
    options.setdefault("num_workers", 0)
    return SimulatedDataset(tmp_path / "data", simulator, num_samples, **options)


def contents(dataset):
    return {path.name: path.read_bytes() for path in Path(dataset.raw_dir).glob("*.*")}


def double(data):
    data.y = 2 * data.y
    return data
