"""Time and memory of causal FLARE attention against the length of a sequence.

    python examples/benchmarks/causal.py                  # 1,000 to 100,000 steps

Compares `causal_flare_attention` with `scaled_dot_product_attention(is_causal=True)`
with the same heads and width, forward and training, and a `CausalFLAREConv.step` after
many steps with one after few. All operators are verified against their definition
before timing. Ratios are medians over interleaved runs.
"""

import argparse
import platform
import statistics
from pathlib import Path

import torch
from measure import (
    in_own_process,
    make_step,
    peak_of,
    ratio,
    seconds_of,
    time_interleaved,
)

from torch_geometric_flare.functional import (
    causal_flare_attention,
    reference_causal_flare_attention,
)
from torch_geometric_flare.nn import CausalFLAREConv
from torch_geometric_flare.training import add_threads_option, user_errors

HEADS, LATENTS, WIDTH = 8, 64, 8
FLARE, SOFTMAX = "causal FLARE", "causal softmax attention"


def softmax(q, k, v):
    """Exact attention among all steps, keys serving as queries."""
    return torch.nn.functional.scaled_dot_product_attention(k, k, v, is_causal=True)


OPERATORS = {FLARE: causal_flare_attention, SOFTMAX: softmax}


def draw(steps, dtype=torch.float32):
    """Queries, keys and values with scores of unit deviation."""
    q = torch.randn(HEADS, LATENTS, WIDTH, dtype=dtype) / WIDTH**0.5
    k, v = torch.randn(2, 1, HEADS, steps, WIDTH, dtype=dtype)
    return q, k, v


def check():
    """Refuse to time an operator that is not the one of its definition.

    Raises:
        RuntimeError: If it differs.
    """
    inputs = draw(150, torch.float64)
    found = causal_flare_attention(*inputs)
    difference = (found - reference_causal_flare_attention(*inputs)).abs().max()
    if not difference < 1e-10:
        raise RuntimeError(f"{FLARE} differs by {difference:.1e}: not timed")


def prepare(name, steps, backward):
    """A run of an operator."""
    inputs = draw(steps)
    leaves = inputs if name == FLARE else inputs[1:]
    if backward:
        for leaf in leaves:
            leaf.requires_grad_()
    grad = torch.ones_like(inputs[2]) if backward else None
    return make_step(OPERATORS[name], inputs, leaves, grad)


def probe(name, steps, backward, threads):
    """Peak memory of one run in a separate process."""
    torch.set_num_threads(threads)
    prepare(name, 256, backward)()
    return peak_of(prepare(name, steps, backward))


@torch.no_grad()
def time_steps(sizes, seconds):
    """Time of a step after each number of steps, and the bytes that it carries."""
    conv, row = CausalFLAREConv(HEADS * WIDTH, heads=HEADS), torch.randn(1, 64)
    runs, carried = {}, {}
    for size in sizes:
        state = conv.prefill(torch.randn(size, HEADS * WIDTH))[1]
        carried[size] = sum(t.numel() * t.element_size() for t in state)
        runs[size] = lambda state=state: [conv.step(row, state) for _ in range(50)]
    return time_interleaved(runs, seconds), carried


def processor():
    """The name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [s.partition(":")[2].strip() for s in lines if s.startswith("model name")]
    return names[0] if names else platform.processor()


@user_errors()
def main(argv=None):
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--steps", type=int, nargs="+", default=[1000, 3000, 10000, 30000, 100000])
    add("--seconds", type=float, default=5.0, help="to time a line, about")
    add("--patience", type=float, default=60.0, help="no run may take longer")
    add_threads_option(parser)
    args = parser.parse_args(argv)
    check()
    threads = torch.get_num_threads()
    print(f"{processor()}, {threads} threads, PyTorch {torch.__version__}, float32")
    print(f"{HEADS} heads of width {WIDTH}, {LATENTS} latents")
    print("| steps | mode | softmax / FLARE, time | softmax / FLARE, memory | ", end="")
    print("FLARE, time per step / that of the shortest |")
    print("|---|---|---|---|---|")
    first = {}
    for backward in (False, True):
        mode, last = "training" if backward else "forward", 0.0
        for n, size in enumerate(args.steps):
            growth = (size / args.steps[n - 1]) ** 2 if n else 0.0
            names = [FLARE, SOFTMAX] if last * growth <= args.patience else [FLARE]
            runs = {name: prepare(name, size, backward) for name in names}
            times = time_interleaved(runs, args.seconds, least=1)
            per_step = statistics.median(times[FLARE]) / size
            relative = per_step / first.setdefault(mode, per_step)
            cells = ["–", "–"]
            last = float("inf")
            if SOFTMAX in times:
                last = seconds_of(runs[SOFTMAX])
                peaks = [
                    in_own_process(probe, m, size, backward, threads) for m in runs
                ]
                quotient = peaks[1] / peaks[0]
                cells = [
                    f"{ratio(times[SOFTMAX], times[FLARE]):.2f}",
                    f"{quotient:.2f}",
                ]
            print(f"| {size:,} | {mode} | {' | '.join(cells)} | {relative:.2f} |")
    times, carried = time_steps(args.steps, args.seconds)
    shortest = times[args.steps[0]]
    print("\n| steps before | time of a step / after the fewest | bytes carried |")
    print("|---|---|---|")
    for size in args.steps:
        print(f"| {size:,} | {ratio(times[size], shortest):.2f} | {carried[size]:,} |")


if __name__ == "__main__":
    main()
