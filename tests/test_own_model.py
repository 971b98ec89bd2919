"""The page on a model of one's own: its model competes, and its laws can fail."""

import json
import sys
from pathlib import Path

import pytest

import torch_geometric_flare.experiments  # noqa: F401, before tests patch it
from tests.examples.loading import load_example

from .snippets import blocks, run_page

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/guides/own_model.md"
# What breaks a law: a part of the page, and what stands in its place.
BREAKS = {
    "a graph sees the others": ("self.value(x).uns", "self.value(x - x.mean(0)).uns"),
    "a chunk is normalised by itself": (
        "return ragged_sum_encode(self._weights(x), value, layout)",
        "s = ragged_sum_encode(self._weights(x), value, layout)\n"
        "        return type(s)(s.total / s.weight[..., None], s.weight)",
    ),
    "the order counts": (
        "return self.out(y.squeeze(1))",
        "return self.out(y.squeeze(1)).cumsum(0)",
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if number else name
        for number, name in enumerate(BREAKS)
    ],
)
def test_a_broken_law_is_found(name, tmp_path, monkeypatch):
    part, other = BREAKS[name]
    text = PAGE.read_text(encoding="utf-8")
    assert text.count(part) == 1
    with pytest.raises(AssertionError, match="not close"):
        run_page(text.replace(part, other), str(PAGE), tmp_path, monkeypatch)


@pytest.mark.slow
def test_the_model_competes(tmp_path, monkeypatch):
    module = "".join(
        code
        for code, _, file in blocks(PAGE.read_text(encoding="utf-8"))
        if file == "own_model.py"
    )
    (tmp_path / "own_model.py").write_text(module, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_model", raising=False)
    example = load_example("compare")
    dataset = "--dataset=own_model:ELASTICITY_WITH_CLUSTERS"
    small = ["--num-train=2", "--num-test=1", "--epochs=1", "--seeds=1", "--device=cpu"]
    example.main([dataset, "--models=clusternet", *small])
    (run,) = (tmp_path / "runs").iterdir()
    assert "ClusterNet" in (run / "report.md").read_text(encoding="utf-8")
    record = json.loads((run / "ClusterNet-seed0" / "run.json").read_text())
    assert "error" not in record and record["model"] == "ClusterNet"
