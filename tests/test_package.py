"""What an installed package promises before anything is called."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import torch_geometric_flare

OPTIONAL = (
    "h5py",
    "huggingface_hub",
    "lightning",
    "matplotlib",
    "pyvista",
    "scipy.sparse.linalg",
    "skfem",
)


def run(code, *flags):
    return subprocess.run(
        [sys.executable, *flags, "-c", code], capture_output=True, text=True
    )


def test_import_is_silent_under_warnings_as_errors():
    result = run("from torch_geometric_flare import FLAREConv", "-W", "error")
    assert result.returncode == 0, result.stderr
    assert result.stdout == result.stderr == ""


@pytest.mark.parametrize(
    ("variables", "first", "spins"),
    [
        ({}, "", "10000"),
        ({"GOMP_SPINCOUNT": "7"}, "", "7"),
        ({"OMP_WAIT_POLICY": "active"}, "", "None"),
        ({}, "import torch", "None"),  # too late
    ],
)
def test_waiting_threads_let_others_run(monkeypatch, variables, first, spins):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    code = "import os, torch_geometric_flare; print(os.environ.get('GOMP_SPINCOUNT'))"
    assert run(f"{first}\n{code}").stdout.strip() == spins


def test_core_needs_no_extra():
    hidden = f"import sys; sys.modules.update(dict.fromkeys({OPTIONAL!r}))\n"
    use = (
        "import torch\n"
        "from torch_geometric_flare import FLARE\n"
        "print(tuple(FLARE(3, 8, 1, num_layers=1)(torch.randn(5, 3)).shape))"
    )
    result = run(hidden + use)
    assert result.stdout.strip() == "(5, 1)", result.stderr


def test_public_names_exist():
    for name in torch_geometric_flare.__all__:
        assert hasattr(torch_geometric_flare, name)


def test_version_is_that_of_the_distribution():
    try:
        installed = metadata.version("torch-geometric-flare")
    except metadata.PackageNotFoundError:
        pytest.skip("the package is not installed")
    assert installed == torch_geometric_flare.__version__


def test_package_is_typed():
    assert (Path(torch_geometric_flare.__file__).parent / "py.typed").exists()
