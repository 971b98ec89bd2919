import itertools
from types import SimpleNamespace

import pytest
import torch

from torch_geometric_flare.experiments.timing import (
    TimeEstimate,
    describe_duration,
)
from torch_geometric_flare.training import show_log


def lines(capsys, monkeypatch, durations, total):
    """Steps of these durations, of a training of so many."""
    ends = itertools.accumulate(durations)
    monkeypatch.setattr("time.perf_counter", lambda: next(ends))
    trainer = SimpleNamespace(
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
        estimated_stepping_batches=total,
        progress_bar_callback=None,
        global_step=0,
    )
    estimate = TimeEstimate()
    with show_log():
        for number in range(len(durations)):
            trainer.global_step = number + 1
            estimate.on_train_batch_end(trainer, None, None, None, number)
    return capsys.readouterr().out.splitlines()


def test_the_first_steps_and_a_slow_one_do_not_count(capsys, monkeypatch):
    durations = [60.0, 30.0, 10.0, *[0.5] * 5, 40.0, *[0.5] * 20]
    expected = "about 8 minutes to train: 1,000 steps of 0.5 s"
    assert lines(capsys, monkeypatch, durations, 1000) == [expected]


def test_a_training_that_is_over_says_nothing(capsys, monkeypatch):
    assert lines(capsys, monkeypatch, [0.5] * 13, 13) == []
    assert lines(capsys, monkeypatch, [0.5] * 5, 5) == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (3.4, "3 seconds"),
        (75, "75 seconds"),
        (239, "4 minutes"),
        (5000, "83 minutes"),
        (9000, "2.5 hours"),
        (360_000, "100 hours"),
    ],
)
def test_durations(seconds, text):
    assert describe_duration(seconds) == text
