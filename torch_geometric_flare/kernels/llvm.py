"""Compile LLVM code for this processor with `llvmlite`.

This needs no installed compiler. Compiling a function takes about 0.1 s.
"""

import ctypes
from functools import lru_cache
from typing import Any

import torch

from torch_geometric_flare.kernels.tasks import Kernel

try:
    from llvmlite import binding
except (ImportError, OSError):  # not available on this platform
    binding = None

# Name of the kernel function that computes tasks until none is left.
WORKER = "worker"


@lru_cache(maxsize=1)
def is_available() -> bool:
    """Return whether LLVM is installed and supports this processor."""
    if binding is None:
        return False
    try:
        compile_kernel(f"define void @{WORKER}(ptr %0) {{ ret void }}")
    except (RuntimeError, OSError, AttributeError):
        return False
    return True


def _target_machine() -> Any:
    """Return LLVM's description of this processor, owned by the engine it builds."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    host_features = binding.get_host_cpu_features()
    features = host_features.flatten()
    if host_features.get("avx512f"):
        # By default, LLVM prefers 256-bit vectors on some AVX-512 processors.
        features += ",-prefer-256-bit"
    return binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(), features=features, opt=3
    )


@lru_cache(maxsize=1)
def vector_bytes() -> int:
    """Return the width of this processor's vector registers in bytes."""
    features = binding.get_host_cpu_features()
    if features.get("avx512f"):
        return 64
    return 32 if features.get("avx2") else 16


def lanes(dtype: torch.dtype) -> int:
    """Return the number of values in a vector register of this processor."""
    return vector_bytes() // dtype.itemsize


def compile_kernel(code: str) -> Kernel:
    """Compile LLVM code for this processor.

    Args:
        code: LLVM code as text. Its function `WORKER` takes a pointer to integers: the
            next task, the number of tasks, the address of their table, the arguments.
    """
    machine = _target_machine()
    module = binding.parse_assembly(code)
    module.verify()
    # The generated loops are already unrolled and vectorized.
    options = binding.create_pipeline_tuning_options(speed_level=1)
    options.loop_unrolling = False
    options.loop_vectorization = options.slp_vectorization = False
    builder = binding.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    engine = binding.create_mcjit_compiler(module, machine)  # owns the code
    engine.finalize_object()
    address = engine.get_function_address(WORKER)
    return Kernel(ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address), engine)
