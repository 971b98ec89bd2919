import math

import pytest
import torch

from torch_geometric_flare.metrics import force_coefficients

REFERENCE = {"speed": 2.0, "reference_area": 0.5}


def box(pressures):
    """A unit cube: -x, +x, -y, +y, -z, +z."""
    normal = torch.tensor(
        [[-1, 0, 0], [1, 0, 0], [0, -1, 0], [0, 1, 0], [0, 0, -1], [0, 0, 1]]
    ).float()
    return torch.tensor(pressures), normal, torch.ones(6)


def test_pressure_in_front_is_drag_and_pressure_below_is_lift():
    coefficients = force_coefficients(*box([3.0, 1.0, 7.0, 7.0, 5.0, 1.0]), **REFERENCE)
    # The force is (3 - 1, 0, 5 - 1); the dynamic pressure times the area is 1.
    assert coefficients.drag.tolist() == [2.0]
    assert coefficients.lift.tolist() == [4.0]
    assert coefficients.drag.dtype == torch.float64


def test_uniform_pressure_on_a_closed_surface_gives_no_force():
    coefficients = force_coefficients(*box([1e5] * 6), **REFERENCE)
    assert coefficients.drag.item() == coefficients.lift.item() == 0.0


def test_hydrostatic_pressure_lifts_a_sphere_by_its_volume():
    # With p = -z the force is the volume of the body, upwards (Archimedes).
    rings, sectors = 400, 16
    theta = (torch.arange(rings).double() + 0.5) * math.pi / rings
    phi = (torch.arange(sectors).double() + 0.5) * 2 * math.pi / sectors
    theta, phi = torch.meshgrid(theta, phi, indexing="ij")
    normal = torch.stack(
        [theta.sin() * phi.cos(), theta.sin() * phi.sin(), theta.cos()], dim=-1
    ).reshape(-1, 3)
    area = (theta.sin() * (math.pi / rings) * (2 * math.pi / sectors)).reshape(-1, 1)
    coefficients = force_coefficients(
        -normal[:, 2:], normal, area, speed=math.sqrt(2), reference_area=1.0
    )
    assert coefficients.lift.item() == pytest.approx(4 / 3 * math.pi, rel=1e-4)
    assert abs(coefficients.drag.item()) < 1e-12


def test_density_cancels():
    once = force_coefficients(*box([3.0, 1, 2, 2, 5, 1]), **REFERENCE)
    dense = force_coefficients(*box([3.0, 1, 2, 2, 5, 1]), **REFERENCE, density=1.2)
    assert dense.drag.item() == pytest.approx(once.drag.item())


@pytest.mark.segment
def test_bodies_of_a_batch():
    pressure, normal, area = box([3.0, 1.0, 7.0, 7.0, 5.0, 1.0])
    batch = torch.tensor([0] * 6 + [2] * 2)
    coefficients = force_coefficients(
        torch.cat([pressure, pressure[:2]]),
        torch.cat([normal, normal[:2]]),
        torch.cat([area, 2 * area[:2]]),
        batch=batch,
        batch_size=4,
        **REFERENCE,
    )
    assert coefficients.drag.tolist() == [2.0, 0.0, 4.0, 0.0]
    assert coefficients.lift.tolist() == [4.0, 0.0, 0.0, 0.0]


@pytest.mark.segment
def test_gradients():
    generator = torch.Generator().manual_seed(0)
    pressure = torch.randn(5, generator=generator).double().requires_grad_()
    normal = torch.randn(5, 3, generator=generator).double().requires_grad_()
    area = torch.rand(5, generator=generator).double().requires_grad_()

    def function(pressure, normal, area):
        batch = torch.tensor([0, 0, 0, 1, 1])
        return force_coefficients(pressure, normal, area, batch=batch, **REFERENCE)

    assert torch.autograd.gradcheck(function, (pressure, normal, area))
    assert torch.autograd.gradgradcheck(function, (pressure, normal, area))


@pytest.mark.parametrize("name", ["speed", "reference_area", "density"])
def test_references_must_be_positive(name):
    arguments = REFERENCE | {name: 0.0}
    with pytest.raises(ValueError, match=f"{name} must be positive, got 0.0"):
        force_coefficients(*box([0.0] * 6), **arguments)


def test_shapes_are_checked():
    pressure, normal, area = box([1.0] * 6)
    with pytest.raises(ValueError, match=r"pressure has shape \(6, 3\)"):
        force_coefficients(normal, normal, area, **REFERENCE)
    with pytest.raises(ValueError, match=r"area has shape \(5,\)"):
        force_coefficients(pressure, normal, area[:5], **REFERENCE)
    with pytest.raises(ValueError, match=r"normal has shape \(6, 2\)"):
        force_coefficients(pressure, normal[:, :2], area, **REFERENCE)
