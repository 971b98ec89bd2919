"""What a run measures of its surrogate's limits, and keeps in its checkpoint."""

import pytest
import torch

from torch_geometric_flare.experiments import RunConfig, Selection, run_benchmark
from torch_geometric_flare.surrogates import load_surrogate

from .test_run import CHANNEL

pytestmark = [
    pytest.mark.filterwarnings("ignore:channel 1 is 0 at all:UserWarning"),
    pytest.mark.usefixtures("without_pictures"),
]


def run(folder, root, *, epochs=2, resume=False, num_val=9, **options):
    config = RunConfig(
        problem=CHANNEL,
        selection=Selection(root=str(root), num_train=6, num_test=2, num_val=num_val),
        epochs=epochs,
        folder=str(folder),
        progress=False,
        device="cpu",
        **options,
    )
    return run_benchmark(config, resume=resume)


def test_a_run_keeps_a_guard_and_bands_and_can_be_resumed(tmp_path):
    run(tmp_path / "a", tmp_path)
    surrogate = load_surrogate(tmp_path / "a" / "last.ckpt")
    assert surrogate.guard.held_out and len(surrogate.guard.distances) == 9
    assert surrogate.calibration.num_samples == 9
    assert set(surrogate.calibration.quantities) == {"flux"}
    weights = {k: v.clone() for k, v in surrogate.state_dict().items()}
    run(tmp_path / "a", tmp_path, resume=True)
    again = load_surrogate(tmp_path / "a" / "last.ckpt")
    assert all(torch.equal(v, weights[k]) for k, v in again.state_dict().items())
    assert torch.equal(again.guard.summaries, surrogate.guard.summaries)


def test_validation_samples_that_chose_weights_are_not_held_out(tmp_path):
    run(tmp_path / "a", tmp_path, keep_best=True)
    surrogate = load_surrogate(tmp_path / "a" / "best.ckpt")
    assert not surrogate.guard.held_out
    assert surrogate.calibration is None


def test_without_validation_samples_the_guard_says_so(tmp_path):
    run(tmp_path / "a", tmp_path, num_val=0)
    surrogate = load_surrogate(tmp_path / "a" / "last.ckpt")
    assert "optimistic" in surrogate.guard.basis
    assert surrogate.calibration is None
