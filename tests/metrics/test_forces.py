import math

import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.transforms import FixedPoints

from torch_geometric_flare.metrics import force_coefficients, moment_coefficients
from torch_geometric_flare.transforms import AreaWeightedPoints

REFERENCE = {"speed": 2.0, "reference_area": 0.5}


def box(pressures):
    """A unit cube: -x, +x, -y, +y, -z, +z."""
    normal = torch.tensor(
        [[-1, 0, 0], [1, 0, 0], [0, -1, 0], [0, 1, 0], [0, 0, -1], [0, 0, 1]]
    ).float()
    return torch.tensor(pressures), normal, torch.ones(6)


def sphere(rings=60, sectors=120):
    """Normals (which are also the points) and areas of a unit sphere."""
    theta = (torch.arange(rings).double() + 0.5) * math.pi / rings
    phi = (torch.arange(sectors).double() + 0.5) * 2 * math.pi / sectors
    theta, phi = torch.meshgrid(theta, phi, indexing="ij")
    normal = torch.stack(
        [theta.sin() * phi.cos(), theta.sin() * phi.sin(), theta.cos()], dim=-1
    ).reshape(-1, 3)
    area = (theta.sin() * (math.pi / rings) * (2 * math.pi / sectors)).flatten()
    return normal, area


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
    normal, area = sphere(400, 16)
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


def test_drag_of_a_sphere_in_creeping_flow():
    # Stokes: with viscosity, density, speed and radius 1 the pressure is -3/2 x, the
    # fluid's shear on the surface 3/2 (e_x - x n), and the drag 2 pi + 4 pi.
    normal, area = sphere()
    x = normal[:, :1]
    shear = 1.5 * (torch.tensor([1.0, 0, 0]) - x * normal)
    reference = {"speed": math.sqrt(2), "reference_area": 1.0}
    pressure = -1.5 * x
    drag = force_coefficients(pressure, normal, area, **reference).drag
    assert drag.item() == pytest.approx(2 * math.pi, rel=1e-3)
    both = force_coefficients(pressure, normal, area, shear_stress=shear, **reference)
    assert both.drag.item() == pytest.approx(6 * math.pi, rel=1e-3)
    assert abs(both.lift.item()) < 1e-12


def test_moments_against_cross_products():
    n = 40
    normal, pos, shear = torch.randn(3, n, 3, dtype=torch.float64)
    pressure, area = torch.randn(n).double(), torch.rand(n).double()
    batch = torch.tensor([0] * 15 + [2] * 25)
    point = (0.3, -0.2, 0.1)
    found = moment_coefficients(
        pressure,
        normal,
        area,
        pos,
        reference_length=4.0,
        reference_point=point,
        batch=batch,
        batch_size=3,
        shear_stress=shear,
        **REFERENCE,
    )
    expected = torch.zeros(3, 3, dtype=torch.float64)
    for i in range(n):
        x, y, z = (pos[i] - torch.tensor(point).double()).tolist()
        fx, fy, fz = ((-pressure[i] * normal[i] + shear[i]) * area[i]).tolist()
        moment = [y * fz - z * fy, z * fx - x * fz, x * fy - y * fx]
        expected[batch[i]] += torch.tensor(moment)
    # The dynamic pressure times the area is 1.
    torch.testing.assert_close(
        torch.stack(found, dim=1), expected / 4.0, rtol=1e-6, atol=1e-7
    )
    assert found.pitch[1] == 0


def test_lift_at_the_front_pitches_the_nose_up_and_is_the_lift_of_the_front_axle():
    # Flow along +x: the nose is at x = -1, the axles at -1 and 1.
    pressure = torch.tensor([-1.0, 0.0])
    normal = torch.tensor([[0.0, 0, 1], [0, 0, 1]])
    pos = torch.tensor([[-1.0, 0, 0], [1, 0, 0]])
    forces = force_coefficients(pressure, normal, torch.ones(2), **REFERENCE)
    moments = moment_coefficients(
        pressure, normal, torch.ones(2), pos, reference_length=2.0, **REFERENCE
    )
    assert forces.lift.item() == 1.0
    assert (forces.lift / 2 + moments.pitch).item() == 1.0
    assert (forces.lift / 2 - moments.pitch).item() == 0.0


def test_uniform_pressure_has_no_moment_about_any_point():
    normal, area = sphere()
    moments = moment_coefficients(
        torch.full((len(area),), 1e5),
        normal,
        area,
        normal,
        reference_length=1.0,
        reference_point=(3.0, 4.0, 5.0),
        **REFERENCE,
    )
    assert max(abs(value.item()) for value in moments) < 1e-7


