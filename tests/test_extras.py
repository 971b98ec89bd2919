"""What is not installed is named, with what installs it."""

import subprocess
import sys

import pytest

from torch_geometric_flare._extras import MissingExtra, needs_extra


def test_the_sentence():
    with (
        pytest.raises(MissingExtra) as caught,
        needs_extra("train", "fit"),
    ):
        import a_package.that_does_not_exist  # noqa: F401
    assert str(caught.value) == (
        "fit needs a_package, which is not installed: "
        'pip install ".[train]" in a clone of torch_geometric_flare'
    )
    assert caught.value.name == "a_package"


def test_other_errors_are_left_alone():
    with pytest.raises(ImportError, match="cannot import name"), needs_extra("a", "b"):
        from json import nothing_of_that_name  # noqa: F401


def run_without(packages, code):
    """Run code in a process where packages are not installed; return what it prints."""
    hide = f"import sys; sys.modules.update(dict.fromkeys({packages!r}))\n"
    flags = ["-W", "ignore", "-c", hide + code]
    result = subprocess.run([sys.executable, *flags], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_packages_whose_extra_is_missing():
    expected = {
        "training": ("lightning", "train"),
        "visualization": ("matplotlib", "viz"),
        "mesh_io": ("pyvista", "viz"),
        "simulation": ("scipy", "simulation"),
        "experiments": ("lightning", "train,data,simulation,viz"),
    }
    code = (
        "from importlib import import_module\n"
        f"for name in {list(expected)!r}:\n"
        "    try: import_module(f'torch_geometric_flare.{name}')\n"
        "    except ImportError as error: print(error)\n"
        "import torch_geometric_flare.datasets\n"  # which names them when it is used
    )
    hidden = ("lightning", "matplotlib", "pyvista", "scipy", "skfem", "h5py")
    assert run_without(hidden, code) == [
        f"torch_geometric_flare.{name} needs {package}, which is not installed: "
        f'pip install ".[{extra}]" in a clone of torch_geometric_flare'
        for name, (package, extra) in expected.items()
    ]


def test_the_second_package_of_an_extra():
    code = (
        "try: import torch_geometric_flare.simulation\n"
        "except ImportError as error: print(error)\n"
    )
    (line,) = run_without(("skfem",), code)
    assert line.startswith("torch_geometric_flare.simulation needs skfem, which")
