"""What a reference implementation computed, and how to hold a model to it."""

from pathlib import Path

import numpy as np
import torch

DATA = Path(__file__).parent.parent / "data"


def load(name):
    """All arrays of a file, and the parameters among them under their own names."""
    with np.load(DATA / f"{name}.npz") as file:
        arrays = {key: torch.from_numpy(file[key]) for key in file.files}
    state = {k[6:]: v for k, v in arrays.items() if k.startswith("state/")}
    return arrays, state


def cosines(y):
    return torch.arange(y.numel(), dtype=torch.float64).cos().view_as(y)


def check_parity(model, arrays):
    """Output and gradient of the input, as a batch and among graphs of other sizes."""
    x = arrays["x"].requires_grad_()
    graphs, points, channels = x.shape
    batch = torch.arange(graphs).repeat_interleave(points)
    y = model(x.flatten(0, 1), batch).view_as(arrays["y"])
    torch.testing.assert_close(y, arrays["y"], atol=1e-9, rtol=0)
    (y * cosines(y)).sum().backward()
    torch.testing.assert_close(x.grad, arrays["dx"], atol=1e-9, rtol=0)

    x.grad = None
    mates = [torch.randn(n, channels, dtype=torch.float64) for n in (700, 7, 45)]
    parts = [mates[0], x[0], mates[1], x[1], mates[2]]
    sizes = torch.tensor([len(part) for part in parts])
    batch = torch.arange(5).repeat_interleave(sizes)
    found = model(torch.cat(parts), batch).split(sizes.tolist())
    y = torch.stack([found[1], found[3]])
    torch.testing.assert_close(y, arrays["y"], atol=1e-9, rtol=0)
    (y * cosines(y)).sum().backward()
    torch.testing.assert_close(x.grad, arrays["dx"], atol=1e-9, rtol=0)
