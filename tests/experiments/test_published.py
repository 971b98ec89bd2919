import pytest

from torch_geometric_flare.experiments import Published, flare_paper


def test_figures_of_the_flare_paper():
    elasticity = flare_paper("elasticity")
    assert elasticity[0] == Published(
        "FLARE", 0.00338, "arXiv:2508.12594 v2, mean over samples"
    )
    assert {figure.model: figure.relative_l2 for figure in flare_paper("pipe")} == {
        "FLARE": 0.00285,
        "PerceiverIO": 0.00714,
        "GNOT": 0.00589,
        "LNO": 0.0081,
        "Transolver": 0.00487,
        "TransolverConv": 0.0039,
    }
    assert all("legacy metric" in figure.source for figure in flare_paper("lpbf"))
    with pytest.raises(ValueError, match="name is 'shapenet', expected one of elast"):
        flare_paper("shapenet")
