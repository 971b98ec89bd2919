"""A table of the recipes of every model on every benchmark problem."""

from dataclasses import replace
from importlib.util import find_spec

from torch import nn

from torch_geometric_flare.nn import models
from torch_geometric_flare.recipes import flare as f
from torch_geometric_flare.recipes import flare_hybrid as h
from torch_geometric_flare.recipes import flarepp as p
from torch_geometric_flare.recipes import gnot as g
from torch_geometric_flare.recipes import lno
from torch_geometric_flare.recipes import mesh_graph_net as m
from torch_geometric_flare.recipes import perceiver_io as i
from torch_geometric_flare.recipes import transformer as t
from torch_geometric_flare.recipes import transolver as s
from torch_geometric_flare.recipes.recipe import INFER, Recipe, Value

Key = tuple[str, str, str]
"""Names of the model, the problem and the kind."""


class RecipeTable(dict[Key, Recipe]):
    """Recipes by the names of the model, the problem and the kind.

    Raises:
        ValueError: If `table[model, problem, kind]` does not exist; the message lists
            the recipes of the problem.
    """

    def __missing__(self, key: Key) -> Recipe:
        problems = sorted({problem for _, problem, _ in self})
        if not (isinstance(key, tuple) and len(key) == 3 and key[1] in problems):
            raise ValueError(
                f"RECIPES has no {key!r}: its keys are (model, problem, kind), with "
                f"the problems {', '.join(problems)}"
            )
        listed = (f"{m} {kind}" for m, kind in sorted(self.of_problem(key[1])))
        raise ValueError(
            f"RECIPES has no {key!r}; (model, kind) of {key[1]}: {', '.join(listed)}"
        )

    def of_problem(self, problem: str) -> dict[tuple[str, str], Recipe]:
        """Return the recipes of a problem by the names of the model and the kind.

        Args:
            problem: The problem, such as `"darcy"`.
        """
        return {
            (model, kind): recipe
            for (model, name, kind), recipe in self.items()
            if name == problem
        }


_PROBLEMS = ("elasticity", "darcy", "airfoil", "pipe", "drivaerml", "lpbf")


def _row(*recipes: Recipe) -> dict[str, Recipe]:
    """Return recipes by problem in the order of `_PROBLEMS`; the last is optional."""
    return dict(zip(_PROBLEMS, recipes, strict=False))


# fmt: off
_PAPER = {
    "FLARE": _row(
        f.FLARE_ELASTICITY, f.FLARE_DARCY, f.FLARE_AIRFOIL,
        f.FLARE_PIPE, f.FLARE_DRIVAERML, f.FLARE_LPBF,
    ),
    "FLAREPP": _row(
        p.FLAREPP_ELASTICITY, p.FLAREPP_DARCY, p.FLAREPP_AIRFOIL,
        p.FLAREPP_PIPE, p.FLAREPP_DRIVAERML,
    ),
    "FLAREHybrid": _row(
        h.FLARE_HYBRID_ELASTICITY, h.FLARE_HYBRID_DARCY, h.FLARE_HYBRID_AIRFOIL,
        h.FLARE_HYBRID_PIPE, h.FLARE_HYBRID_DRIVAERML, h.FLARE_HYBRID_LPBF,
    ),
    "GNOT": _row(
        g.GNOT_ELASTICITY, g.GNOT_DARCY, g.GNOT_AIRFOIL,
        g.GNOT_PIPE, g.GNOT_DRIVAERML, g.GNOT_LPBF,
    ),
    "LNO": _row(
        lno.LNO_ELASTICITY, lno.LNO_DARCY, lno.LNO_AIRFOIL,
        lno.LNO_PIPE, lno.LNO_DRIVAERML, lno.LNO_LPBF,
    ),
    "MeshGraphNet": _row(
        m.MESH_GRAPH_NET_ELASTICITY, m.MESH_GRAPH_NET_DARCY, m.MESH_GRAPH_NET_AIRFOIL,
        m.MESH_GRAPH_NET_PIPE, m.MESH_GRAPH_NET_DRIVAERML, m.MESH_GRAPH_NET_LPBF,
    ),
    "PerceiverIO": _row(
        i.PERCEIVER_IO_ELASTICITY, i.PERCEIVER_IO_DARCY, i.PERCEIVER_IO_AIRFOIL,
        i.PERCEIVER_IO_PIPE, i.PERCEIVER_IO_DRIVAERML, i.PERCEIVER_IO_LPBF,
    ),
    "Transformer": _row(
        t.TRANSFORMER_ELASTICITY, t.TRANSFORMER_DARCY, t.TRANSFORMER_AIRFOIL,
        t.TRANSFORMER_PIPE, t.TRANSFORMER_DRIVAERML, t.TRANSFORMER_LPBF,
    ),
    "Transolver": _row(
        s.TRANSOLVER_ELASTICITY, s.TRANSOLVER_DARCY, s.TRANSOLVER_AIRFOIL,
        s.TRANSOLVER_PIPE, s.TRANSOLVER_DRIVAERML, s.TRANSOLVER_LPBF,
    ),
    "TransolverConv": {
        "darcy": s.TRANSOLVER_CONV_DARCY,
        "airfoil": s.TRANSOLVER_CONV_AIRFOIL,
        "pipe": s.TRANSOLVER_CONV_PIPE,
    },
}
_OWN_QUICK = {
    "FLARE": _row(
        f.FLARE_ELASTICITY_QUICK, f.FLARE_DARCY_QUICK, f.FLARE_AIRFOIL_QUICK,
        f.FLARE_PIPE_QUICK, f.FLARE_DRIVAERML_QUICK, f.FLARE_LPBF_QUICK,
    ),
    "FLAREHybrid": _row(
        h.FLARE_HYBRID_ELASTICITY_QUICK, h.FLARE_HYBRID_DARCY_QUICK,
        h.FLARE_HYBRID_AIRFOIL_QUICK, h.FLARE_HYBRID_PIPE_QUICK,
        h.FLARE_HYBRID_DRIVAERML_QUICK, h.FLARE_HYBRID_LPBF_QUICK,
    ),
    "MeshGraphNet": _row(
        m.MESH_GRAPH_NET_ELASTICITY_QUICK, m.MESH_GRAPH_NET_DARCY_QUICK,
        m.MESH_GRAPH_NET_AIRFOIL_QUICK, m.MESH_GRAPH_NET_PIPE_QUICK,
        m.MESH_GRAPH_NET_DRIVAERML_QUICK, m.MESH_GRAPH_NET_LPBF_QUICK,
    ),
}
# fmt: on

