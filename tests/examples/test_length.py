import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(
    path.relative_to(ROOT).as_posix() for path in (ROOT / "examples").rglob("*.py")
)


def test_there_are_examples():
    assert {"examples/drivaerml.py", "examples/predict.py"} <= set(SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_example_can_be_read_at_a_sitting(script):
    limit = 300 if "benchmarks" in script else 160
    assert len((ROOT / script).read_text(encoding="utf-8").splitlines()) <= limit


def test_what_the_makefile_runs_exists():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    paths = set(re.findall(r"examples/[\w./-]+", text))
    assert "examples/drivaerml.py" in paths
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("script", [s for s in SCRIPTS if s.count("/") == 1])
def test_waiting_threads_let_others_run(script):
    """Said before torch is loaded, unless the user has chosen."""
    text = (ROOT / script).read_text(encoding="utf-8")
    if script == "examples/gallery.py":  # which computes nothing
        return
    names = "torch", "torch_geometric_flare", "lightning", "numpy"
    loads = [
        text.index(f"\n{w} {n}")
        for n in names
        for w in ("import", "from")
        if f"\n{w} {n}" in text
    ]
    assert text.index('"OMP_WAIT_POLICY" not in os.environ') < min(loads)
    assert text.index('setdefault("GOMP_SPINCOUNT"') < min(loads)
