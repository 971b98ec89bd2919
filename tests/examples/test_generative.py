import json

import pytest
import torch
from torch_geometric.data import Data

SMALL = ["--side=8", "--num-train=8", "--num-test=2", "--epochs=1"]


@pytest.fixture
def example(load_here):
    return load_here("generative")


def test_writes_what_it_promises(example, tmp_path, capsys, monkeypatch):
    few = example.flows
    monkeypatch.setattr(
        example,
        "flows",
        lambda side, number, split: few(side, min(number, 9), split),
    )
    results = example.main([*SMALL, "--num-draws=3", "--num-steps=1"])
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.startswith("generative-")
    assert json.loads((run / "metrics.json").read_text()) == results
    assert json.loads(capsys.readouterr().out) == results
    assert (run / "draws.png").read_bytes().startswith(b"\x89PNG")
    assert results["data"] == "simulated"
    for kind in ("SurrogateModule", "GenerativeModule"):
        assert 0 <= results[kind]["coverage"] <= 1
        assert results[kind]["relative_width"] > 0
        assert (run / kind / "last.ckpt").exists()
    assert results["one_draw"] > 0 and results["training_mean"] > 0


def test_errors_and_coverage_of_a_band(example):
    y = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    truth = Data(y=y, batch=torch.tensor([0, 0, 1, 1]))
    result = example.measure(
        2 * y, y - 1, y + torch.tensor([[-0.5], [1], [1], [1]]), truth
    )
    assert result["relative_l2"] == pytest.approx(1.0)
    assert result["coverage"] == 0.75
    assert result["relative_width"] == pytest.approx((0.5 + 3 * 2) / 4 / y.std().item())


def test_a_spread_that_tells_the_error(example):
    error = torch.randn(40, 1)
    batch = torch.arange(40) // 8
    result = example.correlation(2 * error.abs(), error, batch)
    assert result == pytest.approx([1.0, 1.0])
    points, flows = example.correlation(torch.rand(40, 1), error, batch)
    assert points < 0.8
