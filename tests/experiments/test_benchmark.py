import dataclasses
from importlib.util import find_spec

import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_flare.experiments import (
    AIRFOIL,
    DARCY,
    DRIVAERML,
    ELASTICITY,
    LPBF,
    PIPE,
    RunConfig,
    Selection,
)
from torch_geometric_flare.experiments.run import published_figures
from torch_geometric_flare.nn import FLARE, Transolver
from torch_geometric_flare.recipes import resolve_recipe

BOUND = [
    "DeepONet",
    "Linformer",
    "TransolverConv",
    *(["FNO"] if find_spec("neuralop") else []),
]
# Models that tell points by their place among the rows.
BOUND_ON = {
    "airfoil": BOUND,
    "darcy": BOUND,
    "pipe": BOUND,
    "elasticity": ["DeepONet", "Linformer"],
}
# Models whose quick recipes take whole samples.
WHOLE = {*BOUND, "FLAREHybrid", "MeshGraphNet"}
BENCHMARKS = (AIRFOIL, DARCY, DRIVAERML, ELASTICITY, LPBF, PIPE)
MODELS = [
    "FLARE",
    "FLAREHybrid",
    "FLAREPP",
    "GNOT",
    "LNO",
    "MeshGraphNet",
    "Nystromformer",
    "PerceiverIO",
    "Reformer",
    "Transformer",
    "Transolver",
]


def test_a_recipe_is_found_by_model_and_name():
    recipe = DRIVAERML.recipe("FLARE", "quick")
    assert recipe.model_class is FLARE
    assert isinstance(recipe.build(3, 1), FLARE)
    with pytest.raises(ValueError, match="no recipe 'slow' for the model 'FLARE'"):
        DRIVAERML.recipe("FLARE", "slow")
    with pytest.raises(
        ValueError, match=r"\(model, recipe\): FLARE paper, FLARE quick, FLAREHyb"
    ):
        DRIVAERML.recipe("Longformer", "paper")


def test_no_recipe_stands_under_another_model():
    recipe = DRIVAERML.recipe("FLARE", "quick")
    with pytest.raises(ValueError, match=r"recipes\['LNO', 'quick'\] is for FLARE"):
        dataclasses.replace(DRIVAERML, recipes={("LNO", "quick"): recipe})


def test_choices():
    for benchmark in BENCHMARKS:
        assert benchmark.models == sorted([*MODELS, *BOUND_ON.get(benchmark.name, [])])
        assert benchmark.recipe_names == ["paper", "quick"]


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda b: b.name)
def test_quick_recipes_differ_in_their_network_alone(benchmark):
    flare = benchmark.recipe("FLARE", "quick")
    for name in benchmark.models:
        recipe = benchmark.recipe(name, "quick")
        as_flare = dataclasses.replace(recipe, model_class=FLARE, model=flare.model)
        if name in WHOLE:
            assert recipe.num_points is None
            as_flare = dataclasses.replace(as_flare, num_points=flare.num_points)
        if name in ("DeepONet", "FNO"):
            assert recipe.optimizer == "adamw"
            as_flare = dataclasses.replace(as_flare, optimizer=flare.optimizer)
        if name == "DeepONet":  # its branch sees the inputs of all points
            assert recipe.fourier_octaves == 0
            as_flare = dataclasses.replace(
                as_flare, fourier_octaves=flare.fourier_octaves
            )
        assert as_flare == flare
        sample = Data(pos=torch.rand(1849, 2), grid=(43, 43))
        network = resolve_recipe(recipe, sample).build(3, 1)
        assert type(network).__name__ == name.removesuffix("Conv")
        # Complex ones count twice; those of Linformer grow with the points.
        size = sum(p.numel() << p.is_complex() for p in network.parameters())
        assert 4e4 < size < 1.2e6


def test_the_entry_with_convolutions_has_its_figures():
    for benchmark in (AIRFOIL, DARCY, PIPE):
        paper = benchmark.recipe("TransolverConv", "paper")
        assert paper.model_class is Transolver and "grid" in paper.model
        assert "grid" not in benchmark.recipe("Transolver", "paper").model
        figures = {figure.model for figure in benchmark.published}
        assert {"Transolver", "TransolverConv"} <= figures & set(benchmark.models)


def test_darcy_has_the_loss_with_derivatives():
    for (_, name), recipe in DARCY.recipes.items():
        assert recipe.derivative_weight == 0.1, name
    others = [
        recipe for b in BENCHMARKS if b is not DARCY for recipe in b.recipes.values()
    ]
    assert all(recipe.derivative_weight == 0 for recipe in others)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": "real"}, "expected 'simulated' or 'official'"),
        ({"num_train": 0}, "num_train must be at least 1, got 0"),
        ({"num_test": -1}, "num_test must be at least 1, got -1"),
        ({"num_val": -1}, "num_val must not be negative, got -1"),
        ({"fields": ("a", "")}, "expected names such as pressure"),
    ],
)
def test_selections_that_are_none(change, message):
    with pytest.raises(ValueError, match=message):
        Selection(**change)


def test_a_benchmark_may_have_no_official_data():
    alone = dataclasses.replace(DRIVAERML, load_official=None)
    with pytest.raises(ValueError, match="drivaerml has no official data"):
        alone.load(Selection(data="official"))


@pytest.mark.parametrize(
    ("recipe", "selection", "epochs", "shown"),
    [
        ("paper", Selection(data="official", root="elsewhere"), None, True),
        ("paper", Selection(data="official"), 500, False),
        ("quick", Selection(data="official"), None, False),
        ("paper", Selection(), None, False),
        ("paper", Selection(data="official", num_train=10), None, False),
        ("paper", Selection(data="official", num_points="10k"), None, False),
        ("paper", Selection(data="official", fields=("pressure",)), None, False),
    ],
)
def test_what_published_figures_stand_beside(recipe, selection, epochs, shown):
    whole = {"num_train": 387, "num_test": 97}
    config = RunConfig(
        problem=DRIVAERML, recipe=recipe, selection=selection, epochs=epochs
    )
    figures = published_figures(config, whole)
    assert figures == (DRIVAERML.published if shown else ())
    for part in ({"num_train": 386}, {"num_test": 96}):
        assert not published_figures(config, {**whole, **part})
    for change in (
        {"optimizer": "adamw"},
        {"init": "paper"},
        {"epochs": None, "steps": 9},
    ):
        assert not published_figures(dataclasses.replace(config, **change), whole)
    elsewhere = dataclasses.replace(config, seed=3, device="cpu", folder="runs/mine")
    assert published_figures(elsewhere, whole) == figures
    assert DRIVAERML.published[0].relative_l2 == 0.0608
