"""Predict the future readings of probes in a stirred box from past readings.

    python examples/causal.py --seeds 3             # simulated, minutes

Each simulated history is a substance in a box with a different flow, which the models
do not see; nine probes read the concentration. After every step, networks predict the
next `--ahead` readings from all earlier ones: one with `CausalFLAREConv`, which trains
on all steps at once, and a GRU with the same number of parameters. The baseline repeats
the last reading. Finally, the network runs one step at a time, as in a live experiment.
"""

import os

if "OMP_WAIT_POLICY" not in os.environ:  # waiting threads yield the CPU
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import argparse

import torch
from torch import nn

from torch_geometric_flare.datasets import SimulatedDataset
from torch_geometric_flare.nn import CausalFLAREConv, ResidualMLP
from torch_geometric_flare.simulation import AdvectionDiffusion
from torch_geometric_flare.training import add_threads_option, user_errors

PROBES = torch.cartesian_prod(*[torch.tensor([0.25, 0.5, 0.75])] * 2)
INPUTS = 2 * len(PROBES) + 1  # the readings, their last change, the clock


class CausalNetwork(nn.Module):
    """Pre-norm blocks of causal attention and an MLP."""

    def __init__(self, outputs, width=48, layers=2):
        super().__init__()
        self.lift, self.head = nn.Linear(INPUTS, width), nn.Linear(width, outputs)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * layers + 1))
        self.mixers, self.mlps = nn.ModuleList(), nn.ModuleList()
        for _ in range(layers):
            self.mixers.append(CausalFLAREConv(width, None, 4, 16, kv_layers=1))
            self.mlps.append(ResidualMLP(width, width, width, 1))

    def forward(self, x):
        """All steps of histories [B, T, C]."""
        batch = torch.arange(x.size(0)).repeat_interleave(x.size(1))
        return self.step(x.flatten(0, 1), batch=batch).unflatten(0, x.shape[:2])

    def step(self, x, states=None, batch=None):
        """One step [B, C] of each history; replaces the `states`, one per layer."""
        x = self.lift(x)
        for i, (mixer, mlp) in enumerate(zip(self.mixers, self.mlps, strict=True)):
            h = self.norms[2 * i](x)
            if states is None:
                h = mixer(h, batch)
            else:
                h, states[i] = mixer.step(h, states[i])
            x = x + h
            x = x + mlp(self.norms[2 * i + 1](x))
        return self.head(self.norms[-1](x))


class GRUNetwork(nn.Module):
    """A GRU on the same input."""

    def __init__(self, outputs, width=64, layers=2):
        super().__init__()
        self.gru = nn.GRU(INPUTS, width, layers, batch_first=True)
        self.head = nn.Linear(width, outputs)

    def forward(self, x):
        """All steps of histories [B, T, C]."""
        return self.head(self.gru(x)[0])


def parse_args(argv=None):
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--num-train", type=int, default=200)
    add("--num-test", type=int, default=50)
    add("--steps", type=int, default=100, help="number of steps in a history")
    add("--ahead", type=int, default=20, help="number of steps to predict")
    add("--epochs", type=int, default=60)
    add("--seeds", type=int, default=1)
    add_threads_option(parser)
    return parser.parse_args(argv)


def read_probes(sample):
    """Readings [T, P] at the vertices nearest to the probes."""
    nearest = torch.cdist(PROBES, sample.pos).argmin(dim=1)
    return sample.y[nearest].T


def inputs_and_targets(c, ahead):
    """Inputs [B, t, 2 P + 1] of readings [B, T, P], and changes [B, t, ahead, P]."""
    targets = c[:, 1:].unfold(1, ahead, 1).mT
    now = c[:, : targets.size(1)]
    change = 10 * torch.cat([torch.zeros_like(c[:, :1]), now.diff(dim=1)], dim=1)
    clock = torch.linspace(0, 1, now.size(1))[:, None].expand(*now.shape[:2], 1)
    return torch.cat([now, change, clock], dim=2), targets - now.unsqueeze(2)


def train(model, x, y, epochs):
    """Minimize the mean squared error over all steps."""
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-4)
    num_steps = epochs * -(-len(x) // 20)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, num_steps)
    for _ in range(epochs):
        for chosen in torch.randperm(len(x)).split(20):
            found = model(x[chosen]).view_as(y[chosen])
            optimizer.zero_grad()
            (found - y[chosen]).square().mean().backward()
            optimizer.step()
            rate.step()


@user_errors()
def main(argv=None):
    """Simulate, train, compare, step."""
    args = parse_args(argv)
    if not 0 < args.ahead < args.steps:
        raise ValueError(f"--ahead is {args.ahead}, expected 1 to {args.steps - 1}")
    simulator = AdvectionDiffusion(12, args.steps, step=0.05, substeps=2)
    training, test = (
        torch.stack([*map(read_probes, SimulatedDataset("data", simulator, n, split))])
        for split, n in (("train", args.num_train), ("test", args.num_test))
    )
    mean, std = training.mean(), training.std()
    fit = inputs_and_targets((training - mean) / std, args.ahead)
    x, y = inputs_and_targets((test - mean) / std, args.ahead)
    errors = {"the last reading": [y.square().mean((0, 1, 3)).sqrt()]}
    for seed in range(args.seeds):
        torch.manual_seed(seed)
        causal, gru = (kind(9 * args.ahead) for kind in (CausalNetwork, GRUNetwork))
        for name, model in (("CausalFLAREConv", causal), ("GRU", gru)):
            train(model, *fit, args.epochs)
            with torch.no_grad():
                error = (model(x).view_as(y) - y).square().mean((0, 1, 3)).sqrt()
            errors.setdefault(name, []).append(error)
            count = sum(map(torch.numel, model.parameters()))
            print(f"seed {seed}: {name} of {count:,} parameters", flush=True)
    ahead = sorted({1, -(-args.ahead // 4), -(-args.ahead // 2), args.ahead})
    print("Root mean square error of simulated readings, in standard deviations")
    print(f"| steps ahead | {' | '.join(map(str, ahead))} |")
    for name, runs in errors.items():
        columns = torch.stack(runs)[:, [h - 1 for h in ahead]].T
        cells = [f"{c.mean():.3f} ({c.min():.3f}–{c.max():.3f})" for c in columns]
        print(f"| {name} | {' | '.join(cells)} |")
    states = [None] * len(causal.mixers)
    with torch.no_grad():
        apart = torch.stack([causal.step(row, states) for row in x.unbind(1)], dim=1)
        difference = float((apart - causal(x)).abs().max())
    print(f"step and forward differ by at most {difference:.1e}")
    return errors, difference


if __name__ == "__main__":
    main()
