"""PyTorch Geometric."""

import pytest
import torch
from torch import nn
from torch_geometric.data import Batch, Data, HeteroData
from torch_geometric.explain import CaptumExplainer, Explainer, GNNExplainer
from torch_geometric.loader import DataLoader
from torch_geometric.nn import (
    GATConv,
    GraphNorm,
    HeteroConv,
    SAGEConv,
    Sequential,
    global_mean_pool,
    summary,
)
from torch_geometric.transforms import NormalizeScale
from torch_geometric.utils import to_dense_batch

from torch_geometric_flare.nn import FLAREConv, GPSFLAREConv, ResidualBlock
from torch_geometric_flare.training import SurrogateDataModule
from torch_geometric_flare.transforms import KNNEdges

from .rows import network, points, row

NO_EDGES = torch.empty(2, 0, dtype=torch.long)
REGRESSION = {"mode": "regression", "task_level": "node", "return_type": "raw"}


class WithoutEdges(nn.Module):
    """Takes the arguments of a convolution and leaves the edges out."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def reset_parameters(self):
        self.module.reset_parameters()

    def forward(self, x, edge_index, batch=None):
        return self.module(x, batch)


@row("Data, Batch, DataLoader")
def test_data():
    model = network()
    samples = [Data(x=torch.rand(n, 3)) for n in (5, 1, 9)]
    alone = torch.cat([model(data.x) for data in samples])
    batch = Batch.from_data_list(samples)
    torch.testing.assert_close(model(batch.x, batch.batch), alone)
    loaded = [model(b.x, b.batch) for b in DataLoader(samples, batch_size=2)]
    torch.testing.assert_close(torch.cat(loaded), alone)


@row("to_dense_batch")
def test_to_dense_batch():
    model, (x, batch) = network(), points()
    block, mask = to_dense_batch(x, batch)
    torch.testing.assert_close(model(block, mask)[mask], model(x, batch))


@row("torch_geometric.transforms")
def test_transforms():
    pos = torch.rand(12, 3)
    samples = [Data(x=torch.rand(12, 3), pos=pos, y=torch.rand(12, 1))]
    data = SurrogateDataModule(samples, batch_size=1, train_transform=NormalizeScale())
    (batch,) = data.train_dataloader()
    assert batch.pos.abs().max() <= 1
    model = network()
    torch.testing.assert_close(model(batch.x, batch.batch), model(samples[0].x))


@row("Sequential")
def test_sequential():
    x, batch = points()
    model = Sequential(
        "x, edge_index, batch",
        [
            (SAGEConv(3, 8), "x, edge_index -> x"),
            (FLAREConv(-1, 8, heads=2), "x, batch -> x"),
            nn.ReLU(),
            (GraphNorm(8), "x, batch -> x"),
            (global_mean_pool, "x, batch -> x"),
        ],
    )
    y = model(x, NO_EDGES, batch)
    assert y.shape == (2, 8)
    torch.testing.assert_close(y[:1], model(x[:8], NO_EDGES, batch[:8]))


@row("A local layer in each block")
def test_local_layer():
    samples = [KNNEdges(3)(Data(pos=torch.rand(n, 8))) for n in (8, 12)]
    block = ResidualBlock(8, FLAREConv(8, heads=2), nn.Identity(), GATConv(8, 8))
    batch = Batch.from_data_list(samples)
    y = block(batch.pos, batch.batch, edges={"edge_index": batch.edge_index})
    alone = [block(s.pos, edges={"edge_index": s.edge_index}) for s in samples]
    torch.testing.assert_close(y, torch.cat(alone))


@row("GPSConv")
def test_gps():
    x, batch = torch.rand(20, 8), points()[1]
    conv = GPSFLAREConv(8, GATConv(8, 8), heads=2, num_latents=4)
    edge_index = torch.tensor([[0, 1, 9], [1, 2, 10]])
    y = conv(x, edge_index, batch)
    torch.testing.assert_close(y[:8], conv(x[:8], edge_index[:, :2]))


@row("HeteroData, HeteroConv")
def test_hetero():
    relations = {
        ("inlet", "to", "wall"): WithoutEdges(FLAREConv((-1, -1), 8)),
        ("wall", "to", "inlet"): WithoutEdges(FLAREConv((-1, -1), 8)),
        ("wall", "to", "wall"): WithoutEdges(FLAREConv(-1, 8)),
    }
    conv = HeteroConv(relations)
    samples = []
    for inlet, wall in ((4, 3), (6, 4)):
        sample = HeteroData()
        sample["inlet"].x, sample["wall"].x = torch.rand(inlet, 5), torch.rand(wall, 3)
        for relation in relations:
            sample[relation].edge_index = NO_EDGES
        samples.append(sample)
    batch = Batch.from_data_list(samples)
    y = conv(batch.x_dict, batch.edge_index_dict, batch_dict=batch.batch_dict)
    alone = [conv(sample.x_dict, sample.edge_index_dict) for sample in samples]
    for name in ("inlet", "wall"):
        assert y[name].size(1) == 8
        torch.testing.assert_close(y[name], torch.cat([part[name] for part in alone]))
    bare = HeteroConv({("wall", "to", "wall"): FLAREConv(3, 6, heads=2)})
    with pytest.raises(ValueError, match="FLAREConv takes no edge_index"):
        bare(batch.x_dict, batch.edge_index_dict)


@row("Explainer")
def test_explainer():
    x, batch = points()
    explainer = Explainer(
        WithoutEdges(network()),
        GNNExplainer(epochs=5),
        explanation_type="model",
        node_mask_type="attributes",
        model_config=REGRESSION,
    )
    mask = explainer(x, NO_EDGES, batch=batch, index=3).node_mask
    assert (mask[:8] > 0).all() and not mask[8:].any()  # point 3 is of graph 0


@row("captum")
def test_captum():
    attr = pytest.importorskip("captum.attr", reason="needs captum")
    model, x = network().double().eval(), points()[0].double()

    def at_a_point(x):  # [B, N, C]: scaled copies of the input are graphs of a batch
        batch = torch.arange(len(x)).repeat_interleave(x.size(1))
        return model(x.flatten(0, 1), batch).view(len(x), -1)[:, 3]

    found = attr.IntegratedGradients(at_a_point).attribute(x[None])
    change = model(x)[3] - model(0 * x)[3]
    torch.testing.assert_close(found.sum(), change.squeeze(), atol=1e-6, rtol=0)
    # Rows of points would be copies that see each other.
    naive = attr.IntegratedGradients(lambda x: model(x).squeeze(1)).attribute(x)
    changes = (model(x) - model(0 * x)).sum()
    assert not torch.allclose(naive.sum(), changes, rtol=0.01)
    explainer = Explainer(
        WithoutEdges(model),
        CaptumExplainer("IntegratedGradients"),
        explanation_type="model",
        node_mask_type="attributes",
        model_config=REGRESSION,
    )
    mask = explainer(x, NO_EDGES, index=3).node_mask
    torch.testing.assert_close(mask, found[0], atol=1e-6, rtol=1e-3)


@row("Lazy widths")
def test_lazy():
    conv = FLAREConv(-1, 8)
    with torch.no_grad():
        conv(points()[0])
    assert conv.in_channels == 3
    assert conv.key_mlp.layers[0].weight.shape == (8, 3)


@row("summary")
def test_summary():
    pytest.importorskip("tabulate", reason="needs tabulate")
    table = summary(network(), *points(), max_depth=3)
    assert "FLARE" in table and "ResidualBlock" in table and "[20, 1]" in table
