import pytest
import torch

SMALL = ["--num-train=2", "--num-test=2", "--steps=12", "--ahead=4", "--epochs=2"]


@pytest.fixture
def example(load_here):
    return load_here("causal")


def test_prints_what_it_promises(example, capsys):
    errors, difference = example.main(SMALL)
    assert set(errors) == {"the last reading", "CausalFLAREConv", "GRU"}
    assert all(e.shape == (4,) and e.isfinite().all() for (e,) in errors.values())
    assert difference < 1e-5
    out = capsys.readouterr().out
    assert "| steps ahead | 1 | 2 | 4 |" in out and "simulated" in out


def test_targets_are_the_changes_ahead(example):
    readings = torch.randn(2, 10, 9)
    x, y = example.inputs_and_targets(readings, 3)
    assert x.shape == (2, 7, 19) and y.shape == (2, 7, 3, 9)
    torch.testing.assert_close(y[:, 4, 2], readings[:, 7] - readings[:, 4])
    torch.testing.assert_close(x[:, 4, :9], readings[:, 4])


@pytest.mark.parametrize("name", ["CausalNetwork", "GRUNetwork"])
def test_no_network_looks_ahead(example, name):
    model, x = getattr(example, name)(36), torch.randn(2, 20, 19)
    changed = torch.cat([x[:, :12], torch.randn(2, 8, 19)], dim=1)
    torch.testing.assert_close(model(changed)[:, :12], model(x)[:, :12])
