import argparse
import os

import pytest
import torch

from torch_geometric_flare.training import add_threads_option


@pytest.fixture
def parser(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "before")
    before = torch.get_num_threads()
    parser = argparse.ArgumentParser()
    add_threads_option(parser)
    yield parser
    torch.set_num_threads(before)


def test_it_sets_the_threads_of_this_process_and_of_those_it_starts(parser):
    other = 2 if torch.get_num_threads() == 1 else 1
    assert vars(parser.parse_args([f"--threads={other}"])) == {}
    assert torch.get_num_threads() == other
    assert os.environ["OMP_NUM_THREADS"] == str(other)


def test_without_it_nothing_changes(parser):
    before = torch.get_num_threads()
    assert vars(parser.parse_args([])) == {}
    assert torch.get_num_threads() == before
    assert os.environ["OMP_NUM_THREADS"] == "before"


@pytest.mark.parametrize("number", ["0", "-2", "many"])
def test_numbers_that_make_no_sense(parser, number, capsys):
    with pytest.raises(SystemExit):
        parser.parse_args([f"--threads={number}"])
    assert "--threads" in capsys.readouterr().err
