"""Wheel and sdist hold what they should."""

import importlib.util
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "torch_geometric_flare"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("build", "hatchling")),
        reason='needs build and hatchling: pip install ".[test]"',
    ),
]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Builds the sdist, and the wheel from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    result = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT],
        cwd=folder,  # a folder named build would hide the tool
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


@pytest.fixture(scope="module")
def sdist(built):
    """The names in the sdist, below its top folder."""
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


def modules():
    sources = (ROOT / PACKAGE).rglob("*.py")
    return {path.relative_to(ROOT).as_posix() for path in sources}


def test_the_wheel_holds_the_package_alone(wheel):
    names = set(wheel.namelist())
    assert {name for name in names if name.endswith(".py")} == modules()
    assert f"{PACKAGE}/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    tops = {name.partition("/")[0] for name in names}
    (info,) = tops - {PACKAGE}
    assert info.endswith(".dist-info")


def test_the_core_needs_three_distributions(wheel):
    (name,) = [name for name in wheel.namelist() if name.endswith("METADATA")]
    lines = wheel.read(name).decode().splitlines()
    required = [line for line in lines if line.startswith("Requires-Dist: ")]
    core = {
        line.split()[1].split(">")[0] for line in required if "extra ==" not in line
    }
    assert core == {"torch", "torch-geometric", "llvmlite"}


def test_the_sdist_holds_all_that_is_needed_to_check_it(sdist):
    assert modules() <= sdist
    for name in (
        "LICENSE",
        "README.md",
        "CHANGELOG.md",
        "CITATION.cff",
        "Makefile",
        "constraints.txt",
        "mkdocs.yml",
        "pyproject.toml",
        "docs/index.md",
        "docs/assets/surface.png",
        "examples/drivaerml.py",
        "examples/predict.py",
        "tests/conftest.py",
        "tests/test_distribution.py",
        f"{PACKAGE}/py.typed",
    ):
        assert name in sdist
    data = {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "tests/data").iterdir()
    }
    assert data and data <= sdist
    assert not any(name.startswith(("runs/", "data/", ".venv")) for name in sdist)
