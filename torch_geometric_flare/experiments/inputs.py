"""How a run encodes the input of its network."""

import torch

from torch_geometric_flare.experiments.benchmark import Splits
from torch_geometric_flare.fields import num_channels
from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.transforms import Normalizer


def fit_input_normalizer(recipe: Recipe, splits: Splits) -> Normalizer | None:
    """Return the normaliser of `x` that a recipe asks for, of the training split alone.

    Args:
        recipe: Its `coordinates` say how to encode the coordinates.
        splits: Their own normaliser encodes the features, and the coordinates too where
            the recipe leaves them as given.
    """
    given = splits.input_normalizer
    if recipe.coordinates == "given":
        return given
    number = splits.train[0].x.size(1) - num_channels(splits.features)
    rows = [data.x[:, :number] for data in splits.train]
    if recipe.coordinates == "statistics":
        coordinates = Normalizer.gaussian(rows)
    else:
        lower = torch.stack([row.amin(0) for row in rows]).amin(0)
        upper = torch.stack([row.amax(0) for row in rows]).amax(0)
        half = (upper - lower) / 2
        # Along an axis where all coordinates agree there is no extent to divide by.
        coordinates = Normalizer((lower + upper) / 2, half.where(half > 0, 1.0))
    if not splits.features:
        return coordinates
    if given is None:
        rest = Normalizer.identity(num_channels(splits.features))
    else:
        rest = Normalizer(given.shift[number:], given.scale[number:])
    return Normalizer.cat([coordinates, rest])
