"""What a benchmark problem is."""

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_flare.experiments.published import Published
from torch_geometric_flare.fields import Field, Fields
from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.transforms import (
    Normalizer,
    get_feature,
    quadrature_weights,
)
from torch_geometric_flare.visualization import plot_comparison, plot_mesh

# Models that are a variant of a class, under their own name.
_VARIANTS = {"TransolverConv": "Transolver"}
# Enough for a curve, and quick: five hundredths of the default cars.
_NUM_VAL = 5


@dataclass(frozen=True)
class Selection:
    """Which data to train and to test on.

    Args:
        data: `"simulated"` or `"official"`.
        root: Folder of the data sets.
        num_points: Points of a sample, such as `4000`, `"10k"` or `"1m"`; by default
            the benchmark's own number.
        num_train: Samples to train on; by default the benchmark's own number of
            simulated ones, or all official ones.
        num_test: Samples to test on, likewise.
        num_val: Samples to validate on. Simulated ones are further samples; official
            ones are the last of the training split, which loses them. `None` stands for
            5 simulated ones, or none of the official.
        fields: Names of the targets, separated by commas; by default the benchmark's
            own.
        features: What the network sees of each point beside the benchmark's own inputs,
            separated by commas: quantities that the samples hold, such as normal.
        weighted: Let points count by what they stand for: the area or the volume that
            `transforms.quadrature_weights` gives them.

    Raises:
        ValueError: If `data` is neither, a number is below one (`num_val`: negative),
            or `fields` or `features` has an empty name.
    """

    data: Literal["simulated", "official"] = "simulated"
    root: str = "data"
    num_points: str | None = field(default=None, metadata={"accepts": int | str | None})
    num_train: int | None = None
    num_test: int | None = None
    num_val: int = field(default=0, metadata={"accepts": int | None})
    fields: tuple[str, ...] | None = field(
        default=None, metadata={"accepts": str | tuple[str, ...] | None}
    )
    features: tuple[str, ...] = field(
        default=(), metadata={"accepts": str | tuple[str, ...]}
    )
    weighted: bool = False

    def __post_init__(self) -> None:
        if self.data not in ("simulated", "official"):
            raise ValueError(
                f"data is {self.data!r}, expected 'simulated' or 'official'"
            )
        self._convert()
        for name in ("num_train", "num_test"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.num_val < 0:
            raise ValueError(f"num_val must not be negative, got {self.num_val}")
        for name, example in (("fields", "pressure"), ("features", "normal")):
            if not all(getattr(self, name) or ()):
                raise ValueError(
                    f"{name} is {getattr(self, name)}, expected names such as {example}"
                )

    def _convert(self) -> None:
        """Take what a command line or a YAML file gives."""
        number: Any = self.num_val
        if number is None:
            number = _NUM_VAL if self.data == "simulated" else 0
        values: dict[str, Any] = {
            "num_points": None if self.num_points is None else str(self.num_points),
            "num_val": number,
        }
        for name in ("fields", "features"):
            names: Any = getattr(self, name)
            if isinstance(names, str):
                names = names.split(",") if names or name == "fields" else ()
            values[name] = None if names is None else tuple(names)
        for name, value in values.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True, kw_only=True)
class Splits:
    """Samples to train, to validate and to test on, and what normalises them.

    Args:
        train: Training split; samples with `x`, `pos` and `y`.
        test: Test split.
        fields: What the columns of `y` are.
        features: What the columns of `x` after the coordinates are.
        target_normalizer: Of `y`, from published statistics or the training split.
        coordinate_normalizer: That with which `x` was made of `pos`; `None` if the
            coordinates in `x` are raw.
        input_normalizer: Of all columns of `x`; `None` if the model takes `x` as it is.
        train_transform: Applied to each training sample in each epoch, before points
            are drawn from it.
        val: Validation split, if there is one.
        location: Where on a mesh the samples lie, `"cell"` or `"point"`.
        weighted: Whether points count by what they stand for, see `Surrogate`; samples
            without `weight` have points that were spread evenly.
    """

    train: Sequence[Data]
    test: Sequence[Data]
    fields: Fields
    target_normalizer: Normalizer
    features: Fields = ()
    coordinate_normalizer: Normalizer | None = None
    input_normalizer: Normalizer | None = None
    train_transform: Callable[[Data], Data] | None = None
    val: Sequence[Data] | None = None
    location: str | None = None
    weighted: bool = False

    def transform(self, transform: Callable[[Data], Data]) -> "Splits":
        """Return splits whose samples have passed a transform, held in memory.

        Args:
            transform: Applied once to a copy of each sample.
        """
        train, val, test = (
            None if split is None else [transform(copy.copy(data)) for data in split]
            for split in (self.train, self.val, self.test)
        )
        assert train is not None and test is not None
        return replace(self, train=train, val=val, test=test)

    def with_features(self, names: Sequence[str]) -> "Splits":
        """Return splits whose input has further features.

        They are normalised by their mean and deviation over the training split.

        Args:
            names: Quantities that the samples hold per point, such as `"normal"`.

        Raises:
            ValueError: If the samples lack one, or training makes their input anew.
        """
        if self.train_transform is not None:
            raise ValueError(
                f"features is {tuple(names)}, but {self.train_transform} makes the "
                "input of this benchmark anew for each step: leave features out"
            )
        sample, added = self.train[0], []
        for name in names:
            value = get_feature(sample, name)
            if not isinstance(value, Tensor) or len(value) != sample.num_nodes:
                raise ValueError(
                    f"features has {name!r}, but the samples hold {sample.keys()}"
                )
            added.append(Field(name, value[0].numel()))

        def add(data: Data) -> Data:
            columns = [get_feature(data, name).view(len(data.x), -1) for name in names]
            data.x = torch.cat([data.x, *columns], dim=1)
            return data

        splits, width = self.transform(add), sample.x.size(1)
        given = self.input_normalizer or Normalizer.identity(width)
        of_added = Normalizer.gaussian(data.x[:, width:] for data in splits.train)
        return replace(
            splits,
            features=(*self.features, *added),
            input_normalizer=Normalizer.cat([given, of_added]),
        )

    def with_weights(self) -> "Splits":
        """Return splits whose points count by the area or volume they stand for."""

        def add(data: Data) -> Data:
            weight = quadrature_weights(
                data.pos,
                data.get("area"),
                data.get("grid"),
                data.get("cells"),
                surface="normal" in data,
            )
            # Ones on average: the ratios alone have a meaning.
            data.weight = weight / weight.mean()
            return data

        return replace(self.transform(add), weighted=True)


