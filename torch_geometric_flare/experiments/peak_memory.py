"""The largest memory that a process has used."""

import sys
from pathlib import Path

import torch

if sys.platform != "win32":
    import resource


def peak_memory(device: torch.device) -> int | None:
    """Return the peak of the memory so far, in bytes.

    Args:
        device: A GPU, for the memory of this process's tensors on it; any other, for
            the resident memory of this process.

    Returns:
        Bytes; `None` on Windows.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return None
    # In Linux ru_maxrss begins at the memory of the process that started this one.
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
