import json

from tests.examples.loading import load_example


def test_cars_are_moved_and_simulated(checkpoint, capsys):
    module = load_example("sensitivity")
    options = ["--cars=2", "--panels", "16", "6", "--step=0.005"]
    rows = module.main([str(checkpoint), *options])
    assert "of 2 cars" in capsys.readouterr().out
    assert json.loads(checkpoint.with_name("sensitivity.json").read_text()) == rows
    for name in ("sensitivity.png", "sensitivity.vtp"):
        assert checkpoint.with_name(name).exists()
    for row in rows:
        assert row["expected_change"] < 0
        # A small step: forwards and backwards are opposite, and nearly a line.
        forwards, backwards = row["change"], row["change_backwards"]
        assert forwards * backwards < 0
        assert abs(forwards + backwards) < 0.5 * abs(forwards - backwards)
