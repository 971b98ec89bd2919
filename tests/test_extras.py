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
        'pip install "torch-geometric-flare[train]"'
    )
    assert caught.value.name == "a_package"


def test_other_errors_are_left_alone():
    with pytest.raises(ImportError, match="cannot import name"), needs_extra("a", "b"):
        from json import nothing_of_that_name  # noqa: F401


def last_line(hidden, statement):
    """What a user reads where packages are not installed."""
    code = f"import sys; sys.modules.update(dict.fromkeys({hidden!r})); {statement}"
    flags = ["-W", "ignore", "-c", code]
    result = subprocess.run([sys.executable, *flags], capture_output=True, text=True)
    assert result.returncode == 1
    return result.stderr.splitlines()[-1].partition(": ")[2]


@pytest.mark.parametrize(
    ("package", "extra", "hidden"),
    [
        ("training", "train", "lightning"),
        ("visualization", "viz", "matplotlib"),
        ("visualization", "viz", "pyvista"),
        ("mesh_io", "viz", "pyvista"),
        ("simulation", "simulation", "scipy"),
        ("simulation", "simulation", "skfem"),
        ("experiments", "train,data,simulation,viz", "lightning"),
        ("experiments", "train,data,simulation,viz", "skfem"),
    ],
)
def test_packages_whose_extra_is_missing(package, extra, hidden):
    what = f"torch_geometric_flare.{package}"
    assert last_line((hidden,), f"import {what}") == (
        f"{what} needs {hidden}, which is not installed: "
        f'pip install "torch-geometric-flare[{extra}]"'
    )


def test_data_sets_are_imported_without_their_extra():
    hidden = ("h5py", "huggingface_hub", "scipy.io", "tqdm")
    code = "from torch_geometric_flare.datasets import DrivAerML; raise OSError('a: b')"
    assert last_line(hidden, code) == "a: b"
