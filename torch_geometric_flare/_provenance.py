"""Provenance of a run, its data, versions and machine, and of predicted meshes."""

import hashlib
import os
import platform
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

_PACKAGES = ("torch", "torch_geometric", "lightning")
PREDICTED = "predicted by"
"""Start of the text `provenance` in the field data of a predicted mesh."""


def hash_samples(samples: Iterable[Data]) -> str:
    """Return the SHA-256 of all that the samples hold, in their order.

    Args:
        samples: Samples, each with its tensors and plain values.
    """
    total = hashlib.sha256()
    for sample in samples:
        for name in sorted(sample.keys()):
            value = sample[name]
            if isinstance(value, Tensor):
                described = f"{name} {value.dtype} {list(value.shape)}"
                content = value.detach().cpu().contiguous().numpy().tobytes()
            else:
                described, content = f"{name} {value!r}", b""
            total.update(described.encode() + b"\0" + content)
    return total.hexdigest()


def describe_versions(*packages: str) -> dict[str, str]:
    """Return the versions of Python and of what this package stands on, if installed.

    Args:
        *packages: Further packages.
    """
    versions = {"python": platform.python_version()}
    for name in (*_PACKAGES, *packages):
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def describe_machine() -> str:
    """Return the processor, its cores, the threads in use, and the GPU in words."""
    cores = os.cpu_count()
    words = f"{_processor()}, {cores} cores, {torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        words += f", {torch.cuda.get_device_name()}"
    return words


def prediction_note(mesh: Any) -> str:
    """Return the note of the prediction that wrote a mesh; empty if none did.

    Args:
        mesh: A PyVista dataset.
    """
    note = str(next(iter(mesh.field_data.get("provenance", [])), ""))
    return note if note.startswith(PREDICTED) else ""


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    for line in lines:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
