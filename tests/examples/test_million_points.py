import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from tests.examples.loading import EXAMPLES, load_example
from torch_geometric_flare import FLARE

SCRIPT = EXAMPLES / "million_points.py"
SMALL = "--points=2500 --chunk-size=1000 --channels=16 --heads=2 --latents=4 --layers=2"


@pytest.fixture(scope="module")
def main():
    return load_example("million_points").main


def test_training_step(main, capsys):
    results = main(SMALL.split())
    printed = capsys.readouterr()
    assert "2,500 random points in chunks of 1,000" in printed.out
    assert re.search(
        r"training step: \d+\.\d s on .* peak memory \d\.\d\d GB", printed.out
    )
    assert "100%" in printed.err and "10.0k/10.0k" in printed.err  # 2 x 2 x 2,500
    assert results["points"] == 2500
    # Not trained: the field against nearly nothing.
    assert 0.9 < results["loss"] < 1.1
    assert 0.1 < results["peak_memory_gb"] < 20


@pytest.mark.parametrize(
    "options", [[], ["--residual=file"], ["--residual-dtype=bfloat16"]]
)
def test_file_to_file(main, tmp_path, capsys, options):
    folder = tmp_path / "new"
    results = main([*SMALL.split(), "--predict", f"--folder={folder}", *options])
    printed = capsys.readouterr()
    assert "2,500 random points" in printed.out and "inference: " in printed.out
    assert "5.00k/5.00k" in printed.err
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["simulated_field.npy", "simulated_points.npy"]
    x = torch.from_numpy(np.load(folder / "simulated_points.npy"))
    assert x.shape == (2500, 3) and 0.45 < x.mean() < 0.55
    torch.manual_seed(0)
    model = FLARE(3, 16, 1, num_layers=2, heads=2, num_latents=4)
    with torch.no_grad():
        expected = model(x).numpy()
    field = np.load(folder / "simulated_field.npy")
    tolerance = 1e-4 if "--residual-dtype=bfloat16" not in options else 0.1
    np.testing.assert_allclose(field, expected, atol=tolerance * abs(expected).max())
    assert results["mean"] == pytest.approx(field.mean(), rel=1e-5)


def test_files_are_removed_unless_asked_for(main, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    main([*SMALL.split(), "--predict"])
    assert list(tmp_path.iterdir()) == []


def test_no_points_are_refused(main, capsys):
    with pytest.raises(SystemExit):
        main(["--points=0"])
    assert "--points must be at least 1, got 0" in capsys.readouterr().err


def peak(*arguments):
    command = [sys.executable, str(SCRIPT)]
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, check=True
    )
    total, start = re.search(
        r"peak memory (\S+) GB, of which (\S+) GB", done.stdout
    ).groups()
    return float(total) - float(start)


@pytest.mark.slow
def test_inference_keeps_no_features_of_points_in_memory():
    many, few = (
        peak(f"--points={points}", "--predict", "--residual=file", "--layers=1")
        for points in (400_000, 100_000)
    )
    # The features of 300,000 points are 77 MB; the mapped files are 5 MB.
    assert many - few < 0.03


@pytest.mark.slow
def test_a_training_step_keeps_the_input_of_each_block():
    # Inputs of two blocks and the head are 77 MB, gradients as much, a chunk 250 MB;
    # whole blocks would be 2.8 GB.
    assert peak("--points=100000", "--layers=2") < 0.7
