"""Vector code of the kernels in `shared_scores`.

All intermediate values stay in registers. If the result has one row per latent, the
lanes of a vector are latents. If it has one row per point, they are points, whose rows
are transposed on load. `gradients_code` needs both and transposes the gradients of one
square tile of scores at a time.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import torch

from torch_geometric_flare.kernels.tasks import BLOCK, Kernel
from torch_geometric_flare.kernels.vector_code import Value, VectorCode

# Number of latents in a tile of exponentials.
_LATENTS = 64

Step = Callable[[Value], None]
Row = Callable[[Value], Value]


def _chunks(width: int) -> list[range]:
    """Split columns into chunks that fit in registers."""
    return [range(i, min(i + 8, width)) for i in range(0, width, 8)]


def _dots(
    c: VectorCode,
    columns: Sequence[Value],
    row: Row,
    out: Value,
    start: Row | None = None,
    finish: Callable[[Value, Value], Value] = lambda i, dot: dot,
) -> list[Step]:
    """Store the dot products with the i-th row in the i-th vector of `out`."""
    chunks = _chunks(len(columns))

    def step(chunk: range, i: Value) -> None:
        total = start(i) if start is not None else None
        if chunk is not chunks[0]:
            total = c.load(c.nth(out, i))
        numbers = [c.broadcast(c.at(row(i), d)) for d in chunk]
        total = c.dot(numbers, [columns[d] for d in chunk], total)
        if chunk is chunks[-1]:
            total = finish(i, total)
        c.store(total, c.nth(out, i))

    return [partial(step, chunk) for chunk in chunks]


def _sums(
    c: VectorCode,
    sums: Sequence[Value],
    factors: Value,
    row: Row,
    change: Row | None = None,
) -> list[Step]:
    """Add the i-th vector of `factors`, after `change`, times row i to `sums`."""
    chunks = _chunks(len(sums))

    def step(chunk: range, i: Value) -> None:
        factor = c.load(c.nth(factors, i))
        if change is not None and chunk is chunks[0]:
            factor = change(factor)
            if len(chunks) > 1:
                c.store(factor, c.nth(factors, i))
        for d in chunk:
            c.accumulate_product(sums[d], factor, c.broadcast(c.at(row(i), d)))

    return [partial(step, chunk) for chunk in chunks]


def _loops(c: VectorCode, stop: Value, steps: Sequence[Step]) -> None:
    """Run each step in a separate loop; one joint loop needs too many registers."""
    for step in steps:
        with c.range(0, stop) as i:
            step(i)


@lru_cache
def gather_code(
    width: int, dtype: torch.dtype, shares: bool, weighted: bool = False
) -> Kernel:
    """Compile `gather_shares` if `shares`, else `gather`, with optional weights."""
    c = VectorCode(
        "gather",
        dtype,
        ("k", "v", "log", "log_weight", "q", "total"),
        ("heads", "latents", "k_row", "k_head", "v_row", "v_head")
        + ("log_head", "q_graph"),
    )
    b, stop, latents = c.builder, c["stop"], c["latents"]
    rows = width if shares else width + 2
    tile = c.local(BLOCK)
    with (
        c.range(c["start"], stop, BLOCK) as first,
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
        sums = c.zeros(width)
        (weight,) = c.zeros(1)
        top = c.local()

        def total(d: int) -> Value:
            place = c.add(c.mul(c.add(c.mul(c["task"], c["heads"]), h), rows), d)  # noqa: B023
            return c.at(c["total"], c.mul(place, latents), m)  # noqa: B023

        def row(name: str, i: Value) -> Value:
            n = c.mul(c.add(first, i), c[f"{name}_row"])  # noqa: B023
            return c.at(c[name], n, c.mul(h, c[f"{name}_head"]))  # noqa: B023

        def share(i: Value, score: Value) -> Value:
            n = c.add(c["place"], c.sub(first, c["start"]), i)  # noqa: B023
            log = c.broadcast(c.at(c["log"], c.mul(h, c["log_head"]), n))  # noqa: B023
            return c.share(b.fsub(score, log))

        def compare(i: Value, score: Value) -> Value:
            c.store(c.maximum(score, c.load(top)), top)  # noqa: B023
            return score

        def log_weight(i: Value) -> Value:
            return c.broadcast(c.at(c["log_weight"], c.add(first, i)))  # noqa: B023

        q = [c.load(place) for place in places]
        count = c.min(BLOCK, c.sub(stop, first))
        k_row, v_row = partial(row, "k"), partial(row, "v")
        if shares:
            steps = _dots(c, q, k_row, tile, finish=share)
            _loops(c, count, steps + _sums(c, sums, tile, v_row))
            for d in range(width):
                c.accumulate(total(d), c.load(sums[d]))
        else:
            before = c.load(total(width + 1))
            c.store(before, top)
            start = log_weight if weighted else None
            _loops(c, count, _dots(c, q, k_row, tile, start, compare))
            highest = c.load(top)

            def exponential(score: Value) -> Value:
                e = c.share(b.fsub(score, highest))  # noqa: B023
                c.accumulate(weight, e)  # noqa: B023
                return e

            _loops(c, count, _sums(c, sums, tile, v_row, exponential))
            factor = c.share(b.fsub(before, highest))
            for d, part in enumerate([*sums, weight]):
                whole = c.fma(c.load(total(d)), factor, c.load(part))
                c.store(whole, total(d))
            c.store(highest, total(width + 1))
    return c.compile()


def _rows(
    c: VectorCode, pointer: Value, stride: Value, first: Value, elsewhere: Value
) -> list[Value]:
    """Return a row pointer for each lane, `elsewhere` for rows past the last."""
    rows = []
    for i in range(c.lanes):
        n = c.add(first, i)
        row = c.at(pointer, c.mul(n, stride))
        rows.append(c.builder.select(c.less(n, c["stop"]), row, elsewhere))
    return rows


def _spare(c: VectorCode, width: int) -> Value:
    """Allocate a row of zeros on the stack."""
    count = -(-width // c.lanes)
    spare = c.local(count)
    for i in range(count):
        c.store(c.constant(0.0), c.nth(spare, i))
    return spare


@lru_cache
def scatter_code(width: int, dtype: torch.dtype) -> Kernel:
    """Compile `scatter`."""
    c = VectorCode(
        "scatter",
        dtype,
        ("k", "q", "z", "y", "top", "weight"),
        ("heads", "latents", "k_row", "k_head", "y_row", "y_head")
        + ("log_head", "q_graph"),
    )
    # Out-of-range rows are read from `blank` and written to `waste`.
    blank, waste = (_spare(c, width) for _ in range(2))
    tile = c.local(_LATENTS)
    with c.range(c["start"], c["stop"], c.lanes) as n, c.range(0, c["heads"]) as h:
        k_head = c.at(c["k"], c.mul(h, c["k_head"]))
        k = c.load_columns(_rows(c, k_head, c["k_row"], n, blank), width)
        *sums, weight = c.zeros(width + 1)
        top = c.local()
        # Finite, so that a latent with a score of minus infinity has a share of zero.
        c.store(c.constant(torch.finfo(dtype).min), top)
        with c.range(0, c["latents"], _LATENTS) as first:

            def q_row(i: Value) -> Value:
                m = c.add(c.mul(h, c["latents"]), first, i)  # noqa: B023
                graph = c.mul(c["graph"], c["q_graph"])
                return c.at(c["q"], graph, c.mul(m, width))

            def z_row(i: Value) -> Value:
                head = c.add(c.mul(c["graph"], c["heads"]), h)  # noqa: B023
                m = c.add(c.mul(head, c["latents"]), first, i)  # noqa: B023
                return c.at(c["z"], c.mul(m, width))

            def compare(i: Value, score: Value) -> Value:
                c.store(c.maximum(score, c.load(top)), top)  # noqa: B023
                return score

            before = c.load(top)
            count = c.min(_LATENTS, c.sub(c["latents"], first))
            _loops(c, count, _dots(c, k, q_row, tile, finish=compare))
            highest = c.load(top)
            factor = c.share(c.builder.fsub(before, highest))
            for part in (*sums, weight):
                c.store(c.builder.fmul(c.load(part), factor), part)

            def exponential(score: Value) -> Value:
                e = c.share(c.builder.fsub(score, highest))  # noqa: B023
                c.accumulate(weight, e)  # noqa: B023
                return e

            _loops(c, count, _sums(c, sums, tile, z_row, exponential))
        r = c.builder.fdiv(c.constant(1.0), c.load(weight))
        column = c.add(c["place"], c.sub(n, c["start"]))
        for name, numbers in (("top", top), ("weight", weight)):
            place = c.at(c[name], c.mul(h, c["log_head"]), column)
            c.store(c.load(numbers), place)
        y_head = c.at(c["y"], c.mul(h, c["y_head"]))
        c.store_columns(
            [c.builder.fmul(c.load(total), r) for total in sums],
            _rows(c, y_head, c["y_row"], n, waste),
        )
    return c.compile()


@lru_cache
def gradients_code(
    width: int,
    dtype: torch.dtype,
    encoded: bool,
    decoded: bool,
    weighted: bool = False,
) -> Kernel:
    """Compile `gradients` of encoding, with optional weights, or decoding, or both."""
    strided = ("k", "v", "g", "y", "grad_k", "grad_v")
    c = VectorCode(
        "gradients",
        dtype,
        ("k", "v", "g", "y", "log", "log_weight", "q", "z", "grad", "offset")
        + ("log_total", "total", "grad_k", "grad_v"),
        ("heads", "latents")
        + tuple(f"{name}_{axis}" for name in strided for axis in ("row", "head"))
        + ("log_head", "q_graph"),
    )
    b, latents = c.builder, c["latents"]
    blank, waste = (_spare(c, width) for _ in range(2))
    by_latent, by_rows, grads, partial_grads = (c.local(c.lanes) for _ in range(4))
    with c.range(c["start"], c["stop"], c.lanes) as n, c.range(0, c["heads"]) as h:

        def rows(name: str, elsewhere: Value) -> list[Value]:
            head = c.at(c[name], c.mul(h, c[f"{name}_head"]))  # noqa: B023
            return _rows(c, head, c[f"{name}_row"], n, elsewhere)  # noqa: B023

        k_rows = rows("k", blank)
        k = c.load_columns(k_rows, width)
        grad_k, grad_v = c.zeros(width), c.zeros(width)
        if decoded:
            column = c.add(c["place"], c.sub(n, c["start"]))
            log = c.load(c.at(c["log"], c.mul(h, c["log_head"]), column))
            g = c.load_columns(rows("g", blank), width)
            y = c.load_columns(rows("y", blank), width)
            level = b.fneg(c.dot(g, y))
        if encoded:
            v = c.load_columns(rows("v", blank), width)
        if weighted:
            log_weight = c.load(c.at(c["log_weight"], n))
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
                return c.broadcast(row("offset", 1, i))  # noqa: B023

            def at_most_one(x: Value) -> Value:
                # Out-of-range rows have scores of zero, which can exceed the sum.
                return c.share(c.minimum(x, c.constant(0.0)))

            def shares(i: Value, score: Value) -> Value:
                if decoded:
                    share = at_most_one(b.fsub(score, log))  # noqa: B023
                    c.store(share, c.nth(by_rows, i))
                if encoded:
                    total = c.broadcast(row("log_total", 1, i))  # noqa: B023
                    if weighted:
                        score = b.fadd(score, log_weight)  # noqa: B023
                    return at_most_one(b.fsub(score, total))
                return score

            def of_decoding(i: Value, dot: Value) -> Value:
                return b.fmul(dot, c.load(c.nth(by_rows, i)))

            def of_both(i: Value, dot: Value) -> Value:
                share = c.load(c.nth(by_latent, i))
                if not decoded:
                    return b.fmul(dot, share)
                return c.fma(dot, share, c.load(c.nth(partial_grads, i)))

            z_row, v_row = (partial(row, name, width) for name in ("z", "grad"))
            steps = _dots(c, k, q_row, by_latent, finish=shares)
            if decoded:
                out = partial_grads if encoded else grads
                steps += _dots(c, g, z_row, out, lambda i: level, of_decoding)  # noqa: B023
            if encoded:
                steps += _dots(c, v, v_row, grads, offset, of_both)
                steps += _sums(c, grad_v, by_latent, v_row)
            steps += _sums(c, grad_k, grads, q_row)
            _loops(c, c.lanes, steps)
            by_point = c.transpose(
                [c.load(c.nth(grads, i)) for i in range(c.lanes)], c.stages
            )
            for d in range(width):
                products = c.dot(by_point, [c.broadcast(c.at(k, d)) for k in k_rows])
                place = c.add(c.mul(c.add(c.mul(c["task"], c["heads"]), h), width), d)
                c.accumulate(c.at(c["total"], c.mul(place, latents), first), products)
        # The latents are multiplied by log2(e).
        ln2 = c.constant(math.log(2))
        grad_columns = [b.fmul(c.load(total), ln2) for total in grad_k]
        c.store_columns(grad_columns, rows("grad_k", waste))
        if encoded:
            c.store_columns([c.load(total) for total in grad_v], rows("grad_v", waste))
    return c.compile()