Quantities = Callable[[Data, Mapping[str, Tensor]], Mapping[str, float | None]]
Errors = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Mapping[str, float]]
"""From the predicted and the true fields of a sample, by name, to errors by name."""
Plot = Callable[..., Figure]
"""Called as `plot(data, prediction, field, title=..., truth=...)`."""
PlotSurface = Callable[..., Figure]
"""Called as `plot_surface(mesh, field, title=...)`."""
SurfaceOf = Callable[[Selection, int], Any]
"""From selection and place of a test sample to a `pyvista.PolyData` or `None`."""


def _no_quantities(
    data: Data, fields: Mapping[str, Tensor]
) -> Mapping[str, float | None]:
    return {}


def _no_errors(
    predicted: Mapping[str, Tensor], true: Mapping[str, Tensor]
) -> Mapping[str, float]:
    return {}


def _no_surface(selection: Selection, index: int) -> Any:
    return None


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    r"""A problem: its data, its recipes, how to measure and to draw a prediction.

    Args:
        name: Short name, for folders.
        sample: What one sample is, such as `"car"`; several are this with an s.
        load_simulated: Returns simulated data.
        load_official: Returns the published data; `None` if there are none.
        recipes: Recipes by the name of the model and of the recipe. A model has the
            name of its class; `"TransolverConv"` is `Transolver` with convolutions.
        quantities_of_interest: Quantities of a sample computed from its fields by name,
            such as forces; each the same for every sample, `None` where it cannot be
            computed.
        errors: Errors of a prediction beside the relative $L_2$ error; the same ones
            for every sample, which are averaged.
        published: Figures that hold for the official data, all of it, with its default
            fields and points and the recipe called `paper`.
        published_sizes: Samples in the official splits `"train"` and `"test"`: what all
            of it is; empty if that is not known.
        plot: Draws truth, prediction and error of a field of a sample; called as
            `visualization.plot_comparison` is.
        picture: Name of the picture's file, without suffix.
        surface: Returns the mesh of a test sample with its true fields on the cells.
        plot_surface: Draws the same of a mesh that `surface` returned, predicted on
            its cells; called as `visualization.plot_mesh` is.

    Raises:
        ValueError: If a recipe stands under the name of another class than its own.
    """

    name: str
    sample: str
    load_simulated: Callable[[Selection], Splits]
    recipes: Mapping[tuple[str, str], Recipe]
    load_official: Callable[[Selection], Splits] | None = None
    quantities_of_interest: Quantities = _no_quantities
    errors: Errors = _no_errors
    published: tuple[Published, ...] = ()
    published_sizes: Mapping[str, int] = field(default_factory=dict)
    plot: Plot = plot_comparison
    picture: str = "fields"
    surface: SurfaceOf = _no_surface
    plot_surface: PlotSurface = functools.partial(plot_mesh, location="cell")

    def __post_init__(self) -> None:
        for (model, name), recipe in self.recipes.items():
            if recipe.model_class.__name__ != _VARIANTS.get(model, model):
                raise ValueError(
                    f"recipes[{model!r}, {name!r}] is for {recipe.model_class.__name__}"
                )

    @property
    def models(self) -> list[str]:
        """Names of the models that have a recipe."""
        return sorted({model for model, _ in self.recipes})

    @property
    def recipe_names(self) -> list[str]:
        """Names of the recipes, of whatever model."""
        return sorted({name for _, name in self.recipes})

    def recipe(self, model: str, name: str) -> Recipe:
        """Return the recipe of a model.

        Args:
            model: Name of the model.
            name: Name of the recipe.

        Raises:
            ValueError: If there is none; the message says which there are.
        """
        if (model, name) in self.recipes:
            return self.recipes[model, name]
        listed = ", ".join(f"{m} {n}" for m, n in sorted(self.recipes))
        raise ValueError(
            f"{self.name} has no recipe {name!r} for the model {model!r}; it has "
            f"(model, recipe): {listed}"
        )

    def load(self, selection: Selection) -> Splits:
        """Return the selected data.

        Args:
            selection: Which data.

        Raises:
            ValueError: If the data do not exist, or have no such fields or features.
            OSError: If the files are missing and cannot be fetched.
        """
        load = self.load_simulated
        if selection.data == "official":
            if self.load_official is None:
                raise ValueError(
                    f"{self.name} has no official data: take simulated ones"
                )
            load = self.load_official
        splits = load(selection)
        if selection.features:
            splits = splits.with_features(selection.features)
        return splits.with_weights() if selection.weighted else splits
