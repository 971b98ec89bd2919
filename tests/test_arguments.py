"""Arguments of a wrong kind end in a sentence that names them."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_flare import FLARE, FLAREConv, PointBatch, nn
from torch_geometric_flare import functional as F
from torch_geometric_flare._arguments import as_path, expand_path
from torch_geometric_flare.datasets import SimulatedDataset
from torch_geometric_flare.fields import Field
from torch_geometric_flare.metrics import force_coefficients, relative_l2
from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.simulation import AirfoilFlow, DarcyFlow, Notchback, PipeFlow
from torch_geometric_flare.surrogates import Surrogate, load_surrogate
from torch_geometric_flare.training import SurrogateDataModule, SurrogateModule
from torch_geometric_flare.transforms import (
    GridStride,
    KNNEdges,
    Normalizer,
    RadiusEdges,
)

N = 30
BATCH = torch.tensor([0] * 10 + [1] * 20)
LAYOUT = PointBatch.from_sizes((10, 20))


def dense():
    q, (k, v) = torch.rand(2, 5, 4), torch.rand(2, 1, 2, N, 4)
    return {"q": q, "k": k, "v": v}


def ragged():
    q, (k, v) = torch.rand(2, 5, 4), torch.rand(2, N, 2, 4)
    return {"q": q, "k": k, "v": v, "layout": LAYOUT}


def decoding():
    arguments = dense()
    return {"q": arguments["q"], "k": arguments["k"], "z": torch.rand(1, 2, 5, 4)}


def self_attention():
    return ragged() | {"q": torch.rand(N, 2, 4), "scale": 1.0}


def counted():
    return {"batch": BATCH, "num_points": N}


def points(channels=8):
    return {"x": torch.rand(N, channels), "batch": BATCH, "batch_size": 2}


def errors():
    return {"pred": torch.rand(N, 1), "target": torch.rand(N, 1), "batch": BATCH}


def forces():
    found = {"pressure": torch.rand(N), "normal": torch.rand(N, 3)}
    return found | {"area": torch.rand(N), "speed": 1.0, "reference_area": 1.0}


def surrogate():
    model = FLARE(3, 8, 1, num_layers=1, heads=2, num_latents=4)
    return {"model": model, "target_normalizer": Normalizer([0.0], [1.0])}


def dataset():
    return {"root": "data", "simulator": DarcyFlow(), "num_samples": 1}


TENSORS = [None, [1.0, 2.0], np.ones((N, 3), np.float32), "x", torch.arange(N)]
MATCHED = [torch.rand(N, 8, dtype=torch.complex64)]
INTEGERS = ["8", [1], 8.5, float("nan"), np.ones(3), object()]
NUMBERS = ["8", [1.0], True, np.ones(3), object()]
THINGS = ["x", 1.5, object(), np.ones(3)]
HUGE = torch.tensor([0] * (N - 1) + [10**12])
BATCHES = [[0] * N, np.zeros(N, int), "x", BATCH.float(), HUGE]

STATISTICS = {"shift": [0.0], "scale": [1.0]}
STATE = F.flare_encode(**dense())

conv = FLAREConv(8, heads=2, num_latents=4)
model = FLARE(3, 8, 1, num_layers=1, heads=2, num_latents=4)
# Function, what is right, and for each argument what is wrong.
TABLE = [
    (F.flare_attention, dense, {n: TENSORS for n in "qk"} | {"mask": ["x", [True]]}),
    (F.flare_encode, dense, {n: TENSORS for n in "qkv"}),
    (F.flare_attention, dense, {"scale": [None, *NUMBERS]}),
    (F.flare_encode, dense, {"scale": [None, *NUMBERS]}),
    (F.flare_decode, decoding, {"z": TENSORS, "scale": [None, *NUMBERS]}),
    (
        F.reference_flare_attention,
        dense,
        {n: TENSORS for n in "qkv"} | {"scale": NUMBERS},
    ),
    (
        F.ragged_flare_attention,
        ragged,
        {n: TENSORS for n in "qkv"} | {"layout": THINGS},
    ),
    (F.ragged_flare_encode, ragged, {"v": TENSORS, "scale": [None, *NUMBERS]}),
    (
        F.ragged_self_attention,
        self_attention,
        {n: TENSORS for n in "qkv"} | {"layout": THINGS, "scale": [None, *NUMBERS]},
    ),
    (F.check_batch, counted, {"num_points": INTEGERS}),
    (STATE.merge, lambda: {"other": STATE}, {"other": [None, 1.5, object(), (1, 2)]}),
    (
        PointBatch.from_batch,
        points,
        {
            "x": [None, 1.5, "x", [1], torch.tensor(1.0)],
            "batch": BATCHES[:4],
            "batch_size": INTEGERS,
        },
    ),
    (nn.ResidualMLP(8, 8, 8), lambda: {"x": torch.rand(N, 8)}, {"x": TENSORS}),
    (Field, lambda: {"name": "pressure"}, {"unit": [None, 1.5, object()]}),
    (Normalizer, lambda: STATISTICS, {n: [None, object(), "x"] for n in STATISTICS}),
    (Normalizer.identity(8).encode, lambda: {"value": 0}, {"value": TENSORS[:4]}),
    (Normalizer.gaussian, dict, {"tensors": [None, 1.5, object(), [[1.0]]]}),
    (Surrogate(**surrogate()), dict, {"data": [None, 1.5, object(), np.ones(3)]}),
    (PointBatch.from_sizes, lambda: {"sizes": (1, 2)}, {"sizes": [None, 8, 1.5]}),
    (conv, points, {"x": TENSORS, "batch": BATCHES[:4], "batch_size": INTEGERS}),
    (conv.encode, points, {"x": TENSORS, "batch": BATCHES[:4]}),
    (model, lambda: points(3), {"x": TENSORS, "batch": BATCHES[:4]}),
    (FLAREConv, lambda: {"in_channels": 8}, {"kv_layers": INTEGERS, "heads": INTEGERS}),
    (
        FLARE,
        lambda: {"in_channels": 3, "hidden_channels": 8, "out_channels": 1, "heads": 2},
        {"hidden_channels": INTEGERS, "num_layers": INTEGERS, "mlp_layers": INTEGERS},
    ),
    (relative_l2, errors, {"pred": TENSORS, "target": TENSORS, "batch": BATCHES}),
    (
        force_coefficients,
        forces,
        {"pressure": TENSORS, "area": TENSORS, "speed": NUMBERS, "density": NUMBERS},
    ),
    (KNNEdges, dict, {"k": INTEGERS}),
    (GridStride, dict, {"step": INTEGERS}),
    (RadiusEdges, lambda: {"radius": 0.1}, {"radius": NUMBERS}),
    (
        Recipe,
        lambda: {"model_class": FLARE},
        {
            "epochs": [None, *INTEGERS],
            "batch_size": INTEGERS,
            "learning_rate": NUMBERS,
            "weight_decay": NUMBERS,
            "model": [None, 1.5, object()],
        },
    ),
    (
        Surrogate,
        surrogate,
        {n: THINGS for n in ("model", "target_normalizer", "coordinate_normalizer")},
    ),
    (SurrogateModule, surrogate, {"model": THINGS, "recipe": THINGS}),
    (
        SurrogateDataModule,
        lambda: {"train": [Data()]},
        {"train": [None, *THINGS], "val": THINGS, "seed": INTEGERS},
    ),
    (load_surrogate, dict, {"path": [None, 1.5, object()]}),
    (
        SimulatedDataset,
        dataset,
        {
            "root": [None, 1.5],
            "simulator": THINGS,
            "num_samples": INTEGERS,
            "seed": INTEGERS,
            "split": [None, 1.5],
        },
    ),
    (AirfoilFlow, dict, {"mach": NUMBERS, "iterations": INTEGERS}),
    (PipeFlow, dict, {"viscosity": NUMBERS}),
    (Notchback, dict, {"num_points": INTEGERS, "speed": NUMBERS}),
]
CASES = [
    pytest.param(function, good, name, wrong, id=f"{label}-{name}-{number}")
    for function, good, arguments in TABLE
    for label in [getattr(function, "__qualname__", type(function).__name__)]
    for name, values in arguments.items()
    for number, wrong in enumerate(values)
]


@pytest.mark.parametrize(("function", "good", "name", "wrong"), CASES)
def test_the_sentence_names_the_argument(
    function, good, name, wrong, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((TypeError, ValueError), match=rf"\b{name}\b") as caught:
        function(**good() | {name: wrong})
    # Ours, not that of whatever happened to choke on it.
    last = caught.traceback[-1]
    assert "torch_geometric_flare" in str(last.path)


def test_other_kinds_of_numbers_are_named():
    with pytest.raises(
        TypeError, match="x is torch.complex64, expected floating-point"
    ):
        conv(MATCHED[0], BATCH)
    for module, width in ((model, 3), (conv, 8)):
        with pytest.raises(ValueError, match="x is torch.float64, but the weights of"):
            module(torch.rand(N, width).double(), BATCH)
    arguments = dense()
    with pytest.raises(ValueError, match="v is torch.float64, but k is torch.float32"):
        F.flare_attention(**arguments | {"v": arguments["v"].double()})
    with pytest.raises(ValueError, match="k is on meta, but q on cpu"):
        F.flare_attention(**arguments | {"k": arguments["k"].to("meta")})


def test_huge_graph_numbers_take_no_memory():
    with pytest.raises(ValueError, match="names graph 1000000000000 for 30 points"):
        conv(torch.rand(N, 8), HUGE)
    # Who means it says so; some empty graphs are nothing special.
    some = torch.tensor([0] * (N - 1) + [900])
    assert PointBatch.from_batch(torch.rand(N, 8), some).num_graphs == 901


def test_paths(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    for function in (as_path, expand_path):
        assert function("~/a b#%ü") == function(Path("~/a b#%ü")) == tmp_path / "a b#%ü"
        assert function("~$a.vtp").name == "~$a.vtp"
        for path in (None, 3, b"a", ["a"]):
            with pytest.raises(TypeError, match=re.escape(f"path is {path!r}")):
                function(path)
    assert expand_path("a/b") == Path("a/b") and as_path("a/b") == Path.cwd() / "a/b"
