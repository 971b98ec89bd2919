"""The comparison of growing latents with fixed ones, on a few samples."""

import json

import pytest

from tests.examples.loading import load_example


@pytest.fixture
def module():
    return load_example("benchmarks/growth")


@pytest.mark.slow
def test_growth_is_compared_with_fixed_latents(module, tmp_path, capsys):
    module.main(
        [
            *("--root", str(tmp_path), "--num-train", "8", "--num-test", "2"),
            *("--epochs", "2", "--seeds", "1", "--errors", "10", "0.0001"),
            *("--noise", "0.5"),
        ]
    )
    lines = [json.loads(s) for s in capsys.readouterr().out.splitlines() if s[0] == "{"]
    assert [line["latents"] for line in lines] == [16, 64, 256, [16, 64, 256]]
    assert lines[-1]["noise"] == 0.5
    for line in lines:
        assert 0 < line["seconds to 10.0"] <= line["seconds"]
        assert line["seconds to 0.0001"] is None
        assert line["mean"] == pytest.approx(line["errors"][0])


def test_seconds_count_until_the_error_is_reached(module):
    assert module.seconds_to(0.2, [0.5, 0.2, 0.3, 0.1], [1.0, 2.0, 3.0, 4.0]) == 2.0
    assert module.seconds_to(0.05, [0.5, 0.2], [1.0, 2.0]) is None
