import torch
from torch import nn

from torch_geometric_flare.nn import FLARE
from torch_geometric_flare.training import parameter_groups


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 3)
        self.norm = nn.LayerNorm((3, 2))
        self.latents = nn.Parameter(torch.ones(2, 4, 3))
        self.latent_queries = nn.Parameter(torch.ones(4, 3))
        self.head_bias = nn.Parameter(torch.ones(2, 3))
        self.temperature = nn.Parameter(torch.tensor(1.0))
        self.slices = nn.Parameter(torch.ones(2, 3))
        self.frozen = nn.Linear(3, 3).requires_grad_(False)
        self.tied = self.linear


def test_biases_norms_and_latents_do_not_decay():
    model = Mixed()
    decayed, exempt = parameter_groups(model, 0.5)
    assert decayed["weight_decay"] == 0.5
    assert exempt["weight_decay"] == 0.0
    names = {parameter: name for name, parameter in model.named_parameters()}
    assert sorted(names[p] for p in decayed["params"]) == ["linear.weight", "slices"]
    assert sorted(names[p] for p in exempt["params"]) == [
        "head_bias",
        "latent_queries",
        "latents",
        "linear.bias",
        "norm.bias",
        "norm.weight",
        "temperature",
    ]


def test_flare_decays_its_linear_weights_alone():
    model = FLARE(3, 16, 1, num_layers=2, heads=2, num_latents=4, qk_norm=True)
    decayed, exempt = parameter_groups(model, 1e-5)
    linear = {m.weight for m in model.modules() if isinstance(m, nn.Linear)}
    assert set(decayed["params"]) == linear
    assert set(exempt["params"]) == set(model.parameters()) - linear
    assert len([p for p in exempt["params"] if p.dim() == 3]) == 2


def test_an_empty_group_is_left_out():
    (group,) = parameter_groups(nn.LayerNorm(3), 0.1)
    assert group["weight_decay"] == 0.0
