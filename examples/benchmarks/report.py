"""Write results as a Markdown page, a CSV file and log-log plots."""

import csv
import dataclasses
import math
import os
import platform
from collections.abc import Sequence
from pathlib import Path

import torch
import torch_geometric
from network import NetworkResult
from ragged import RaggedResult
from scaling import MODES, Result, growth

import torch_geometric_flare

# Exponents are fitted over this many of the largest sizes.
LARGEST = 3


def machine() -> dict[str, str]:
    """What a timing depends on."""
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return {
        "processor": f"{name}, {os.cpu_count()} logical cores",
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "device": _device(),
        "threads": str(torch.get_num_threads()),
        "dtype": "float32",
        "system": platform.platform(),
        "versions": ", ".join(
            f"{label} {version}"
            for label, version in (
                ("Python", platform.python_version()),
                ("PyTorch", torch.__version__),
                ("PyG", torch_geometric.__version__),
                ("torch_geometric_flare", torch_geometric_flare.__version__),
            )
        ),
    }


def _device() -> str:
    device = torch.get_default_device()
    if device.type != "cuda":
        return device.type
    return f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"


def load_average() -> str:
    """Processes that ran or waited, over 1, 5 and 15 minutes."""
    try:
        return " ".join(f"{load:.2f}" for load in os.getloadavg())
    except (AttributeError, OSError):
        return "unknown"


def write_csv(
    path: Path, results: Sequence[Result | RaggedResult | NetworkResult]
) -> None:
    """One row a result."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(field.name for field in dataclasses.fields(results[0]))
        writer.writerows(dataclasses.astuple(result) for result in results)


def markdown(
    facts: dict[str, str],
    scaling: Sequence[Result],
    ragged: Sequence[RaggedResult],
    networks: Sequence[NetworkResult],
) -> str:
    """All tables as text."""
    lines = ["| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in facts.items()]
    lines += [
        "",
        "Times are medians, in brackets the ratio to the time of FLARE in the same "
        "round. Peak memory is what a process grows by, or the allocator of a GPU "
        "hands out, inputs not counted. The "
        f"exponent is the slope in logarithms over the {LARGEST} largest sizes. A dash "
        "stands for what would take too long or too much memory.",
    ]
    for path in dict.fromkeys(r.path for r in scaling if r.path):
        sizes = sorted({r.num_points for r in scaling if r.path == path})
        numbers = ", ".join(f"{size:,}" for size in sizes)
        lines += ["", f"FLARE takes `{path}` at N = {numbers}."]
    for mode in MODES:
        lines += ["", f"### Time, {mode}", ""]
        lines += _table(scaling, mode, "seconds")
        lines += ["", f"### Peak memory, {mode}", ""]
        lines += _table(scaling, mode, "peak_bytes")
    lines += ["", "### Unequal graphs, forward + backward", ""]
    lines += [
        "| Batch | Layer | Time | x FLAREConv | Peak memory | x FLAREConv |",
        "|---|---|--:|--:|--:|--:|",
    ]
    own = {r.batch: r.peak_bytes for r in ragged if r.times_flare == 1.0}
    lines += [
        f"| {r.batch} | {r.layer} | {_seconds(r.seconds)} | {r.times_flare:.2f} | "
        f"{_bytes(r.peak_bytes)} | {r.peak_bytes / max(1.0, own[r.batch]):.2f} |"
        for r in ragged
    ]
    lines += ["", "### The whole network", ""]
    lines += [
        "| Points | Latents | | FLARE | As usual | Times as fast | Path |",
        "|--:|--:|---|--:|--:|--:|---|",
    ]
    lines += [
        f"| {r.num_points:,} | {r.num_latents} | {r.mode} | {_seconds(r.seconds)} | "
        f"{_seconds(r.usual_seconds)} | {r.times_as_fast:.2f} | {r.path} |"
        for r in networks
    ]
    return "\n".join(lines) + "\n"


def _table(results: Sequence[Result], mode: str, quantity: str) -> list[str]:
    """Operators down, points across, and the exponent of the growth."""
    chosen = [result for result in results if result.mode == mode]
    sizes = sorted({result.num_points for result in chosen})
    heads = [f"N = {size:,}" for size in sizes]
    lines = [
        f"| Operator | {' | '.join(heads)} | Exponent |",
        f"|---|{'--:|' * (len(sizes) + 1)}",
    ]
    for name in dict.fromkeys(result.operator for result in chosen):
        own = {r.num_points: r for r in chosen if r.operator == name}
        cells = [_cell(own.get(size), quantity) for size in sizes]
        exponent = growth([own[size] for size in sorted(own)][-LARGEST:], quantity)
        cells.append("" if math.isnan(exponent) else f"{exponent:.2f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _cell(result: Result | None, quantity: str) -> str:
    if result is None:
        return "–"
    if quantity == "peak_bytes":
        return _bytes(result.peak_bytes)
    return f"{_seconds(result.seconds)} ({result.times_flare:.2f})"


def _seconds(value: float) -> str:
    return f"{value:.3g} s" if value >= 1 else f"{value * 1e3:.3g} ms"


def _bytes(value: float) -> str:
    if value < 1e6:
        return "< 1 MB"
    return f"{value / 1e9:.2f} GB" if value >= 1e9 else f"{value / 1e6:.0f} MB"


def plot(path: Path, results: Sequence[Result], title: str) -> None:
    """Time and memory against the points, one column a mode, both axes logarithmic."""
    # Imported here, as the processes that measure memory import this module too.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), layout="constrained")
    axes = figure.subplots(2, len(MODES), sharex=True, sharey="row", squeeze=False)
    names = dict.fromkeys(result.operator for result in results)
    for column, mode in enumerate(MODES):
        # The least is a page: that of a process that did not grow.
        for row, (quantity, least, unit, label) in enumerate(
            (
                ("seconds", 0.0, 1.0, "time [s]"),
                ("peak_bytes", 4096.0, 1e6, "peak memory [MB]"),
            )
        ):
            ax = axes[row][column]
            for name in names:
                own = [r for r in results if (r.operator, r.mode) == (name, mode)]
                values = [max(least, getattr(r, quantity)) / unit for r in own]
                ax.loglog([r.num_points for r in own], values, "o-", label=name)
            ax.set_title(mode)
            ax.set_ylabel(label)
            ax.set_xlabel("points")
            ax.grid(True, which="both", alpha=0.3)
    axes[0][0].legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=150)
