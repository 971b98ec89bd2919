"""Encode geometries from files, and predict at query points from file to file."""

from os import PathLike
from typing import Any

import torch

from torch_geometric_flare.nn.geometry_state import GeometryState
from torch_geometric_flare.nn.models.flare_query import FLAREQuery
from torch_geometric_flare.nn.streaming.arrays import (
    check_sink,
    check_source,
    evaluating,
    read_rows,
    row_chunks,
    write_rows,
)
from torch_geometric_flare.nn.streaming.predict_stream import stream_states


def encode_stream(
    model: FLAREQuery,
    source: Any,
    chunk_size: int,
    *,
    sink: Any = None,
    weight: Any = None,
    u: Any = None,
    residual_dir: str | PathLike[str] | None = None,
    residual_dtype: torch.dtype | None = None,
) -> GeometryState:
    r"""Encode one geometry of any size, reading one chunk of source points at a time.

    The state equals that of `model.encode` on all points in evaluation mode. Points are
    read and features stored as in `predict_stream`.

    Args:
        model: The network.
        source: Features of the source points, an array as in `predict_stream`.
        chunk_size: Number of points per chunk.
        sink: Output array for the fields at the source points; `None` to skip them.
        weight: Weight of each source point, an array.
        u: Conditions of the graph, if the model has `condition_channels`.
        residual_dir: See `predict_stream`.
        residual_dtype: See `predict_stream`.

    Shapes:
        - `source`: $[N, C_\text{in}]$
        - `sink`: $[N, C_\text{out}]$
        - `weight`: $[N]$
        - `u`: $[1, G]$

    Raises:
        TypeError: If `source` or `sink` is not an array.
        ValueError: See `predict_stream`.
        FileNotFoundError: If `residual_dir` is not a folder.

    Examples:
        >>> model = FLAREQuery(3, 16, 1, 3, 2, num_layers=2, heads=2, num_latents=8)
        >>> state = encode_stream(model, torch.rand(500, 3), chunk_size=128)
        >>> fields = torch.empty(900, 2)
        >>> decode_stream(model, state, torch.rand(900, 3), fields, chunk_size=128)
    """
    points = check_source(source, model.in_channels)
    if sink is not None:
        check_sink(sink, points, model.out_channels)
    states: Any = stream_states(
        model.source, source, sink, chunk_size, weight, u, residual_dir, residual_dtype
    )
    if u is not None:
        u = read_rows(u, slice(None), next(model.parameters()))
    return GeometryState.stack(states, u)


def decode_stream(
    model: FLAREQuery, state: GeometryState, source: Any, sink: Any, chunk_size: int
) -> None:
    r"""Predict fields at any number of query points, one chunk at a time.

    Each chunk is read, predicted and written before the next, because query points do
    not interact. `sink` may be `source` if widths match.

    Args:
        model: The network.
        state: State of one geometry, from `model.encode` or `encode_stream`.
        source: Features of the query points, an array as in `predict_stream`.
        sink: Output array for the fields.
        chunk_size: Number of points per chunk.

    Shapes:
        - `source`: $[N_q, C_q]$
        - `sink`: $[N_q, C_\text{q,out}]$

    Raises:
        TypeError: If `source` or `sink` is not an array.
        ValueError: If a shape or `chunk_size` is wrong, `sink` is read-only or has an
            integer dtype, or the state is from a model of other sizes or of several
            graphs.
    """
    points = check_source(source, model.query_channels)
    check_sink(sink, points, model.query_out_channels)
    if state.num_graphs != 1:
        raise ValueError(
            f"state has {state.num_graphs} graphs, expected one: encode each geometry "
            "separately"
        )
    like = next(model.parameters())
    with torch.inference_mode(), evaluating(model):
        for rows in row_chunks(source, chunk_size):
            write_rows(sink, rows, model.decode(state, read_rows(source, rows, like)))
