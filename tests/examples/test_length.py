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
    """Said before torch is loaded, by the package where that comes first."""
    text = (ROOT / script).read_text(encoding="utf-8")
    loads = re.findall(r"^(?:import|from) ((?:torch|lightning)\w*)", text, re.MULTILINE)
    if not loads or loads[0] == "torch_geometric_flare":
        return
    first = re.search(r"^(?:import|from) (?:torch|lightning)", text, re.MULTILINE)
    text = text[: first.start()]
    assert '"OMP_WAIT_POLICY" not in os.environ' in text
    assert 'setdefault("GOMP_SPINCOUNT"' in text
