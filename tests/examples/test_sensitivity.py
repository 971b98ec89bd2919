import importlib.util
import json
from pathlib import Path

import pytest

from torch_geometric_flare.fields import Field
from torch_geometric_flare.nn import FLARE
from torch_geometric_flare.simulation import Notchback
from torch_geometric_flare.surrogates import Surrogate, save_surrogate
from torch_geometric_flare.transforms import Normalizer

SCRIPT = Path(__file__).parents[2] / "examples" / "sensitivity.py"


@pytest.fixture
def checkpoint(tmp_path):
    surrogate = Surrogate(
        FLARE(3, 8, 1, num_layers=1, heads=2, num_latents=4),
        Normalizer([-230.0], [270.0]),
        Normalizer.from_bounds(*Notchback.coordinate_bounds),
        fields=[Field("pressure", unit="m²/s²")],
        location="cell",
        weighted=True,
    )
    save_surrogate(surrogate, tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"


def test_cars_are_moved_and_simulated(checkpoint, capsys):
    spec = importlib.util.spec_from_file_location("sensitivity", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    options = ["--cars=2", "--panels", "16", "6", "--step=0.005"]
    rows = module.main([str(checkpoint), *options])
    assert "of 2 cars" in capsys.readouterr().out
    assert json.loads(checkpoint.with_name("sensitivity.json").read_text()) == rows
    for name in ("sensitivity.png", "sensitivity.vtp"):
        assert checkpoint.with_name(name).exists()
    for row in rows:
        assert row["expected_change"] < 0
        # A small step: forwards and backwards are opposite, and nearly a line.
        forwards, backwards = row["change"], row["change_backwards"]
        assert forwards * backwards < 0
        assert abs(forwards + backwards) < 0.5 * abs(forwards - backwards)
