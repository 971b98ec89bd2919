import copy
import pickle

import pytest
import torch

from torch_geometric_flare.nn import LatentReadout
from torch_geometric_flare.testing import assert_chunk_invariant


def small(**options):
    arguments = {"heads": 2, "num_latents": 5}
    readout = LatentReadout(3, 8, 2, **{**arguments, **options}).double()
    with torch.no_grad():
        for parameter in readout.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.4)
    return readout


def test_formula():
    readout, x = small(), torch.randn(20, 3, dtype=torch.float64)
    conv = readout.conv
    k, v = (mlp(x).view(20, 2, 4) for mlp in (conv.key_mlp, conv.value_mlp))
    tokens = []
    for m in range(5):
        heads = [(k[:, h] @ conv.latents[h, m]).softmax(0) @ v[:, h] for h in range(2)]
        tokens.append(readout.norm(conv.out(torch.cat(heads))))
    expected = readout.mlp(torch.cat(tokens)).unsqueeze(0)
    torch.testing.assert_close(readout(x), expected)


def test_a_graph_does_not_depend_on_its_batch_mates():
    readout = small()
    sizes = (1, 2, 63, 500)
    x = torch.randn(sum(sizes), 3, dtype=torch.float64, requires_grad=True)
    batch = torch.arange(4).repeat_interleave(torch.tensor(sizes))
    together = readout(x, batch)
    alone = torch.cat([readout(part) for part in x.split(sizes)])
    assert together.shape == (4, 2)
    torch.testing.assert_close(together, alone, atol=1e-10, rtol=1e-10)
    assert (together[0] - together[3]).abs().max() > 1e-3
    wanted = [x, *readout.parameters()]
    grads = [torch.autograd.grad(y.square().sum(), wanted) for y in (together, alone)]
    for found, expected in zip(*grads, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-9)


def test_the_order_of_the_points_does_not_matter():
    readout, x = small(), torch.randn(63, 3, dtype=torch.float64)
    torch.testing.assert_close(readout(x[torch.randperm(63)]), readout(x))


@pytest.mark.parametrize("chunk_size", [1, 7, 100])
def test_chunks_change_nothing(chunk_size):
    assert_chunk_invariant(small(), 3, chunk_size, (1, 2, 0, 63, 80))


def test_parts_of_a_graph_merge():
    readout, x = small(), torch.randn(63, 3, dtype=torch.float64)
    a, b, c = (readout.encode(part) for part in x.split((10, 1, 52)))
    torch.testing.assert_close(readout.decode(c.merge(a).merge(b)), readout(x))


def test_twice_the_points_is_the_same_body():
    readout, x = small(), torch.randn(63, 3, dtype=torch.float64)
    torch.testing.assert_close(readout(torch.cat([x, x])), readout(x))


def test_empty_graphs():
    readout = small()
    batch = torch.tensor([1, 1])
    y = readout(torch.randn(2, 3).double(), batch, 3)
    assert y.shape == (3, 2) and y.isfinite().all()
    torch.testing.assert_close(y[0], y[2])
    assert readout(torch.empty(0, 3).double()).shape == (1, 2)


def test_lower_precision():
    readout, x = small(), torch.randn(63, 3, dtype=torch.float64)
    expected = readout(x)
    scale = expected.abs().max().item()
    single = copy.deepcopy(readout).float()
    found = single(x.float()).double()
    torch.testing.assert_close(found, expected, atol=1e-4 * scale, rtol=0)
    half = copy.deepcopy(readout).bfloat16()(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), expected, atol=0.1 * scale, rtol=0)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = single(x.float())
    torch.testing.assert_close(mixed.double(), expected, atol=0.1 * scale, rtol=0)


def test_every_parameter_takes_part_and_is_reset():
    readout, x = small(), torch.randn(9, 3, dtype=torch.float64)
    readout(x).square().sum().backward()
    for name, parameter in readout.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
        with torch.no_grad():
            parameter.fill_(7)
    readout.reset_parameters()
    for name, parameter in readout.named_parameters():
        assert not (parameter == 7).any(), name


def test_copies_and_repr():
    readout, x = small(chunk_size=4), torch.randn(9, 3, dtype=torch.float64)
    assert readout.chunk_size == 4
    for other in (copy.deepcopy(readout), pickle.loads(pickle.dumps(readout))):
        assert torch.equal(other(x), readout(x))
    assert str(readout) == "LatentReadout(3, 8, 2, heads=2, num_latents=5)"


def test_what_makes_no_sense():
    with pytest.raises(ValueError, match="hidden_channels is 0"):
        LatentReadout(3, 0, 1)
    with pytest.raises(ValueError, match="heads=3"):
        LatentReadout(3, 8, 1, heads=3)
    with pytest.raises(ValueError, match="chunk_size is 0"):
        LatentReadout(3, 8, 1, chunk_size=0)
    with pytest.raises(ValueError, match=r"x has shape \(5, 4\)"):
        small()(torch.randn(5, 4))
