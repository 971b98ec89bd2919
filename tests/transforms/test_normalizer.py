import copy

import pytest
import torch

from torch_geometric_flare.transforms import Normalizer


def test_encode_and_decode():
    normalizer = Normalizer([1.0, 10.0], [2.0, 5.0])
    value = torch.tensor([[3.0, 0.0], [1.0, 20.0]])
    encoded = normalizer.encode(value)
    assert encoded.tolist() == [[1.0, -2.0], [0.0, 2.0]]
    assert normalizer.decode(encoded).tolist() == value.tolist()


def test_bounds_become_zero_and_one():
    normalizer = Normalizer.from_bounds((-0.9425, -1.0), (4.1325, 1.0))
    corners = torch.tensor([[-0.9425, -1.0], [4.1325, 1.0], [1.595, 0.0]])
    expected = [0.0, 0.0, 1.0, 1.0, 0.5, 0.5]
    assert normalizer.encode(corners).flatten().tolist() == pytest.approx(expected)


def test_gaussian_over_samples_of_unequal_size():
    # All points: 1, 3, 5, 7. Their mean is 4, their squared deviations sum to 20.
    samples = [[1.0], [3.0, 5.0], [], [7.0]]
    tensors = (torch.tensor(sample).reshape(-1, 1) for sample in samples)
    normalizer = Normalizer.gaussian(tensors)
    assert normalizer.shift.tolist() == [4.0]
    assert normalizer.scale.tolist() == pytest.approx([(20 / 3) ** 0.5])
    assert normalizer.shift.dtype == torch.float32


def test_gaussian_is_that_of_all_points_at_once():
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(n, 2, generator=generator) * 7 + 3 for n in (5, 63, 500)]
    normalizer = Normalizer.gaussian(tensors)
    points = torch.cat(tensors).double()
    torch.testing.assert_close(normalizer.shift, points.mean(0).float())
    torch.testing.assert_close(normalizer.scale, points.std(0).float())


def test_gaussian_of_a_small_spread_about_a_large_mean():
    field = 1e4 + torch.tensor([[-0.5], [0.0], [0.5]])
    tensors = [field] * 1000
    normalizer = Normalizer.gaussian(tensors)
    assert normalizer.shift.item() == 1e4
    assert normalizer.scale.item() == pytest.approx((0.5 * 1000 / 2999) ** 0.5)


