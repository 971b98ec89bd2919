import math

import pytest

from torch_geometric_flare.training import read_history


def test_parts_of_a_resumed_training_are_joined(tmp_path):
    parts = {
        "version_0": "epoch,step,train,val\n0,3,,0.5\n0,3,0.4,\n1,7,,0.3\n",
        "version_10": "epoch,step,train\n2,11,0.1\n",
        "version_2": "epoch,step,train,val\n1,7,,0.25\n1,7,0.2,\n2,11,0.9,\n",
    }
    for name, text in parts.items():
        (tmp_path / "metrics" / name).mkdir(parents=True)
        (tmp_path / "metrics" / name / "metrics.csv").write_text(text)
    history = read_history(tmp_path)
    assert list(history) == ["epoch", "train", "val"]
    assert history["epoch"] == [0, 1, 2]
    assert history["train"] == [0.4, 0.2, 0.1]
    assert history["val"][:2] == [0.5, 0.25]
    assert math.isnan(history["val"][2])


def test_a_folder_without_a_log(tmp_path):
    with pytest.raises(FileNotFoundError, match="metrics.csv"):
        read_history(tmp_path)
