"""Ways of computing FLARE attention, and a context manager that forces one."""

import enum
from collections.abc import Iterator
from contextlib import contextmanager


class AttentionBackend(enum.Enum):
    """A way of computing FLARE attention. All of them compute the same.

    Attributes:
        DEFINITION: Explicit scores, memory $O(NM)$, on any device, of any precision.
        SDPA: `torch.nn.functional.scaled_dot_product_attention`, twice.
        VARLEN: The fused kernel of CUDA for ragged sequences, half precision.
        SHARED_SCORES: Kernels compiled for this CPU that compute each score once for
            both softmaxes; float32 and float64, for scores in a limited range.
    """

    DEFINITION = "definition"
    SDPA = "sdpa"
    VARLEN = "varlen"
    SHARED_SCORES = "shared_scores"


FORCED_BACKENDS: list[AttentionBackend] = []
"""What `attention_backend` forces, the innermost last."""


@contextmanager
def attention_backend(backend: AttentionBackend) -> Iterator[None]:
    """Force one way of computing FLARE attention, as `torch.nn.attention.sdpa_kernel`.

    For tests, benchmarks and bug reports: without it the quickest way that is exact is
    chosen for each graph. It holds in all threads. Where points are computed in chunks,
    backward computes them again: put it around backward too.

    Args:
        backend: The way.

    Raises:
        ValueError: If `backend` is no `AttentionBackend`; from attention inside, if the
            backend cannot compute what is asked for, with the reason.

    Examples:
        >>> conv, x = FLAREConv(16, heads=4), torch.randn(100, 16)
        >>> with attention_backend(AttentionBackend.DEFINITION):
        ...     y = conv(x)
        >>> torch.allclose(y, conv(x), atol=1e-6)
        True
    """
    # `isinstance` would tell mypy that what follows is never reached.
    if backend not in list(AttentionBackend):
        raise ValueError(
            f"backend is {backend!r}, expected one of "
            f"{', '.join(map(str, AttentionBackend))}"
        )
    FORCED_BACKENDS.append(backend)
    try:
        yield
    finally:
        FORCED_BACKENDS.pop()
