import numpy as np
import pytest

from torch_geometric_flare.data_checks import (
    CheckReport,
    FieldStatistics,
    Finding,
    GivenForces,
    read_forces,
)
from torch_geometric_flare.data_checks.across import robust_scores


def test_statistics_are_in_double_precision():
    values = np.float32(2**24) + 2 * (np.arange(1000) % 2)[:, None].astype(np.float32)
    found = FieldStatistics.of(values)
    assert found.mean == [2**24 + 1] and found.deviation == [1.0]
    # A sum of ones in single precision stops at 2²⁴; 4·10⁸ of them do not here.
    ones = FieldStatistics.of(np.ones((100, 1), np.float32))
    for _ in range(22):
        ones = ones.merge(ones)
    assert ones.count == 100 * 2**22 > 4e8
    both = ones.merge(FieldStatistics.of(np.full((100, 1), 3.0, np.float32)))
    assert both.mean[0] * both.count == pytest.approx(ones.count + 300, rel=1e-15)


def test_statistics_of_parts_are_those_of_the_whole():
    rng = np.random.default_rng(0)
    values = rng.normal(5.0, 2.0, (1000, 3))
    values[::100, 1] = np.nan
    known = values[np.isfinite(values).all(1)]
    merged = FieldStatistics.of(values[:0])
    for part in np.array_split(values, 7):
        merged = merged.merge(FieldStatistics.of(part))
    assert (merged.count, merged.gaps) == (990, 10)
    np.testing.assert_allclose(merged.mean, known.mean(0), rtol=1e-13)
    np.testing.assert_allclose(merged.deviation, known.std(0), rtol=1e-13)
    np.testing.assert_array_equal(merged.low, known.min(0))
    np.testing.assert_array_equal(merged.high, known.max(0))


def test_robust_scores():
    values = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9, 100])
    assert robust_scores(values)[-1] == pytest.approx(94.5 / (1.4826 * 2.5))
    # Most are the same: the mean of the distances, 1/20, stands in.
    values = np.array([3.0] * 19 + [4.0])
    assert robust_scores(values)[-1] == pytest.approx(20 / 1.2533, rel=1e-4)
    assert not robust_scores(np.ones(5)).any()


def test_report():
    warning = Finding("a.vtp", "edges", "warning", "4 edges", "remove them")
    error = Finding("", "nan", "error", "3 values", "compute them again")
    splits = {"train": {"a.vtp": None, "b.vtp": None}, "val": {}}
    report = CheckReport((warning,), splits, {})
    assert report.exit_status == 0
    report = CheckReport((error, warning), splits, {})
    assert report.exit_status == 1
    assert report.only("error").findings == (error,)
    assert report.summary() == "2 meshes (2 train): 1 errors, 1 warnings"
    text = str(report)
    for part in ("a.vtp", "edges", "4 edges", "remove them", "all", "3 values"):
        assert part in text
    with pytest.raises(ValueError, match="'fatal'"):
        Finding("a.vtp", "edges", "fatal", "", "")


def test_places_are_some_of_all():
    places = np.random.rand(100_000, 3)
    kept = Finding("a", "nan", "error", "", "", places).places
    assert 100 < len(kept) < 2000
    assert Finding("a", "nan", "error", "", "").places.shape == (0, 3)


def test_table_of_forces(tmp_path):
    file = tmp_path / "forces.csv"
    file.write_text("mesh,drag\nruns/a.vtp,0.3\nb.vtp,0.25\n")
    table = {"a.vtp": {"drag": 0.3}, "b.vtp": {"drag": 0.25}}
    assert read_forces(file) == table
    file.write_text(file.read_text(), encoding="utf-8-sig")  # as spreadsheets do
    assert read_forces(file) == table
    file.write_text("name,drag\na,0.3\n")
    with pytest.raises(ValueError, match="mesh"):
        read_forces(file)
    file.write_text("mesh,drag\na.vtp,much\n")
    with pytest.raises(ValueError, match="much"):
        read_forces(file)
    with pytest.raises(FileNotFoundError, match=r"none\.csv"):
        read_forces(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="speed"):
        GivenForces("p", speed=0.0, reference_area=1.0)
