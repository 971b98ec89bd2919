"""Advance a concentration in time with an autoregressive rollout.

    python examples/rollout.py                        # simulated, minutes
    python examples/rollout.py --unroll 1 --noise 0   # without what keeps it stable

A flow in a box advects and diffuses a substance; each sample has a different flow,
initial state and mesh. A MeshGraphNet learns the change in one step, on `--unroll`
consecutive steps from a state with noise. Plots the error over all steps and the last
state.
"""

import os

if "OMP_WAIT_POLICY" not in os.environ:  # waiting threads yield the CPU
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import argparse
import json
import time
from pathlib import Path

import torch

from torch_geometric_flare.datasets import SimulatedDataset
from torch_geometric_flare.fields import Field
from torch_geometric_flare.metrics import relative_l2_per_channel
from torch_geometric_flare.nn import MeshGraphNet
from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.simulation import AdvectionDiffusion
from torch_geometric_flare.surrogates import rollout
from torch_geometric_flare.training import (
    RolloutModule,
    SurrogateDataModule,
    add_threads_option,
    evaluate_rollout,
    fit,
    run_folder,
    user_errors,
)
from torch_geometric_flare.transforms import MeshEdges, Normalizer, TimeWindow
from torch_geometric_flare.visualization import (
    plot_plane_comparison,
    plot_training_curves,
)

CONCENTRATION = Field("concentration")
FEATURES = (CONCENTRATION, Field("velocity", 2))
CHANGE = Field("concentration_change")
CHANGES = {"concentration": "concentration_change"}


def parse_args(argv=None):
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--num-train", type=int, default=200)
    add("--num-test", type=int, default=20)
    add("--resolution", type=int, default=20, help="cells per side of the box")
    add("--steps", type=int, default=20, help="number of test steps")
    add("--unroll", type=int, default=2, help="steps per training sample")
    add("--noise", type=float, default=0.05, help="in units of the change per step")
    add("--epochs", type=int, default=20)
    add("--seed", type=int, default=0)
    add_threads_option(parser)
    return parser.parse_args(argv)


def make_module(histories, recipe, noise):
    """A surrogate with the statistics of the training samples."""
    changes = (history.y.diff(dim=1).reshape(-1, 1) for history in histories)
    parts = [
        Normalizer.from_bounds([0.0, 0.0], [1.0, 1.0]),
        Normalizer.gaussian(history.y.reshape(-1, 1) for history in histories),
        Normalizer.gaussian(history.velocity for history in histories),
    ]
    return RolloutModule(
        recipe.build(in_channels=5, out_channels=1),
        Normalizer.gaussian(changes),
        recipe=recipe,
        training_data="simulated advection and diffusion",
        changes=CHANGES,
        noise=noise,
        fields=(CHANGE,),
        features=FEATURES,
        input_normalizer=Normalizer.cat(parts),
    )


def draw(surrogate, sample, errors, folder):
    """The error over the steps, and the last state of a sample."""
    steps = range(1, 1 + len(errors["surrogate"]))
    plot_training_curves(
        {name: (steps, values) for name, values in errors.items()},
        title="Simulated advection and diffusion: new flows",
        xlabel="predicted steps",
    ).savefig(folder / "error_over_steps.png", dpi=150)
    with torch.no_grad():
        last = rollout(surrogate, sample, len(steps), CHANGES)[-1]
    plot_plane_comparison(
        sample.pos,
        sample.y[:, -1:],
        last.concentration,
        CONCENTRATION,
        title=f"Simulated advection and diffusion: step {len(steps)} of a new flow",
        cells=sample.cells,
    ).savefig(folder / "last_step.png", dpi=120)


@user_errors()
def main(argv=None):
    """Simulate, train, measure, draw."""
    args = parse_args(argv)
    torch.manual_seed(args.seed)
    simulator = AdvectionDiffusion(args.resolution, args.steps)
    train, test = (
        SimulatedDataset("data", simulator, count, split, transform=MeshEdges())
        for split, count in (("train", args.num_train), ("test", args.num_test))
    )
    test = list(map(TimeWindow([CONCENTRATION], args.steps, start=0), test))
    sizes = {"hidden_channels": 32, "num_layers": 4, "mlp_layers": 1}
    recipe = Recipe(
        model_class=MeshGraphNet,
        model={**sizes, "edge_channels": 3, "length_scale": 1 / args.resolution},
        epochs=args.epochs,
        batch_size=4,
        learning_rate=3e-3,
    )
    histories = list(train)
    module = make_module(histories, recipe, args.noise)
    window = TimeWindow([CONCENTRATION], args.unroll)
    data = SurrogateDataModule(
        histories, batch_size=4, train_transform=window, seed=args.seed
    )
    folder = run_folder(Path("runs", "rollout-simulated"))
    start = time.perf_counter()
    surrogate = fit(module, data, folder, progress=False)
    seconds = time.perf_counter() - start
    still = [
        relative_l2_per_channel(sample.concentration.expand_as(sample.y), sample.y)
        for sample in test
    ]
    found = evaluate_rollout(surrogate, test, CHANGES)
    errors = {"surrogate": found.mean(0), "nothing changes": torch.cat(still).mean(0)}
    draw(surrogate, test[int(found[:, -1].argsort()[len(test) // 2])], errors, folder)
    results = {"data": "simulated", **vars(args), "training_seconds": seconds}
    results |= {name: values.tolist() for name, values in errors.items()}
    (folder / "metrics.json").write_text(json.dumps(results, indent=2))
    for step in sorted({1, -(-args.steps // 2), args.steps}):
        row = ", ".join(f"{name} {v[step - 1]:.3f}" for name, v in errors.items())
        print(f"relative L2 error after step {step}: {row}")
    print(f"{folder}: last.ckpt, metrics.json, error_over_steps.png, last_step.png")
    return results


if __name__ == "__main__":
    main()
