"""Compare `FLAREConv` on batches of unequal graphs with padding to the largest."""

import argparse
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from check import assert_close, outcome
from measure import (
    Step,
    available_memory,
    in_own_process,
    make_step,
    path_of,
    peak_of,
    ratio,
    time_interleaved,
)
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch_geometric.utils import to_dense_batch

from torch_geometric_flare import FLAREConv

Layer = Callable[[FLAREConv, Tensor, Tensor, int], Tensor]


@dataclass(frozen=True)
class RaggedResult:
    """One measurement of forward and backward.

    Args:
        batch: Which graphs.
        layer: How they were computed.
        num_points: Points of all graphs.
        seconds: Median time of a run.
        times_flare: Median ratio to the time of `FLAREConv` in the same round.
        rounds: Timed runs.
        peak_bytes: Growth of memory during one run, its input not counted.
        path: How this package computed attention; empty for its rivals.
    """

    batch: str
    layer: str
    num_points: int
    seconds: float
    times_flare: float
    rounds: int
    peak_bytes: float
    path: str = ""


def batches(quick: bool = False) -> dict[str, list[int]]:
    """Sizes of the graphs of each batch."""
    large, small = (735, 40) if quick else (47_542, 512)
    least = 12 if quick else 736
    spread = np.geomspace(least, large, 16).round().astype(int).tolist()
    few = np.random.default_rng(0).integers(5, 31, small).tolist()
    return {
        f"16 graphs of {least} to {large:,} points": spread,
        f"{small} graphs of 5 to 30 points": few,
    }


def as_built(conv: FLAREConv, x: Tensor, batch: Tensor, graphs: int) -> Tensor:
    """The operator of this package."""
    return conv(x, batch, graphs)


def _attend(conv: FLAREConv, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Dense keys and values [B, n, H, D] and a mask of the keys, [B, n]."""
    q = conv.latents.expand(k.size(0), -1, -1, -1)
    k, v = k.transpose(1, 2), v.transpose(1, 2)
    z = scaled_dot_product_attention(
        q, k, v, attn_mask=mask[:, None, None, :], scale=conv.scale
    )
    y = scaled_dot_product_attention(k, q, z, scale=conv.scale)
    return y.transpose(1, 2)


def padded(conv: FLAREConv, x: Tensor, batch: Tensor, graphs: int) -> Tensor:
    """The whole layer on one padded block."""
    dense, mask = to_dense_batch(x, batch, batch_size=graphs)
    shape = (*mask.shape, conv.heads, conv.head_channels)
    k, v = conv.key_mlp(dense).view(shape), conv.value_mlp(dense).view(shape)
    return conv.out(_attend(conv, k, v, mask).flatten(-2))[mask]


def padded_attention(conv: FLAREConv, x: Tensor, batch: Tensor, graphs: int) -> Tensor:
    """Only the attention on padded blocks; what is pointwise on the points alone."""
    shape = (x.size(0), conv.heads, conv.head_channels)
    k, mask = to_dense_batch(conv.key_mlp(x).view(shape), batch, batch_size=graphs)
    v, _ = to_dense_batch(conv.value_mlp(x).view(shape), batch, batch_size=graphs)
    return conv.out(_attend(conv, k, v, mask)[mask].flatten(-2))


FLARE = "FLAREConv"
LAYERS: dict[str, Layer] = {
    FLARE: as_built,
    "padded, with key mask": padded,
    "padded for attention only": padded_attention,
}


def make_batch(
    sizes: Sequence[int], dtype: torch.dtype
) -> tuple[FLAREConv, Tensor, Tensor]:
    """A layer of 64 channels, 8 heads and 64 latents, points, and the batch vector."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        conv = FLAREConv(64, heads=8, num_latents=64).to(dtype)
        x = torch.randn(sum(sizes), 64, dtype=dtype, requires_grad=True)
    batch = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return conv, x, batch


def prepare(name: str, sizes: Sequence[int]) -> Step:
    """A run of forward and backward."""
    conv, x, batch = make_batch(sizes, torch.float32)
    graphs = len(sizes)
    return make_step(
        lambda x: LAYERS[name](conv, x, batch, graphs),
        [x],
        [x, *conv.parameters()],
        torch.ones_like(x),
    )


def probe(name: str, sizes: Sequence[int], threads: int, device: str) -> int:
    """Peak memory of one run in a separate process."""
    torch.set_num_threads(threads)
    torch.set_default_device(device)
    prepare(name, [600, 3])()  # libraries and threads
    return peak_of(prepare(name, sizes))


def one_by_one(conv: nn.Module, x: Tensor, sizes: Sequence[int]) -> Tensor:
    """Each graph alone."""
    return torch.cat([conv(part) for part in x.split(list(sizes))])


def check(
    names: Iterable[str], sizes: Sequence[int], dtype: torch.dtype, tolerance: float
) -> None:
    """Compare layers with graphs run one by one, outputs and gradients.

    Raises:
        WrongOperator: If one differs.
    """
    conv, x, batch = make_batch(sizes, dtype)
    leaves = [x, *conv.parameters()]
    wanted = outcome(lambda x: one_by_one(conv, x, sizes), [x], leaves)
    for name in names:
        layer = partial(LAYERS[name], conv, batch=batch, graphs=len(sizes))
        found = outcome(layer, [x], leaves)
        assert_close(f"{name}, {len(sizes)} graphs", found, wanted, tolerance)


def run_ragged(seconds: float, quick: bool = False) -> list[RaggedResult]:
    """Check every layer, then measure it on both batches."""
    results = []
    for label, sizes in batches(quick).items():
        few = [min(size, 50 + size // 40) for size in sizes]
        check(LAYERS, few, torch.float64, 1e-9)
        peaks = {}
        for name in LAYERS:
            threads, device = torch.get_num_threads(), str(torch.get_default_device())
            peak = in_own_process(probe, name, sizes, threads, device)
            # Not in this process what got another one killed, or nearly so.
            if peak < 0.7 * available_memory():
                peaks[name] = peak
        check(peaks, sizes, torch.float32, 1e-3)
        steps = {name: prepare(name, sizes) for name in peaks}
        times = time_interleaved(steps, seconds)
        for name, peak in peaks.items():
            found = RaggedResult(
                label,
                name,
                sum(sizes),
                statistics.median(times[name]),
                ratio(times[name], times[FLARE]),
                len(times[name]),
                peak,
                path_of(steps[name]),
            )
            results.append(found)
            print(
                f"{label}  {name:26} {found.seconds * 1e3:10.2f} ms "
                f"{found.times_flare:7.2f} x FLAREConv {peak / 1e6:9.1f} MB  "
                f"{found.path}",
                flush=True,
            )
    return results


def main() -> None:
    """Print what is measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small graphs")
    parser.add_argument("--threads", type=int, help="threads of PyTorch")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each batch")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    run_ragged(args.seconds, args.quick)


if __name__ == "__main__":
    main()