Arguments = dict[str, Value]
_SMALL: Arguments = {"hidden_channels": 64, "num_layers": 4, "heads": 8}
# Width and depth are those of FLARE's quick recipes.
_QUICK: dict[type[nn.Module], Arguments] = {
    models.FLAREPP: {**_SMALL, "num_latents": 64},
    models.GNOT: {**_SMALL, "num_experts": 3},
    models.LNO: {**_SMALL, "num_modes": 64},
    models.Nystromformer: {**_SMALL, "num_landmarks": 64},
    models.PerceiverIO: {**_SMALL, "num_latents": 64},
    models.Reformer: {**_SMALL, "num_buckets": 32, "attention_chunk": 64},
    models.Transformer: _SMALL,
    models.Transolver: {**_SMALL, "num_slices": 64},
}
# Problems whose samples share a grid, and those whose points also correspond without a
# grid.
_ON_GRIDS = ("airfoil", "darcy", "pipe")
_IN_ORDER = (*_ON_GRIDS, "elasticity")
# Problems with smooth inputs, for which DeepONet's branch does not need all points.
_SMOOTH = ("airfoil", "pipe")


def _quick(problem: str) -> dict[str, Recipe]:
    """Return FLARE's quick recipe of a problem, with the networks of other models."""
    flare = _OWN_QUICK["FLARE"][problem]
    recipes = {
        kind.__name__: replace(flare, model_class=kind, model=arguments)
        for kind, arguments in _QUICK.items()
    }
    whole = replace(flare, num_points=None)
    if problem in _IN_ORDER:
        # Muon is for matrices between hidden features, but DeepONet's two MLPs consist
        # mostly of input and output layers. The input of its branch is the
        # concatenation of all sensors, which Fourier features would multiply.
        deeponet: Arguments = {"hidden_channels": 64, "num_layers": 4}
        sensors: Arguments = {"num_sensors": 512} if problem in _SMOOTH else {}
        recipes["DeepONet"] = replace(
            whole,
            model_class=models.DeepONet,
            model={**deeponet, "num_points": INFER, **sensors},
            optimizer="adamw",
            fourier_octaves=0,
        )
        recipes["Linformer"] = replace(
            whole,
            model_class=models.Linformer,
            model={**_SMALL, "num_projections": 64, "num_points": INFER},
        )
    if problem in _ON_GRIDS:
        recipes["TransolverConv"] = replace(
            whole,
            model_class=models.Transolver,
            model={**_QUICK[models.Transolver], "grid": INFER},
        )
    if problem in _ON_GRIDS and find_spec("neuralop") is not None:
        fno: Arguments = {"hidden_channels": 32, "num_layers": 4, "modes": (12, 12)}
        recipes["FNO"] = replace(
            whole,
            model_class=models.FNO,
            model={**fno, "grid": INFER},
            optimizer="adamw",  # its weights are complex
        )
    return recipes | {model: row[problem] for model, row in _OWN_QUICK.items()}


RECIPES = RecipeTable(
    {
        **{
            (model, problem, "paper"): recipe
            for model, row in _PAPER.items()
            for problem, recipe in row.items()
        },
        **{
            (model, problem, "quick"): recipe
            for problem in _PROBLEMS
            for model, recipe in _quick(problem).items()
        },
    }
)
"""Every recipe by the names of its model, its problem and its kind.

The kind `"paper"` is the full recipe, from a paper if the model has been published on
this problem. `"quick"` is FLARE's quick recipe with a small network of the model's
class, on all points if the class needs whole samples. The name of a model is that of
its class; `"TransolverConv"` is `Transolver` with convolutions. `FNO` is included if
neuraloperator is installed. For example, `RECIPES["FLARE", "darcy", "quick"]` is
`FLARE_DARCY_QUICK`.
"""
