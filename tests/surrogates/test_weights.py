"""Surrogates whose points count by what they stand for."""

import warnings

import numpy as np
import pytest
import pyvista as pv
import torch
from torch_geometric.data import Batch, Data

from torch_geometric_flare import FLARE
from torch_geometric_flare.fields import Field
from torch_geometric_flare.nn import DeepONet
from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.surrogates import Surrogate, load_surrogate
from torch_geometric_flare.training import (
    SurrogateDataModule,
    SurrogateModule,
    fit,
)
from torch_geometric_flare.transforms import Normalizer

SIZES = {"num_layers": 2, "heads": 2, "num_latents": 4}


def make_surrogate(weighted=True):
    torch.manual_seed(0)
    return Surrogate(
        FLARE(3, 8, 1, **SIZES),
        Normalizer.identity(1),
        Normalizer.from_bounds([0, 0, 0], [1, 1, 1]),
        fields=[Field("pressure")],
        location="cell",
        weighted=weighted,
    ).eval()


def sphere(refined=False):
    """A closed surface; refined, its upper part has sixteen triangles for one."""
    mesh = pv.Sphere(radius=0.5, center=(0.5, 0.5, 0.5), theta_resolution=16)
    if not refined:
        return mesh
    upper = mesh.cell_centers().points[:, 2] > 0.7
    parts = [
        mesh.extract_cells(upper)
        .extract_surface(algorithm=None)
        .subdivide(2, "linear"),
        mesh.extract_cells(~upper).extract_surface(algorithm=None),
    ]
    return pv.merge(parts).extract_surface(algorithm=None)


def test_weights_of_samples_count_if_weighted():
    data = Data(pos=torch.rand(20, 3), weight=torch.rand(20) + 0.1)
    plain = Data(pos=data.pos)
    weighted, old = make_surrogate(), make_surrogate(False)
    assert torch.equal(old.predict(data), old.predict(plain))
    assert torch.equal(weighted.predict(plain), old.predict(plain))
    assert not torch.allclose(weighted.predict(data), old.predict(data))
    both = weighted.predict(Batch.from_data_list([data, data]))
    torch.testing.assert_close(both[:20], weighted.predict(data))


@pytest.mark.parametrize("unit", [1e-30, 1e30, 1e-60, 1e60])
def test_the_unit_of_weights_does_not_matter(unit):
    surrogate = make_surrogate()
    weight = torch.rand(20, dtype=torch.float64) + 0.1
    data = Data(pos=torch.rand(20, 3), weight=weight.float())
    expected = surrogate.predict(data)
    data.weight = weight * unit
    if 1e-40 < unit < 1e40:
        torch.testing.assert_close(surrogate.predict(data), expected)
        return
    with pytest.raises(ValueError, match="weight holds .*e[+-]"):  # not in float32
        surrogate.predict(data)


def test_weights_stay_in_single_precision():
    surrogate = make_surrogate().half()
    data = Data(pos=torch.rand(20, 3), weight=1e-9 * (torch.rand(20) + 0.1))
    assert torch.equal(surrogate.model_arguments(data)["weight"], data.weight)


def at_coarse_cells(surrogate, **options):
    """The fields at coarse cells, in a coarse and in a refined mesh."""
    coarse, fine = sphere(), sphere(refined=True)
    fields = [
        surrogate.predict_mesh(mesh, **options).cell_data["pressure"]
        for mesh in (coarse, fine)
    ]
    unchanged = coarse.cell_centers().points[:, 2] <= 0.7
    centers = coarse.cell_centers().points[unchanged]
    nearest = fine.find_closest_cell(centers)
    return fields[0][unchanged], fields[1][nearest]


def test_a_refined_mesh_gets_the_same_field():
    surrogate = make_surrogate()
    coarse, fine = at_coarse_cells(surrogate)
    plain, other = at_coarse_cells(surrogate, weight="none")
    weighted = np.abs(coarse - fine).max()
    assert weighted < 0.2 * np.abs(plain - other).max()
    mesh = surrogate.predict_mesh(sphere())
    assert mesh.field_data["weights"][0] == "from the cells of the mesh"


def test_an_old_surrogate_predicts_as_before_with_a_warning():
    old, fine = make_surrogate(False), sphere(refined=True)
    with pytest.warns(UserWarning, match="weight='area'"):
        before = old.predict_mesh(fine)
    areas = old.predict_mesh(fine, weight="area")
    wanted = make_surrogate().predict_mesh(fine)
    assert np.array_equal(areas.cell_data["pressure"], wanted.cell_data["pressure"])
    assert not np.allclose(before.cell_data["pressure"], areas.cell_data["pressure"])
    assert not old.weighted
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        old.predict_mesh(sphere())
        old.predict_mesh(fine, weight="none")


def test_points_alone_are_weighed_by_their_neighbours():
    rng = np.random.default_rng(0)
    cloud = pv.PolyData(rng.random((200, 3)) ** 3)
    surrogate = make_surrogate()
    surrogate.location = "point"
    mesh = surrogate.predict_mesh(cloud)
    assert mesh.field_data["weights"][0].startswith("estimated")
    plain = surrogate.predict_mesh(cloud, weight="none")
    found, other = (m.point_data["pressure"] for m in (mesh, plain))
    assert not np.allclose(found, other)


def test_weight_is_one_of_its_choices():
    with pytest.raises(ValueError, match="weight.*'volume'"):
        make_surrogate().predict_mesh(sphere(), weight="volume")


def test_a_model_without_weights_takes_none():
    model = DeepONet(3, 8, 1, 20)
    surrogate = Surrogate(
        model,
        Normalizer.identity(1),
        Normalizer.from_bounds([0] * 3, [1] * 3),
        weighted=True,
    )
    assert not surrogate.weighted
    data = Data(pos=torch.rand(20, 3), weight=torch.rand(20))
    surrogate.predict(data)
    with pytest.raises(ValueError, match="weight.*DeepONet"):
        surrogate.predict_mesh(pv.PolyData(np.random.rand(20, 3)), weight="area")


def test_training_and_checkpoints_keep_weights(tmp_path):
    torch.manual_seed(0)
    samples = [
        Data(pos=torch.rand(30, 3), y=torch.rand(30, 1), weight=torch.rand(30) + 0.1)
        for _ in range(4)
    ]
    recipe = Recipe(model_class=FLARE, model={"hidden_channels": 8, **SIZES}, epochs=1)
    module = SurrogateModule(
        recipe.build(3, 1),
        Normalizer.identity(1),
        Normalizer.from_bounds([0] * 3, [1] * 3),
        recipe,
        weighted=True,
    )
    data = SurrogateDataModule(samples, batch_size=recipe.batch_size)
    surrogate = fit(module, data, tmp_path, progress=False)
    assert surrogate.weighted
    loaded = load_surrogate(tmp_path / "last.ckpt")
    assert loaded.weighted
    assert torch.equal(loaded.predict(samples[0]), surrogate.predict(samples[0]))
    surrogate.save_pretrained(tmp_path / "folder")
    assert Surrogate.from_pretrained(tmp_path / "folder").weighted
