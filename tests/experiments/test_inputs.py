import torch
from torch_geometric.data import Data

from torch_geometric_flare import FLARE
from torch_geometric_flare.experiments.build import fit_input_normalizer
from torch_geometric_flare.experiments.splits import Splits
from torch_geometric_flare.fields import Field
from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.transforms import Normalizer


def test_a_box_without_extent_along_an_axis_has_scale_one():
    x = torch.tensor([[0.0, 5.0], [4.0, 5.0]])
    splits = Splits(
        train=[Data(x=x, pos=x)],
        test=[],
        fields=(Field("field"),),
        target_normalizer=Normalizer.identity(1),
    )
    normalizer = fit_input_normalizer(
        Recipe(model_class=FLARE, coordinates="box"), splits
    )
    assert normalizer.encode(x).tolist() == [[-1.0, 0.0], [1.0, 0.0]]
    assert normalizer.scale.tolist() == [2.0, 1.0]
