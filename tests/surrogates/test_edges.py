import pytest
import torch
from lightning.pytorch import Callback
from torch import nn
from torch_geometric.data import Batch, Data

from torch_geometric_flare.nn import FLARE, FLAREHybrid, MeshGraphNet
from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.surrogates import Surrogate, edge_transform
from torch_geometric_flare.training import SurrogateDataModule, SurrogateModule, fit
from torch_geometric_flare.transforms import MeshEdges, Normalizer, RadiusEdges

RADIUS = 0.6


def sample(seed, grid=(4, 5)):
    height, width = grid
    places = torch.cartesian_prod(torch.arange(height), torch.arange(width))
    pos = places / torch.tensor([height - 1, width - 1])
    generator = torch.Generator().manual_seed(seed)
    y = 1 + torch.rand(len(pos), 1, generator=generator)
    return Data(x=pos.clone(), pos=pos, y=y, grid=grid)


def surrogate_of(model):
    torch.manual_seed(0)
    return Surrogate(model.double(), Normalizer([0.5], [2.0]))


def mesh_graph_net():
    return MeshGraphNet(2, 8, 1, num_layers=2, edge_channels=3)


def hybrid():
    return FLAREHybrid(
        2, 8, 1, pos_channels=2, radius=RADIUS, num_layers=1, heads=2, num_latents=4
    )


MODELS = pytest.mark.parametrize(
    ("build", "transform"),
    [(mesh_graph_net, MeshEdges()), (hybrid, RadiusEdges(RADIUS))],
)


@MODELS
def test_samples_without_edges_get_those_that_the_model_asks_for(build, transform):
    surrogate = surrogate_of(build())
    plain = sample(0)
    before = set(plain.keys())
    predicted = surrogate.predict(plain)
    assert set(plain.keys()) == before
    given = transform(sample(0))
    assert torch.equal(predicted, surrogate.predict(given))
    both = Batch.from_data_list([sample(1, (3, 3)), plain])
    torch.testing.assert_close(surrogate.predict(both)[9:], predicted)


def test_edges_of_a_sample_are_kept():
    surrogate = surrogate_of(mesh_graph_net())
    alone = sample(0)
    alone.edge_index = torch.empty(2, 0, dtype=torch.long)
    assert not torch.equal(surrogate.predict(alone), surrogate.predict(sample(0)))
    # Other edges than neighbours within the radius are not what the hybrid means.
    surrogate = surrogate_of(hybrid())
    expected = surrogate.predict(sample(0))
    assert torch.equal(surrogate.predict(alone), expected)


def test_who_asks_for_edges():
    class Optional(nn.Module):
        def forward(self, x, edge_index=None):
            return x

    assert edge_transform(FLARE(2, 8, 1)) is None
    assert edge_transform(Optional()) is None
    assert "'edge_index', MeshEdges(k=6" in repr(edge_transform(mesh_graph_net()))
    assert "'edge_weight', RadiusEdges(" in repr(edge_transform(hybrid()))


@MODELS
def test_a_training_makes_them(build, transform, tmp_path):
    model = build()
    seen = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["edge_index"].size(1)),
        with_kwargs=True,
    )
    recipe = Recipe(model_class=type(model), epochs=2, batch_size=2)
    module = SurrogateModule(model, Normalizer([1.5], [0.3]), recipe=recipe)
    data = SurrogateDataModule([sample(0), sample(1), sample(2, (3, 3))], batch_size=2)
    fit(module, data, tmp_path, accelerator="cpu", progress=False)
    large = transform(sample(0)).edge_index.size(1)
    small = transform(sample(0, (3, 3))).edge_index.size(1)
    assert sum(seen) == 2 * (2 * large + small)


def test_the_loader_makes_them_after_the_transform(tmp_path):
    data = SurrogateDataModule([sample(0)])
    assert "edge_index" not in next(iter(data.train_dataloader()))
    recipe = Recipe(model_class=MeshGraphNet, epochs=1, batch_size=1)
    module = SurrogateModule(mesh_graph_net(), Normalizer([1.5], [0.3]), recipe=recipe)
    found = []

    class Spy(Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            found.append("edge_index" in batch)

    fit(module, data, tmp_path, accelerator="cpu", progress=False, callbacks=[Spy()])
    assert found == [True]
