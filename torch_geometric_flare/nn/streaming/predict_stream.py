"""Predict on more points than fit in memory, from file to file."""

from collections.abc import Callable
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import torch
from torch import Tensor, nn

from torch_geometric_flare._arguments import brief
from torch_geometric_flare.functional import PointBatch, State
from torch_geometric_flare.nn.backbone import Backbone
from torch_geometric_flare.nn.checks import check_conditions, check_points
from torch_geometric_flare.nn.streaming.arrays import (
    FileResidual,
    MemoryResidual,
    Residual,
    check_sink,
    check_source,
    evaluating,
    read_rows,
    row_chunks,
    write_rows,
)
from torch_geometric_flare.nn.streaming.chunks import cast_state, merge_into
from torch_geometric_flare.nn.streaming.recompute import gathered, sharded_parts
from torch_geometric_flare.nn.streaming.stage import Latents, run_stage

Features = Callable[[slice], Tensor]

# Attributes of a model that are used.
_PARTS = (
    "in_channels",
    "out_channels",
    "lift",
    "blocks",
    "norm",
    "head",
    "why_unsupported",
)


def predict_stream(
    model: Backbone,
    source: Any,
    sink: Any,
    chunk_size: int,
    *,
    weight: Any = None,
    u: Any = None,
    residual_dir: str | PathLike[str] | None = None,
    residual_dtype: torch.dtype | None = None,
) -> None:
    r"""Predict one graph of any size, reading and writing a chunk of points at a time.

    The result is that of `model` in evaluation mode on all points at once. Each block
    goes over the points once: it decodes the block before at a chunk, stores the
    features that result, and encodes them. The features between two blocks,
    $4NC$ bytes in float32, are all that is kept; `residual_dir` keeps them on the disk.
    Writing to `sink` begins after the last block, so `sink` may be `source` where
    widths match. Autocast holds as it does in `model`.

    Args:
        model: The network, a `Backbone` such as `FLARE`.
        source: Features of the points: a tensor, a NumPy array or memory map, a Zarr
            array, or anything else with a `shape` that is sliced by rows. It is
            converted to the precision of the model.
        sink: Where the fields go, an array of the same kinds. Flush and close it as
            its kind demands.
        chunk_size: Points of a chunk.
        weight: What each point stands for, an array of the kinds of `source`; `None`
            where all count alike.
        u: Conditions of the graph, where the model has `condition_channels`.
        residual_dir: Folder of a temporary file for the features between two blocks,
            removed at the end; `None` keeps them in memory.
        residual_dtype: Precision of the features between two blocks; `None` for that
            of the model. `torch.float16` and `torch.bfloat16` halve them, and round
            once a block: relative errors of about $10^{-3}$ and $10^{-2}$.

    Shapes:
        - `source`: $[N, C_\text{in}]$
        - `sink`: $[N, C_\text{out}]$
        - `weight`: $[N]$
        - `u`: $[1, G]$

    Raises:
        TypeError: If `model` is not such a network, or `source` or `sink` not an array.
        ValueError: If a shape or `chunk_size` is wrong, `lift`, `norm` or `head` are
            sharded over processes, `sink` is read-only or of integers, `residual_dtype`
            is not a floating-point type, or, in PyTorch Geometric's debug mode,
            `source` is not finite.
        FileNotFoundError: If `residual_dir` is not a folder.

    Examples:
        >>> model = FLARE(3, 32, 1, num_layers=2, heads=4, num_latents=16)
        >>> x, y = torch.rand(500, 3), torch.empty(500, 1)
        >>> predict_stream(model, x, y, chunk_size=128)
        >>> torch.allclose(y, model(x), atol=1e-6)
        True
    """
    _check_model(model)
    check_sink(sink, check_source(source, model.in_channels), model.out_channels)
    stream_states(
        model, source, sink, chunk_size, weight, u, residual_dir, residual_dtype
    )


