import csv
import functools
import importlib
import math
import statistics
import sys
from pathlib import Path

import pytest
import torch

from torch_geometric_flare.kernels.llvm import is_available

FOLDER = Path(__file__).parents[2] / "examples" / "benchmarks"
MODULES = (
    *("operators", "check", "measure", "ragged", "scaling", "report", "run"),
    *("network", "chunks"),
)


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in MODULES:
        assert name not in sys.modules
    threads = torch.get_num_threads()
    yield importlib.import_module
    torch.set_num_threads(threads)
    torch.set_default_device(None)
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def forbid_timing(bench, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a wrong operator was timed")

    for name in ("scaling", "ragged"):
        monkeypatch.setattr(bench(name), "time_interleaved", refuse)
        monkeypatch.setattr(bench(name), "in_own_process", refuse)


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_quick_run_writes_what_it_promises(bench, tmp_path, capsys):
    bench("run").main(["--quick", f"--out={tmp_path}", "--latents=8", "--threads=1"])
    scaling = rows(tmp_path / "scaling.csv")
    operators = list(bench("operators").OPERATORS)
    assert len(operators) == 5
    assert {(r["operator"], r["mode"], int(r["num_points"])) for r in scaling} == {
        (name, mode, points)
        for name in operators
        for mode in ("forward", "forward + backward")
        for points in (100, 200)
    }
    assert all(float(r["seconds"]) > 0 and float(r["peak_bytes"]) >= 0 for r in scaling)
    assert {float(r["times_flare"]) for r in scaling if r["operator"] == "FLARE"} == {1}
    assert {r["path"] for r in scaling if r["operator"] != "FLARE"} == {""}
    path = "shared_scores" if is_available() else "sdpa"
    assert {r["path"] for r in scaling if r["operator"] == "FLARE"} == {path}
    assert {r["path"] for r in rows(tmp_path / "networks.csv")} == {path}
    ragged = rows(tmp_path / "ragged.csv")
    assert len(ragged) == 6
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "benchmarks.md").read_text()
    assert text in capsys.readouterr().out
    for part in ("processor", "threads", "PyTorch", "load average", "Exponent", "M=8"):
        assert part in text
    for name in (*operators, "padded, with key mask"):
        assert f"| {name} |" in text


@pytest.mark.slow
def test_chunks_are_compared_with_the_whole(bench, capsys):
    bench("chunks").main(
        ["--points=300", "--chunks=100", "--seconds=0.1", "--threads=1"]
    )
    rows = capsys.readouterr().out.splitlines()[-2:]
    for row, mode in zip(rows, ("inference", "training step"), strict=True):
        threads, name, whole, ratio = row.strip("| ").split(" | ")
        assert (threads, name) == ("1", mode)
        assert float(whole.removesuffix(" s")) > 0 and float(ratio) > 0


@pytest.mark.cuda
def test_a_quick_run_on_a_gpu(bench, tmp_path):
    bench("run").main(["--quick", f"--out={tmp_path}", "--latents=8", "--device=cuda"])
    scaling = rows(tmp_path / "scaling.csv")
    assert all(float(r["seconds"]) > 0 and float(r["peak_bytes"]) > 0 for r in scaling)


def off_by_a_scale(q, k, v):
    return torch.nn.functional.scaled_dot_product_attention(
        k, q[None], torch.nn.functional.scaled_dot_product_attention(q[None], k, v)
    )


class RightAnswerWrongGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return 1.001 * grad


@pytest.mark.parametrize("wrong", ["flare_attention", "two_calls", "gradient"])
def test_a_wrong_operator_is_not_timed(bench, forbid_timing, monkeypatch, wrong):
    operators = bench("operators")
    if wrong == "gradient":
        right = operators.flare_attention
        monkeypatch.setattr(
            operators,
            "flare_attention",
            lambda q, k, v: right(q, k, RightAnswerWrongGradient.apply(v)),
        )
    else:
        monkeypatch.setattr(operators, wrong, off_by_a_scale)
    part = "gradient" if wrong == "gradient" else "output"
    with pytest.raises(bench("check").WrongOperator, match=f"FLARE.*{part}.*not timed"):
        bench("run").main(["--quick", "--threads=1"])


def test_wrong_physics_attention_is_not_timed(bench, forbid_timing, monkeypatch):
    attention = bench("operators").PhysicsAttention
    right = attention.attend
    monkeypatch.setattr(
        attention, "attend", lambda self, p, f, layout: right(self, p, f + 1e-6, layout)
    )
    with pytest.raises(bench("check").WrongOperator, match="Transolver"):
        bench("run").main(["--quick", "--threads=1"])


