"""The optimizer of a recipe and its parameter groups."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.adamw import adamw
from torch_geometric import nn as geometric

from torch_geometric_flare.nn.backbone import BlockNetwork
from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.surrogates import unwrap

_LINEAR = (nn.Linear, geometric.Linear)
_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
# Coefficients and number of steps of the quintic Newton-Schulz iteration.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_EPS = 1e-7


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split parameters into those with and without weight decay.

    Parameters without weight decay are those of norms, those with fewer than two
    dimensions, and those listed in the class attribute `no_weight_decay` of a module:

        class Mixer(nn.Module):
            no_weight_decay = ("latents",)

    Args:
        model: The module whose trainable parameters are split.
        weight_decay: The weight decay of the first group.

    Returns:
        Two groups for a `torch.optim` optimizer, the second with a decay of zero; empty
        groups are omitted. A parameter that several modules share is exempt if one of
        them exempts it.

    Raises:
        ValueError: If `no_weight_decay` of a module is not a tuple of names of its own
            parameters.
    """
    exempt = {
        parameter for module in model.modules() for parameter in _exempt_of(module)
    }
    trainable = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {
            "params": [p for p in trainable if p not in exempt],
            "weight_decay": weight_decay,
        },
        {"params": [p for p in trainable if p in exempt], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """List the trainable matrices that map hidden features to hidden features.

    These are the weights of linear maps, of PyTorch or PyG, inside a `nn.ModuleList`
    that is a child of the network, such as its `blocks`, or of a subnetwork, such as a
    stream of `FLAREQuery`. The first and last layers are outside of it. If a module
    inside also maps the network's input, it lists the children that do so in a class
    attribute, and these are excluded:

        class Block(nn.Module):
            input_maps = ("gate",)

    Args:
        model: The network.

    Returns:
        Each matrix once, in the order of `model.parameters()`.
    """
    model = unwrap(model)
    subnetworks = [
        child for child in model.children() if isinstance(child, BlockNetwork)
    ]
    stacks = [
        child
        for network in (model, *subnetworks)
        for child in network.children()
        if isinstance(child, nn.ModuleList)
    ]
    hidden = {weight for stack in stacks for weight in _weights(stack)}
    return [p for p in model.parameters() if p in hidden and p.requires_grad]


def _weights(module: nn.Module) -> Iterator[Tensor]:
    """Yield the weights of linear maps, without those of `input_maps`."""
    if isinstance(module, _LINEAR):
        yield module.weight
    excluded = getattr(module, "input_maps", ())
    for name, child in module.named_children():
        if name not in excluded:
            yield from _weights(child)


def build_optimizer(model: nn.Module, recipe: Recipe) -> Optimizer:
    """Return the optimizer of a recipe, with its peak learning rates.

    Args:
        model: The network to train.
        recipe: Its hyperparameters.

    Returns:
        `torch.optim.AdamW` over `parameter_groups`; or `MuonAdamW`, with Muon for the
        `hidden_matrices` and AdamW, over the same groups, for all other parameters.

    Raises:
        ValueError: If the recipe uses Muon and the network has no hidden matrices.
    """
    groups = parameter_groups(model, recipe.weight_decay)
    if recipe.optimizer == "adamw":
        return AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas)
    matrices = hidden_matrices(model)
    if not matrices:
        raise ValueError(
            f"optimizer is 'muon', but {type(unwrap(model)).__name__} has no torch.nn."
            "Linear inside a torch.nn.ModuleList: choose optimizer='adamw'"
        )
    chosen = set(matrices)
    for group in groups:
        group["params"] = [p for p in group["params"] if p not in chosen]
    muon = {
        "params": matrices,
        "lr": recipe.peak_matrix_learning_rate,
        "weight_decay": recipe.weight_decay,
        "muon": True,
    }
    return MuonAdamW(
        [muon, *(group for group in groups if group["params"])],
        lr=recipe.learning_rate,
        betas=recipe.betas,
    )


def _exempt_of(module: nn.Module) -> list[nn.Parameter]:
    """Return the direct parameters of a module without weight decay."""
    # Includes optional parameters that are registered as None.
    own_names = set(module._parameters)
    declared = getattr(module, "no_weight_decay", ())
    if not isinstance(declared, tuple) or not own_names.issuperset(declared):
        raise ValueError(
            f"{type(module).__name__}.no_weight_decay is {declared!r}, expected a "
            f"tuple of names of its direct parameters, {sorted(own_names)}"
        )
    return [
        parameter
        for name, parameter in module.named_parameters(recurse=False)
        if isinstance(module, _NORMS) or parameter.dim() < 2 or name in declared
    ]


