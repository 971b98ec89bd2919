import numpy as np
import pytest

from torch_geometric_flare import FLARE, FLAREConv
from torch_geometric_flare.nn.checks import check_positive


@pytest.mark.parametrize("value", [0, -3, 1.0, 1.5, "a", None, True, np.float64(2)])
def test_no_positive_integer(value):
    with pytest.raises(ValueError, match="heads is .*, expected a positive integer$"):
        check_positive(channels=4, heads=value)


def test_integers_of_any_kind():
    check_positive(channels=1, heads=np.int64(8))


@pytest.mark.parametrize("module", [FLARE, FLAREConv])
def test_a_chunk_may_be_left_out(module):
    message = "chunk_size is 2.5, expected a positive integer or None for all points"
    with pytest.raises(ValueError, match=message):
        module(3, 8, 1, chunk_size=2.5)
