"""Files, the hub, and other libraries."""

import numpy as np
import pytest
import torch

from torch_geometric_flare import FLARE
from torch_geometric_flare.fields import Field
from torch_geometric_flare.nn import FNO
from torch_geometric_flare.surrogates import Surrogate
from torch_geometric_flare.transforms import Normalizer

from .rows import network, points, row


@pytest.fixture
def surrogate():
    return Surrogate(
        network(),
        Normalizer([1.0], [2.0]),
        Normalizer.from_bounds([-1.0] * 3, [1.0] * 3),
        "simulated cars",
        fields=(Field("pressure", 1, "Pa"),),
    )


@row("save_pretrained, from_pretrained")
def test_pretrained(surrogate, tmp_path):
    pytest.importorskip("safetensors", reason="needs the extra hub")
    surrogate.save_pretrained(tmp_path / "car")
    names = sorted(path.name for path in (tmp_path / "car").iterdir())
    assert names == ["README.md", "config.json", "model.safetensors"]
    loaded = Surrogate.from_pretrained(tmp_path / "car")
    pos, _ = points()
    assert torch.equal(loaded.predict(pos), surrogate.predict(pos))


@row("safetensors")
def test_safetensors(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch", reason="needs the extra hub")
    model, (x, batch) = network(), points()
    safetensors.save_model(model, tmp_path / "model.safetensors")
    other = network(1)
    safetensors.load_model(other, tmp_path / "model.safetensors")
    assert torch.equal(other(x, batch), model(x, batch))


@row("peft")
def test_peft():
    peft = pytest.importorskip("peft", reason="needs the extra peft")
    model, (x, batch) = network(), points()
    before = model(x, batch).detach()
    config = peft.LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    adapted = peft.get_peft_model(model, config)
    y = adapted(x, batch)
    assert not torch.allclose(y, before)
    y.sum().backward()
    trained = [n for n, p in model.named_parameters() if p.grad is not None]
    assert trained and all("lora_" in name for name in trained)
    merged = adapted.merge_and_unload()
    torch.testing.assert_close(merged(x, batch), y, atol=1e-5, rtol=1e-4)


@row("neuraloperator")
@pytest.mark.filterwarnings("ignore")
def test_neuraloperator():
    pytest.importorskip("neuralop", reason="needs the extra fno")
    model = FNO(3, 8, 1, grid=(5, 4), modes=(4, 4), num_layers=1)
    x, batch = torch.rand(40, 3), torch.arange(2).repeat_interleave(20)
    torch.testing.assert_close(model(x, batch)[:20], model(x[:20]))


@row("pyvista")
def test_pyvista(surrogate, tmp_path):
    pv = pytest.importorskip("pyvista", reason="needs the extra viz")
    mesh = pv.Sphere(radius=0.5, theta_resolution=8, phi_resolution=8)
    predicted = surrogate.predict_mesh(mesh, location="point")
    expected = surrogate.predict(torch.tensor(mesh.points))
    found = predicted.point_data["pressure"]
    np.testing.assert_allclose(np.ravel(found), expected.ravel(), rtol=1e-5)
    mesh.save(tmp_path / "sphere.vtp")
    again = surrogate.predict_mesh(tmp_path / "sphere.vtp", location="cell")
    assert again.cell_data["pressure"].shape[0] == mesh.n_cells


@row("numpy")
def test_numpy():
    """Arrays share their memory with the tensors made of them."""
    model, (x, _) = network().eval(), points()
    y = model(torch.from_numpy(x.numpy())).detach().numpy()
    np.testing.assert_array_equal(y, model(x).detach())


@row("copy, pickle, state_dict")
def test_state_dict(tmp_path):
    model, (x, batch) = network(), points()
    torch.save(model.state_dict(), tmp_path / "model.pt")
    other = FLARE(3, 8, 1, num_layers=2, heads=2, num_latents=4)
    other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    assert torch.equal(other(x, batch), model(x, batch))
