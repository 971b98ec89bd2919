r"""The passes over the points that FLARE attention on a CPU is made of.

With $E = \exp(s\,KQ^\top)$, $[N, M]$ for each head and never in memory, `gather` sums
over the points, `scatter` over the latents, and `gradients` is the backward of either
or of both. Latents come with $s \log_2 e$ applied: $E = 2^{K\hat Q^\top}$.

Every number that a pass makes stays in registers. Where the result is a row for each
latent, the lanes of a vector are latents; where it is a row for each point, they are
points, whose numbers are transposed on the way. `gradients` needs both: it transposes
the gradients of a square of scores at a time.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from torch_geometric_flare.functional.vectors import Code, Kernel, Value, lanes

# Points whose sums stay in registers: sums of sums lose less of their precision.
_BLOCK = 256

# Latents whose exponentials are kept at a time.
_LATENTS = 64

# Elements of E that are worth another thread.
_LEAST_WORK = 1 << 17

# A graph is cut into so many tasks, but none of fewer rows than this.
_MOST_TASKS = 32
_LEAST_ROWS = 512

# Numbers of the widest vector.
_LANES = 16


class Scattered(NamedTuple):
    """What decoding leaves for its backward; `y` and `g` are $[N, H, D]$.

    Args:
        g: Gradient of the output.
        y: The output.
        r: Reciprocals of the sums over latents, from `scatter`.
        z: Latent values of each graph, $[B, H, M, D]$.
    """

    g: Tensor
    y: Tensor
    r: Tensor
    z: Tensor


class Gathered(NamedTuple):
    r"""What encoding leaves for its backward.

    Args:
        v: Values, $[N, H, D]$.
        grad: Gradient of the sums $E^\top V$, $[B, H, M, D]$.
        offset: Gradient of the sums $E^\top 1$, $[B, H, M]$.
    """

    v: Tensor
    grad: Tensor
    offset: Tensor


class Tasks(NamedTuple):
    """The rows of several graphs, cut into tasks.

    How a graph is cut depends on nothing but its size, and so do its results, to the
    last bit: neither on other graphs nor on the number of threads.

    Args:
        table: Graph, first row, last row plus one, and first column of `scatter`'s
            weights, `[T, 4]`.
        sizes: Rows of each graph.
        num_columns: Columns of the weights.
        whole: Whether every graph is one task.
    """

    table: Tensor
    sizes: tuple[int, ...]
    num_columns: int
    whole: bool

    @classmethod
    def from_sizes(cls, sizes: Sequence[int]) -> "Tasks":
        """Tasks for graphs of these numbers of points, which follow one another."""
        table = []
        first = columns = 0
        for graph, size in enumerate(sizes):
            length = max(_LEAST_ROWS, -(-size // (_MOST_TASKS * _BLOCK)) * _BLOCK)
            for start in range(0, size, length):
                stop = min(start + length, size)
                table.append((graph, first + start, first + stop, columns + start))
            first += size
            columns += -(-size // _LANES) * _LANES
        whole = [row[0] for row in table] == list(range(len(sizes)))
        return cls(
            torch.tensor(table, dtype=torch.long).view(-1, 4),
            tuple(sizes),
            columns,
            whole,
        )

    def threads(self, q: Tensor) -> int:
        """The most threads that are worth it."""
        elements = sum(self.sizes) * q.size(-3) * q.size(-2)
        return int(min(torch.get_num_threads(), elements // _LEAST_WORK))

    def by_graph(self, totals: Tensor) -> Tensor:
        """Sums over the tasks of each graph."""
        if self.whole:
            return totals
        sums = totals.new_zeros(len(self.sizes), *totals.shape[1:])
        return sums.index_add_(0, self.table[:, 0], totals)


def gather(
    q: Tensor, k: Tensor, v: Tensor, tasks: Tasks, r: Tensor | None = None
) -> Tensor:
    r"""Sums over the points of each graph, $E^\top [V\;1]$, or $E^\top (r \circ V)$.

    Args:
        q: Latents of each graph, or of all.
        k: Keys.
        v: Values.
        tasks: The graphs.
        r: A weight of each point, from `scatter`.

    Shapes:
        - `q`: $[B, H, M, D]$ or $[1, H, M, D]$
        - `k`, `v`: $[N, H, D]$, numbers of a head side by side

    Returns:
        $[B, H, D + 1, M]$, or $[B, H, D, M]$ with weights.
    """
    _, heads, latents, width = q.shape
    columns = _padded(q, k.dtype).mT.contiguous()  # [*, H, D, M']
    run = _gather_code(width, k.dtype, r is not None)
    rows = width if r is not None else width + 1
    totals = k.new_zeros(tasks.table.size(0), heads, rows, columns.size(-1))
    run(
        tasks.table,
        tasks.threads(q),
        k.data_ptr(),
        v.data_ptr(),
        0 if r is None else r.data_ptr(),
        columns.data_ptr(),
        totals.data_ptr(),
        heads,
        columns.size(-1),
        *k.stride()[:2],
        *v.stride()[:2],
        0 if r is None else r.stride(0),
        _graph_stride(columns),
    )
    return tasks.by_graph(totals)[..., :latents]


def scatter(q: Tensor, k: Tensor, z: Tensor, y: Tensor, tasks: Tasks) -> Tensor:
    r"""Averages over the latents of each graph, $r \circ EZ$ with $r = 1 / E1$.

    Args:
        q: Latents of each graph, or of all.
        k: Keys.
        z: Latent values of each graph.
        y: Where to write the averages.
        tasks: The graphs.

    Shapes:
        - `q`: $[B, H, M, D]$ or $[1, H, M, D]$
        - `z`: $[B, H, M, D]$
        - `k`, `y`: $[N, H, D]$, numbers of a head side by side

    Returns:
        r, $[H, N']$ with $N'$ a little more than $N$; `tasks` has its columns.
    """
    _, heads, latents, width = q.shape
    q, z = q.contiguous(), z.contiguous()
    r = k.new_empty(heads, tasks.num_columns)
    run = _scatter_code(width, k.dtype)
    run(
        tasks.table,
        tasks.threads(q),
        k.data_ptr(),
        q.data_ptr(),
        z.data_ptr(),
        y.data_ptr(),
        r.data_ptr(),
        heads,
        latents,
        *k.stride()[:2],
        *y.stride()[:2],
        r.stride(0),
        _graph_stride(q),
    )
    return r


def gradients(
    q: Tensor,
    k: Tensor,
    grad_k: Tensor,
    tasks: Tasks,
    encoded: tuple[Gathered, Tensor] | None = None,
    decoded: Scattered | None = None,
) -> Tensor:
    r"""Gradients of encoding, of decoding, or of both with the same scores.

    $\partial S = E \circ (Y' Z^\top - \langle Y', Y\rangle + V Z'^\top + o)$ with
    $Y' = r \circ g$, $Z'$ the gradient of $E^\top V$ and $o$ that of $E^\top 1$.

    Args:
        q: Latents of each graph, or of all.
        k: Keys.
        grad_k: Where to write the gradient of the keys.
        tasks: The graphs.
        encoded: What encoding left, and where to write the gradient of the values.
        decoded: What decoding left.

    Shapes:
        - `q`: $[B, H, M, D]$ or $[1, H, M, D]$
        - `k`, `grad_k`: $[N, H, D]$, numbers of a head side by side

    Returns:
        $\partial S^\top K$, $[B, H, M, D]$: times the scale, the gradient of each
        graph's latents.
    """
    _, heads, latents, width = q.shape
    nothing = k.new_empty(0, 0, 0)
    g = y = r = v = grad_v = z = grad = offset = nothing
    if decoded is not None:
        g, y, r, z = decoded
        z = _padded(z, k.dtype)
    if encoded is not None:
        (v, grad, offset), grad_v = encoded
        grad, offset = (_padded(t, k.dtype) for t in (grad, offset.unsqueeze(-1)))
    q = _padded(q, k.dtype)
    run = _gradients_code(width, k.dtype, encoded is not None, decoded is not None)
    totals = k.new_zeros(tasks.table.size(0), heads, width, q.size(2))
    pointers = k, v, g, y, r, q, z, grad, offset, totals, grad_k, grad_v
    strided = k, v, g, y, grad_k, grad_v
    run(
        tasks.table,
        tasks.threads(q),
        *(t.data_ptr() for t in pointers),
        heads,
        q.size(2),
        *(step for t in strided for step in t.stride()[:2]),
        r.stride(0),
        _graph_stride(q),
    )
    return tasks.by_graph(totals)[..., :latents].mT


def _graph_stride(latents: Tensor) -> int:
    """Numbers from the latents of a graph to those of the next."""
    return latents.stride(0) if latents.size(0) > 1 else 0


def _padded(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """Latents [*, H, M, *] up to whole vectors."""
    return pad(rows, (0, 0, 0, -rows.size(-2) % lanes(dtype))).contiguous()


Step = Callable[[Value], None]
Row = Callable[[Value], Value]


def _chunks(width: int) -> list[range]:
    """Columns that a loop can keep in registers."""
    return [range(i, min(i + 8, width)) for i in range(0, width, 8)]


def _dots(
    c: Code,
    columns: Sequence[Value],
    row: Row,
    out: Value,
    start: Row | None = None,
    finish: Callable[[Value, Value], Value] = lambda i, dot: dot,
) -> list[Step]:
    """Products of vectors with a row of numbers, into the i-th vector of `out`."""
    chunks = _chunks(len(columns))

    def step(chunk: range, i: Value) -> None:
        total = start(i) if start is not None else None
        if chunk is not chunks[0]:
            total = c.load(c.nth(out, i))
        numbers = [c.spread(c.at(row(i), d)) for d in chunk]
        total = c.dot(numbers, [columns[d] for d in chunk], total)
        if chunk is chunks[-1]:
            total = finish(i, total)
        c.store(total, c.nth(out, i))

    return [partial(step, chunk) for chunk in chunks]


def _sums(c: Code, sums: Sequence[Value], factors: Value, row: Row) -> list[Step]:
    """Add the i-th vector of `factors` times a row of numbers to sums."""

    def step(chunk: range, i: Value) -> None:
        factor = c.load(c.nth(factors, i))
        for d in chunk:
            c.accumulate_product(sums[d], factor, c.spread(c.at(row(i), d)))

    return [partial(step, chunk) for chunk in _chunks(len(sums))]


def _loops(c: Code, stop: Value, steps: Sequence[Step]) -> None:
    """A loop for each step: one for all would need more registers than there are."""
    for step in steps:
        with c.range(0, stop) as i:
            step(i)


@lru_cache
def _gather_code(width: int, dtype: torch.dtype, weighted: bool) -> Kernel:
    c = Code(
        "gather",
        dtype,
        ("k", "v", "r", "q", "total"),
        ("heads", "latents", "k_row", "k_head", "v_row", "v_head", "r_head", "q_graph"),
    )
    b, stop, latents = c.builder, c["stop"], c["latents"]
    rows = width if weighted else width + 1
    tile = c.local(_BLOCK)
    with (
        c.range(c["start"], stop, _BLOCK) as first,
        c.range(0, c["heads"]) as h,
        c.range(0, latents, c.lanes) as m,
    ):
        places = [
            c.at(
                c["q"],
                c.mul(c["graph"], c["q_graph"]),
                c.mul(c.add(c.mul(h, width), d), latents),
                m,
            )
            for d in range(width)
        ]
        sums = c.zeros(rows)

        def row(name: str, i: Value) -> Value:
            n = c.mul(c.add(first, i), c[f"{name}_row"])  # noqa: B023
            return c.at(c[name], n, c.mul(h, c[f"{name}_head"]))  # noqa: B023

        def exponential(i: Value, score: Value) -> Value:
            e = c.exp2(score)
            if not weighted:
                c.accumulate(sums[width], e)  # noqa: B023
                return e
            n = c.add(c["place"], c.sub(first, c["start"]), i)  # noqa: B023
            return b.fmul(e, c.spread(c.at(c["r"], c.mul(h, c["r_head"]), n)))  # noqa: B023

        q = [c.load(place) for place in places]
        steps = _dots(c, q, partial(row, "k"), tile, finish=exponential)
        steps += _sums(c, sums[:width], tile, partial(row, "v"))
        count = c.min(_BLOCK, c.sub(stop, first))
        _loops(c, count, steps)
        for d in range(rows):
            place = c.add(c.mul(c.add(c.mul(c["task"], c["heads"]), h), rows), d)
            c.accumulate(c.at(c["total"], c.mul(place, latents), m), c.load(sums[d]))
    return c.compile()


def _rows(
    c: Code, pointer: Value, stride: Value, first: Value, elsewhere: Value
) -> list[Value]:
    """Pointers to a vector's worth of rows; `elsewhere` for those past the last."""
    rows = []
    for i in range(c.lanes):
        n = c.add(first, i)
        row = c.at(pointer, c.mul(n, stride))
        rows.append(c.builder.select(c.less(n, c["stop"]), row, elsewhere))
    return rows


def _spare(c: Code, width: int) -> Value:
    """A row of zeros on the stack."""
    count = -(-width // c.lanes)
    spare = c.local(count)
    for i in range(count):
        c.store(c.constant(0.0), c.nth(spare, i))
    return spare


@lru_cache
def _scatter_code(width: int, dtype: torch.dtype) -> Kernel:
    c = Code(
        "scatter",
        dtype,
        ("k", "q", "z", "y", "r"),
        ("heads", "latents", "k_row", "k_head", "y_row", "y_head", "r_head", "q_graph"),
    )
    # Rows past the last are read from `blank` and written to `waste`.
    blank, waste = (_spare(c, width) for _ in range(2))
    tile = c.local(_LATENTS)
    with c.range(c["start"], c["stop"], c.lanes) as n, c.range(0, c["heads"]) as h:
        k_head = c.at(c["k"], c.mul(h, c["k_head"]))
        k = c.load_columns(_rows(c, k_head, c["k_row"], n, blank), width)
        *sums, weight = c.zeros(width + 1)
        with c.range(0, c["latents"], _LATENTS) as first:

            def q_row(i: Value) -> Value:
                m = c.add(c.mul(h, c["latents"]), first, i)  # noqa: B023
                graph = c.mul(c["graph"], c["q_graph"])
                return c.at(c["q"], graph, c.mul(m, width))

            def z_row(i: Value) -> Value:
                head = c.add(c.mul(c["graph"], c["heads"]), h)  # noqa: B023
                m = c.add(c.mul(head, c["latents"]), first, i)  # noqa: B023
                return c.at(c["z"], c.mul(m, width))

            def exponential(i: Value, score: Value) -> Value:
                e = c.exp2(score)
                c.accumulate(weight, e)  # noqa: B023
                return e

            steps = _dots(c, k, q_row, tile, finish=exponential)
            steps += _sums(c, sums, tile, z_row)
            count = c.min(_LATENTS, c.sub(c["latents"], first))
            _loops(c, count, steps)
        r = c.builder.fdiv(c.constant(1.0), c.load(weight))
        column = c.add(c["place"], c.sub(n, c["start"]))
        c.store(r, c.at(c["r"], c.mul(h, c["r_head"]), column))
        y_head = c.at(c["y"], c.mul(h, c["y_head"]))
        c.store_columns(
            [c.builder.fmul(c.load(total), r) for total in sums],
            _rows(c, y_head, c["y_row"], n, waste),
        )
    return c.compile()


@lru_cache
def _gradients_code(
    width: int, dtype: torch.dtype, encoded: bool, decoded: bool
) -> Kernel:
    strided = ("k", "v", "g", "y", "grad_k", "grad_v")
    c = Code(
        "gradients",
        dtype,
        ("k", "v", "g", "y", "r", "q", "z", "grad", "offset")
        + ("total", "grad_k", "grad_v"),
        ("heads", "latents")
        + tuple(f"{name}_{axis}" for name in strided for axis in ("row", "head"))
        + ("r_head", "q_graph"),
    )
    b, latents = c.builder, c["latents"]
    blank, waste = (_spare(c, width) for _ in range(2))
    es, grads = c.local(c.lanes), c.local(c.lanes)
    with c.range(c["start"], c["stop"], c.lanes) as n, c.range(0, c["heads"]) as h:

        def rows(name: str, elsewhere: Value) -> list[Value]:
            head = c.at(c[name], c.mul(h, c[f"{name}_head"]))  # noqa: B023
            return _rows(c, head, c[f"{name}_row"], n, elsewhere)  # noqa: B023

        k_rows = rows("k", blank)
        k = c.load_columns(k_rows, width)
        grad_k, grad_v = c.zeros(width), c.zeros(width)
        if decoded:
            column = c.add(c["place"], c.sub(n, c["start"]))
            r = c.load(c.at(c["r"], c.mul(h, c["r_head"]), column))
            g = [b.fmul(x, r) for x in c.load_columns(rows("g", blank), width)]
            y = c.load_columns(rows("y", blank), width)
            level = b.fneg(c.dot(g, y))
        if encoded:
            v = c.load_columns(rows("v", blank), width)
        with c.range(0, latents, c.lanes) as first:

            def q_row(i: Value) -> Value:
                m = c.add(c.mul(h, latents), first, i)  # noqa: B023
                graph = c.mul(c["graph"], c["q_graph"])
                return c.at(c["q"], graph, c.mul(m, width))

            def row(name: str, width: int, i: Value) -> Value:
                head = c.add(c.mul(c["graph"], c["heads"]), h)  # noqa: B023
                m = c.add(c.mul(head, latents), first, i)  # noqa: B023
                return c.at(c[name], c.mul(m, width))

            def offset(i: Value) -> Value:
                start = c.spread(row("offset", 1, i))  # noqa: B023
                return b.fadd(start, c.load(c.nth(grads, i))) if decoded else start

            def times_e(i: Value, dot: Value) -> Value:
                return b.fmul(dot, c.load(c.nth(es, i)))

            z_row, v_row = (partial(row, name, width) for name in ("z", "grad"))
            steps = _dots(c, k, q_row, es, finish=lambda i, score: c.exp2(score))
            if decoded:
                last = {} if encoded else {"finish": times_e}
                steps += _dots(c, g, z_row, grads, lambda i: level, **last)  # noqa: B023
            if encoded:
                steps += _dots(c, v, v_row, grads, offset, times_e)
                steps += _sums(c, grad_v, es, v_row)
            steps += _sums(c, grad_k, grads, q_row)
            _loops(c, c.lanes, steps)
            by_point = c.transpose(
                [c.load(c.nth(grads, i)) for i in range(c.lanes)], c.stages
            )
            for d in range(width):
                products = c.dot(by_point, [c.spread(c.at(k, d)) for k in k_rows])
                place = c.add(c.mul(c.add(c.mul(c["task"], c["heads"]), h), width), d)
                c.accumulate(c.at(c["total"], c.mul(place, latents), first), products)
        # q came with log2(e) applied.
        ln2 = c.constant(math.log(2))
        found = [b.fmul(c.load(total), ln2) for total in grad_k]
        c.store_columns(found, rows("grad_k", waste))
        if encoded:
            c.store_columns([c.load(total) for total in grad_v], rows("grad_v", waste))
    return c.compile()
