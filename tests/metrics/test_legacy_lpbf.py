import pytest
import torch

from torch_geometric_flare.metrics import legacy_lpbf_error


def test_against_the_random_normaliser():
    generator = torch.Generator().manual_seed(0)
    numbers = torch.rand(3, 1, generator=generator)
    mean, std = numbers.mean(), numbers.std() + 1e-8
    pred, target = torch.randn(2, 7, 1)
    decoded = pred * std + mean, target * std + mean
    expected = (decoded[0] - decoded[1]).norm() / decoded[1].norm()
    torch.testing.assert_close(legacy_lpbf_error(pred, target)[0], expected)


def test_one_number_per_graph_and_no_relative_error():
    target = torch.tensor([[0.0], [0.0], [1.0]])
    batch = torch.tensor([0, 0, 1])
    found = legacy_lpbf_error(target + 1.0, target, batch)
    scale, shift = 0.34213, 0.45099
    expected = torch.tensor([scale / shift, scale / (scale + shift)])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)
    with pytest.raises(ValueError, match="pred has shape .* and target"):
        legacy_lpbf_error(target, target[:2])


def test_one_channel_alone():
    with pytest.raises(ValueError, match=r"shape \(5, 3\).*z-displacement"):
        legacy_lpbf_error(torch.rand(5, 3), torch.rand(5, 3))
