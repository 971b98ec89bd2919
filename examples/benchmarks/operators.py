"""The operators to compare, each with its definition by dense matrices."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch_geometric.nn.attention import PerformerAttention

from torch_geometric_flare.functional import (
    PointBatch,
    flare_attention,
    reference_flare_attention,
)
from torch_geometric_flare.nn.attention import PhysicsAttention


@dataclass(frozen=True)
class Shape:
    """One point cloud, split into heads.

    Args:
        num_points: Points N.
        num_latents: Latents, or slices, M of each head.
        heads: Heads H.
        width: Width D of a head.
    """

    num_points: int
    num_latents: int = 64
    heads: int = 8
    width: int = 8

    def __str__(self) -> str:
        return (
            f"N={self.num_points:,} H={self.heads} M={self.num_latents} D={self.width}"
        )


class Case(NamedTuple):
    """An operator with what it is applied to.

    Args:
        function: The operator.
        definition: The same by its definition, with a matrix of N by N.
        inputs: Its arguments, of which all are differentiated.
        parameters: What else is differentiated.
    """

    function: Callable[..., Tensor]
    definition: Callable[..., Tensor]
    inputs: list[Tensor]
    parameters: list[Tensor] = []


def draw(shape: Shape, dtype: torch.dtype, count: int) -> list[Tensor]:
    """Latents [H, M, D] that give scores of unit spread, and tensors [1, H, N, D]."""
    h, d = shape.heads, shape.width
    sizes = [(h, shape.num_latents, d), *[(1, h, shape.num_points, d)] * count]
    generator = torch.Generator(torch.get_default_device()).manual_seed(0)
    tensors = [torch.randn(size, generator=generator, dtype=dtype) for size in sizes]
    tensors[0] /= d**0.5
    return [tensor.requires_grad_() for tensor in tensors]


def two_calls(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """FLARE as it is usually written."""
    q = q.expand(k.size(0), -1, -1, -1)
    z = scaled_dot_product_attention(q, k, v, scale=1.0)
    return scaled_dot_product_attention(k, q, z, scale=1.0)


def softmax_definition(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of all points to all points."""
    return (q @ k.mT / q.size(-1) ** 0.5).softmax(dim=-1) @ v


def flare(shape: Shape, dtype: torch.dtype) -> Case:
    """FLARE as this package computes it."""
    return Case(flare_attention, reference_flare_attention, draw(shape, dtype, 2))


def flare_as_two_calls(shape: Shape, dtype: torch.dtype) -> Case:
    """FLARE as two calls of PyTorch's fused attention."""
    return Case(two_calls, reference_flare_attention, draw(shape, dtype, 2))


def softmax(shape: Shape, dtype: torch.dtype) -> Case:
    """Softmax attention, of quadratic cost."""
    inputs = draw(shape, dtype, 3)[1:]
    return Case(scaled_dot_product_attention, softmax_definition, inputs)


def physics(shape: Shape, dtype: torch.dtype) -> Case:
    """Transolver's physics attention between its linear maps."""
    h, d = shape.heads, shape.width
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = PhysicsAttention(h * d, h, shape.num_latents, d).to(dtype)
    layout = PointBatch.from_sizes(
        [shape.num_points], torch.get_default_device(), dtype
    )

    def function(p: Tensor, f: Tensor) -> Tensor:
        y = module.attend(p[0].transpose(0, 1), f[0].transpose(0, 1), layout)
        return y.transpose(0, 1)[None]

    def definition(p: Tensor, f: Tensor) -> Tensor:
        logits = p @ module.slice.weight.T + module.slice.bias  # [1, H, N, M]
        w = (logits / module.temperature.view(-1, 1, 1)).softmax(dim=-1)
        pool = w / (w.sum(dim=2, keepdim=True) + 1e-5)
        token = pool.mT @ f
        q, k, v = (m(token) for m in (module.query, module.key, module.value))
        return w @ softmax_definition(q, k, v)

    maps = (module.slice, module.query, module.key, module.value)
    used = [module.temperature, *(p for one in maps for p in one.parameters())]
    return Case(function, definition, draw(shape, dtype, 2)[1:], used)


def performer(shape: Shape, dtype: torch.dtype) -> Case:
    """The linear attention of Performer between its linear maps."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = PerformerAttention(
            shape.heads * shape.width, shape.heads, shape.width
        ).fast_attn.to(dtype)

    def definition(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k = ((x @ module.projection_matrix.T).relu() + 1e-3 for x in (q, k))
        weights = q @ k.mT
        return weights / weights.sum(dim=-1, keepdim=True) @ v

    return Case(module, definition, draw(shape, dtype, 3)[1:])


FLARE, TWO_CALLS = "FLARE", "FLARE, two attention calls"
OPERATORS: dict[str, Callable[[Shape, torch.dtype], Case]] = {
    FLARE: flare,
    TWO_CALLS: flare_as_two_calls,
    "softmax attention": softmax,
    "physics attention (Transolver)": physics,
    "Performer (PyG)": performer,
}
