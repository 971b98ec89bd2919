"""Hyperparameters of trainings, each with the class of its model."""

from torch_geometric_flare.recipes.flare import (
    FLARE_AIRFOIL,
    FLARE_AIRFOIL_QUICK,
    FLARE_DARCY,
    FLARE_DARCY_QUICK,
    FLARE_DRIVAERML,
    FLARE_DRIVAERML_QUICK,
    FLARE_ELASTICITY,
    FLARE_ELASTICITY_QUICK,
    FLARE_LPBF,
    FLARE_LPBF_QUICK,
    FLARE_PAPER,
    FLARE_PIPE,
    FLARE_PIPE_QUICK,
)
from torch_geometric_flare.recipes.recipe import Recipe

__all__ = [
    "FLARE_AIRFOIL",
    "FLARE_AIRFOIL_QUICK",
    "FLARE_DARCY",
    "FLARE_DARCY_QUICK",
    "FLARE_DRIVAERML",
    "FLARE_DRIVAERML_QUICK",
    "FLARE_ELASTICITY",
    "FLARE_ELASTICITY_QUICK",
    "FLARE_LPBF",
    "FLARE_LPBF_QUICK",
    "FLARE_PAPER",
    "FLARE_PIPE",
    "FLARE_PIPE_QUICK",
    "Recipe",
]
