"""PyTorch Geometric's AirfRANS, loaded without executing code from its files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric.datasets import AirfRANS

from torch_geometric_flare._arguments import first_line
from torch_geometric_flare.datasets.records import read_json


class CheckedAirfRANS(AirfRANS):
    r"""`torch_geometric.datasets.AirfRANS` that validates its files before loading.

    If a file holds more than tensors, PyTorch Geometric loads it again and executes the
    code in it. This class refuses such files.

    Raises:
        ValueError: If a file is damaged, holds code, or is of another format.
    """

    def _download(self) -> None:
        super()._download()
        path, manifest = map(Path, self.raw_paths)
        samples = _read_raw(path)
        for number, sample in enumerate(samples):
            check_shapes(sample, f"'{path}': sample {number}")
        self._check_manifest(manifest, len(samples))

    def _process(self) -> None:
        # The folder also holds PyTorch Geometric's notes on its transforms.
        for path in Path(self.processed_dir).glob("*.pt"):
            try:
                _load(path)
            except Exception as error:
                raise ValueError(
                    f"'{path}' is damaged, or holds more than tensors: delete it, and "
                    f"it is made again ({first_line(error)})."
                ) from error
        super()._process()

    def _check_manifest(self, path: Path, num_samples: int) -> None:
        content = read_json(path)
        names = ("full_train", "full_test", f"{self.task}_{self.split}")
        lists = [content.get(name) for name in names]
        if not all(isinstance(names_of_split, list) for names_of_split in lists):
            raise ValueError(
                f"'{path}' must list the samples of {', '.join(names)}, and holds "
                f"{sorted(content)}."
            )
        listed = sum(
            len(names_of_split)
            for names_of_split in lists[:2]
            if isinstance(names_of_split, list)
        )
        if listed != num_samples:
            raise ValueError(
                f"'{path}' lists {listed} samples, and the file AirfRANS.pt beside it "
                f"holds {num_samples}: they are not of the same release."
            )


def check_shapes(sample: Mapping[str, Any], what: str) -> None:
    r"""Check that a sample has the arrays of AirfRANS.

    Args:
        sample: Its arrays by name.
        what: The file and the sample, for the message.

    Raises:
        ValueError: If one is missing or of another shape.
    """
    shapes = {
        key: tuple(getattr(sample.get(key), "shape", ()))
        for key in ("pos", "x", "y", "surf")
    }
    size = shapes["pos"][:1]
    expected = {"pos": (*size, 2), "x": (*size, 5), "y": (*size, 4), "surf": size}
    if shapes != expected or not size:
        raise ValueError(
            f"{what} has arrays of the shapes {shapes}, expected pos [N, 2], x [N, 5], "
            "y [N, 4] and surf [N]."
        )


def _read_raw(path: Path) -> list[dict[str, Tensor]]:
    try:
        return [dict(sample) for sample in _load(path)]
    except Exception as error:
        # torch raises different exceptions depending on where the file is damaged.
        raise ValueError(
            f"'{path}' is damaged, or holds more than tensors: delete it, and it is "
            f"fetched again ({first_line(error)})."
        ) from error


def _load(path: Path) -> Any:
    """Memory-map a file without executing code from it."""
    return torch.load(path, weights_only=True, mmap=True)
