import pytest
import torch
from torch import nn

from torch_geometric_flare.nn import FLARE
from torch_geometric_flare.training import parameter_groups


class Mixed(nn.Module):
    no_weight_decay = ("queries", "missing", "slope")

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 3)
        self.norm = nn.LayerNorm((3, 2))
        self.queries = nn.Parameter(torch.ones(2, 4, 3))
        self.latents = nn.Parameter(torch.ones(4, 3))
        self.head_bias = nn.Parameter(torch.ones(2, 3))
        self.register_parameter("missing", None)
        self.slope = nn.Parameter(torch.ones(2, 3))
        self.temperature = nn.Parameter(torch.tensor(1.0))
        self.slices = nn.Parameter(torch.ones(2, 3))
        self.frozen = nn.Linear(3, 3).requires_grad_(False)
        self.tied = self.linear


def test_norms_vectors_and_what_modules_name_do_not_decay():
    model = Mixed()
    decayed, exempt = parameter_groups(model, 0.5)
    assert decayed["weight_decay"] == 0.5
    assert exempt["weight_decay"] == 0.0
    names = {parameter: name for name, parameter in model.named_parameters()}
    # No name means anything by itself.
    assert sorted(names[p] for p in decayed["params"]) == [
        "head_bias",
        "latents",
        "linear.weight",
        "slices",
    ]
    assert sorted(names[p] for p in exempt["params"]) == [
        "linear.bias",
        "norm.bias",
        "norm.weight",
        "queries",
        "slope",
        "temperature",
    ]


def test_a_module_names_its_own_parameters_alone():
    class Outer(nn.Module):
        no_weight_decay = ("weight",)

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2, 2))
            self.inner = nn.Linear(2, 2)

    model = Outer()
    decayed, exempt = parameter_groups(model, 0.5)
    assert decayed["params"] == [model.inner.weight]
    assert exempt["params"] == [model.weight, model.inner.bias]


def test_a_shared_parameter_is_exempt_if_one_owner_says_so():
    model = nn.ModuleList([nn.Linear(3, 3, bias=False), Mixed()])
    model[1].slope = model[0].weight
    _, exempt = parameter_groups(model, 0.5)
    assert any(parameter is model[0].weight for parameter in exempt["params"])


@pytest.mark.parametrize("declared", ["queries", ("latent",), ["queries"]])
def test_a_misspelled_declaration_is_refused(declared):
    model = Mixed()
    model.no_weight_decay = declared
    with pytest.raises(ValueError, match=r"Mixed.no_weight_decay is .*'queries', 's"):
        parameter_groups(model, 0.5)


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