def subset_errors(make_subset):
    """Drag and pitch of 200 subsets of a pear in some pressure, over those of all."""
    normal, area = sphere(30, 40)
    area = area * (2 + normal[:, 0])
    pressure = -normal[:, 0] + 0.2 * normal[:, 2]
    car = Data(pos=2 * normal, normal=normal, area=area, pressure=pressure)
    ratios = []
    for _ in range(200):
        part, more = make_subset(car)
        arguments = (part.pressure, part.normal, part.area)
        drag = force_coefficients(*arguments, **REFERENCE, **more).drag
        pitch = moment_coefficients(
            *arguments,
            part.pos,
            reference_length=1.0,
            reference_point=(0.0, 0.0, 1.0),
            **REFERENCE,
            **more,
        ).pitch
        ratios.append([drag.item(), pitch.item()])
    arguments = (pressure, normal, area)
    drag = force_coefficients(*arguments, **REFERENCE).drag
    pitch = moment_coefficients(
        *arguments,
        car.pos,
        reference_length=1.0,
        reference_point=(0.0, 0.0, 1.0),
        **REFERENCE,
    ).pitch
    return torch.tensor(ratios).mean(0) / torch.tensor([drag.item(), pitch.item()])


def test_a_subset_has_the_coefficients_of_the_whole():
    points = FixedPoints(300, replace=False, allow_duplicates=False)
    for draw in (AreaWeightedPoints(300), AreaWeightedPoints(300, replace=True)):
        ratios = subset_errors(lambda car, draw=draw: (draw(car), {}))
        assert ratios.tolist() == pytest.approx([1.0, 1.0], abs=0.03)
    ratios = subset_errors(lambda car: (points(car), {"total_area": car.area.sum()}))
    assert ratios.tolist() == pytest.approx([1.0, 1.0], abs=0.03)
    # What happens without: a quarter of the points has a quarter of the drag.
    ratios = subset_errors(lambda car: (points(car), {}))
    assert ratios.tolist() == pytest.approx([0.25, 0.25], abs=0.03)


def test_total_area_of_each_body():
    pressure, normal, area = box([3.0, 1.0, 7.0, 7.0, 5.0, 1.0])
    batch = torch.tensor([0] * 6 + [1] * 6)
    arguments = [torch.cat([values] * 2) for values in (pressure, normal, area)]
    found = force_coefficients(
        *arguments, batch=batch, total_area=torch.tensor([6.0, 12.0]), **REFERENCE
    )
    assert found.drag.tolist() == [2.0, 4.0]
    found = force_coefficients(*arguments, batch=batch, total_area=3.0, **REFERENCE)
    assert found.drag.tolist() == [1.0, 1.0]


@pytest.mark.segment
def test_gradients_of_moments():
    pressure, area = torch.randn(5).double(), torch.rand(5).double()
    normal, pos, shear = torch.randn(3, 5, 3, dtype=torch.float64)
    inputs = [value.requires_grad_() for value in (pressure, area, normal, pos, shear)]

    def function(pressure, area, normal, pos, shear):
        return moment_coefficients(
            pressure,
            normal,
            area,
            pos,
            batch=torch.tensor([0, 0, 0, 1, 1]),
            shear_stress=shear,
            total_area=2.0,
            reference_length=2.0,
            **REFERENCE,
        )

    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


def test_what_moments_and_shear_refuse():
    arguments = box([1.0] * 6)
    moment = {"reference_length": 1.0, **REFERENCE}
    with pytest.raises(ValueError, match="reference_length must be positive, got 0"):
        moment_coefficients(
            *arguments, arguments[1], **moment | {"reference_length": 0}
        )
    with pytest.raises(ValueError, match=r"pos has shape \(6, 2\), expected \(6, 3\)"):
        moment_coefficients(*arguments, arguments[1][:, :2], **moment)
    with pytest.raises(ValueError, match=r"reference_point is \[0.0\], expected three"):
        moment_coefficients(*arguments, arguments[1], reference_point=[0], **moment)
    with pytest.raises(ValueError, match=r"shear_stress has shape \(1, 3\)"):
        shear = torch.ones(1, 3)
        force_coefficients(*arguments, shear_stress=shear, **REFERENCE)
    with pytest.raises(ValueError, match=r"total_area has shape \(2,\), expected \(1,"):
        force_coefficients(*arguments, total_area=torch.ones(2), **REFERENCE)
    with pytest.raises(ValueError, match=r"total_area=0.0 and cell areas \[6.0\]"):
        force_coefficients(*arguments, total_area=0.0, **REFERENCE)


@pytest.mark.parametrize("wrong", [-1.0, torch.nan, torch.inf])
def test_areas_that_are_none(wrong):
    area = torch.tensor([1.0, wrong])
    numbers = torch.rand(2), torch.rand(2, 3), area
    options = {"speed": 1.0, "reference_area": 1.0}
    with pytest.raises(ValueError, match="area has negative or non-finite"):
        force_coefficients(*numbers, **options)
    with pytest.raises(ValueError, match="area has negative or non-finite"):
        moment_coefficients(*numbers, torch.rand(2, 3), reference_length=1.0, **options)
