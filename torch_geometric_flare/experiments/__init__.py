"""Benchmark problems, and the tools to train, evaluate and plot models on them."""

from torch_geometric_flare._extras import needs_extra

with needs_extra("train,data,simulation,viz", __name__):
    import jsonargparse  # noqa: F401
    import lightning.pytorch  # noqa: F401
    import matplotlib  # noqa: F401
    import pyvista  # noqa: F401
    import scipy  # noqa: F401
    import skfem  # noqa: F401

from torch_geometric_flare.experiments.ablation import ablate, plot_ablation
from torch_geometric_flare.experiments.airfoil import AIRFOIL
from torch_geometric_flare.experiments.benchmark import Benchmark
from torch_geometric_flare.experiments.command_line import (
    run_ablation,
    run_command_line,
    run_comparison,
)
from torch_geometric_flare.experiments.compare import compare_models
from torch_geometric_flare.experiments.config import (
    PROBLEMS,
    AblationConfig,
    ComparisonConfig,
    RunConfig,
    find_benchmark,
)
from torch_geometric_flare.experiments.darcy import DARCY
from torch_geometric_flare.experiments.drivaerml import DRIVAERML
from torch_geometric_flare.experiments.elasticity import ELASTICITY
from torch_geometric_flare.experiments.loading import load_official, load_simulated
from torch_geometric_flare.experiments.lpbf import LPBF
from torch_geometric_flare.experiments.pipe import PIPE
from torch_geometric_flare.experiments.prediction import predict_command_line
from torch_geometric_flare.experiments.published import (
    Published,
    all_published,
    flare_paper,
    flare_plus_plus_paper,
    later_figures,
)
from torch_geometric_flare.experiments.quantities import (
    QuantityErrors,
    describe_errors,
    quantity_errors,
)
from torch_geometric_flare.experiments.run import run_benchmark
from torch_geometric_flare.experiments.spectra import spectrum_command_line
from torch_geometric_flare.experiments.splits import Selection, Splits
from torch_geometric_flare.experiments.tables import QuantityRow, Row

__all__ = [
    "AIRFOIL",
    "DARCY",
    "DRIVAERML",
    "ELASTICITY",
    "LPBF",
    "PIPE",
    "PROBLEMS",
    "AblationConfig",
    "Benchmark",
    "ComparisonConfig",
    "Published",
    "QuantityErrors",
    "QuantityRow",
    "Row",
    "RunConfig",
    "Selection",
    "Splits",
    "ablate",
    "all_published",
    "compare_models",
    "describe_errors",
    "find_benchmark",
    "flare_paper",
    "flare_plus_plus_paper",
    "later_figures",
    "load_official",
    "load_simulated",
    "plot_ablation",
    "predict_command_line",
    "quantity_errors",
    "run_ablation",
    "run_benchmark",
    "run_command_line",
    "run_comparison",
    "spectrum_command_line",
]
