"""Networks, modules and batches from recipes and splits."""

import math
from dataclasses import replace
from inspect import signature

import torch
from torch_geometric.data import Data
from torch_geometric.transforms import BaseTransform, Compose, FixedPoints

from torch_geometric_flare import training
from torch_geometric_flare.experiments.config import RunConfig
from torch_geometric_flare.experiments.splits import Splits
from torch_geometric_flare.fields import num_channels
from torch_geometric_flare.recipes import Recipe, change_recipe, resolve_recipe
from torch_geometric_flare.transforms import Normalizer, channel_bounds


def choose_recipe(config: RunConfig) -> Recipe:
    """Return the recipe of a run with the changes that the run makes.

    Args:
        config: The run.

    Raises:
        ValueError: If there is no such recipe, or it has no such option.
    """
    recipe = config.benchmark.recipe(config.model, config.recipe)
    arguments = signature(recipe.model_class).parameters
    model = {
        name: value
        for name, value in config.values_of("model").items()
        if value is not None and name in arguments
    }
    changes = config.values_of(Recipe).items()
    recipe = replace(
        recipe,
        model={**recipe.model, **model},
        **{name: value for name, value in changes if value is not None},
    )
    return change_recipe(recipe, config.changes) if config.changes else recipe


def make_module(splits: Splits, recipe: Recipe, what: str) -> training.SurrogateModule:
    """Build the network of a recipe for some data, with its normalizers.

    Args:
        splits: The data.
        recipe: The network and its training; what it infers is set from the data. If
            samples have query points, a network such as `nn.FLAREQuery`, whose query
            widths are set likewise.
        what: Description of the training data, such as "simulated cars".

    Raises:
        ValueError: If the network does not fit the data.
    """
    recipe = resolve_recipe(recipe, splits.train[0])
    _check_grid(recipe, splits.train[0])
    channels = splits.train[0].x.size(1)
    coordinates = channels - num_channels(splits.features)
    if splits.query is not None:
        widths = {
            "query_channels": splits.train[0].query_pos.size(1)
            + num_channels(splits.query.features),
            "query_out_channels": num_channels(splits.query.fields),
        }
        recipe = replace(recipe, model={**recipe.model, **widths})
    network = recipe.build(
        in_channels=channels,
        out_channels=num_channels(splits.fields),
        num_coordinates=coordinates,
        condition_channels=num_channels(splits.conditions),
    )
    bounds = condition_bounds = None
    if splits.features:
        bounds = channel_bounds(data.x[:, coordinates:] for data in splits.train)
    if splits.conditions:
        condition_bounds = channel_bounds(data.u for data in splits.train)
    return training.SurrogateModule(
        network,
        splits.target_normalizer,
        splits.coordinate_normalizer,
        recipe,
        training_data=what,
        fields=splits.fields,
        features=splits.features,
        input_normalizer=fit_input_normalizer(recipe, splits),
        location=splits.location,
        weighted=splits.weighted,
        surface="normal" in splits.train[0],
        feature_bounds=bounds,
        conditions=splits.conditions,
        condition_normalizer=splits.condition_normalizer,
        condition_bounds=condition_bounds,
        query=splits.query,
    )


def fit_input_normalizer(recipe: Recipe, splits: Splits) -> Normalizer | None:
    """Return the normalizer of `x` for a recipe, from the training split alone.

    Args:
        recipe: The recipe; its `coordinates` selects the encoding of the coordinates.
        splits: The splits; their normalizer encodes the features, and also the
            coordinates if the recipe has `coordinates="given"`.
    """
    normalizer = splits.input_normalizer
    if recipe.coordinates == "given":
        return normalizer
    number = splits.train[0].x.size(1) - num_channels(splits.features)
    rows = [data.x[:, :number] for data in splits.train]
    if recipe.coordinates == "statistics":
        coordinates = Normalizer.gaussian(rows)
    else:
        lower = torch.stack([row.amin(0) for row in rows]).amin(0)
        upper = torch.stack([row.amax(0) for row in rows]).amax(0)
        half = (upper - lower) / 2
        # Do not divide by zero along axes where all coordinates are equal.
        coordinates = Normalizer((lower + upper) / 2, half.where(half > 0, 1.0))
    if not splits.features:
        return coordinates
    if normalizer is None:
        rest = Normalizer.identity(num_channels(splits.features))
    else:
        rest = Normalizer(normalizer.shift[number:], normalizer.scale[number:])
    return Normalizer.cat([coordinates, rest])


def make_data(
    splits: Splits, recipe: Recipe, seed: int
) -> training.SurrogateDataModule:
    """Return the data module for a recipe.

    Args:
        splits: The data.
        recipe: Its `batch_size` and `num_points`.
        seed: Seed of their order and of the points.
    """
    transforms = [] if splits.train_transform is None else [splits.train_transform]
    if recipe.num_points is not None:
        transforms += [_PointsAlone(), FixedPoints(recipe.num_points, replace=False)]
    return training.SurrogateDataModule(
        splits.train,
        splits.val,
        batch_size=recipe.batch_size,
        train_transform=Compose(transforms) if transforms else None,
        seed=seed,
    )


class _PointsAlone(BaseTransform):
    """Drops fields that refer to points by index, so that points can be dropped."""

    def forward(self, data: Data) -> Data:
        for name in ("edge_index", "cells", "grid"):
            if name in data:
                del data[name]
        return data


def _check_grid(recipe: Recipe, sample: Data) -> None:
    """Refuse a recipe whose network has another grid than the samples."""
    bound, grid = recipe.model.get("grid"), sample.get("grid")
    if isinstance(bound, tuple) and grid is not None and bound != tuple(grid):
        raise ValueError(
            f"this recipe of {recipe.model_class.__name__} is for samples on the grid "
            f"{bound}, but these are on {tuple(grid)}: give --num-points="
            f"{math.prod(bound)}, or choose another recipe"
        )
