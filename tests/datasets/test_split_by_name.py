import pytest

from torch_geometric_flare.datasets.split_by_name import split_by_name

FRACTIONS = [(0.8, 0.1, 0.1), (0.8, 0.0, 0.2), (0.5, 0.25, 0.25), (1.0, 0.0, 0.0)]


def names(number, prefix="case"):
    return [f"{prefix}_{index:03}.vtp" for index in range(number)]


@pytest.mark.parametrize("fractions", FRACTIONS)
@pytest.mark.parametrize("seed", range(8))
def test_no_sample_that_was_held_out_is_trained_on(fractions, seed):
    before, kept = None, {}
    for number in (3, 4, 5, 8, 12, 30, 200):
        splits, kept = split_by_name(names(number, "z"), fractions, seed, kept)
        assert sorted(sum(splits.values(), [])) == names(number, "z")
        for split, share in zip(("train", "val", "test"), fractions, strict=True):
            assert bool(splits[split]) == bool(share)
        for split in ("val", "test") if before else ():
            assert set(before[split]) <= set(splits[split])
        before = splits


@pytest.mark.parametrize("seed", range(3))
def test_other_names_change_nothing(seed):
    """In folders that are large enough to need no borrowing."""
    fractions = (0.6, 0.2, 0.2)
    alone, borrowed = split_by_name(names(60), fractions, seed, {})
    assert borrowed == {}
    together, borrowed = split_by_name(
        [*names(60, "a"), *names(60), *names(60, "z")], fractions, seed, {}
    )
    assert borrowed == {}
    for split, members in alone.items():
        assert [name for name in together[split] if name.startswith("case")] == members


def test_shares():
    splits, _ = split_by_name(names(4000), (0.7, 0.1, 0.2), 0, {})
    sizes = [len(splits[split]) / 4000 for split in ("train", "val", "test")]
    assert sizes == pytest.approx([0.7, 0.1, 0.2], abs=0.02)


def test_too_few():
    with pytest.raises(ValueError, match="2 meshes are too few"):
        split_by_name(names(2), (0.8, 0.1, 0.1), 0, {})
