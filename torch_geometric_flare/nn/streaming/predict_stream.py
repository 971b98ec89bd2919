"""Predict from file to file on more points than fit in memory."""

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

# Attributes of a model that this module uses.
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
    r"""Predict on one graph of any size, reading and writing one chunk at a time.

    The result equals that of `model` in evaluation mode on all points at once. Each
    block makes one pass over the points: for each chunk, it decodes the preceding
    block, stores the resulting features, and encodes them. Only the features between
    two blocks are stored, $4NC$ bytes in float32, on disk if `residual_dir` is given.
    Writing to `sink` begins after the last block, so `sink` may be `source` if widths
    match. Autocast works as in `model`.

    Args:
        model: The network, a `Backbone` such as `FLARE`.
        source: Features of the points: a tensor, a NumPy array or memory map, a Zarr
            array, or any other object with a `shape` that can be sliced by rows. It is
            converted to the dtype of the model.
        sink: Output array for the fields, of any of these types. Flush and close it if
            its type requires this.
        chunk_size: Number of points per chunk.
        weight: Weight of each point, an array of any type supported for `source`;
            `None` for equal weights.
        u: Conditions of the graph, if the model has `condition_channels`.
        residual_dir: Folder for a temporary file with the features between two blocks,
            removed at the end; `None` keeps the features in memory.
        residual_dtype: Dtype of the features between two blocks; `None` for that of the
            model. `torch.float16` and `torch.bfloat16` halve their size and round once
            per block, with relative errors of about $10^{-3}$ and $10^{-2}$.

    Shapes:
        - `source`: $[N, C_\text{in}]$
        - `sink`: $[N, C_\text{out}]$
        - `weight`: $[N]$
        - `u`: $[1, G]$

    Raises:
        TypeError: If `model` is not a `Backbone`, or `source` or `sink` is not an
            array.
        ValueError: If a shape or `chunk_size` is wrong, `lift`, `norm` or `head` are
            sharded over processes, `sink` is read-only or has an integer dtype,
            `residual_dtype` is not a floating-point type, or, in PyTorch Geometric's
            debug mode, `source` is not finite.
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
    """Run the network and return the state of all points in each block.

    Args:
        model: The network. Arguments are as in `predict_stream`.
        source: Features of the points.
        sink: Output array for the fields; `None` to skip computing them.
        chunk_size: Number of points per chunk.
        weight: Weight of each point.
        u: Conditions of the graph.
        residual_dir: Folder for a temporary file.
        residual_dtype: Dtype of the features between two blocks.
    """
    chunks = row_chunks(source, chunk_size)
    if weight is not None and tuple(getattr(weight, "shape", ())) != source.shape[:1]:
        raise ValueError(
            f"weight is {brief(weight)}, expected an array of shape "
            f"({source.shape[0]},): one number per point"
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
        # Sharded weights are gathered in place, which inference mode does not allow.
        stack.enter_context(
            torch.no_grad() if sharded_parts(model) else torch.inference_mode()
        )
        stack.enter_context(evaluating(model))
        # Under autocast, its dtype differs from that of the parameters.
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
            # `rows` is given only for encoding, because decoding does not use weights.
            weight_rows = None
            if weight is not None and rows is not None:
                weight_rows = read_rows(weight, rows, like)
            return PointBatch.from_batch(x, weight=weight_rows, u=conditions)

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
    """Store the input features of a block; return its output features.

    Returns:
        The output features, and the last state of the block.
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
            else:  # first encoding
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
    # Check attributes instead of the class, because compiled models have another class.
    missing = [name for name in _PARTS if not hasattr(model, name)]
    if missing:
        raise TypeError(
            f"model is a {type(model).__name__} without {', '.join(missing)}: pass a "
            "Backbone such as FLARE, for a Surrogate its attribute `model`"
        )
    pointwise = nn.ModuleList([model.lift, model.norm, model.head])
    if any(hasattr(parameter, "placements") for parameter in pointwise.parameters()):
        raise ValueError(
            "lift, norm and head of the model are sharded over processes "
            "(fully_shard), and predict_stream cannot gather them: call "
            "model.unshard() first; the blocks may stay sharded"
        )
    reason = model.why_unsupported("predict_stream")
    if reason is not None:
        raise ValueError(
            f"model is a {type(model).__name__}, which predict_stream does not "
            f"support, because {reason}: call the model on all points"
        )
