"""Checkpoints of reference implementations as modules of this package."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from torch_geometric_flare._random import keep_random_state
from torch_geometric_flare.interop.flare import build_flare
from torch_geometric_flare.interop.flarepp import build_flarepp
from torch_geometric_flare.interop.gnot import build_gnot
from torch_geometric_flare.interop.lno import build_lno
from torch_geometric_flare.interop.perceiver_io import build_perceiver_io
from torch_geometric_flare.interop.transformer import build_transformer
from torch_geometric_flare.interop.transolver import (
    build_transolver,
    build_transolver_conv2d,
)
from torch_geometric_flare.nn.dense.residual_mlp import Activation

# What rebuilds each architecture. Its keywords are the arguments that it knows.
_ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "flare": build_flare,
    "flarepp": build_flarepp,
    "gnot": build_gnot,
    "lno": build_lno,
    "perceiver_io": build_perceiver_io,
    "transformer": build_transformer,
    "transolver": build_transolver,
    "transolver_conv2d": build_transolver_conv2d,
}


def from_reference(
    architecture: str,
    state_dict: Mapping[str, Tensor],
    *,
    heads: int,
    scale: float | None = None,
    qk_norm: bool = False,
    grid: tuple[int, int] | None = None,
    act: Activation | None = None,
) -> nn.Module:
    """Rebuild a reference checkpoint as a module of this package.

    Sizes and depths are read off the tensors. What those do not show is an argument:
    the heads, the scale and the activation. A wrong one loads without an error and
    gives other numbers, so take them from the configuration of the training, and hold
    the result to an output of the original network.

    Args:
        architecture: One of

            - `"flare"`: `FLARE`, [arXiv 2508.12594](https://arxiv.org/abs/2508.12594),
              of any depth, where -1 is a single linear map;
            - `"flarepp"`: `FLAREPP`,
              [arXiv 2608.11519](https://arxiv.org/abs/2608.11519);
            - `"gnot"`: `GNOT`, [arXiv 2302.14376](https://arxiv.org/abs/2302.14376);
              with `grid` its form on a reference grid;
            - `"lno"`: `LNO`, [arXiv 2406.03923](https://arxiv.org/abs/2406.03923);
            - `"perceiver_io"`: `PerceiverIO`,
              [arXiv 2107.14795](https://arxiv.org/abs/2107.14795), in FLARE's shell;
            - `"transformer"`: `Transformer`, which the FLARE paper compares with;
            - `"transolver"`: `Transolver`,
              [arXiv 2402.02366](https://arxiv.org/abs/2402.02366), and
              `"transolver_conv2d"`, the one with convolutions, which needs `grid`.
        state_dict: Parameters under the reference's names. Those of FLARE, FLARE++ and
            the transformer begin with `in_proj.`, `blocks.0.` and `out_proj.`, those of
            GNOT with `preprocess_x.`, `preprocess_z.` and `blocks.0.`, those of
            LNO with `trunk_projector.`, those of PerceiverIO with `in_proj.` and
            `encoder.`, and those of Transolver with `preprocess.`.
        heads: Attention heads.
        scale: Factor on the attention scores; `None` is that architecture's own,
            1 for FLARE.
        qk_norm: Whether queries and keys were normalised.
        grid: Rows and columns of the points, for architectures bound to one grid.
        act: Activation that FLARE was trained with, such as `"silu"`; `None` is
            `"gelu"`, the tanh approximation. The other architectures have one each.

    Returns:
        The module, in evaluation mode and in the precision of the checkpoint.

    Raises:
        ValueError: If the architecture is unknown, has no use for an argument or needs
            one that is not given, a parameter is missing, unknown or of a wrong shape,
            or `heads` does not fit.
    """
    if architecture not in _ARCHITECTURES:
        names = ", ".join(repr(name) for name in _ARCHITECTURES)
        raise ValueError(f"architecture is {architecture!r}, expected {names}")
    build = _ARCHITECTURES[architecture]
    given: dict[str, Any] = {"heads": heads}
    if scale is not None:
        given["scale"] = scale
    if qk_norm:
        given["qk_norm"] = qk_norm
    if grid is not None:
        given["grid"] = grid
    if act is not None:
        given["act"] = act
    known = inspect.signature(build).parameters
    for name in given.keys() - known:
        raise ValueError(
            f"{name} is {given[name]!r}, but {architecture!r} has no {name}: leave it "
            "out"
        )
    bound = "grid" in known and known["grid"].default is inspect.Parameter.empty
    if bound and grid is None:
        raise ValueError(
            f"grid is None, but {architecture!r} is bound to a grid: give its rows and "
            "columns"
        )
    # The weights come from the checkpoint; initial ones must not use up random numbers.
    with keep_random_state():
        return build(state_dict, **given)
