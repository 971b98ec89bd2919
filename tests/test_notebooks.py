"""The notebooks of the documentation run, at a tiny size, and have their pages."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "notebooks"
TINY = {
    "car": {"num_train": 3, "num_test": 2, "num_points": 50, "epochs": 1},
    "darcy": {"num_train": 3, "num_test": 2, "resolution": 8, "epochs": 1},
    "own_meshes": {"num_meshes": 3, "resolution": 6, "epochs": 1},
}
WRITTEN = {"car": "car.png", "darcy": "darcy.png", "own_meshes": "predicted.vtp"}


def read(name):
    return json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))


def is_parameters(cell):
    return "parameters" in cell["metadata"].get("tags", ())


def run(notebook, parameters):
    """Run all cells in one namespace, with other values of the tagged parameters."""
    namespace = {"__name__": "__main__"}
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            code = compile("".join(cell["source"]), f"cell {number}", "exec")
            exec(code, namespace)
            if is_parameters(cell):
                assert set(parameters) <= set(namespace)
                namespace.update(parameters)
    return namespace


def test_all_notebooks_are_tried():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(TINY)


@pytest.mark.parametrize("name", TINY)
def test_notebook_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = run(read(name), TINY[name])
    (folder,) = (tmp_path / "runs").iterdir()
    assert (folder / "last.ckpt").exists()
    assert (folder / WRITTEN[name]).stat().st_size > 1000
    errors = namespace["errors"]
    values = errors.values() if isinstance(errors, dict) else errors.tolist()
    assert all(0 < value < 10 for value in values)


@pytest.mark.parametrize("name", TINY)
def test_notebook_is_a_small_file_of_version_4_with_one_set_of_parameters(name):
    notebook = read(name)
    assert notebook["nbformat"] == 4
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(ids) == len(set(ids))
    assert sum(map(is_parameters, notebook["cells"])) == 1
    assert (FOLDER / f"{name}.ipynb").stat().st_size < 400_000


@pytest.mark.parametrize("name", TINY)
def test_notebook_shows_what_came_out(name):
    outputs = [cell["outputs"] for cell in read(name)["cells"] if "outputs" in cell]
    kinds = {kind for cell in outputs for out in cell for kind in out.get("data", ())}
    assert any(out["output_type"] == "stream" for cell in outputs for out in cell)
    assert "text/plain" in kinds


def test_page_of_a_notebook(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    monkeypatch.delitem(sys.modules, "notebooks", raising=False)
    from notebooks import markdown

    code = {"cell_type": "code", "source": ["a = 1\n", "print(a)"]}
    output = {"output_type": "stream", "text": ["1\n"]}
    picture = {"output_type": "execute_result", "data": {"image/png": "iVBO\nRw0K"}}
    notebook = {
        "cells": [
            {"cell_type": "markdown", "source": ["# Title\n", "\n", "Words."]},
            {**code, "outputs": [output, picture]},
        ]
    }
    assert markdown(notebook, "a.ipynb") == (
        "# Title\n\nWords.\n\n[This page as a notebook](a.ipynb)\n\n"
        "```python\na = 1\nprint(a)\n```\n\n```text\n1\n```\n\n"
        "![](data:image/png;base64,iVBORw0K)\n"
    )
