"""Compare the whole network with its usual implementation.

    python examples/benchmarks/network.py --points 10000 --latents 64 256

Both have the same parameters and compute the same function; the usual one uses linear
maps, GELU and two calls of fused attention. Prints the speedup of a training step and
of inference.
"""

import argparse
import os
from dataclasses import dataclass

import torch
from check import assert_close
from measure import path_of, ratio, time_interleaved
from operators import two_calls
from torch import Tensor
from torch.nn.functional import gelu, linear

from torch_geometric_flare import FLARE

MODES = ("training step", "inference")


@dataclass(frozen=True)
class NetworkResult:
    """How the network compares with the usual one.

    Args:
        num_points: Points of the one cloud.
        num_latents: Latents of each head.
        mode: One of `MODES`.
        seconds: Median time of the network.
        usual_seconds: Median time of the usual one.
        times_as_fast: The median over the rounds of the ratio of the two.
        path: How attention was computed.
    """

    num_points: int
    num_latents: int
    mode: str
    seconds: float
    usual_seconds: float
    times_as_fast: float
    path: str


def usual_mlp(mlp, x):
    """A residual MLP."""
    *hidden, last = mlp.layers
    residual = mlp.input_residual and mlp.in_channels == mlp.hidden_channels
    for layer in hidden:
        y = gelu(linear(x, layer.weight, layer.bias), approximate="tanh")
        x = x + y if residual else y
        residual = True
    y = last(x)
    return x + y if mlp.output_residual and x.size(-1) == y.size(-1) else y


def usual_mixer(conv, x):
    """FLARE attention between its maps."""

    def by_head(y):
        return y.view(1, -1, conv.heads, conv.head_channels).transpose(1, 2)

    k, v = (by_head(usual_mlp(mlp, x)) for mlp in (conv.key_mlp, conv.value_mlp))
    y = two_calls(conv.latents[None], k, v)
    return conv.out(y.transpose(1, 2).flatten(2)[0])


def usual_network(model: FLARE, x: Tensor) -> Tensor:
    """What `model(x)` computes."""
    x = usual_mlp(model.lift, x)
    for block in model.blocks:
        x = x + usual_mixer(block.mixer, block.mixer_norm(x))
        x = x + usual_mlp(block.feed_forward, block.feed_forward_norm(x))
    return usual_mlp(model.head, model.norm(x))


def run_network(
    num_points: int, num_latents: int, seconds: float, channels=64, layers=8, heads=8
) -> list[NetworkResult]:
    """Check both, then time them in turns."""
    torch.manual_seed(0)
    model = FLARE(3, channels, 1, layers, heads, num_latents)
    x, target = torch.rand(num_points, 3), torch.rand(num_points, 1)
    optimizer = torch.optim.AdamW(model.parameters())
    functions = {"usual": lambda x: usual_network(model, x), "ours": model}

    def gradients(function):
        loss = (function(x) - target).square().mean()
        return torch.autograd.grad(loss, list(model.parameters()))

    found, wanted = (gradients(function) for function in functions.values())
    # One vector for all: the gradient of the last key bias, say, is rounding alone.
    flat = [torch.cat([g.flatten() for g in grads]) for grads in (found, wanted)]
    assert_close("FLARE", flat[1:], flat[:1], 1e-3)

    def step(function):
        optimizer.zero_grad()
        (function(x) - target).square().mean().backward()
        optimizer.step()

    def predict(function):
        with torch.no_grad():
            function(x)

    results = []
    for mode, run in zip(MODES, (step, predict), strict=True):
        times = time_interleaved(
            {
                name: lambda run=run, function=function: run(function)
                for name, function in functions.items()
            },
            seconds,
        )
        middle = {name: sorted(found)[len(found) // 2] for name, found in times.items()}
        results.append(
            NetworkResult(
                num_points,
                num_latents,
                mode,
                middle["ours"],
                middle["usual"],
                ratio(times["usual"], times["ours"]),
                path_of(lambda run=run: run(model)),
            )
        )
    return results


def run_networks(seconds: float, quick: bool = False) -> list[NetworkResult]:
    """The sizes of the report."""
    if quick:
        return run_network(200, 4, seconds, channels=16, layers=2, heads=2)
    results = []
    for latents in (64, 256):
        results += run_network(10_000, latents, seconds)
    return results + run_network(100_000, 64, seconds)


def main(argv=None):
    """Print a row a size."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--points", type=int, nargs="+", default=[10_000])
    parser.add_argument("--latents", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each ratio")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    print(f"{args.threads} threads, load {os.getloadavg()[0]:.2f}")
    print("| points | latents | | FLARE | as usual | times as fast | path |")
    print("|--:|--:|---|--:|--:|--:|---|")
    sizes = args.channels, args.layers, args.heads
    for points in args.points:
        for latents in args.latents:
            for r in run_network(points, latents, args.seconds, *sizes):
                print(
                    f"| {r.num_points:,} | {r.num_latents} | {r.mode} | "
                    f"{r.seconds:.3g} s | {r.usual_seconds:.3g} s | "
                    f"{r.times_as_fast:.2f} | {r.path} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
