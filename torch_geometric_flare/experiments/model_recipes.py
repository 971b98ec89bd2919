"""The recipes of every model on every benchmark, in one table."""

from dataclasses import replace

from torch import nn

from torch_geometric_flare import recipes
from torch_geometric_flare.nn import models
from torch_geometric_flare.recipes import Recipe

# How `recipes` calls the papers' recipes of a model: this, then the benchmark.
_PREFIXES: dict[type[nn.Module], str] = {
    models.FLARE: "FLARE",
    models.FLAREPP: "FLAREPP",
    models.GNOT: "GNOT",
    models.LNO: "LNO",
    models.PerceiverIO: "PERCEIVER_IO",
    models.Transformer: "TRANSFORMER",
    models.Transolver: "TRANSOLVER",
}
_SMALL = {"hidden_channels": 64, "num_layers": 4, "heads": 8}
# As large as the networks of FLARE's quick recipes, in width and depth.
_QUICK: dict[type[nn.Module], dict[str, int]] = {
    models.FLAREPP: {**_SMALL, "num_latents": 64},
    models.GNOT: {**_SMALL, "num_experts": 3},
    models.LNO: {**_SMALL, "num_modes": 64},
    models.PerceiverIO: {**_SMALL, "num_latents": 64},
    models.Transformer: _SMALL,
    models.Transolver: {**_SMALL, "num_slices": 64},
}


def benchmark_recipes(name: str) -> dict[tuple[str, str], Recipe]:
    """Return the recipes of a benchmark by model and recipe name.

    `"paper"` is that of a paper, for each model that has been published on this
    benchmark; `"quick"` is that of FLARE with a small network of the model's class.

    Args:
        name: The benchmark, such as `"darcy"`.
    """
    found: dict[tuple[str, str], Recipe] = {}
    quick: Recipe = getattr(recipes, f"FLARE_{name.upper()}_QUICK")
    for model, prefix in _PREFIXES.items():
        paper: Recipe | None = getattr(recipes, f"{prefix}_{name.upper()}", None)
        if paper is not None:
            found[model.__name__, "paper"] = paper
        if model is models.FLARE:
            found[model.__name__, "quick"] = quick
        else:
            small = replace(quick, model_class=model, model=_QUICK[model])
            found[model.__name__, "quick"] = small
    return found
