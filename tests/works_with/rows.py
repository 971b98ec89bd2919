"""Which tests stand for which rows of `docs/works_with.md`."""

import torch

from torch_geometric_flare import FLARE

TESTS = {}


def row(name):
    """Say that a test tries the row of the page whose first column is `name`."""

    def mark(test):
        assert name not in TESTS, name
        TESTS[name] = test
        return test

    return mark


def network(seed=0, **options):
    """A small network whose scores and updates matter."""
    torch.manual_seed(seed)
    sizes = {"num_layers": 2, "heads": 2, "num_latents": 4} | options
    model = FLARE(3, 8, 1, **sizes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return model


def points():
    """Twenty points of two graphs, and their batch vector."""
    return torch.rand(20, 3), torch.tensor([0] * 8 + [1] * 12)


def gradients(model, y):
    return torch.autograd.grad(y.square().sum(), list(model.parameters()))