def orthogonalize(matrices: Tensor) -> Tensor:
    r"""Replace the singular values of matrices by values near one.

    Five steps of the iteration $X \leftarrow a X + (b\,XX^\top + c\,(XX^\top)^2)\,X$
    map every singular value that is not tiny into $[0.7, 1.2]$ and keep the singular
    vectors, so that $U S V^\top$ becomes approximately $U V^\top$.

    Args:
        matrices: A batch of matrices.

    Shapes:
        - input: $[K, A, B]$
        - output: $[K, A, B]$ in float32, or in float64 for float64

    Source:
        K. Jordan, Muon: An optimizer for hidden layers in neural networks (2024).
    """
    a, b, c = _COEFFICIENTS
    x = matrices if matrices.dtype == torch.float64 else matrices.float()
    wide = x.size(1) <= x.size(2)
    x = x if wide else x.mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=_EPS)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        gram = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, gram, x, beta=a)
    return x if wide else x.mT


class MuonAdamW(Optimizer):
    r"""One optimizer with Muon for matrices and AdamW for other parameters.

    A step of Muon updates a matrix $W$ of shape $[A, B]$ by the orthogonalized average
    of its gradients $G$:

    $$M \leftarrow \mu M + (1 - \mu)\,G, \qquad
      U = \mathrm{orthogonalize}\bigl(\mu M + (1 - \mu)\,G\bigr)$$

    $$W \leftarrow (1 - \eta\lambda)\,W - \eta \sqrt{\max(1, A / B)}\; U$$

    The update has the spectral norm $\eta\sqrt{\max(1, A / B)}$ for any width, so the
    same $\eta$ works for all widths. `torch.optim.Muon` computes the same for one
    matrix at a time and in bfloat16. Here, matrices of equal shape are orthogonalized
    as one batch, which takes a third of the time for the small matrices of a surrogate.

    Args:
        params: Parameter groups. Muon updates groups with `"muon": True`, which hold
            only matrices; AdamW updates all others.
        lr: Default learning rate of a group.
        betas: Decay rates of AdamW.
        eps: Constant in the denominator of AdamW.
        weight_decay: Default decoupled weight decay of a group.
        momentum: Momentum $\mu$ of Muon.

    Raises:
        ValueError: If a Muon group has a parameter that is not a real matrix, or a
            number is out of range.

    Source:
        K. Jordan, Muon: An optimizer for hidden layers in neural networks (2024);
        [arXiv 2502.16982](https://arxiv.org/abs/2502.16982).
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
    ) -> None:
        for name, value in (("betas[0]", betas[0]), ("betas[1]", betas[1])):
            if not 0 <= value < 1:
                raise ValueError(f"{name} must be in [0, 1), got {value}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum}")
        for name, value in (("lr", lr), ("eps", eps), ("weight_decay", weight_decay)):
            if not value >= 0:
                raise ValueError(f"{name} must be nonnegative, got {value}")
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "muon": False,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, see the class."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        for parameter in group["params"] if group["muon"] else ():
            if parameter.dim() != 2 or parameter.is_complex():
                raise ValueError(
                    f"a group with muon=True has a parameter of shape "
                    f"{list(parameter.shape)} and {parameter.dtype}, expected real "
                    "matrices: move it to a group of AdamW"
                )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Perform one optimization step.

        Args:
            closure: Recomputes the gradients and returns the loss.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if group["muon"]:
                self._step_matrices(parameters, group)
            elif parameters:
                self._step_others(parameters, group)
        return loss

    def _step_matrices(self, matrices: list[Tensor], group: dict[str, Any]) -> None:
        by_shape: dict[Any, list[Tensor]] = defaultdict(list)
        for parameter in matrices:
            by_shape[parameter.shape, parameter.dtype, parameter.device].append(
                parameter
            )
        for (shape, _, _), parameters in by_shape.items():
            momentum, lr = group["momentum"], float(group["lr"])
            directions = []
            for parameter in parameters:
                gradient, state = parameter.grad, self.state[parameter]
                assert gradient is not None
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(parameter)
                average = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
                directions.append(gradient.lerp(average, momentum))
            updates = orthogonalize(torch.stack(directions)).to(parameters[0].dtype)
            scale = lr * math.sqrt(max(1.0, shape[0] / shape[1]))
            for parameter, update in zip(parameters, updates, strict=True):
                if group["weight_decay"]:
                    parameter.mul_(1 - lr * group["weight_decay"])
                parameter.sub_(update, alpha=scale)

    def _step_others(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.tensor(0.0)
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
        states = [self.state[p] for p in parameters]
        beta1, beta2 = group["betas"]
        adamw(
            parameters,
            [p.grad for p in parameters if p.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            has_complex=any(p.is_complex() for p in parameters),
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )
