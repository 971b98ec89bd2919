"""Loggers of Lightning, by name."""

import os
from importlib.util import find_spec
from pathlib import Path

from lightning.pytorch.loggers import (
    Logger,
    MLFlowLogger,
    TensorBoardLogger,
    WandbLogger,
)

# The packages that serve each, one of which is enough.
_PACKAGES = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    "wandb": ("wandb",),
    "mlflow": ("mlflow",),
}


def make_logger(name: str, folder: str | Path) -> Logger:
    """Return a logger of Lightning that keeps its files in the folder of a training.

    Args:
        name: `"tensorboard"`, `"wandb"` or `"mlflow"`. The last goes to a server that
            `MLFLOW_TRACKING_URI` names in the environment, if it does.
        folder: The folder of the training.

    Raises:
        ValueError: If there is no such name, or its package is not installed.
    """
    if name not in _PACKAGES:
        raise ValueError(
            f"logger must be a Logger of Lightning or one of {list(_PACKAGES)}, "
            f"got {name!r}"
        )
    packages = _PACKAGES[name]
    if not any(find_spec(package) for package in packages):
        raise ValueError(
            f"logger={name!r} needs a package that is not installed: "
            f"pip install {packages[0]}"
        )
    if name == "tensorboard":
        return TensorBoardLogger(folder, name="tensorboard")
    if name == "wandb":
        return WandbLogger(name=Path(folder).name, save_dir=folder)
    return _make_mlflow_logger(Path(folder).resolve())


def _make_mlflow_logger(folder: Path) -> MLFlowLogger:
    """Log to the server that the environment names, else to a database in `folder`."""
    server = os.environ.get("MLFLOW_TRACKING_URI")
    try:
        if server:
            return MLFlowLogger(tracking_uri=server, run_name=folder.name)
        folder.mkdir(parents=True, exist_ok=True)
        # Newer releases refuse to keep metrics in plain files.
        return MLFlowLogger(
            tracking_uri=f"sqlite:///{folder / 'mlflow.db'}",
            artifact_location=(folder / "mlruns").as_uri(),
            run_name=folder.name,
        )
    except ModuleNotFoundError as error:
        raise ValueError(
            f"logger='mlflow' needs {error.name}, which mlflow_skinny does not bring: "
            "pip install mlflow, or name a server in MLFLOW_TRACKING_URI"
        ) from error
