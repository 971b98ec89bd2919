"""Compile LLVM code for this processor, through `llvmlite`.

No compiler is needed, and compiling a function takes some 0.1 s.
"""

import ctypes
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from torch_geometric_flare.kernels.threads import run_on_threads

try:
    from llvmlite import binding
except (ImportError, OSError):  # a platform without it
    binding = None

# Name of the function of a kernel that computes tasks until none is left.
WORKER = "worker"


@lru_cache(maxsize=1)
def is_available() -> bool:
    """Return whether LLVM is installed and knows this processor."""
    if binding is None:
        return False
    try:
        Kernel(f"define void @{WORKER}(ptr %0) {{ ret void }}")
    except (RuntimeError, OSError, AttributeError):
        return False
    return True


def _target_machine() -> Any:
    """Return LLVM's description of this processor, owned by the engine it builds."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    found = binding.get_host_cpu_features()
    features = found.flatten()
    if found.get("avx512f"):
        # Some processors are said to prefer vectors of half their width.
        features += ",-prefer-256-bit"
    return binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(), features=features, opt=3
    )


@lru_cache(maxsize=1)
def vector_bytes() -> int:
    """Return the width of this processor's vectors in bytes."""
    features = binding.get_host_cpu_features()
    if features.get("avx512f"):
        return 64
    return 32 if features.get("avx2") else 16


def lanes(dtype: torch.dtype) -> int:
    """Return how many numbers a vector of this processor holds."""
    return vector_bytes() // dtype.itemsize


class Kernel:
    """Compiled code, to be called for each of several tasks.

    Args:
        code: LLVM code as text. Its function `WORKER` takes a pointer to integers: the
            next task, the number of tasks, the address of their table, the arguments.
    """

    def __init__(self, code: str) -> None:
        machine = _target_machine()
        module = binding.parse_assembly(code)
        module.verify()
        # Loops are as they should be already.
        options = binding.create_pipeline_tuning_options(speed_level=1)
        options.loop_unrolling = False
        options.loop_vectorization = options.slp_vectorization = False
        passes = binding.create_pass_builder(machine, options)
        passes.getModulePassManager().run(module, passes)
        self.engine = binding.create_mcjit_compiler(module, machine)  # owns the code
        self.engine.finalize_object()
        address = self.engine.get_function_address(WORKER)
        self.worker = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address)

    def __call__(self, tasks: Tensor, threads: int, *arguments: int) -> None:
        """Compute all tasks.

        Args:
            tasks: Graph, start, stop and place of each task, integers.
            threads: The largest number of threads that is worth it.
            arguments: Pointers and integers of the code.

        Shapes:
            - `tasks`: $[T, 4]$
        """
        count = tasks.size(0)
        work = (ctypes.c_int64 * (3 + len(arguments)))(
            0, count, tasks.data_ptr(), *arguments
        )
        address = ctypes.addressof(work)
        if min(threads, count) > 1:
            run_on_threads(self.worker, address, min(threads, count))
        else:
            self.worker(address)
