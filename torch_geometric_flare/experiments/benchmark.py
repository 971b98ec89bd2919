"""What a benchmark problem is."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_flare.experiments.published import Published
from torch_geometric_flare.experiments.splits import Selection, Splits
from torch_geometric_flare.fields import Fields
from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.visualization import plot_comparison, plot_mesh

# Models that are a variant of a class, under their own name.
_VARIANTS = {"TransolverConv": "Transolver"}


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
        conditions: What differs from sample to sample where the selection asks
            `load_simulated` for conditions; empty if nothing can.

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
    conditions: Fields = ()

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
        how = selection.conditions
        if how and (selection.data != "simulated" or not self.conditions):
            raise ValueError(
                f"--conditions is {how}, but {selection.data} {self.sample}s have the "
                "same ones in all samples: leave it out"
            )
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
        if how:
            splits = splits.with_conditions(how)
        return splits.with_weights() if selection.weighted else splits
