"""The threads of a command line."""

import argparse
import os
from collections.abc import Sequence
from typing import Any

import torch


class _SetThreads(argparse.Action):
    """Sets the threads and leaves nothing in the namespace."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        threads = int(str(values))
        if threads < 1:
            parser.error(f"--threads must be at least 1, got {threads}")
        torch.set_num_threads(threads)
        # What processes that are started from here read.
        os.environ["OMP_NUM_THREADS"] = str(threads)


def add_threads_option(parser: argparse.ArgumentParser) -> None:
    """Add `--threads`, which takes effect when the command line is parsed.

    It holds for this process and for those that it starts. Threads change the order of
    sums, and so the last bits of results.

    Args:
        parser: The parser. The namespace gets no entry.
    """
    parser.add_argument(
        "--threads",
        type=int,
        action=_SetThreads,
        default=argparse.SUPPRESS,
        help="of the CPU to compute with; by default one per core",
    )
