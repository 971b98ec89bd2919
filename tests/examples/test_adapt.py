import json
import sys

import pytest

from tests.examples.loading import load_example
from torch_geometric_flare.surrogates import load_surrogate


@pytest.fixture
def adapt(monkeypatch, tmp_path):
    pytest.importorskip("peft", reason="needs the extra peft")
    monkeypatch.chdir(tmp_path)
    return load_example("adapt")


def test_without_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(SystemExit) as caught:
        load_example("adapt")
    assert caught.value.code == (
        'adapt.py needs peft: pip install ".[peft]" in a clone'
    )


def test_writes_what_it_promises(adapt, tmp_path, capsys):
    numbers = ["--num-train=2", "--num-shifted=2", "--num-test=1"]
    results = adapt.main([*numbers, "--epochs=1", "--adapt-steps=3"])
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.startswith("adapt-simulated-")
    assert json.loads((run / "metrics.json").read_text()) == results
    assert 0 < results["share_of_trained_weights"] < 0.05
    assert results["relative_l2_after"] != results["relative_l2_before"]
    # Merged: a plain surrogate that is built from its file alone.
    surrogate = load_surrogate(run / "adapted.pt")
    test = adapt.load_cars(adapt.WITH_WAKE, 1, "test")
    found = adapt.evaluate(surrogate, test).mean().item()
    assert found == pytest.approx(results["relative_l2_after"], rel=1e-5)
    assert "share_of_trained_weights" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--num-train=0", "--rank=0", "--seed=-1"])
def test_options_that_make_no_sense(adapt, option, capsys):
    with pytest.raises(SystemExit):
        adapt.main([option])
    assert option.partition("=")[0] in capsys.readouterr().err


@pytest.mark.slow
def test_adapters_beat_the_first_training_and_one_from_scratch(adapt):
    results = adapt.main(["--num-train=60", "--epochs=8", "--adapt-steps=200"])
    after = results["relative_l2_after"]
    assert after < 0.95 * results["relative_l2_before"]
    assert after < 0.95 * results["relative_l2_from_scratch"]
