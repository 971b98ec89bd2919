"""Conversion of reference checkpoints to modules of this package."""

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

# The function that rebuilds each architecture. Its keywords are the supported
# arguments.
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

    Sizes and depths are inferred from the tensors. The heads, the scale and the
    activation cannot be inferred and are arguments. A wrong value loads without an
    error and gives other results, so take them from the training configuration, and
    compare the result with an output of the original network.

    Args:
        architecture: One of

            - `"flare"`: `FLARE`, [arXiv 2508.12594](https://arxiv.org/abs/2508.12594),
              of any depth, where -1 is a single linear map;
            - `"flarepp"`: `FLAREPP`,
              [arXiv 2608.11519](https://arxiv.org/abs/2608.11519);
            - `"gnot"`: `GNOT`, [arXiv 2302.14376](https://arxiv.org/abs/2302.14376);
              with `grid`, the variant on a reference grid;
            - `"lno"`: `LNO`, [arXiv 2406.03923](https://arxiv.org/abs/2406.03923);
            - `"perceiver_io"`: `PerceiverIO`, [arXiv
              2107.14795](https://arxiv.org/abs/2107.14795), with FLARE's input and
              output MLPs;
            - `"transformer"`: `Transformer`, a baseline of the FLARE paper;
            - `"transolver"`: `Transolver`, [arXiv
              2402.02366](https://arxiv.org/abs/2402.02366), and `"transolver_conv2d"`,
              the variant with convolutions, which needs `grid`.
        state_dict: Parameters under the reference's names. Those of FLARE, FLARE++ and
            the transformer begin with `in_proj.`, `blocks.0.` and `out_proj.`, those of
            GNOT with `preprocess_x.`, `preprocess_z.` and `blocks.0.`, those of
            LNO with `trunk_projector.`, those of PerceiverIO with `in_proj.` and
            `encoder.`, and those of Transolver with `preprocess.`.
        heads: Number of attention heads.
        scale: Scaling factor of the attention scores; `None` for the default of the
            architecture, 1 for FLARE.
        qk_norm: Whether queries and keys are normalized.
        grid: Rows and columns of the points, for architectures that require a grid.
        act: Activation of FLARE in training, such as `"silu"`; `None` for `"gelu"`, the
            tanh approximation. The other architectures have a fixed activation.

    Returns:
        The module, in evaluation mode and with the dtype of the checkpoint.

    Raises:
        ValueError: If the architecture is unknown, does not support an argument or
            needs a missing one, a parameter is missing, unknown or has a wrong shape,
            or `heads` does not fit.
    """
    if architecture not in _ARCHITECTURES:
        names = ", ".join(repr(name) for name in _ARCHITECTURES)
        raise ValueError(f"architecture is {architecture!r}, expected {names}")
    build = _ARCHITECTURES[architecture]
    arguments: dict[str, Any] = {"heads": heads}
    if scale is not None:
        arguments["scale"] = scale
    if qk_norm:
        arguments["qk_norm"] = qk_norm
    if grid is not None:
        arguments["grid"] = grid
    if act is not None:
        arguments["act"] = act
    parameters = inspect.signature(build).parameters
    for name in arguments.keys() - parameters:
        raise ValueError(
            f"{name} is {arguments[name]!r}, but {architecture!r} does not support "
            "it: omit it"
        )
    needs_grid = (
        "grid" in parameters and parameters["grid"].default is inspect.Parameter.empty
    )
    if needs_grid and grid is None:
        raise ValueError(
            f"grid is None, but {architecture!r} requires a grid: pass its rows and "
            "columns"
        )
    # Building the module must not consume random numbers.
    with keep_random_state():
        return build(state_dict, **arguments)
