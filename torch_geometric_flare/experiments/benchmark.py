"""Definition of a benchmark problem."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from torch_geometric_flare.experiments.published import Published
from torch_geometric_flare.experiments.splits import Selection, Splits
from torch_geometric_flare.fields import Fields
from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.surrogates.calibration import Quantities
from torch_geometric_flare.visualization import plot_comparison, plot_mesh

# Names of model variants, and the classes that they are variants of.
_VARIANTS = {"TransolverConv": "Transolver"}

Errors = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Mapping[str, float]]
"""Maps the predicted and the true fields of a sample, by name, to errors by name."""
Plot = Callable[..., Figure]
"""Called as `plot(data, prediction, field, title=..., truth=...)`."""
PlotSurface = Callable[..., Figure]
"""Called as `plot_surface(mesh, field, title=...)`."""
SurfaceOf = Callable[[Selection, int], Any]
"""Maps a selection and the index of a test sample to a `pyvista.PolyData` or `None`."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    r"""A problem: its data, its recipes, its metrics and its plots.

    Args:
        name: Short name, used in folder names.
        sample: Noun for one sample, such as `"car"`; its plural is formed with an s.
        load_simulated: Returns simulated data.
        load_official: Returns the published data; `None` if there are none.
        recipes: Recipes by model name and recipe name. The name of a model is that of
            its class; `"TransolverConv"` is `Transolver` with convolutions.
        quantities_of_interest: Computes quantities of a sample, such as forces, from
            its fields by name. Must return the same names for every sample, with `None`
            for values that cannot be computed.
        errors: Computes further errors of a prediction besides the relative $L_2$
            error. Must return the same names for every sample; the values are averaged.
        published: Published errors. They apply to the complete official data with the
            default fields and points and the recipe `paper`.
        published_sizes: Number of samples in the complete official splits `"train"` and
            `"test"`; empty if unknown.
        fixed_points: Statement about the number of points of the samples if it cannot
            be selected; empty if it can.
        plot: Plots truth, prediction and error of a field of a sample; has the
            signature of `visualization.plot_comparison`.
        picture: File name of the picture, without suffix.
        surface: Returns the mesh of a test sample with its true fields on the cells.
        plot_surface: Plots the same on a mesh returned by `surface`, with predictions
            on its cells; has the signature of `visualization.plot_mesh`.
        conditions: Conditions that vary between samples if the selection asks
            `load_simulated` for conditions; empty if not supported.

    Raises:
        ValueError: If a recipe is listed under a model name of another class.
    """

    name: str
    sample: str
    load_simulated: Callable[[Selection], Splits]
    recipes: Mapping[tuple[str, str], Recipe]
    load_official: Callable[[Selection], Splits] | None = None
    quantities_of_interest: Quantities = lambda data, fields: {}
    errors: Errors = lambda predicted, true: {}
    published: tuple[Published, ...] = ()
    published_sizes: Mapping[str, int] = field(default_factory=dict)
    fixed_points: str = ""
    plot: Plot = plot_comparison
    picture: str = "fields"
    surface: SurfaceOf = lambda selection, index: None
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
        """Names of the recipes of all models."""
        return sorted({name for _, name in self.recipes})

    def recipe(self, model: str, name: str) -> Recipe:
        """Return the recipe of a model.

        Args:
            model: Name of the model.
            name: Name of the recipe.

        Raises:
            ValueError: If there is none; the message lists those that exist.
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
            selection: The selection.

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
        if self.fixed_points and selection.num_points is not None:
            raise ValueError(
                f"--num-points is {selection.num_points}, but {self.fixed_points}: "
                "leave it out"
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
