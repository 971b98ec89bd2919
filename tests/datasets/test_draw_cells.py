import numpy as np
import pytest

from torch_geometric_flare.datasets.draw_cells import draw_cells

AREAS = np.array([1.0, 2.0, 0.0, 3.0, 4.0, 30.0, 5.0])


def test_all_cells():
    drawn, probability = draw_cells(AREAS, None, True, np.random.default_rng(0))
    assert drawn.tolist() == list(range(7))
    assert probability.tolist() == [1.0] * 7


@pytest.mark.parametrize("by_area", [True, False])
def test_probabilities_and_sums(by_area):
    # The cell of area 30 has more than a third of the area: always drawn.
    number, trials = 3, 4000
    if by_area:
        expected = np.append(2 * AREAS[[0, 1, 2, 3, 4, 6]] / 15, 1.0)[
            [0, 1, 2, 3, 4, 6, 5]
        ]
    else:
        expected = np.full(7, 3 / 7)
    values = np.array([3.0, -1.0, 0.0, 2.0, 5.0, 1.0, -4.0])
    counts, sums = np.zeros(7), []
    for seed in range(trials):
        rng = np.random.default_rng(seed)
        drawn, probability = draw_cells(AREAS, number, by_area, rng)
        assert len(set(drawn)) == number and sorted(drawn) == list(drawn)
        np.testing.assert_allclose(probability, expected[drawn])
        weights = AREAS[drawn] / probability
        if by_area:
            assert weights.sum() == pytest.approx(45.0)
        counts[drawn] += 1
        sums.append((values[drawn] * weights).sum())
    error = 4 * np.sqrt(expected * (1 - expected) / trials) + 1e-12
    assert (abs(counts / trials - expected) <= error).all()
    exact = (values * AREAS).sum()
    assert abs(np.mean(sums) - exact) < 4 * np.std(sums) / np.sqrt(trials)


def test_as_many_as_there_are():
    rng = np.random.default_rng(0)
    assert draw_cells(AREAS, 6, True, rng)[0].tolist() == [0, 1, 3, 4, 5, 6]
    assert draw_cells(AREAS, 7, False, rng)[0].tolist() == list(range(7))
    with pytest.raises(ValueError, match="num_points=7 exceeds the 6 cells"):
        draw_cells(AREAS, 7, True, rng)
    with pytest.raises(ValueError, match="num_points=8 exceeds the 7 cells"):
        draw_cells(AREAS, 8, False, rng)


def test_many_cells_of_unequal_areas():
    areas = np.random.default_rng(0).lognormal(0, 2, 20_000)
    drawn, probability = draw_cells(areas, 10_000, True, np.random.default_rng(1))
    assert len(set(drawn)) == 10_000
    assert (probability == 1).any()
    assert (areas[drawn] / probability).sum() == pytest.approx(areas.sum(), rel=1e-9)
