"""The residual MLP of FLARE."""

import copy
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch_geometric.nn.resolver import activation_resolver

from torch_geometric_flare._arguments import brief
from torch_geometric_flare.functional.checks import check_strided
from torch_geometric_flare.functional.mlp import residual_mlp, supports_layers
from torch_geometric_flare.functional.torch_internals import any_hooks
from torch_geometric_flare.nn.checks import (
    check_input_channels,
    check_layers,
    check_positive,
)
from torch_geometric_flare.nn.dense.lazy import (
    UNKNOWN,
    after_loading,
    input_linear,
    input_width,
    materialise,
)
from torch_geometric_flare.nn.initialization import Init, check_init, reset_carrying

Activation = str | Callable[[Tensor], Tensor]


def resolve_activation(act: Activation) -> Callable[[Tensor], Tensor]:
    """Return the activation for a name or a callable.

    Args:
        act: `"gelu"`, here the tanh approximation as in the papers; any other name that
            PyTorch Geometric's resolver supports; or a callable.

    Raises:
        ValueError: If the name is unknown.
    """
    if act == "gelu":
        return nn.GELU(approximate="tanh")
    # Copy, so that MLPs do not share the parameters of an activation.
    resolved: Callable[[Tensor], Tensor] = (
        activation_resolver(act) if isinstance(act, str) else copy.deepcopy(act)
    )
    return resolved


def reset_linear(linear: nn.Linear) -> None:
    r"""Draw the weight from $\mathcal{N}(0, 0.02^2)$ and set the bias to zero.

    Uninitialized lazy maps are skipped.
    """
    if is_lazy(linear.weight):
        return
    nn.init.normal_(linear.weight, std=0.02)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)


def reset_truncated(linear: nn.Linear) -> None:
    r"""Draw the weight from a truncated $\mathcal{N}(0, 0.02^2)$; zero bias."""
    nn.init.trunc_normal_(linear.weight, std=0.02)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)


_FORWARD = {kind: kind.forward for kind in (nn.Linear, nn.GELU)}


class ResidualMLP(nn.Module):
    r"""An MLP with residual hidden layers.

    $$x_0 = \phi(W_1 x)\;(+\,x), \quad x_i = x_{i-1} + \phi(V_i x_{i-1}), \quad
      y = W_2 x_L\;(+\,x_L)$$

    The first residual applies if `in_channels == hidden_channels`, the last if
    `hidden_channels == out_channels`, unless disabled. With `num_layers=-1`, the module
    is a single linear map $Wx\;(+\,x)$.

    Args:
        in_channels: Width of the input; -1 to take it from the first input.
        hidden_channels: Width of the hidden layers.
        out_channels: Width of the output.
        num_layers: Number of residual hidden layers $L$; -1 for a single linear map.
        act: Activation; `"gelu"` is the tanh approximation.
        bias: Whether the linear maps have a bias.
        input_residual: Whether the first layer adds its input if widths match.
        output_residual: Whether the last layer adds its input if widths match.
        init: Parameter initialization, see `nn.initialization`. With `"scaled"`, a
            first layer without residual preserves the size of the input; `"paper"`
            draws all weights as published.

    Shapes:
        - input: $[*, C_\text{in}]$
        - output: $[*, C_\text{out}]$

    Raises:
        ValueError: If a width is not positive or `num_layers` is below -1.

    Source:
        [arXiv 2508.12594](https://arxiv.org/abs/2508.12594), Appendix.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        num_layers: int = 2,
        act: Activation = "gelu",
        bias: bool = True,
        input_residual: bool = True,
        output_residual: bool = True,
        init: Init = "paper",
    ) -> None:
        super().__init__()
        check_input_channels(in_channels)
        check_positive(hidden_channels=hidden_channels, out_channels=out_channels)
        check_layers(num_layers=num_layers)
        self.in_channels = in_channels
        self.hidden_channels = hidden_channels
        self.out_channels = out_channels
        self.num_layers = num_layers
        # Not registered as a module, because `self.activation` is.
        self.__dict__["act"] = act
        self.bias = bias
        self.input_residual = input_residual
        self.output_residual = output_residual
        self.init = check_init(init)

        widths = [in_channels, *[hidden_channels] * (num_layers + 1), out_channels]
        self.layers = nn.ModuleList(
            input_linear(a, b, bias)
            for a, b in zip(widths[:-1], widths[1:], strict=True)
        )
        self.activation: Any = resolve_activation(act)
        if in_channels == UNKNOWN:
            after_loading(self, _take_loaded_width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reset parameters."""
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)
            reset_linear(layer)
        self._reset_first()
        if hasattr(self.activation, "reset_parameters"):
            self.activation.reset_parameters()

    def _reset_first(self) -> None:
        """Scale the first layer to preserve its input size if it is not residual."""
        if self.num_layers >= 0:
            residual = self.input_residual and self.in_channels == self.hidden_channels
        else:
            residual = self.output_residual and self.in_channels == self.out_channels
        if self.init == "scaled" and not residual:
            reset_carrying(self.layers[0])

    def materialise(self, in_channels: int) -> None:
        """Set the width of the input of a lazy MLP.

        Args:
            in_channels: The width.
        """
        if self.in_channels != UNKNOWN:
            return
        first = self.layers[0]
        assert isinstance(first, nn.Linear)
        created = materialise(first, in_channels)
        self.in_channels = in_channels
        if created:
            reset_linear(first)
            self._reset_first()

    def forward(self, x: Tensor) -> Tensor:
        """Apply the MLP to each point."""
        if not isinstance(x, Tensor) or not x.is_floating_point() or x.dim() == 0:
            check_strided(x=x)
            raise TypeError(
                f"x is {brief(x)}, expected a torch.Tensor of shape [*, "
                f"{self.in_channels}]"
            )
        if self.in_channels == UNKNOWN:
            self.materialise(x.size(-1))
        residual = self.input_residual and self.in_channels == self.hidden_channels
        if self.num_layers >= 0 and self.act == "gelu" and self._is_unmodified():
            parameters: list[Any] = []
            for layer in self.layers:
                parameters.append((layer.weight, layer.bias))
            output_residual = (
                self.output_residual and self.hidden_channels == self.out_channels
            )
            return residual_mlp(x, parameters, residual, output_residual)
        for layer in self.layers[:-1]:
            h = self.activation(layer(x))
            x = x + h if residual else h
            residual = True
        y: Tensor = self.layers[-1](x)
        return y + x if self.output_residual and x.size(-1) == y.size(-1) else y

    @property
    def supports_cpu_kernels(self) -> bool:
        """Whether the CPU kernel computes all layers as one operation in float32."""
        hidden = [self.hidden_channels] * (self.num_layers + 1)
        widths = [self.in_channels, *hidden, self.out_channels]
        layers = tuple([(a, b, True, False) for a, b in pairwise(widths)])
        return self.act == "gelu" and bool(supports_layers(torch.float32, layers))

    def _is_unmodified(self) -> bool:
        """Return whether the layers and the activation need not be called as modules.

        They must be called if a module or its `forward` was replaced or has a hook.
        """
        called = [*self.layers, self.activation]
        for module in called:
            kind = type(module)
            if _FORWARD.get(kind) is not kind.forward or "forward" in module.__dict__:
                return False
        tanh = getattr(self.activation, "approximate", None) == "tanh"
        return tanh and not any_hooks(called)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.in_channels}, {self.hidden_channels}, "
            f"{self.out_channels}, num_layers={self.num_layers})"
        )


