import pytest

from torch_geometric_flare import FLAREConv
from torch_geometric_flare.testing import assert_chunk_invariant


class Chunky(FLAREConv):
    """Computes something else in chunks."""

    def forward(self, x, batch=None, batch_size=None):
        return super().forward(x, batch, batch_size) * (self.chunk_size or 1)


def test_the_law_notices_chunks_that_count():
    conv = Chunky(4, heads=2, num_latents=3).double()
    with pytest.raises(AssertionError):
        assert_chunk_invariant(conv, 4, 5, sizes=(3, 0, 3))


@pytest.mark.parametrize("chunk_size", [6, 100])
def test_one_chunk_of_all_points_would_show_nothing(chunk_size):
    conv = FLAREConv(4, heads=2, num_latents=3).double()
    with pytest.raises(ValueError, match=f"chunk_size is {chunk_size}.* 6 points"):
        assert_chunk_invariant(conv, 4, chunk_size, sizes=(3, 0, 3))
