"""Bands: their quantiles, their coverage on new samples, and where they travel."""

import math

import pytest
import pyvista as pv
import torch
from torch_geometric.data import Data

from torch_geometric_flare.fields import Field
from torch_geometric_flare.nn import FLARE, FLAREQuery
from torch_geometric_flare.surrogates import (
    QueryPoints,
    QuerySurrogate,
    Surrogate,
    load_surrogate,
    save_surrogate,
)
from torch_geometric_flare.surrogates.calibration import (
    conformal_quantile,
    risk_controlled,
)
from torch_geometric_flare.transforms import Normalizer


def unit(channels):
    return Normalizer(torch.zeros(channels), torch.ones(channels))


def make_surrogate(seed=0):
    torch.manual_seed(seed)
    return Surrogate(
        FLARE(2, 8, 2, num_layers=1, heads=2, num_latents=4, init="paper"),
        unit(2),
        unit(2),
        fields=[Field("pressure", 1, "Pa"), Field("heat", 1, "W")],
        location="point",
    )


SURROGATE = make_surrogate()


def sample(generator, points=40):
    """The surrogate's own fields and noise, whose size is the sample's."""
    pos = torch.rand(points, 2, generator=generator)
    size = torch.rand(1, generator=generator) + 0.1
    noise = torch.randn(points, 2, generator=generator) * size
    y = SURROGATE.predict(pos) + noise * torch.tensor([1.0, 10.0])
    return Data(pos=pos, y=y)


def draw(number, seed):
    generator = torch.Generator().manual_seed(seed)
    return [sample(generator) for _ in range(number)]


def mean_pressure(data, fields):
    return {"mean": fields["pressure"].mean().item(), "none": None}


@pytest.mark.parametrize(
    "number, level, rank", [(9, 0.9, 9), (19, 0.9, 18), (20, 0.9, 19), (3, 0.75, 3)]
)
def test_the_quantile_has_the_rank_of_the_definition(number, level, rank):
    scores = torch.randperm(number, generator=torch.manual_seed(0)).double()
    assert conformal_quantile(scores, level) == rank - 1


def test_risk_control_is_the_least_bound_of_the_definition():
    draw = torch.Generator().manual_seed(0)
    residuals = [torch.rand(n, generator=draw).sort().values for n in (3, 50, 7) * 5]
    bound = risk_controlled(residuals, 0.8)

    def risk(q):
        return (sum((r > q).double().mean() for r in residuals) + 1) / 16

    assert risk(bound) <= 0.2
    smaller = torch.cat(residuals)
    smaller = smaller[smaller < bound].max()
    assert risk(smaller) > 0.2


@pytest.mark.parametrize("level, needed", [(0.9, 9), (0.95, 19), (0.5, 1)])
def test_too_few_samples_are_an_error_that_says_how_many(level, needed):
    make_surrogate().calibrate(draw(needed, 0), level)
    with pytest.raises(ValueError, match=rf"{needed - 1} samples.*{level}.* {needed}"):
        make_surrogate().calibrate(draw(needed, 0)[1:], level)


@pytest.mark.slow
def test_coverage_over_twenty_seeds():
    """Marginal bands hold 0.90 of all points, simultaneous ones 0.90 of all samples."""
    held = {"marginal": [], "simultaneous": []}
    errors, means = [], []
    for seed in range(20):
        surrogate = make_surrogate()
        made = surrogate.calibrate(draw(39, 2 * seed), quantities=mean_pressure)
        for new in draw(20, 2 * seed + 1):
            predicted = surrogate.predict(new)
            distance = (predicted - new.y).abs()
            for kind, shares in held.items():
                inside = (distance <= made.half_width(kind)).float()
                shares.append(
                    inside.mean(0) if kind == "marginal" else inside.min(0).values
                )
            off = distance[:, 0].norm() / new.y[:, 0].norm()
            errors.append(float(off <= made.relative_l2["pressure"]))
            mean = (predicted - new.y)[:, 0].mean().abs()
            means.append(float(mean <= made.quantities["mean"]))
    for kind, shares in held.items():
        for share in torch.stack(shares).mean(0):
            assert 0.87 < share < 0.94, kind
    for shares in (errors, means):
        assert 0.86 < sum(shares) / len(shares) < 0.95


def test_a_field_of_zeros_has_an_absolute_error():
    surrogate = make_surrogate()
    surrogate.target_normalizer = Normalizer([0.0, 0.0], [1.0, 4.0])
    samples = draw(9, 0)
    samples[4].y[:, 1] = 0
    found = surrogate.calibrate(samples)
    errors = [
        (surrogate.predict(data) - data.y)[:, 1].norm() / data.y[:, 1].norm()
        for data in samples
    ]
    errors[4] = surrogate.predict(samples[4])[:, 1].norm() / (4 * 40**0.5)
    assert found.relative_l2["heat"] == pytest.approx(max(errors).item(), rel=1e-5)