def stream_states(
    model: Backbone,
    source: Any,
    sink: Any,
    chunk_size: int,
    weight: Any,
    u: Any,
    residual_dir: str | PathLike[str] | None,
    residual_dtype: torch.dtype | None,
) -> list[State]:
    """Return the state that each block makes of all points.

    Args:
        model: As for `predict_stream`, as all others.
        source: Features of the points.
        sink: Where the fields go; `None` to leave out what only they need.
        chunk_size: Points of a chunk.
        weight: What each point stands for.
        u: Conditions of the graph.
        residual_dir: Folder of a temporary file.
        residual_dtype: Precision of the features between two blocks.
    """
    chunks = row_chunks(source, chunk_size)
    if weight is not None and tuple(getattr(weight, "shape", ())) != source.shape[:1]:
        raise ValueError(
            f"weight is {brief(weight)}, expected an array of shape "
            f"({source.shape[0]},): a number for each point"
        )
    if residual_dtype is not None and not (
        isinstance(residual_dtype, torch.dtype) and residual_dtype.is_floating_point
    ):
        raise ValueError(
            f"residual_dtype is {residual_dtype!r}, expected a floating-point type "
            "such as torch.float16"
        )
    if residual_dir is not None and not Path(residual_dir).is_dir():
        raise FileNotFoundError(f"residual_dir={str(residual_dir)!r} is not a folder")
    like = next(model.parameters())
    with ExitStack() as stack:
        # Sharded weights are gathered in place, which inference tensors do not allow.
        stack.enter_context(
            torch.no_grad() if sharded_parts(model) else torch.inference_mode()
        )
        stack.enter_context(evaluating(model))
        # Its precision differs from that of the parameters under autocast.
        probe = model.lift(like.new_empty(0, model.in_channels))
        width, dtype = probe.size(1), probe.dtype
        stored = residual_dtype or dtype
        residual: Residual
        if residual_dir is None:
            residual = MemoryResidual(source.shape[0], width, stored)
        else:
            file = stack.enter_context(TemporaryFile(dir=residual_dir))
            residual = FileResidual(file, width, stored)

        def lifted(rows: slice) -> Tensor:
            x = read_rows(source, rows, like)
            check_points(x, model.in_channels, "source")
            y: Tensor = model.lift(x)
            return y

        conditions = None if u is None else read_rows(u, slice(None), like)
        check_conditions(model, conditions)

        def layout(x: Tensor, rows: slice | None = None) -> PointBatch:
            # Rows are given to encode: decoding does not depend on weights.
            share = None
            if weight is not None and rows is not None:
                share = read_rows(weight, rows, like)
            return PointBatch.from_batch(x, weight=share, u=conditions)

        features: Features = lifted
        states = []
        for block in model.blocks:
            features, state = _run_block(
                block, features, residual, chunks, like, dtype, layout
            )
            states.append(state)
        for rows in chunks if sink is not None else ():
            write_rows(sink, rows, model.head(model.norm(features(rows))))
    return states


def _run_block(
    block: Any,
    features: Features,
    residual: Residual,
    chunks: list[slice],
    like: Tensor,
    dtype: torch.dtype,
    layout: Callable[..., PointBatch],
) -> tuple[Features, State]:
    """Store the features that enter a block; return those that leave it.

    Returns:
        They, and the last state that the block made.
    """
    whole: State

    def stored(rows: slice) -> Tensor:
        return residual.read(rows).to(like.device, dtype)

    def encode(latents: Latents) -> State:
        nonlocal whole
        total: State | None = None
        for rows in chunks:
            if latents:
                x = stored(rows)
            else:  # the first time
                x = features(rows)
                residual.write(rows, x)
            part = block.encode_rows(x, layout(x, rows), latents)
            total = merge_into(total, [part], slice(1), 1)
        whole = cast_state(total, part)
        return whole

    def decode(latents: Latents) -> Features:
        def leaving(rows: slice) -> Tensor:
            x = stored(rows)
            with gathered(block):
                y: Tensor = block.decode_rows(latents, x, layout(x))
            return y

        return leaving

    with gathered(block):
        return run_stage(block.num_encodes, encode, block.process, decode), whole


def _check_model(model: Backbone) -> None:
    # Check attributes instead of the class: compiled models have them too.
    missing = [name for name in _PARTS if not hasattr(model, name)]
    if missing:
        raise TypeError(
            f"model is a {type(model).__name__} without {', '.join(missing)}: pass a "
            "Backbone such as FLARE, which of a Surrogate is its attribute `model`"
        )
    pointwise = nn.ModuleList([model.lift, model.norm, model.head])
    if any(hasattr(parameter, "placements") for parameter in pointwise.parameters()):
        raise ValueError(
            "lift, norm and head of the model are sharded over processes "
            "(fully_shard), and are not used by its own call: call model.unshard() "
            "first; the blocks may stay sharded"
        )
    reason = model.why_unsupported("predict_stream")
    if reason is not None:
        raise ValueError(
            f"model is a {type(model).__name__}, which predict_stream does not "
            f"support, since {reason}: call the model on all points"
        )
