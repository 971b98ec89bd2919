import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "point_parallel.py"
SMALL = ["--num-points=301", "--num-layers=2", "--num-latents=8"]


def run(*command):
    """The lines that the example prints, by their first word."""
    result = subprocess.run(
        [sys.executable, *command, EXAMPLE, *SMALL],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return {line.split()[0]: line.split() for line in result.stdout.splitlines()}


def check(lines, processes):
    assert lines["301"][:5] == ["301", "points", "over", str(processes), "processes:"]
    assert lines["loss"][1] == lines["loss"][-1]
    assert float(lines["gradients"][2]) < 1e-8
    assert lines["sent"][3:5] == ["19", "kB,"]


@pytest.mark.slow
def test_starts_two_processes():
    check(run(), 2)


@pytest.mark.slow
def test_under_torchrun():
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=3"]
    check(run(*torchrun), 3)