def test_units_of_channels():
    surrogate = make_surrogate()
    made = surrogate.calibrate(draw(19, 0), quantities=mean_pressure)
    assert made.marginal[1] > 5 * made.marginal[0]
    assert (made.simultaneous > made.marginal).all()
    assert set(made.quantities) == {"mean"}
    new = draw(1, 5)[0]
    band = surrogate.band(new)
    torch.testing.assert_close(band, made.marginal.expand(40, 2))
    assert torch.equal(surrogate.band(new.pos, "simultaneous")[0], made.simultaneous)


def test_members_make_bands_wide_where_they_disagree():
    surrogate, members = make_surrogate(), [make_surrogate(1), make_surrogate(2)]
    made = surrogate.calibrate(draw(19, 0), members=members)
    new = draw(1, 5)[0]
    outputs = torch.stack([s.predict(new.pos) for s in (surrogate, *members)])
    expected = made.marginal * (outputs.std(0) + 0.03)
    torch.testing.assert_close(surrogate.band(new), expected)
    other = Surrogate(FLAREQuery(2, 8, 2, 2, 1).source, unit(2))
    with pytest.raises(ValueError, match="SourceStream"):
        surrogate.calibrate(draw(19, 0), members=[other])


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("members", [[], [make_surrogate(1)]])
def test_they_travel(kind, members, tmp_path):
    surrogate = make_surrogate()
    made = surrogate.calibrate(draw(9, 0), quantities=mean_pressure, members=members)
    if kind == "file":
        save_surrogate(surrogate, tmp_path / "s.pt")
        loaded = load_surrogate(tmp_path / "s.pt")
    else:
        pytest.importorskip("safetensors")
        surrogate.save_pretrained(tmp_path)
        card = (tmp_path / "README.md").read_text()
        assert f"{made.marginal[1]:.4g}" in card and "mean" in card
        loaded = Surrogate.from_pretrained(tmp_path)
    new = draw(1, 5)[0]
    assert torch.equal(loaded.band(new), surrogate.band(new))
    assert loaded.calibration.quantities == made.quantities


def test_a_malformed_one_is_refused(tmp_path):
    surrogate = make_surrogate()
    surrogate.calibrate(draw(9, 0))
    save_surrogate(surrogate, tmp_path / "s.pt")
    content = torch.load(tmp_path / "s.pt", weights_only=True)
    for name, value in (("marginal", torch.ones(3)), ("level", 2.0)):
        broken = {**content["calibration"], name: value}
        torch.save({**content, "calibration": broken}, tmp_path / "t.pt")
        with pytest.raises(ValueError, match=r"t\.pt.*calibration"):
            load_surrogate(tmp_path / "t.pt")


def test_a_mesh_carries_the_half_widths():
    surrogate = make_surrogate()
    made = surrogate.calibrate(draw(9, 0))
    pos = torch.cat([torch.rand(20, 2), torch.zeros(20, 1)], dim=1)
    mesh = surrogate.predict_mesh(pv.PolyData(pos.numpy()))
    assert mesh["pressure_band"] == pytest.approx(made.marginal[0].item())
    assert mesh["heat_band"] == pytest.approx(made.marginal[1].item())
    assert mesh.field_data["band_level"][0] == "0.9"


def test_bad_arguments():
    surrogate = make_surrogate()
    with pytest.raises(ValueError, match="calibrate"):
        surrogate.band(torch.rand(3, 2))
    for level in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match="level"):
            surrogate.calibrate(draw(9, 0), level)
    gaps = draw(9, 0)
    gaps[4].y[3] = math.nan
    with pytest.raises(ValueError, match="sample 4"):
        surrogate.calibrate(gaps)
    for y in (None, torch.rand(40), torch.rand(40, 1), torch.rand(1, 2)):
        wrong = draw(9, 0)
        wrong[4].y = y
        with pytest.raises(ValueError, match="sample 4: .*y"):
            surrogate.calibrate(wrong)
    surrogate.calibrate(draw(9, 0))
    with pytest.raises(ValueError, match="'both'"):
        surrogate.band(torch.rand(3, 2), "both")


def test_query_surrogates_calibrate_their_source_points():
    torch.manual_seed(0)
    model = FLAREQuery(2, 8, 2, 2, 1, num_layers=1, heads=2, num_latents=4)
    surrogate = QuerySurrogate(
        model, unit(2), unit(2), query=QueryPoints(unit(1), unit(2))
    )
    made = surrogate.calibrate(draw(9, 0))
    assert torch.equal(surrogate.band(draw(1, 1)[0]), made.marginal.expand(40, 2))