@pytest.mark.parametrize("value", [30.0, 0.0, 0.1, -1e-9, 1e30, 1.7e9 + 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_constant_channel_has_scale_one_and_a_warning(value, dtype):
    other = torch.arange(50, dtype=dtype)
    field = torch.stack([torch.full((50,), value, dtype=dtype), other], dim=1)
    with pytest.warns(UserWarning, match="speed"):
        normalizer = Normalizer.gaussian([field] * 7, names=["speed", "height"])
    assert normalizer.scale[0].item() == 1
    assert normalizer.scale[1].item() == pytest.approx(14.43, abs=0.1)
    encoded = normalizer.encode(field)
    assert encoded[:, 0].abs().max() <= 2**-21
    above = normalizer.encode(field + 1)[:, 0]
    expected = (field[0, 0] + 1 - field[0, 0]).item()
    assert above.unique().item() == pytest.approx(expected, abs=1e-6)
    with pytest.warns(UserWarning, match="channel 0"):
        Normalizer.gaussian([field])


@pytest.mark.parametrize("magnitude", [10.0**k for k in range(-30, 31, 5)])
@pytest.mark.parametrize("mean", [0.0, 3.0, 1e5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_magnitude_becomes_mean_zero_and_deviation_one(magnitude, mean, dtype):
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(4, 1000, 2, generator=generator, dtype=torch.float64)
    fields = ((drawn + mean) * magnitude).to(dtype)
    normalizer = Normalizer.gaussian(fields)
    encoded = normalizer.encode(fields).flatten(0, 1)
    assert encoded.dtype == dtype
    assert encoded.double().mean(0).abs().max() < 1e-6
    torch.testing.assert_close(
        encoded.double().std(0), torch.ones(2, dtype=torch.float64), rtol=1e-6, atol=0
    )
    torch.testing.assert_close(
        normalizer.decode(encoded.reshape(fields.shape)).to(dtype),
        fields,
        rtol=1e-6,
        atol=1e-6 * magnitude,
    )


def test_far_coordinates_are_subtracted_before_they_are_rounded():
    lower = torch.tensor([448251.37, 5411932.81], dtype=torch.float64)
    normalizer = Normalizer.from_bounds(lower, lower + 20)
    share = torch.rand(500, 2, dtype=torch.float64)
    encoded = normalizer.encode(lower + 20 * share)
    torch.testing.assert_close(encoded, share, rtol=0, atol=1e-9)
    near = Normalizer.from_bounds(torch.zeros(2), torch.full((2,), 20.0))
    assert near.shift.dtype == torch.float32


def test_a_device_without_double_precision_holds_single():
    def to_such_a_device(tensor):
        if tensor.dtype == torch.float64:
            raise TypeError("no float64 here")
        return tensor.clone()

    normalizer = Normalizer(torch.tensor([1e6 + 0.01]).double(), torch.ones(1).double())
    normalizer._apply(to_such_a_device)
    assert normalizer.shift.dtype == torch.float32
    assert normalizer.shift.item() == 1e6


@pytest.mark.parametrize("cast", ["half", "float", "bfloat16"])
def test_casts_do_not_round_double_statistics(cast):
    normalizer = Normalizer(torch.tensor([1e6 + 0.01]).double(), torch.ones(1).double())
    before = normalizer.shift.clone()
    getattr(normalizer, cast)()
    assert torch.equal(normalizer.shift, before)


def test_statistics_of_earlier_files_keep_their_predictions():
    """Also the scale of 1e-8 that a constant had."""
    normalizer = Normalizer(torch.tensor([30.0]), torch.tensor([1e-8]))
    value = torch.tensor([[30.0], [31.0]])
    assert torch.equal(
        normalizer.encode(value), (value - normalizer.shift) / normalizer.scale
    )
    assert normalizer.encode(value)[1].item() == pytest.approx(1e8)


def test_statistics_are_buffers_that_travel_and_owe_nothing_to_the_caller():
    shift = torch.tensor([1.0])
    normalizer = Normalizer(shift, torch.tensor([2.0]))
    shift.fill_(9.0)
    assert normalizer.shift.item() == 1.0
    assert list(normalizer.parameters()) == []
    other = Normalizer([0.0], [1.0])
    other.load_state_dict(normalizer.state_dict())
    assert other.encode(torch.tensor([5.0])).item() == 2.0
    assert copy.deepcopy(normalizer).double().scale.dtype == torch.float64
    assert repr(normalizer) == "Normalizer(shift=[1.0], scale=[2.0])"
    assert normalizer.num_channels == 1


def test_what_is_no_statistic_is_refused():
    with pytest.raises(ValueError, match=r"shapes \(2,\) and \(1,\)"):
        Normalizer([0.0, 0.0], [1.0])
    with pytest.raises(ValueError, match="must be finite"):
        Normalizer([float("nan")], [1.0])
    with pytest.raises(ValueError, match="scale must be positive"):
        Normalizer([0.0], [0.0])
    with pytest.raises(ValueError, match="upper must lie above lower"):
        Normalizer.from_bounds([0.0, 1.0], [1.0, 1.0])
    with pytest.raises(ValueError, match="upper must lie above lower"):
        Normalizer.from_bounds([0.0], [1.0, 1.0])
    with pytest.raises(ValueError, match="tensor 0 .* 1 of 2"):
        Normalizer.gaussian([torch.tensor([[1.0], [float("inf")]])])
    with pytest.raises(ValueError, match="have 1 points"):
        Normalizer.gaussian([torch.ones(1, 1)])
    with pytest.raises(
        ValueError, match=r"tensor 1 has shape \(2, 3\), expected \[N, 1"
    ):
        Normalizer.gaussian([torch.ones(2, 1), torch.ones(2, 3)])


def test_a_field_of_other_channels_is_refused():
    normalizer = Normalizer([0.0, 0.0], [1.0, 1.0])
    for method in (normalizer.encode, normalizer.decode):
        with pytest.raises(ValueError, match=r"shape \(4, 1\).*2 channels"):
            method(torch.ones(4, 1))


@pytest.mark.parametrize(
    ("cast", "kept"),
    [
        (lambda m: m.half(), torch.float32),
        (lambda m: m.to(torch.bfloat16), torch.float32),
        (lambda m: m.double(), torch.float64),
        (lambda m: m.to("meta", torch.half), torch.float32),
    ],
)
def test_never_of_less_than_single_precision(cast, kept):
    module = torch.nn.Sequential(torch.nn.Linear(1, 1), Normalizer([-229.8457], [0.1]))
    cast(module)
    shift = module[1].shift
    assert shift.dtype == module[1].scale.dtype == kept
    assert shift.device == module[0].weight.device
    if shift.device.type == "cpu":
        assert shift.float().tolist() == torch.tensor([-229.8457]).tolist()
    assert list(module.state_dict()) == ["0.weight", "0.bias", "1.shift", "1.scale"]


def test_identity_and_cat_for_channels_of_their_own():
    coefficients = [torch.tensor([[3.0], [12.0]]), torch.tensor([[12.0]])]
    gaussian = Normalizer.gaussian(coefficients)
    normalizer = Normalizer.cat([Normalizer.identity(2), gaussian])
    assert normalizer.num_channels == 3
    x = torch.rand(5, 3)
    encoded = normalizer.encode(x)
    assert torch.equal(encoded[:, :2], x[:, :2])
    assert torch.equal(encoded[:, 2:], gaussian.encode(x[:, 2:]))
    assert torch.equal(normalizer.decode(x)[:, :2], x[:, :2])
    gaussian.shift.fill_(0.0)
    assert normalizer.shift[2].item() == 9.0
    assert list(normalizer.state_dict()) == ["shift", "scale"]
    with pytest.raises(ValueError, match="num_channels must be at least 1, got 0"):
        Normalizer.identity(0)
    with pytest.raises(ValueError, match="normalizers is empty"):
        Normalizer.cat([])


def test_integers_and_booleans_are_encoded_as_numbers():
    normalizer = Normalizer(torch.tensor([1, 0]), torch.tensor([4, 2])).to(torch.half)
    assert normalizer.shift.tolist() == [1, 0] and normalizer.scale.tolist() == [4, 2]
    value = torch.tensor([[1, 0], [0, 1]])
    expected = [[0.0, 0.0], [-0.25, 0.5]]
    for dtype in (torch.int64, torch.uint8, torch.bool):
        found = normalizer.encode(value.to(dtype))
        assert found.dtype == torch.float32 and found.tolist() == expected
