"""Add latents to a trained network without changing its output."""

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

from torch_geometric_flare.nn.checks import check_positive
from torch_geometric_flare.nn.conv import FLAREConv, FLAREPPConv
from torch_geometric_flare.nn.readout import LatentReadout

M = TypeVar("M", bound=nn.Module)


def grow_latents(
    model: M,
    factor: int,
    *,
    noise: float = 0.0,
    generator: torch.Generator | None = None,
) -> M:
    r"""Return a copy of a network with each latent repeated `factor` times.

    Each copy of a latent gathers the same value, and the copies share the scatter
    weight of the original latent, so the output is the same up to rounding. Equal
    copies also receive equal gradients, so training can separate them only with
    `noise`.

    Args:
        model: A network with `FLAREConv` or `FLAREPPConv` and without other latents.
        factor: Number of copies of each latent.
        noise: Standard deviation of the noise that is added to copies, relative to that
            of the layer's latents. One copy of each pair gets the noise, the other its
            negative; an unpaired copy gets none.
        generator: Random number generator on the CPU; PyTorch's global one by default.

    Returns:
        The grown network on the same device, with `factor` times as many latents.

    Raises:
        ValueError: If `factor` is not positive, `noise` is negative, or the network has
            no latents or latents that cannot be repeated.

    Examples:
        >>> conv = FLAREConv(16, heads=4, num_latents=8)
        >>> grow_latents(conv, 4)
        FLAREConv(16, 16, heads=4, num_latents=32)
    """
    grown = copy.deepcopy(model)
    grow_in_place(grown, factor, noise, generator)
    return grown


@torch.no_grad()
def grow_in_place(
    model: nn.Module,
    factor: int,
    noise: float = 0.0,
    generator: torch.Generator | None = None,
) -> list[nn.Parameter]:
    """Repeat the latents of a network in place; parameters remain the same objects.

    Args:
        model: The network. All arguments are as in `grow_latents`.
        factor: Number of copies of each latent.
        noise: Relative standard deviation of the noise.
        generator: Where the noise is drawn from.

    Returns:
        The parameters that have grown along their second dimension, with gradients set
        to `None`.

    Raises:
        ValueError: See `grow_latents`.
    """
    grown = latents_of(model)
    check_positive(factor=factor)
    if not noise >= 0:
        raise ValueError(f"noise is {noise}, expected a nonnegative number")
    for latents in grown:
        # The standard deviation before the latents are repeated.
        size = noise * float(latents.std(correction=0))
        latents.grad = None
        latents.data = latents.repeat_interleave(factor, dim=1)
        if noise > 0:
            latents.add_(_paired_noise(latents, factor, generator), alpha=size)
    for module in model.modules():
        if "num_latents" in vars(module):
            vars(module)["num_latents"] *= factor
    return grown


def latents_of(model: nn.Module) -> list[nn.Parameter]:
    """List the parameters with an entry per latent, $[H, M, ...]$.

    Raises:
        ValueError: If there are none, or other modules have latents as well.
    """
    latents: list[nn.Parameter] = []
    for module in model.modules():
        if isinstance(module, FLAREConv):
            latents.append(module.latents)
            if module.modulation is not None:
                latents.append(module.modulation)
        elif isinstance(module, FLAREPPConv):
            latents += [module.seeds, module.latents]
        elif isinstance(module, LatentReadout) or "latents" in module._parameters:
            raise ValueError(
                f"model has a {type(module).__name__}, whose latents cannot be "
                "repeated without changing the result: grow networks whose latents "
                "are all of FLAREConv or FLAREPPConv"
            )
    if not latents:
        raise ValueError(
            f"model is a {type(model).__name__} without FLAREConv or FLAREPPConv: "
            "there are no latents to grow"
        )
    return latents


def _paired_noise(
    latents: Tensor, factor: int, generator: torch.Generator | None
) -> Tensor:
    """Return noise $[H, M k, ...]$ whose sum over the copies of a latent is zero."""
    heads, total, *width = latents.shape
    shape = (heads, total // factor, factor // 2, *width)
    drawn = torch.randn(shape, generator=generator, device="cpu").to(latents)
    rest = drawn.new_zeros(heads, total // factor, factor % 2, *width)
    return torch.cat([drawn, -drawn, rest], dim=2).reshape(latents.shape)
