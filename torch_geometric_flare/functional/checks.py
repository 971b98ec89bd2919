"""Errors that every function of tensors reports the same way."""

import torch
from torch import Tensor


def check_strided(**tensors: Tensor | None) -> None:
    """Raise `ValueError` naming the first tensor that is sparse or of another layout.

    Args:
        **tensors: Arguments of the caller by name; `None` is skipped.
    """
    for name, t in tensors.items():
        if t is not None and t.layout != torch.strided:
            raise ValueError(
                f"{name} is a tensor of layout {t.layout}, expected an ordinary one: "
                f"pass {name}.to_dense()"
            )
