"""The recipes of every model on every benchmark, in one table."""

from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from torch import nn

from torch_geometric_flare import recipes
from torch_geometric_flare.experiments.from_sample import FROM_SAMPLE
from torch_geometric_flare.nn import models
from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.recipes.recipe import Value

# How `recipes` calls the papers' recipes of a model: this, then the benchmark.
_PREFIXES: dict[type[nn.Module], str] = {
    models.FLARE: "FLARE",
    models.FLAREPP: "FLAREPP",
    models.FLAREHybrid: "FLARE_HYBRID",
    models.GNOT: "GNOT",
    models.LNO: "LNO",
    models.MeshGraphNet: "MESH_GRAPH_NET",
    models.Nystromformer: "NYSTROMFORMER",
    models.PerceiverIO: "PERCEIVER_IO",
    models.Reformer: "REFORMER",
    models.Transformer: "TRANSFORMER",
    models.Transolver: "TRANSOLVER",
}
_SMALL = {"hidden_channels": 64, "num_layers": 4, "heads": 8}
# As large as the networks of FLARE's quick recipes, in width and depth.
_QUICK: dict[type[nn.Module], dict[str, int]] = {
    models.FLAREPP: {**_SMALL, "num_latents": 64},
    models.GNOT: {**_SMALL, "num_experts": 3},
    models.LNO: {**_SMALL, "num_modes": 64},
    models.Nystromformer: {**_SMALL, "num_landmarks": 64},
    models.PerceiverIO: {**_SMALL, "num_latents": 64},
    models.Reformer: {**_SMALL, "num_buckets": 32, "attention_chunk": 64},
    models.Transformer: _SMALL,
    models.Transolver: {**_SMALL, "num_slices": 64},
}


def benchmark_recipes(name: str) -> dict[tuple[str, str], Recipe]:
    """Return the recipes of a benchmark by model and recipe name.

    `"paper"` is the full recipe: that of a paper where the model has been published
    on this benchmark. `"quick"` is that of FLARE with a small network of the model's
    class; where that needs whole samples, on all of their points. `FNO` is there only
    where neuraloperator is installed.

    Args:
        name: The benchmark, such as `"darcy"`.
    """
    found: dict[tuple[str, str], Recipe] = {}
    flare = _recipe(f"FLARE_{name}_QUICK")
    assert flare is not None
    for model, prefix in _PREFIXES.items():
        paper = _recipe(f"{prefix}_{name}")
        quick = _recipe(f"{prefix}_{name}_QUICK")
        if quick is None and model in _QUICK:
            quick = replace(flare, model_class=model, model=_QUICK[model])
        for kind, recipe in (("paper", paper), ("quick", quick)):
            if recipe is not None:
                found[model.__name__, kind] = recipe
    return found | _bound_to_points(name, flare)


def _recipe(name: str) -> Recipe | None:
    recipe: Recipe | None = getattr(recipes, name.upper(), None)
    return recipe


# Samples on one grid, and those whose points correspond without one.
_ON_GRIDS = ("airfoil", "darcy", "pipe")
_IN_ORDER = (*_ON_GRIDS, "elasticity")
# Where the input is smooth, so that the branch of DeepONet need not see all points.
_SMOOTH = ("airfoil", "pipe")
# Muon is for matrices between hidden features: DeepONet's two MLPs are input and output
# layers for the most part, and the weights of FNO are complex. DeepONet's branch sees
# the inputs of all sensors side by side, which Fourier features would multiply.
_OWN_TRAINING: dict[str, dict[str, Any]] = {
    "DeepONet": {"optimizer": "adamw", "fourier_octaves": 0},
    "FNO": {"optimizer": "adamw"},
}


def _bound_to_points(name: str, flare: Recipe) -> dict[tuple[str, str], Recipe]:
    """Return the recipes of models that tell points by their place among the rows."""
    networks: dict[str, tuple[type[nn.Module], Mapping[str, Value]]] = {}
    if name in _IN_ORDER:
        sensors: dict[str, Value] = {"num_sensors": 512} if name in _SMOOTH else {}
        networks["DeepONet"] = (
            models.DeepONet,
            {
                "hidden_channels": 64,
                "num_layers": 4,
                "num_points": FROM_SAMPLE,
                **sensors,
            },
        )
        networks["Linformer"] = (
            models.Linformer,
            {**_SMALL, "num_projections": 64, "num_points": FROM_SAMPLE},
        )
    if name in _ON_GRIDS:
        networks["TransolverConv"] = (
            models.Transolver,
            {**_QUICK[models.Transolver], "grid": FROM_SAMPLE},
        )
        if find_spec("neuralop") is not None:
            networks["FNO"] = (
                models.FNO,
                {
                    "hidden_channels": 32,
                    "num_layers": 4,
                    "modes": (12, 12),
                    "grid": FROM_SAMPLE,
                },
            )
    found = {
        (model, "quick"): replace(
            flare,
            model_class=kind,
            model=arguments,
            num_points=None,
            **_OWN_TRAINING.get(model, {}),
        )
        for model, (kind, arguments) in networks.items()
    }
    convolutions = _recipe(f"TRANSOLVER_CONV_{name}")
    if convolutions is not None:
        found["TransolverConv", "paper"] = convolutions
    return found
