import json

import pytest
import torch

SMALL = ["--num-train=2", "--num-test=2", "--resolution=4", "--steps=3", "--unroll=2"]


@pytest.fixture
def example(load_here):
    return load_here("rollout")


def test_writes_what_it_promises(example, tmp_path, capsys):
    results = example.main([*SMALL, "--epochs=1"])
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.startswith("rollout-simulated-")
    assert json.loads((run / "metrics.json").read_text()) == results
    for name in ("error_over_steps.png", "last_step.png"):
        assert (run / name).read_bytes().startswith(b"\x89PNG")
    assert (run / "last.ckpt").exists()
    assert results["data"] == "simulated"
    assert len(results["surrogate"]) == len(results["nothing changes"]) == 3
    assert "after step 2: surrogate" in capsys.readouterr().out


def test_a_state_that_never_changes_is_measured_as_the_surrogate_is(example):
    """A surrogate whose changes are zero has the errors of the baseline."""

    def no_change(histories, recipe, noise):
        module = make_module(histories, recipe, noise)
        normalizer = module.surrogate.target_normalizer
        normalizer.shift.zero_()
        normalizer.scale.fill_(1e-30)
        return module

    make_module, example.make_module = example.make_module, no_change
    results = example.main([*SMALL, "--epochs=1", "--noise=0"])
    found, still = results["surrogate"], results["nothing changes"]
    torch.testing.assert_close(torch.tensor(found), torch.tensor(still))


def test_a_window_longer_than_the_history(example, capsys):
    with pytest.raises(SystemExit):
        example.main([*SMALL[:-1], "--unroll=4", "--epochs=1"])
    assert "choose a shorter window" in capsys.readouterr().err
