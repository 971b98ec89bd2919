import pytest
import torch

from torch_geometric_flare.training import evaluate, evaluate_per_field


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
