import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.examples.loading import load_example
from torch_geometric_flare.fields import Field
from torch_geometric_flare.nn import FLARE
from torch_geometric_flare.simulation import Notchback
from torch_geometric_flare.surrogates import Surrogate, save_surrogate
from torch_geometric_flare.transforms import Normalizer


@pytest.fixture
def example(monkeypatch, tmp_path):
    module = load_example("chunk_exactness")
    monkeypatch.chdir(tmp_path)
    return module


@pytest.fixture
def checkpoint(tmp_path):
    surrogate = Surrogate(
        FLARE(3, 8, 1, num_layers=2, heads=2, num_latents=4),
        Normalizer([-230.0], [270.0]),
        Normalizer.from_bounds(*Notchback.coordinate_bounds),
        fields=[Field("pressure", unit="m²/s²")],
    )
    for parameter in surrogate.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    save_surrogate(surrogate, tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"


@pytest.mark.slow
def test_chunks_are_exact_and_blocks_are_not(example, checkpoint, tmp_path, capsys):
    results = example.main([f"--checkpoint={checkpoint}", "--points=2000", "--seeds=2"])
    (run,) = (tmp_path / "runs").iterdir()
    assert json.loads((run / "chunk_exactness.json").read_text()) == results
    assert (run / "chunk_exactness.png").exists()
    assert results["data"] == "simulated" and 0.1 < results["true_drag"] < 0.3
    sizes = [10, 20, 50, 100, 200, 500, 1000, 2000]
    for way in example.STYLES:
        rows = [row for row in results["rows"] if row["way"] == way]
        assert sorted({row["points_at_a_time"] for row in rows}) == sizes
        assert len(rows) == len(sizes) * (1 if way == "chunks" else 2)
        off = [row["relative_l2_to_whole"] for row in rows]
        drag = [abs(row["drag"] - results["drag"]) for row in rows]
        if way == "chunks":
            assert max(off) < 1e-5 and max(drag) < 1e-6
        else:
            assert max(off) > 1e-3 and max(drag) > 1e-5
        # All at a time is the whole, whatever the way.
        last = [row for row in rows if row["points_at_a_time"] == 2000]
        assert max(row["relative_l2_to_whole"] for row in last) < 1e-5
    assert "| 2,000 | chunks |" in capsys.readouterr().out


def test_blocks_of_neighbors_are_compact(example):
    pos = torch.rand(1000, 3)
    order = example.neighbors(pos, 0)
    assert sorted(order.tolist()) == list(range(1000))
    block = pos[order[:100]]
    assert (block - block.mean(0)).norm(dim=1).mean() < 0.6 * (pos - pos.mean(0)).norm(
        dim=1
    ).mean()


def test_trains_without_a_checkpoint(example, checkpoint, monkeypatch, tmp_path):
    trained = []

    def run(config):
        trained.append(config.problem)
        Path(config.folder).mkdir(parents=True)
        shutil.copy(checkpoint, Path(config.folder) / "last.ckpt")

    monkeypatch.setattr(example, "run_benchmark", run)
    example.main(["--points=200", "--seeds=1"])
    assert trained == ["drivaerml"]


@pytest.mark.parametrize("option", ["--points=199", "--seeds=0"])
def test_options_that_make_no_sense(example, option, capsys):
    with pytest.raises(SystemExit):
        example.main([option])
    assert option.partition("=")[0] in capsys.readouterr().err
