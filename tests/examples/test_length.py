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
    limit = 300 if "benchmarks" in script else 150
    assert len((ROOT / script).read_text(encoding="utf-8").splitlines()) <= limit


def test_what_the_makefile_runs_exists():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    paths = set(re.findall(r"examples/[\w./-]+", text))
    assert "examples/drivaerml.py" in paths
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []
