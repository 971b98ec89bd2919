"""Hyperparameters of trainings, each with the class of its model."""

from torch_geometric_flare.recipes.flare import (
    FLARE_AIRFOIL,
    FLARE_DARCY,
    FLARE_DRIVAERML,
    FLARE_DRIVAERML_QUICK,
    FLARE_ELASTICITY,
    FLARE_LPBF,
    FLARE_PAPER,
    FLARE_PIPE,
)
from torch_geometric_flare.recipes.recipe import Recipe

__all__ = [
    "FLARE_AIRFOIL",
    "FLARE_DARCY",
    "FLARE_DRIVAERML",
    "FLARE_DRIVAERML_QUICK",
    "FLARE_ELASTICITY",
    "FLARE_LPBF",
    "FLARE_PAPER",
    "FLARE_PIPE",
    "Recipe",
]
