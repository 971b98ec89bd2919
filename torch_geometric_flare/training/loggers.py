"""Loggers of Lightning, by name."""

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
    "mlflow": ("mlflow", "mlflow_skinny"),
}


def make_logger(name: str, folder: str | Path) -> Logger:
    """Return a logger of Lightning that keeps its files in the folder of a training.

    Args:
        name: `"tensorboard"`, `"wandb"` or `"mlflow"`.
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
    return MLFlowLogger(
        run_name=Path(folder).name, save_dir=str(Path(folder, "mlruns"))
    )