def test_an_operator_wrong_at_large_sizes_alone_is_not_timed(
    bench, forbid_timing, monkeypatch
):
    operators = bench("operators")
    right = operators.flare_attention
    monkeypatch.setattr(
        operators,
        "flare_attention",
        lambda q, k, v: right(q, k, v) * (1.01 if k.size(2) > 1000 else 1.0),
    )
    with pytest.raises(bench("check").WrongOperator, match="N=1,500"):
        bench("run").main(["--sizes", "1500", "--latents=8"])


def test_a_wrong_layer_is_not_timed(bench, forbid_timing, monkeypatch):
    ragged = bench("ragged")

    def leaky(conv, x, batch, graphs):
        return conv(x)

    monkeypatch.setitem(ragged.LAYERS, "FLAREConv", leaky)
    with pytest.raises(bench("check").WrongOperator, match="FLAREConv, 16 graphs"):
        ragged.run_ragged(0.1, quick=True)


def test_rivals_take_turns(bench):
    measure = bench("measure")
    log = []
    steps = {name: (lambda name=name: log.append(name)) for name in "ab"}
    times = measure.time_interleaved(steps, 0.0, least=3)
    assert log == list("ab" + "ab" + "ba" + "ab")  # once to warm up
    assert [len(one) for one in times.values()] == [3, 3]
    assert measure.ratio([1.0, 4.0, 9.0], [1.0, 2.0, 3.0]) == 2.0


def test_memory_is_that_of_the_step_alone(bench):
    measure = bench("measure")
    step = functools.partial(torch.ones, 25_000_000)  # 100 MB
    peak = measure.in_own_process(measure.peak_of, step)
    # What the process was before, with PyTorch in it, does not count.
    assert 95e6 < peak < 120e6


def test_a_process_of_its_own(bench):
    import os

    measure = bench("measure")
    assert measure.in_own_process(os.getpid) != os.getpid()
    assert math.isnan(measure.in_own_process(os._exit, 9))


def test_the_exponent_of_a_power_law(bench):
    scaling = bench("scaling")
    results = [
        scaling.Result("FLARE", "forward", n, 3e-6 * n**1.5, 1.0, 3, 8.0 * n)
        for n in (10, 100, 1000)
    ]
    assert scaling.growth(results, "seconds") == pytest.approx(1.5)
    assert scaling.growth(results, "peak_bytes") == pytest.approx(1.0)
    assert math.isnan(scaling.growth(results[:1], "seconds"))
    assert scaling.expected(results, "seconds", 4000) == pytest.approx(3e-6 * 4000**1.5)


def test_what_takes_too_long_is_left_out(bench, monkeypatch):
    scaling = bench("scaling")
    operators = bench("operators")
    for name in list(operators.OPERATORS):
        if name not in ("FLARE", "FLARE, two attention calls", "softmax attention"):
            monkeypatch.delitem(operators.OPERATORS, name)
    monkeypatch.setattr(scaling, "in_own_process", lambda *_: 1.0)

    def times(steps, seconds):
        slow = {"softmax attention": 2.0}
        return {name: [slow.get(name, 1e-3)] * 3 for name in steps}

    monkeypatch.setattr(scaling, "time_interleaved", times)
    results = scaling.run_scaling(
        operators.Shape(0, 4, 2, 4), (50, 100, 200), seconds=0.1, patience=5.0
    )
    sizes = {r.num_points for r in results if r.operator == "softmax attention"}
    assert sizes == {50}
    assert statistics.mode(r.times_flare for r in results) == 1.0
    assert {r.num_points for r in results if r.operator == "FLARE"} == {50, 100, 200}


def test_the_table_behind_the_thresholds(bench, capsys):
    threads = torch.get_num_threads()
    script = importlib.import_module("shared_scores")
    arguments = "--threads 1 --points 300 --widths 4 --latents 8 --seconds 0.01"
    try:
        script.main(arguments.split())
    finally:
        torch.set_num_threads(threads)
    row = capsys.readouterr().out.splitlines()[-1]
    points, width, latents, *figures = (cell.strip() for cell in row[1:-1].split("|"))
    assert (points, width, latents) == ("300", "4", "8")
    assert all(float(figure) > 0 for figure in figures)
