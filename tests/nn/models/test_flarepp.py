import pytest
import torch

from torch_geometric_flare import FLAREPP
from torch_geometric_flare.training import parameter_groups


@pytest.mark.parametrize(("layers", "latents"), [(8, 64), (8, 128), (2, 64), (4, 64)])
def test_parameter_count(layers, latents):
    width, heads, inputs = 128, 8, 3
    square, head = width * (width + 1), width // heads
    norms = 2 * width + 2 * width + 2 * head + 2 * head
    mlp = (width + 1) * 2 * width + (2 * width + 1) * width
    block = 4 * square + 2 * latents * width + heads + norms + mlp
    lift = (inputs + 1) * width + 3 * square
    head_mlp = 2 * width + 3 * square + width + 1
    model = FLAREPP(inputs, width, 1, num_layers=layers, num_latents=latents)
    found = sum(p.numel() for p in model.parameters())
    assert found == lift + layers * block + head_mlp


def test_the_mlp_of_a_block_adds_nothing_inside():
    # Also where its widths would allow for a residual.
    mlp = FLAREPP(3, 8, 1, num_layers=1, heads=2, mlp_ratio=1).blocks[0].feed_forward
    x = torch.randn(5, 8)
    first, second = mlp.layers
    expected = second(torch.nn.functional.gelu(first(x), approximate="tanh"))
    torch.testing.assert_close(mlp(x), expected)


def test_latents_seeds_and_gates_do_not_decay():
    model = FLAREPP(3, 8, 1, num_layers=1, heads=2, num_latents=5)
    _, exempt = parameter_groups(model, 0.1)
    mixer = model.blocks[0].mixer
    kept = {id(p) for p in exempt["params"]}
    assert {id(p) for p in (mixer.seeds, mixer.latents, mixer.gate)} <= kept
    assert id(mixer.key.weight) not in kept


def test_errors():
    with pytest.raises(ValueError, match="num_layers is 0"):
        FLAREPP(3, 8, 1, num_layers=0)
    with pytest.raises(ValueError, match="mlp_ratio is 0"):
        FLAREPP(3, 8, 1, mlp_ratio=0)
    with pytest.raises(ValueError, match="hidden_channels is 8, which .*heads=3"):
        FLAREPP(3, 8, 1, heads=3)
    with pytest.raises(ValueError, match="chunk_size is 0"):
        FLAREPP(3, 8, 1, chunk_size=0)
    with pytest.raises(ValueError, match=r"expected \[N, 3\]"):
        FLAREPP(3, 8, 1)(torch.randn(5, 4))


def test_repr():
    model = FLAREPP(3, 8, 2, num_layers=2, heads=2, num_latents=5)
    assert str(model) == "FLAREPP(3, 8, 2, num_layers=2, heads=2, num_latents=5)"
