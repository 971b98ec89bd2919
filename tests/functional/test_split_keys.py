from types import SimpleNamespace

import pytest
import torch

from torch_geometric_flare.functional import reference_flare_attention
from torch_geometric_flare.functional.attention import split_keys
from torch_geometric_flare.functional.attention.backend import AttentionCall
from torch_geometric_flare.functional.attention.reference import softmax_attention
from torch_geometric_flare.functional.attention.split_keys import (
    SPLIT_KEYS,
    key_splits,
    split_attention,
)
from torch_geometric_flare.functional.torch_internals import has_cpu_flash
from torch_geometric_flare.testing import assert_same_function

cpu = pytest.mark.skipif(not has_cpu_flash(), reason="this torch gives no log-sum-exp")


@cpu
@pytest.mark.parametrize("splits", [1, 2, 3, 7, 20])
@pytest.mark.parametrize("batch", [1, 2])
def test_equals_the_reference(splits, batch):
    inputs = [torch.randn(batch, 3, n, 4, dtype=torch.float64) for n in (5, 20, 20)]
    inputs[1] *= 3.0  # shares far from equal
    assert_same_function(
        lambda q, k, v: split_attention(q, k, v, 0.7, splits),
        lambda q, k, v: softmax_attention(q, k, v, None, 0.7),
        inputs,
        second_order=True,
    )


@cpu
def test_scores_of_any_size_and_single_precision():
    q, k, v = torch.randn(1, 2, 16, 8), *torch.randn(2, 1, 2, 999, 8)
    k = 50 * k
    inputs = [t.requires_grad_() for t in (q, k, v)]
    found = split_attention(*inputs, 1.0, 6)
    doubles = [t.detach().double().requires_grad_() for t in inputs]
    wanted = softmax_attention(*doubles, None, 1.0)
    torch.testing.assert_close(found.double(), wanted, atol=1e-3, rtol=1e-3)
    grads = torch.autograd.grad(found.square().sum(), inputs)
    expected = torch.autograd.grad(wanted.square().sum(), doubles)
    for one, other in zip(grads, expected, strict=True):
        assert (one - other).norm() < 1e-3 * other.norm()


def test_many_blocks_or_few_keys_are_not_split():
    gpu = 132
    assert key_splits(1_000_000, 64, 8, 1, gpu) == 33  # 8 blocks of threads for 264
    assert key_splits(1_000_000, 256, 8, 1, gpu) == 8
    assert key_splits(1_000_000, 64, 8, 16, gpu) == 2
    assert key_splits(1_000_000, 64, 8, 40, gpu) == 1
    assert key_splits(3_000, 64, 8, 1, gpu) == 2  # parts of 1,024 keys at least
    assert key_splits(900, 64, 8, 1, gpu) == 1
    assert key_splits(1000, 0, 8, 1, gpu) == 1


@cpu
def test_the_backend_splits_what_leaves_the_gpu_idle(monkeypatch):
    """As on a GPU that computes four blocks of threads at a time."""
    asked = []

    def splits(num_keys, *sizes):
        asked.append(num_keys)
        return 4

    gpu = SimpleNamespace(multi_processor_count=2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: gpu)
    monkeypatch.setattr(split_keys, "key_splits", splits)
    q, (k, v) = torch.randn(1, 2, 5, 4), torch.randn(2, 1, 2, 41, 4)
    wanted = reference_flare_attention(q, k, v, scale=0.7)
    call = AttentionCall.of("attention", q, k, v, 0.7)
    torch.testing.assert_close(SPLIT_KEYS.attention(call, q, k, v), wanted)
    assert asked == [41]


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("latents", [64, 50])
def test_on_cuda(dtype, latents):
    q = torch.randn(1, 8, latents, 16, device="cuda", dtype=dtype)
    k, v = torch.randn(2, 1, 8, 100_003, 16, device="cuda", dtype=dtype)
    inputs = [t.requires_grad_() for t in (q, k, v)]
    found = split_attention(*inputs, 0.5, 16)
    doubles = [t.detach().double().requires_grad_() for t in inputs]
    wanted = softmax_attention(*doubles, None, 0.5)
    tolerance = 0.02 if dtype == torch.bfloat16 else 1e-3
    assert (found - wanted).norm() < tolerance * wanted.norm()
    grads = torch.autograd.grad(found.square().sum(), inputs)
    expected = torch.autograd.grad(wanted.square().sum(), doubles)
    for one, other in zip(grads, expected, strict=True):
        assert (one - other).norm() < 2 * tolerance * other.norm()
