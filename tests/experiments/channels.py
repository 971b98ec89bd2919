"""A tiny benchmark, in a module that other processes can import."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from torch_geometric_flare.experiments import Benchmark, Published, load_simulated
from torch_geometric_flare.fields import Field
from torch_geometric_flare.nn import FLARE, LNO, Transolver
from torch_geometric_flare.recipes import Recipe

SMALL = {"hidden_channels": 16, "num_layers": 1, "heads": 2}


@dataclass(frozen=True)
class Channel:
    """A flow through a straight channel whose inlet velocity is a feature."""

    name: ClassVar[str] = "simulated_tiny_channel"
    fields: ClassVar[tuple] = (Field("velocity", 1, "m/s"),)
    features: ClassVar[tuple] = (Field("inlet", 1, "m/s"),)
    coordinate_bounds: ClassVar[tuple] = ((0.0, 0.0), (4.0, 1.0))

    def sample(self, rng):
        y, x = np.meshgrid(np.linspace(0, 1, 5), np.linspace(0, 4, 7), indexing="ij")
        inlet = rng.uniform(1, 2)
        return {
            "pos": np.stack((x, y), axis=-1).reshape(-1, 2),
            "velocity": (4 * inlet * y * (1 - y)).reshape(-1),
            "inlet": np.full(35, inlet),
        }


def load(selection):
    return load_simulated(Channel(), selection, num_train=5, num_test=2)


def recipe(model_class, **arguments):
    return Recipe(model_class=model_class, model={**SMALL, **arguments}, epochs=2)


CHANNEL = Benchmark(
    name="channel",
    sample="channel",
    load_simulated=load,
    load_official=load,
    recipes={
        (model.__name__, name): recipe(model, **arguments)
        for model, arguments in (
            (FLARE, {"num_latents": 4}),
            (LNO, {"num_modes": 4}),
            # Of another grid than the samples: it fails.
            (Transolver, {"num_slices": 4, "grid": (3, 3)}),
        )
        for name in ("quick", "paper")
    },
    published=(
        Published("FLARE", 0.0123, "arXiv:0000.00000"),
        Published("Transolver", 0.0456, "arXiv:0000.00000"),
        Published("FLARE", 0.0246, "arXiv:1111.11111"),
    ),
)
