import pytest
import torch

from torch_geometric_flare import FLARE
from torch_geometric_flare.surrogates import Surrogate
from torch_geometric_flare.training import evaluate, evaluate_per_field
from torch_geometric_flare.transforms import Normalizer


def test_evaluate_gives_one_error_per_sample(module, samples):
    surrogate = module().surrogate
    split = samples(3, 5)
    expected = [
        float(torch.linalg.norm(surrogate.predict(s) - s.y) / torch.linalg.norm(s.y))
        for s in split
    ]
    assert evaluate(surrogate, split, 2).tolist() == pytest.approx(expected)
    with pytest.raises(ValueError, match="dataset is empty"):
        evaluate(surrogate, [])


def test_one_field_is_called_by_its_name(module, samples):
    surrogate = module().surrogate
    (named,) = evaluate_per_field(surrogate, samples(3, 5)).items()
    assert named[0] == "field"
    assert torch.equal(named[1], evaluate(surrogate, samples(3, 5)))


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_errors_name_the_sample(module, samples, batch_size):
    surrogate, split = module().surrogate, samples(4, 5)
    whole = evaluate(surrogate, split, batch_size)
    assert whole.tolist() == pytest.approx(evaluate(surrogate, split).tolist())
    with pytest.raises(ValueError, match="batch_size"):
        evaluate(surrogate, split, 0)
    short, without, whole_numbers = ([d.clone() for d in split] for _ in range(3))
    short[3].y = split[3].y[1:]
    del without[3].y
    for sample in whole_numbers:
        sample.y = sample.y.long()
    for wrong, named in ((short, 3), (without, 3), (whole_numbers, 0)):
        with pytest.raises(ValueError, match=rf"sample.* {named}\b.*\by\b"):
            evaluate(surrogate, wrong, batch_size)


def test_weights_count_in_any_batch(samples):
    torch.manual_seed(0)
    surrogate = Surrogate(
        FLARE(3, 8, 1, num_layers=1, heads=2), Normalizer([20.0], [7.0]), weighted=True
    )
    split = samples(3, 5)
    split[1].weight = torch.rand(split[1].num_nodes)
    expected = evaluate(surrogate, split, 1).tolist()
    assert evaluate(surrogate, split, 3).tolist() == pytest.approx(expected, rel=1e-5)
