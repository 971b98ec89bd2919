import math

import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_flare import FLARE
from torch_geometric_flare.fields import Field
from torch_geometric_flare.surrogates import Surrogate, load_surrogate, save_surrogate
from torch_geometric_flare.transforms import Normalizer, fourier_features


def test_literal_values():
    found = fourier_features(torch.tensor([[-1.0, 0.0], [1.0, -0.5]]), 2)
    half = math.sqrt(0.5)
    expected = torch.tensor(
        [
            [0, 1, 0, 0, 1, 0, 1, -1],
            [0, half, 0, 1, -1, half, 1, 0],
        ]
    )
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert found.dtype == torch.float32


def test_high_octaves_keep_their_digits():
    coordinates = torch.rand(50, 3, dtype=torch.float64) * 2 - 1
    exact = fourier_features(coordinates.float().double(), 12)
    found = fourier_features(coordinates.float(), 12)
    torch.testing.assert_close(found.double(), exact, atol=1e-6, rtol=0)


def surrogate(octaves=3):
    torch.manual_seed(0)
    return Surrogate(
        FLARE(3 + 2 * 2 * octaves, 8, 1, num_layers=1, heads=2),
        Normalizer([0.0], [2.0]),
        Normalizer.from_bounds([0.0, 0.0], [4.0, 2.0]),
        features=(Field("speed"),),
        input_normalizer=Normalizer([0.5, 0.5, 30.0], [0.5, 0.5, 10.0]),
        fourier_octaves=octaves,
    )


def test_only_coordinates_get_them_and_a_checkpoint_keeps_them(tmp_path):
    data = Data(pos=torch.rand(20, 2) * 2, speed=torch.full((20, 1), 35.0))
    model = surrogate()
    x = model.encode_input(data)
    torch.testing.assert_close(x[:, 2], torch.full((20,), 0.5))
    torch.testing.assert_close(x[:, 3:], fourier_features(x[:, :2], 3))
    save_surrogate(model, tmp_path / "model.ckpt")
    again = load_surrogate(tmp_path / "model.ckpt")
    assert again.fourier_octaves == 3
    assert torch.equal(again.predict(data), model.predict(data))


def test_none_is_the_default_and_negative_is_refused():
    assert surrogate(0).encode_input(
        Data(pos=torch.rand(5, 2), speed=torch.ones(5, 1))
    ).shape == (5, 3)
    with pytest.raises(ValueError, match="fourier_octaves"):
        Surrogate(FLARE(2, 8, 1), Normalizer([0.0], [1.0]), fourier_octaves=-1)
