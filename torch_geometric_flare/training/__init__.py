"""Training of surrogates: reproducible bit by bit, and resumable after a kill."""

from torch_geometric_flare._extras import needs_extra

with needs_extra("train", __name__):
    import lightning.pytorch  # noqa: F401

from torch_geometric_flare.training.callbacks import (
    EpochCheckpoint,
    EpochSeed,
    scaled_ema_decay,
)
from torch_geometric_flare.training.comparison import (
    Comparison,
    compare_with_baselines,
)
from torch_geometric_flare.training.console import (
    add_threads_option,
    set_threads,
    show_log,
    user_errors,
)
from torch_geometric_flare.training.datamodule import SurrogateDataModule
from torch_geometric_flare.training.evaluation import evaluate, evaluate_per_field
from torch_geometric_flare.training.generative import GenerativeModule
from torch_geometric_flare.training.growth import GrowLatents, grow_training
from torch_geometric_flare.training.module import SurrogateModule
from torch_geometric_flare.training.optimizer import (
    MuonAdamW,
    hidden_matrices,
    parameter_groups,
)
from torch_geometric_flare.training.point_parallel import (
    PointParallelStrategy,
    shard_points,
)
from torch_geometric_flare.training.quiet import quiet_lightning
from torch_geometric_flare.training.rollout import RolloutModule, evaluate_rollout
from torch_geometric_flare.training.run_folder import read_history, run_folder
from torch_geometric_flare.training.trainer import TrainerConfig, build_trainer, fit

__all__ = [
    "Comparison",
    "EpochCheckpoint",
    "EpochSeed",
    "GenerativeModule",
    "GrowLatents",
    "MuonAdamW",
    "PointParallelStrategy",
    "RolloutModule",
    "SurrogateDataModule",
    "SurrogateModule",
    "TrainerConfig",
    "add_threads_option",
    "build_trainer",
    "compare_with_baselines",
    "evaluate",
    "evaluate_per_field",
    "evaluate_rollout",
    "fit",
    "grow_training",
    "hidden_matrices",
    "parameter_groups",
    "quiet_lightning",
    "read_history",
    "run_folder",
    "scaled_ema_decay",
    "set_threads",
    "shard_points",
    "show_log",
    "user_errors",
]
