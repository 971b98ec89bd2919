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


def test_core_needs_no_extra_and_is_silent_under_warnings_as_errors():
    hidden = f"import sys; sys.modules.update(dict.fromkeys({OPTIONAL!r}))\n"
    use = (
        "import torch\n"
        "from torch_geometric_flare import FLARE\n"
        "print(tuple(FLARE(3, 8, 1, num_layers=1)(torch.randn(5, 3)).shape))"
    )
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", hidden + use],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert (result.stdout, result.stderr) == ("(5, 1)\n", "")


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
