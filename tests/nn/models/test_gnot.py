import math

import pytest
import torch

from torch_geometric_flare import GNOT
from torch_geometric_flare.nn.models.gnot import reference_grid_code
from torch_geometric_flare.surrogates import Surrogate, load_surrogate, save_surrogate
from torch_geometric_flare.transforms import Normalizer


def on_grid(**options):
    torch.manual_seed(0)
    model = GNOT(
        3, 8, 2, num_layers=1, heads=2, grid=(5, 4), reference_grid=3, **options
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return model


@pytest.mark.parametrize(
    ("in_channels", "grid", "expected"),
    [
        (2, None, 4_870_553),
        (2, (221, 51), 4_902_297),
        (2, (129, 129), 4_902_297),
        (3, (85, 85), 4_904_345),
    ],
)
def test_published_parameter_counts(in_channels, grid, expected):
    model = GNOT(in_channels, 128, 1, grid=grid)
    assert sum(p.numel() for p in model.parameters()) == expected


def test_code_is_the_distance_to_each_point_of_the_lattice():
    code = reference_grid_code((5, 4), 3)
    assert code.shape == (20, 9)
    for i in range(5):
        for j in range(4):
            for a in range(3):
                for b in range(3):
                    expected = math.hypot(i / 4 - a / 2, j / 3 - b / 2)
                    found = code[i * 4 + j, a * 3 + b].item()
                    assert found == pytest.approx(expected, abs=1e-7)
    assert torch.isfinite(reference_grid_code((1, 4), 3)).all()


def test_inputs_reach_the_gates_alone_unless_they_are_embedded():
    x = torch.randn(20, 3)
    for embed_inputs in (False, True):
        model = on_grid(embed_inputs=embed_inputs)
        with torch.no_grad():
            model.blocks[0].gate[0].weight.zero_()
        same = torch.equal(model(x), model(x + 1))
        assert same is not embed_inputs


def test_gates_see_the_inputs_on_a_grid():
    model = on_grid()
    x = torch.randn(20, 3)
    assert not torch.allclose(model(x), model(x + 1))


def test_places_are_those_in_each_graph():
    model, x = on_grid(), torch.randn(20, 3)
    batch = torch.tensor([0] * 20 + [2] * 20)
    torch.testing.assert_close(model(torch.cat([x, x]), batch), model(x).repeat(2, 1))


def test_another_number_of_points_is_refused():
    model = on_grid()
    with pytest.raises(
        ValueError, match=r"a graph has 21 points, .* grid=\(5, 4\) of 20 points"
    ):
        model(torch.randn(21, 3))
    with pytest.raises(ValueError, match="a graph has 19 points"):
        model(torch.randn(40, 3), torch.tensor([0] * 19 + [1] * 21))


def test_a_surrogate_on_a_grid_survives_a_file(tmp_path):
    model = on_grid(embed_inputs=True)
    target = Normalizer(torch.zeros(2), torch.ones(2))
    save_surrogate(Surrogate(model, target), tmp_path / "gnot.pt")
    loaded = load_surrogate(tmp_path / "gnot.pt").model
    assert (loaded.grid, loaded.embed_inputs) == ((5, 4), True)
    x = torch.randn(20, 3)
    assert torch.equal(loaded(x), model(x))


def test_errors():
    with pytest.raises(ValueError, match="num_experts is 0"):
        GNOT(3, 8, 1, num_experts=0)
    with pytest.raises(ValueError, match="hidden_channels is 8, which .*heads=3"):
        GNOT(3, 8, 1, heads=3)
    with pytest.raises(ValueError, match="reference_grid is 0"):
        GNOT(3, 8, 1, reference_grid=0)
    for grid in ((5,), (5, 0), (5, 4.0), (5, 4, 3), 5):
        with pytest.raises(ValueError, match="grid is .*, expected two positive int"):
            GNOT(3, 8, 1, grid=grid)
    with pytest.raises(ValueError, match="embed_inputs is True but grid is None"):
        GNOT(3, 8, 1, embed_inputs=True)
    with pytest.raises(ValueError, match="chunk_size is 0"):
        GNOT(3, 8, 1, chunk_size=0)
    with pytest.raises(ValueError, match=r"expected \[N, 3\]"):
        GNOT(3, 8, 1)(torch.randn(5, 4))


def test_repr():
    small = GNOT(3, 8, 2, num_layers=2, heads=2)
    assert str(small) == "GNOT(3, 8, 2, num_layers=2, heads=2, num_experts=3)"
    assert str(on_grid(embed_inputs=True)) == (
        "GNOT(3, 8, 2, num_layers=1, heads=2, num_experts=3, grid=(5, 4), "
        "embed_inputs=True)"
    )