def _take_loaded_width(mlp: nn.Module, incompatible_keys: Any) -> None:
    """Set the input width of a lazy MLP from its loaded weights."""
    assert isinstance(mlp, ResidualMLP)
    first = mlp.layers[0]
    assert isinstance(first, nn.Linear)
    width = input_width(first)
    if width != UNKNOWN:
        mlp.materialise(width)


def pointwise_mlp(
    in_channels: int,
    hidden_channels: int,
    out_channels: int,
    act: Activation,
    init: Init = "paper",
) -> ResidualMLP:
    r"""Return the MLP $W_2\,\phi(W_1 x)$ without residuals.

    Args:
        in_channels: Width of the input.
        hidden_channels: Width of the hidden layer.
        out_channels: Width of the output.
        act: Activation; `nn.GELU()` is the exact GELU.
        init: Parameter initialization, as in `ResidualMLP`.
    """
    return ResidualMLP(
        in_channels,
        hidden_channels,
        out_channels,
        0,
        act,
        input_residual=False,
        output_residual=False,
        init=init,
    )


def lift_mlp(
    in_channels: int, width: int, num_layers: int, act: Activation = "gelu"
) -> ResidualMLP:
    """Return the first map of a network, from its input to hidden features.

    Args:
        in_channels: Width of the input.
        width: Width of the hidden features.
        num_layers: Number of residual hidden layers; -1 for a single linear map.
        act: Activation.
    """
    return ResidualMLP(
        in_channels,
        width,
        width,
        num_layers,
        act,
        input_residual=False,
        output_residual=num_layers >= 0,
    )


def head_mlp(
    width: int, out_channels: int, num_layers: int, act: Activation = "gelu"
) -> ResidualMLP:
    """Return the last map of a network, from hidden features to the fields.

    Args:
        width: Width of the hidden features.
        out_channels: Number of fields to predict.
        num_layers: Number of residual hidden layers; -1 for a single linear map.
        act: Activation.
    """
    return ResidualMLP(
        width, width, out_channels, num_layers, act, output_residual=False
    )
