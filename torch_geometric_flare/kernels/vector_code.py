"""Build vector code for the CPU in Python.

PyTorch's operations read and write whole tensors, so a chain of a few dozen elementwise
operations is memory-bound. In one compiled function, the values stay in registers.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from torch_geometric_flare.kernels.llvm import WORKER, compile_kernel, lanes
from torch_geometric_flare.kernels.tasks import Kernel

try:
    from llvmlite import ir
except (ImportError, OSError):  # not available on this platform
    ir = None

# A vector, pointer or integer of the generated code: llvmlite has no type annotations.
Value = Any


class VectorCode:
    """A function under construction, on vectors of one floating-point type.

    The function computes one of several tasks: the rows from `start` to `stop` of one
    `graph`. `task` is the index of the task and `place` an integer set by the caller.
    Methods append an instruction and return its result. Python loops are unrolled; use
    `with code.range(...) as i` for a loop at run time.

    Args:
        name: Name of the function.
        dtype: Type of the numbers, float32 or float64.
        pointers: Names of the pointer arguments. Arrays that the function writes must
            not overlap with others.
        integers: Names of the integer arguments, which follow the pointers.
    """

    def __init__(
        self,
        name: str,
        dtype: torch.dtype,
        pointers: Sequence[str],
        integers: Sequence[str],
    ) -> None:
        self.lanes = lanes(dtype)
        self.bits = 8 * dtype.itemsize
        self.number = ir.FloatType() if self.bits == 32 else ir.DoubleType()
        self.vector = ir.VectorType(self.number, self.lanes)
        self.integer = ir.IntType(64)
        task_arguments = "task", "graph", "start", "stop", "place"
        types = [self.integer] * len(task_arguments) + [ir.PointerType()] * len(
            pointers
        )
        types += [self.integer] * len(integers)
        self.module = ir.Module(name)
        self.function = ir.Function(
            self.module, ir.FunctionType(ir.VoidType(), types), name
        )
        names = *task_arguments, *pointers, *integers
        self.arguments = dict(zip(names, self.function.args, strict=True))
        for name in pointers:
            self.arguments[name].add_attribute("noalias")
        self.entry = self.function.append_basic_block("entry")
        self.body = self.function.append_basic_block("body")
        self.builder = ir.IRBuilder(self.body)

    def __getitem__(self, name: str) -> Value:
        """Return an argument by name."""
        return self.arguments[name]

    def compile(self) -> Kernel:
        """Return the compiled kernel."""
        self.builder.ret_void()
        with self.builder.goto_block(self.entry):
            self.builder.branch(self.body)
        self._append_worker()
        return compile_kernel(str(self.module))

    def _append_worker(self) -> None:
        """Append a function that computes tasks until none is left.

        `Kernel` describes its argument.
        """
        kind = ir.FunctionType(ir.VoidType(), [ir.PointerType()])
        worker = ir.Function(self.module, kind, WORKER)
        entry, enter, body, leave = (
            worker.append_basic_block(name) for name in ("entry", "next", "do", "leave")
        )
        builder = ir.IRBuilder(entry)

        def number(array: Value, i: Value) -> Value:
            place = builder.gep(array, [self.whole(i)], source_etype=self.integer)
            return builder.load(place, typ=self.integer)

        (work,) = worker.args
        count = number(work, 1)
        table = builder.inttoptr(number(work, 2), ir.PointerType())
        arguments = []
        for i, argument in enumerate(self.function.args[5:]):
            value = number(work, 3 + i)
            if argument.type != self.integer:
                value = builder.inttoptr(value, argument.type)
            arguments.append(value)
        builder.branch(enter)
        builder.position_at_end(enter)
        task = builder.atomic_rmw("add", work, self.whole(1), "monotonic")
        builder.cbranch(builder.icmp_signed("<", task, count), body, leave)
        builder.position_at_end(body)
        row = builder.mul(task, self.whole(4))
        values = [number(table, builder.add(row, self.whole(i))) for i in range(4)]
        builder.call(self.function, [task, *values, *arguments])
        builder.branch(enter)
        builder.position_at_end(leave)
        builder.ret_void()

    # Integers and addresses

    def whole(self, i: Value) -> Value:
        """Convert a Python integer to a constant."""
        return ir.Constant(self.integer, i) if isinstance(i, int) else i

    def add(self, *terms: Value) -> Value:
        """Add integers."""
        first, *rest = map(self.whole, terms)
        for term in rest:
            first = self.builder.add(first, term)
        return first

    def sub(self, a: Value, b: Value) -> Value:
        """Subtract one integer from another."""
        return self.builder.sub(self.whole(a), self.whole(b))

    def mul(self, a: Value, b: Value) -> Value:
        """Multiply integers."""
        return self.builder.mul(self.whole(a), self.whole(b))

    def less(self, a: Value, b: Value) -> Value:
        """Return whether integer `a` is less than `b`."""
        return self.builder.icmp_signed("<", self.whole(a), self.whole(b))

    def min(self, a: Value, b: Value) -> Value:
        """Return the smaller of two integers."""
        return self.builder.select(self.less(a, b), self.whole(a), self.whole(b))

    def at(self, pointer: Value, *offsets: Value) -> Value:
        """Advance a pointer by the sum of offsets, in elements."""
        return self.builder.gep(pointer, [self.add(*offsets)], source_etype=self.number)

    @contextmanager
    def range(self, start: Value, stop: Value, step: Value = 1) -> Iterator[Value]:
        """Loop over the instructions appended inside the `with`; yield the index."""
        builder = self.builder
        counter = self.local(kind=self.integer)
        builder.store(self.whole(start), counter)
        test, body, end = (
            self.function.append_basic_block(name) for name in ("test", "loop", "end")
        )
        builder.branch(test)
        builder.position_at_end(test)
        index = builder.load(counter, typ=self.integer)
        builder.cbranch(self.less(index, stop), body, end)
        builder.position_at_end(body)
        yield index
        builder.store(self.add(index, step), counter)
        builder.branch(test)
        builder.position_at_end(end)

    # Memory

    def local(self, count: int = 1, kind: Any = None) -> Value:
        """Allocate vectors on the stack; LLVM keeps a single one in a register."""
        with self.builder.goto_block(self.entry):
            return self.builder.alloca(kind or self.vector, size=count)

    def nth(self, local: Value, i: Value) -> Value:
        """Return a pointer to the i-th vector of a stack allocation."""
        return self.builder.gep(local, [self.whole(i)], source_etype=self.vector)

    def zeros(self, count: int) -> list[Value]:
        """Allocate accumulators initialized to zero."""
        sums = [self.local() for _ in range(count)]
        for total in sums:
            self.store(self.constant(0.0), total)
        return sums

    def load(self, pointer: Value, kind: Any = None) -> Value:
        """Load a vector; the address need not be aligned."""
        return self.builder.load(pointer, typ=kind or self.vector, align=self.bits // 8)

    def store(self, value: Value, pointer: Value) -> None:
        """Store a vector; the address need not be aligned."""
        self.builder.store(value, pointer, align=self.bits // 8)

    def accumulate(self, pointer: Value, value: Value) -> None:
        """Add a vector to a vector in memory."""
        self.store(self.builder.fadd(self.load(pointer), value), pointer)

    def accumulate_product(self, pointer: Value, a: Value, b: Value) -> None:
        """Add a product to a vector in memory."""
        self.store(self.fma(a, b, self.load(pointer)), pointer)

    def broadcast(self, pointer: Value) -> Value:
        """Load a scalar and broadcast it to all lanes."""
        number = self.load(pointer, self.number)
        undefined = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(undefined, number, self.whole(0))
        return self.shuffle(first, undefined, [0] * self.lanes)

    # Arithmetic

    def constant(self, x: float) -> Value:
        """Broadcast a constant to all lanes."""
        return ir.Constant(self.vector, [ir.Constant(self.number, x)] * self.lanes)

    def call(self, name: str, *vectors: Value) -> Value:
        """Call an LLVM intrinsic on vectors."""
        name = f"llvm.{name}.v{self.lanes}f{self.bits}"
        function = self.module.globals.get(name)
        if function is None:
            kind = ir.FunctionType(self.vector, [self.vector] * len(vectors))
            function = ir.Function(self.module, kind, name)
        return self.builder.call(function, vectors)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """Return `a * b + c`, as a fused operation if the processor has one."""
        return self.call("fmuladd", a, b, c)

    def dot(
        self, a: Sequence[Value], b: Sequence[Value], start: Value | None = None
    ) -> Value:
        """Return the dot product of two sequences plus `start`."""
        products = list(zip(a, b, strict=True))
        if start is None:
            start = self.builder.fmul(*products.pop(0))
        for x, y in products:
            start = self.fma(x, y, start)
        return start

    def clamp(self, x: Value, limit: Value) -> Value:
        """Clamp `x` to `[-limit, limit]`; NaN stays NaN."""
        builder = self.builder
        low = builder.fneg(limit)
        x = builder.select(builder.fcmp_ordered(">", x, limit), limit, x)
        return builder.select(builder.fcmp_ordered("<", x, low), low, x)

    def exp2(self, x: Value) -> Value:
        r"""Return $2^x$ for normal results, to about one unit in the last place."""
        mantissa = 23 if self.bits == 32 else 52
        # The low bits of this sum are the nearest integer.
        magic = self.constant(1.5 * 2.0**mantissa)
        shifted = self.builder.fadd(x, magic)
        rest = self.builder.fsub(x, self.builder.fsub(shifted, magic))
        *low, last = _exp2_coefficients(5 if self.bits == 32 else 11)
        y = self.constant(last)
        for coefficient in reversed(low):
            y = self.fma(y, rest, self.constant(coefficient))
        word = ir.IntType(self.bits)
        words = ir.VectorType(word, self.lanes)
        power = self.builder.shl(
            self.builder.bitcast(shifted, words),
            ir.Constant(words, [ir.Constant(word, mantissa)] * self.lanes),
        )
        bits = self.builder.add(self.builder.bitcast(y, words), power)
        return self.builder.bitcast(bits, self.vector)

    def share(self, x: Value) -> Value:
        """Return $2^x$ for x up to about 0; subnormal results become zero."""
        least = self.constant(-126.0 if self.bits == 32 else -1022.0)
        small = self.builder.fcmp_ordered("<", x, least)
        return self.builder.select(small, self.constant(0.0), self.exp2(x))

    def minimum(self, a: Value, b: Value) -> Value:
        """Return the elementwise minimum; `a` if it is NaN."""
        return self.builder.select(self.builder.fcmp_ordered("<", b, a), b, a)

    def maximum(self, a: Value, b: Value) -> Value:
        """Return the elementwise maximum; `b` if one is NaN."""
        return self.builder.select(self.builder.fcmp_ordered(">", a, b), a, b)

    # Permutations

    def shuffle(self, a: Value, b: Value, lanes: Sequence[int]) -> Value:
        """Select lanes from the concatenation of `a` and `b`."""
        index = ir.IntType(32)
        mask = ir.Constant(
            ir.VectorType(index, len(lanes)), [ir.Constant(index, i) for i in lanes]
        )
        return self.builder.shuffle_vector(a, b, mask)

    def resize(self, row: Value, width: int) -> Value:
        """Truncate a vector, or extend it with undefined lanes."""
        undefined = ir.Constant(row.type, ir.Undefined)
        size = row.type.count
        return self.shuffle(row, undefined, [min(i, size) for i in range(width)])

    def transpose(self, rows: Sequence[Value], stages: Sequence[int]) -> list[Value]:
        """Transpose a square of vectors by swapping blocks of the sizes `stages`.

        Any order of the powers of two is correct. If some rows are undefined, an order
        that begins or ends with the largest needs fewer instructions.
        """
        rows = list(rows)
        indices = range(self.lanes)
        for s in stages:
            low = [self.lanes + i - s if i & s else i for i in indices]
            high = [self.lanes + i if i & s else i + s for i in indices]
            for i in indices:
                if not i & s:
                    a, b = rows[i], rows[i + s]
                    rows[i] = self.shuffle(a, b, low)
                    rows[i + s] = self.shuffle(a, b, high)
        return rows

    @property
    def stages(self) -> list[int]:
        """Return the powers of two below the number of lanes."""
        return [1 << i for i in range(self.lanes.bit_length() - 1)]

    def load_columns(self, rows: Sequence[Value], width: int) -> list[Value]:
        """Load as many rows as there are lanes, transposed: one vector per column."""
        columns: list[Value] = []
        for first in range(0, width, self.lanes):
            size = min(self.lanes, width - first)
            kind = ir.VectorType(self.number, size)
            parts = [
                self.resize(self.load(self.at(row, first), kind), self.lanes)
                for row in rows
            ]
            columns += self.transpose(parts, self.stages[::-1])[:size]
        return columns

    def store_columns(self, columns: Sequence[Value], rows: Sequence[Value]) -> None:
        """Store columns as rows; the inverse of `load_columns`."""
        undefined = ir.Constant(self.vector, ir.Undefined)
        for first in range(0, len(columns), self.lanes):
            part = list(columns[first : first + self.lanes])
            size = len(part)
            part += [undefined] * (self.lanes - size)
            for row, values in zip(
                rows, self.transpose(part, self.stages), strict=True
            ):
                self.store(self.resize(values, size), self.at(row, first))


def _exp2_coefficients(degree: int) -> list[float]:
    """Interpolate 2^x at the Chebyshev nodes of [-1/2, 1/2]."""
    nodes = torch.tensor(
        [math.cos(math.pi * (i + 0.5) / (degree + 1)) / 2 for i in range(degree + 1)],
        dtype=torch.float64,
        device="cpu",
    )
    powers = torch.linalg.vander(nodes)
    coefficients: list[float] = torch.linalg.solve(powers, torch.exp2(nodes)).tolist()
    return coefficients
