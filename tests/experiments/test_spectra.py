"""The command `tgflare spectrum`."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pyvista as pv
import torch

from torch_geometric_flare.analysis import spectra
from torch_geometric_flare.cli import main
from torch_geometric_flare.experiments import Selection, find_benchmark
from torch_geometric_flare.experiments.build import make_module
from torch_geometric_flare.fields import Field
from torch_geometric_flare.nn import FLARE
from torch_geometric_flare.surrogates import (
    GenerativeSurrogate,
    Surrogate,
    load_surrogate,
    save_surrogate,
)
from torch_geometric_flare.transforms import Normalizer

CHANNEL = "tests.experiments.channels:CHANNEL"
TINY = [f"--problem={CHANNEL}", "--num-train=2", "--num-test=3"]
SELECTION = Selection(num_train=2, num_test=3)


@pytest.fixture(autouse=True)
def in_a_new_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def save(model="FLARE", **options):
    """A checkpoint of a network that has not been trained."""
    channel = find_benchmark(CHANNEL)
    recipe = channel.recipe(model, "quick")
    recipe = replace(recipe, model={**recipe.model, "num_layers": 2, **options})
    module = make_module(channel.load(SELECTION), recipe, "simulated channels")
    save_surrogate(module.surrogate, "last.ckpt")
    return load_surrogate("last.ckpt").eval()


def save_body():
    surrogate = Surrogate(
        FLARE(3, 16, 1, 2, 2, 4),
        Normalizer([1.0], [2.0]),
        Normalizer.from_bounds([-1.0] * 3, [1.0] * 3),
        fields=(Field("pressure"),),
        location="cell",
        weighted=True,
    )
    save_surrogate(surrogate, "last.ckpt")
    return surrogate.eval()


def test_on_test_samples(capsys, tmp_path):
    surrogate = save()
    assert main(["spectrum", "last.ckpt", *TINY, "--samples=2", "--vectors=3"]) == 0
    told = capsys.readouterr().out
    stored = json.loads((tmp_path / "spectrum.json").read_text())
    assert list(stored) == ["test_0", "test_1"]
    test = find_benchmark(CHANNEL).load(SELECTION).test
    for number, blocks in enumerate(stored.values()):
        assert (tmp_path / f"spectrum_test_{number}.png").exists()
        cloud = pv.read(tmp_path / f"eigenvectors_test_{number}.vtp")
        x = surrogate.encode_input(test[number])
        for place, (block, wanted) in enumerate(
            zip(blocks, spectra(surrogate.model, x, num_vectors=3), strict=True), 1
        ):
            found = torch.tensor(block["eigenvalues"], dtype=torch.float64)
            torch.testing.assert_close(found, wanted.values[0], atol=1e-6, rtol=1e-5)
            for k in range(3):
                array = cloud[f"block{place}_eigenvector{k + 1}"]
                assert array.shape == (35, 2)  # a component for each head
                torch.testing.assert_close(
                    torch.tensor(np.array(array)), wanted.vectors[..., k]
                )
    used = stored["test_0"][0]["latents_for_95_percent"]
    assert all(1 <= k <= 4 for k in used)
    assert f"{max(used)} of 4 latents" in told and "95 %" in told


def test_on_meshes_with_weights(tmp_path):
    surrogate, body = save_body(), pv.Sphere(theta_resolution=6, phi_resolution=5)
    body.save("body.vtp")
    given = ["body.vtp", "--folder=out", "--vectors=1", "--chunk-size=7"]
    assert main(["spectrum", "last.ckpt", *given]) == 0
    (blocks,) = json.loads((tmp_path / "out" / "spectrum.json").read_text()).values()
    seen = []
    surrogate.model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs), with_kwargs=True
    )
    surrogate.predict_mesh("body.vtp")
    assert seen[0]["weight"] is not None
    wanted = spectra(surrogate.model, seen[0]["x"], weight=seen[0]["weight"])
    for block, one in zip(blocks, wanted, strict=True):
        found = torch.tensor(block["eigenvalues"], dtype=torch.float64)
        torch.testing.assert_close(found, one.values[0], atol=1e-6, rtol=1e-5)
    written = pv.read(tmp_path / "out" / "eigenvectors_body_vtp.vtp")
    assert written.cell_data["block2_eigenvector1"].shape == (body.n_cells, 2)


def test_on_a_mesh_with_draws():
    surrogate = GenerativeSurrogate(
        FLARE(4, 16, 1, 2, 2, 4, condition_channels=1),
        Normalizer([1.0], [2.0]),
        Normalizer.from_bounds([-1.0] * 3, [1.0] * 3),
    )
    save_surrogate(surrogate, "last.ckpt")
    body = pv.Sphere(theta_resolution=6, phi_resolution=5)
    body.save("body.vtp")
    assert main(["spectrum", "last.ckpt", "body.vtp"]) == 0
    (blocks,) = json.loads(Path("spectrum.json").read_text()).values()
    given = surrogate.model_arguments(torch.from_numpy(np.array(body.points)))
    for block, one in zip(blocks, spectra(surrogate.model, **given), strict=True):
        found = torch.tensor(block["eigenvalues"], dtype=torch.float64)
        torch.testing.assert_close(found, one.values[0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("model", "options", "given", "message"),
    [
        ("FLARE", {"latent_blocks": 1}, TINY, "latent_blocks=1"),
        ("LNO", {}, TINY, "LNO"),
        ("FLARE", {}, [*TINY, "--vectors=5"], "num_vectors is 5"),
        ("FLARE", {}, [*TINY, "--samples=4"], "samples is 4"),
        ("FLARE", {}, [*TINY, "--vectors=-1"], "vectors must be"),
        ("FLARE", {}, [], "problem"),
        ("FLARE", {}, ["nowhere.vtp"], "nowhere.vtp"),
        ("FLARE", {}, ["a/body.vtp", "b/body.vtp"], "a/body.vtp"),
    ],
)
def test_what_cannot_be_computed_is_one_sentence(
    capsys, model, options, given, message
):
    save(model, **options)
    with pytest.raises(SystemExit, match="2"):
        main(["spectrum", "last.ckpt", *given])
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line
