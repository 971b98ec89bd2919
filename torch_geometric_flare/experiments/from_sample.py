"""Arguments of a network that only the data tell."""

from dataclasses import replace

from torch_geometric.data import Data

from torch_geometric_flare.recipes import Recipe

FROM_SAMPLE = "from_sample"
"""As the `grid` or the `num_points` of a recipe's model: that of the samples."""


def fit_recipe(recipe: Recipe, sample: Data) -> Recipe:
    """Return the recipe with the grid and the number of points of a sample filled in.

    Args:
        recipe: Whose `grid` and `num_points`, where they are `FROM_SAMPLE`, to replace.
        sample: Any of the samples, which all have the same.

    Raises:
        ValueError: If the sample has no such grid.
    """
    wanted = [name for name, value in recipe.model.items() if value == FROM_SAMPLE]
    found: dict[str, int | tuple[int, ...]] = {}
    for name in wanted:
        if name == "num_points":
            found[name] = int(sample.num_nodes)
        elif name == "grid" and sample.get("grid") is not None:
            found[name] = tuple(int(length) for length in sample.grid)
        else:
            raise ValueError(
                f"this recipe of {recipe.model_class.__name__} takes {name!r} from the "
                f"samples, which hold {sorted(sample.keys())}: choose samples on a "
                "grid, or another model"
            )
    return replace(recipe, model={**recipe.model, **found}) if found else recipe
