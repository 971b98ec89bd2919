"""Small networks of other kinds, to hold the interface of stages to."""

import inspect

import torch
from torch import nn
from torch_geometric.data import Data

from torch_geometric_flare.functional import (
    SoftmaxState,
    ragged_flare_decode,
    ragged_flare_encode,
)
from torch_geometric_flare.nn import (
    Backbone,
    PhysicsAttention,
    PointMixer,
    ResidualBlock,
    ResidualMLP,
)
from torch_geometric_flare.nn.streaming.stage import run_whole


class TwoEncodes(PointMixer):
    """The queries of the second encoding come from the first, as in FLARE++."""

    num_encodes = 2
    no_weight_decay = ("latents",)

    def __init__(self, channels, num_latents=5, chunk_size=None):
        super().__init__()
        self.in_channels, self.chunk_size = channels, chunk_size
        self.latents = nn.Parameter(torch.randn(2, num_latents, channels // 2))
        self.key = nn.Linear(channels, channels)

    def split(self, x):
        return x.view(x.size(0), 2, -1)

    def encode_rows(self, x, layout, latents=()):
        k = self.split(self.key(x))
        q = latents[0] if latents else self.latents
        return ragged_flare_encode(q, k, self.split(x) if latents else k, layout)

    def process(self, state, latents=()):
        if latents:
            return latents[0], state.value
        return (self.latents + state.value.tanh(),)

    def decode_rows(self, latents, x, layout):
        q, z = latents
        k = self.split(self.key(x))
        return ragged_flare_decode(q, k, z, layout).flatten(1)


class OnceStage(nn.Module):
    """Encode to latents, a transformer among them, decode: LNO and PerceiverIO."""

    num_encodes = 1

    def __init__(self, channels, num_latents=5):
        super().__init__()
        self.latents = nn.Parameter(torch.randn(1, num_latents, channels))
        self.key = nn.Linear(channels, channels)
        self.among = nn.TransformerEncoderLayer(
            channels, 2, 2 * channels, dropout=0.0, batch_first=True, norm_first=True
        )

    def encode_rows(self, x, layout, latents=()):
        return ragged_flare_encode(
            self.latents, self.key(x).unsqueeze(1), x.unsqueeze(1), layout
        )

    def process(self, state: SoftmaxState, latents=()):
        return (self.among(state.value.squeeze(1)).unsqueeze(1),)

    def decode_rows(self, latents, x, layout):
        k = self.key(x).unsqueeze(1)
        return ragged_flare_decode(self.latents, k, latents[0], layout).squeeze(1)

    def forward(self, x, layout, group=None):
        return run_whole(self, x, layout, group)


class Sketch(Backbone):
    """A network of given blocks."""

    def __init__(self, channels, blocks, chunk_size=None):
        super().__init__()
        self.in_channels, self.hidden_channels, self.out_channels = 3, channels, 2
        self.chunk_size = chunk_size
        self.lift = nn.Linear(3, channels)
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(channels)
        self.head = nn.Linear(channels, 2)


def networks():
    """One of each kind, in double precision, with parameters that matter."""

    def block(mixer):
        return ResidualBlock(8, mixer, ResidualMLP(8, 8, 8, 0))

    kinds = {
        "two_encodes": [block(TwoEncodes(8)), block(TwoEncodes(8))],
        "once": [OnceStage(8)],
        "physics": [
            block(PhysicsAttention(8, heads=2, num_slices=4)) for _ in range(2)
        ],
    }
    torch.manual_seed(0)
    found = {}
    for name, blocks in kinds.items():
        model = Sketch(8, blocks).double()
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.4)
        found[name] = model
    return found


class AlongEdges(nn.Module):
    """Calls a network with coordinates, the first columns of `x`, and their edges."""

    def __init__(self, model, transform, pos_channels=2):
        super().__init__()
        self.model, self.transform = model, transform
        self.pos_channels = pos_channels

    def forward(self, x, batch=None, batch_size=None):
        pos = x[:, : self.pos_channels]
        data = Data(x=x, pos=pos, batch=batch, batch_size=batch_size)
        sizes = [len(x)] if batch is None else batch.bincount().tolist()
        samples = [self.transform(Data(pos=part)) for part in pos.split(sizes)]
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        parts = [s.edge_index + n for s, n in zip(samples, starts, strict=True)]
        data.edge_index = torch.cat(parts, 1)
        if "edge_weight" in samples[0]:
            data.edge_weight = torch.cat([s.edge_weight for s in samples])
        names = inspect.signature(self.model.forward).parameters
        return self.model(**{name: data.get(name) for name in names})


class BothStreams(nn.Module):
    """Calls a network of two streams with the same points as source and as queries."""

    def __init__(self, model):
        super().__init__()
        self.model, self.in_channels = model, model.in_channels

    @property
    def chunk_size(self):
        return self.model.chunk_size

    @chunk_size.setter
    def chunk_size(self, chunk_size):
        self.model.chunk_size = chunk_size

    def forward(self, x, batch=None, batch_size=None, **arguments):
        return torch.cat(self.model(x, x, batch, batch, batch_size, **arguments), 1)


CHANNELS = 3
"""Conditions of each graph."""


def conditions(graphs, channels=CHANNELS):
    """The same conditions in every call."""
    generator = torch.Generator().manual_seed(3)
    return torch.randn(graphs, channels, generator=generator).double()


class Wrapper(nn.Module):
    """A module around another, whose chunks are those of the inner one."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    @property
    def chunk_size(self):
        return self.module.chunk_size

    @chunk_size.setter
    def chunk_size(self, size):
        self.module.chunk_size = size


class Conditioned(Wrapper):
    """A module whose graphs have conditions that follow from their points or number.

    Args:
        of_points: Take the first point of each graph, so that a graph alone has the
            conditions that it has among others.
    """

    def __init__(self, module, of_points=False):
        super().__init__(module)
        self.of_points = of_points

    def forward(self, x, batch=None, batch_size=None, group=None, weight=None):
        u = conditions(batch_size or 1)
        if self.of_points:
            graph = torch.zeros(len(x), dtype=torch.long) if batch is None else batch
            for g in graph.unique():
                u[g] = x.detach()[graph == g][0, :CHANNELS]
        return self.module(x, batch, batch_size, group, weight, u)
