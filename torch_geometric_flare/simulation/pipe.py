"""Simulated flow through curved pipes."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array, csc_array
from scipy.sparse.linalg import splu

from torch_geometric_flare._not_converged import NotConverged
from torch_geometric_flare.fields import Field, Fields
from torch_geometric_flare.simulation.parameter import (
    Parameter,
    check_parameter,
    draw,
    one_number,
)
from torch_geometric_flare.simulation.quadratic_mesh import (
    QuadraticMesh,
    quadratic_interpolation,
)

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]

_LENGTH = 10.0
_RESOLUTION = 129
_TOLERANCE = 1e-6
_MAX_STEPS = 10


@dataclass(frozen=True)
class PipeSolution:
    r"""Flow at the nodes of the mesh, which form a lattice.

    The first index runs along the pipe, the second across it from bottom to top. With A
    elements along and B across, I = 2 A + 1 and J = 2 B + 1.

    Args:
        points: Positions, [I, J, 2].
        velocity: Velocities, [I, J, 2].
        pressure: Pressure divided by the density, at every second node, [A + 1, B + 1].
        residuals: Norm of the momentum residual after each Picard and Newton step,
            divided by that of fluid at rest behind the inlet.
    """

    points: Array
    velocity: Array
    pressure: Array
    residuals: tuple[float, ...]


@dataclass(frozen=True)
class PipeFlow:
    r"""Simulated velocity along curved pipes, on a structured grid.

    The physics of the pipe benchmark of "Fourier Neural Operator with Learned
    Deformations for PDEs on General Geometries" (https://arxiv.org/abs/2207.05209):
    steady, incompressible flow in two dimensions, without units,

    $$(u \cdot \nabla) u = \nu \Delta u - \nabla p, \qquad \nabla \cdot u = 0,
    \qquad \nu = 0.005,$$

    through a pipe of length 10 and width 1, $y = c(x) + \eta$ with $|\eta| \le
    \tfrac12$. Its center line $c$ is a cubic Hermite curve on five evenly spaced nodes.
    It starts with $c = 0$ and $c' = 0$; the values at the other nodes and the slopes,
    in units of the segment length (2.5), are drawn uniformly from [-1, 1]. The velocity
    is $(1 - 4 \eta^2, 0)$ at the inlet and zero on the walls; the stress $\nu\,
    \partial u / \partial n - p n$ is zero at the outlet.

    The solver uses Taylor-Hood elements (biquadratic velocity, bilinear pressure) on
    quadrilaterals that follow the center line. It starts from creeping flow, followed
    by one Picard step and Newton's method until the momentum residual is below
    $10^{-6}$. The default mesh has a relative $L^2$ error of about 0.3 % in the
    velocity along x; 12 elements across have 0.12 %. A sample is evaluated with the
    elements' shape functions. Its first index runs along the pipe and its second one
    across from bottom to top. The axes of the official arrays `Pipe_X` and `Pipe_Y` are
    assumed to be the same, (along, across). Because both lengths are 129, the shape
    does not confirm this, and samples were never compared with official ones.

    Args:
        elements_along: Number of elements from inlet to outlet. With a multiple of 4,
            the knots of the center line lie on the edges of elements.
        elements_across: Number of elements from wall to wall.
        viscosity: Kinematic viscosity $\nu$; or a lower and an upper bound, such as
            `(0.002, 0.01)`, to draw its logarithm uniformly for each pipe, after the
            center line. It is then a condition of the sample. Much below 0.002, the
            flow may not be steady and the solver may not converge.

    Raises:
        ValueError: If `elements_along` is not an integer of at least 4 or
            `elements_across` of at least 2, or `viscosity` is below 1e-6 or not finite,
            or its bounds are not in order.
    """

    elements_along: int = 64
    elements_across: int = 8
    viscosity: Parameter = 0.005

    name: ClassVar[str] = "simulated_pipe"
    fields: ClassVar[Fields] = (Field("velocity_x", 1, ""),)
    """The target: velocity along x."""
    features: ClassVar[Fields] = ()
    """Inputs in addition to the coordinates: none."""
    coordinate_bounds: ClassVar[None] = None
    """The raw coordinates are used: x in [0, 10], y mostly in [-2, 2]."""

    def __post_init__(self) -> None:
        for field, least in (("elements_along", 4), ("elements_across", 2)):
            value = getattr(self, field)
            if type(value) is not int or value < least:
                raise ValueError(
                    f"`{field}` must be an integer of at least {least}, got {value!r}"
                )
        check_parameter("viscosity", self.viscosity, least=1e-6)

    @property
    def conditions(self) -> Fields:
        """Conditions of each sample: the viscosity, if it is drawn."""
        return (Field("viscosity"),) if isinstance(self.viscosity, tuple) else ()

    def sample(self, rng: np.random.Generator) -> dict[str, npt.NDArray[np.generic]]:
        r"""Return the raw arrays of one random pipe.

        Args:
            rng: Random generator for the center line and then for a viscosity with
                bounds; equal states give equal samples.

        Returns:
            `pos`, [16641, 2], row by row; `velocity_x`, [16641, 1]; `grid`, (129, 129),
            points along the pipe and across it; `viscosity`, [1], if it is drawn.

        Raises:
            NotConverged: If the solver does not converge.
        """
        coefficients = np.zeros((5, 2))
        coefficients[1:] = rng.uniform(-1.0, 1.0, (4, 2))
        viscosity = draw(rng, self.viscosity, log=True)
        flow = self.solve(coefficients, viscosity)
        along = quadratic_interpolation(_RESOLUTION, self.elements_along)
        across = quadratic_interpolation(_RESOLUTION, self.elements_across)
        values = np.concatenate([flow.points, flow.velocity[..., :1]], axis=-1)
        values = np.einsum("ri,ijc,sj->rsc", along, values, across, optimize=True)
        values = values.reshape(-1, 3)
        return {
            "pos": values[:, :2].copy(),
            "velocity_x": values[:, 2:].copy(),
            "grid": np.array([_RESOLUTION, _RESOLUTION]),
            **{condition.name: np.array([viscosity]) for condition in self.conditions},
        }

    def solve(
        self, coefficients: Array, viscosity: float | None = None
    ) -> PipeSolution:
        r"""Compute the flow through a pipe.

        Args:
            coefficients: Values of the center line at its five nodes, and slopes per
                segment length, [5, 2].
            viscosity: Kinematic viscosity. Default: that of the simulator.

        Returns:
            Velocity and pressure.

        Raises:
            ValueError: If the coefficients have another shape or are not finite, or the
                simulator has bounds for the viscosity and none is passed.
            NotConverged: If Newton's method does not reach its tolerance.
        """
        coefficients = np.asarray(coefficients, dtype=np.float64)
        if coefficients.shape != (5, 2) or not np.isfinite(coefficients).all():
            raise ValueError(
                f"`coefficients` must hold 5 x 2 finite numbers, got {coefficients}"
            )
        viscosity = one_number("viscosity", viscosity, self.viscosity)
        rows, columns = 2 * self.elements_along + 1, 2 * self.elements_across + 1
        x = np.linspace(0.0, _LENGTH, rows)
        eta = np.linspace(-0.5, 0.5, columns)
        y = middle_line(coefficients, x)[:, None] + eta
        points = np.stack([np.broadcast_to(x[:, None], y.shape), y], axis=-1)
        system = _System(points, viscosity)

        velocity = np.zeros((rows, columns, 2))
        velocity[0, :, 0] = 1.0 - 4.0 * eta**2
        state = np.concatenate([velocity.reshape(-1), np.zeros(system.num_pressures)])
        scale = system.residual(state)
        state = system.step(state, convection=0.0, newton=0.0)
        residuals: list[float] = []
        while len(residuals) < _MAX_STEPS:
            # One Picard step is close enough for Newton's method to converge.
            state = system.step(state, 1.0, newton=1.0 if residuals else 0.0)
            residuals.append(system.residual(state) / scale)
            if not math.isfinite(residuals[-1]):
                break
            if residuals[-1] <= _TOLERANCE:
                return PipeSolution(
                    points,
                    state[: velocity.size].reshape(velocity.shape),
                    state[velocity.size :].reshape(
                        self.elements_along + 1, self.elements_across + 1
                    ),
                    tuple(residuals),
                )
        raise NotConverged(
            f"the momentum residual is {residuals[-1]:.2g} after "
            f"{len(residuals)} steps, expected at most {_TOLERANCE}"
        )


def middle_line(coefficients: Array, x: Array) -> Array:
    r"""Return a cubic Hermite curve on five evenly spaced nodes in [0, 10].

    Args:
        coefficients: Value and slope at each node, [5, 2]; slopes are per segment
            length, 2.5.
        x: Positions in [0, 10], [I].

    Returns:
        Heights, [I].
    """
    position = np.asarray(x) * (4.0 / _LENGTH)
    segment = np.minimum(position.astype(np.int64), 3)
    t = position - segment
    (value, slope), (next_value, next_slope) = (
        coefficients[segment].T,
        coefficients[segment + 1].T,
    )
    return np.asarray(
        value * (1.0 + 2.0 * t) * (1.0 - t) ** 2
        + slope * t * (1.0 - t) ** 2
        + next_value * t**2 * (3.0 - 2.0 * t)
        - next_slope * t**2 * (1.0 - t)
    )


class _System:
    """The discrete equations; a state holds velocities per node, then pressures."""

    def __init__(self, points: Array, viscosity: float) -> None:
        rows, columns = points.shape[:2]
        self.mesh = mesh = QuadraticMesh.from_lattice(points)
        self.num_nodes = rows * columns
        self.num_pressures = (rows // 2 + 1) * (columns // 2 + 1)
        corner = mesh.nodes[:, :4]
        pressure = corner // columns // 2 * (columns // 2 + 1) + corner % columns // 2
        velocity = 2 * mesh.nodes[:, :, None] + np.arange(2)
        # Unknowns of each element: u and v of the nine nodes, then four pressures.
        self.unknowns = np.concatenate(
            [velocity.reshape(-1, 18), 2 * self.num_nodes + pressure], axis=1
        )
        fixed = np.zeros((rows, columns, 2), dtype=bool)
        fixed[0] = fixed[:, 0] = fixed[:, -1] = True
        held = np.concatenate([fixed.reshape(-1), np.zeros(self.num_pressures, bool)])
        self.free = np.flatnonzero(~held)
        self.stokes = self._stokes(viscosity)
        row = np.repeat(self.unknowns, 22, axis=1).reshape(-1)
        column = np.tile(self.unknowns, 22).reshape(-1)
        number = np.full(len(held), -1)
        number[self.free] = np.arange(len(self.free))
        self._kept = np.flatnonzero((number[row] >= 0) & (number[column] >= 0))
        self._place = number[row[self._kept]], number[column[self._kept]]

    def residual(self, state: Array) -> float:
        """Return the norm of the residual."""
        return float(np.linalg.norm(self._forces(state, 1.0)[self.free]))

    def step(self, state: Array, convection: float, newton: float) -> Array:
        """Solve the equations linearized around a state.

        Args:
            state: The state.
            convection: 0 for creeping flow, otherwise 1.
            newton: 0 for Picard's linearization of the convection, 1 for Newton's.
        """
        blocks = self.stokes
        if convection:
            blocks = blocks + self._convection(state, newton)
        values = blocks.reshape(-1)[self._kept]
        size = len(self.free)
        matrix = csc_array(coo_array((values, self._place), shape=(size, size)))
        factors = splu(matrix, permc_spec="COLAMD")
        forces = self._forces(state, convection)
        result = state.copy()
        result[self.free] -= factors.solve(forces[self.free])
        return result

    def _forces(self, state: Array, convection: float) -> Array:
        local = state[self.unknowns]
        forces = np.matmul(self.stokes, local[..., None])[..., 0]
        if convection:
            forces += np.matmul(self._convection(state, 0.0), local[..., None])[..., 0]
        return np.bincount(
            self.unknowns.reshape(-1), forces.reshape(-1), len(state)
        ).astype(np.float64)

    def _stokes(self, viscosity: float) -> Array:
        """Return friction, pressure and continuity per element, [E, 22, 22]."""
        mesh = self.mesh
        count = len(mesh.nodes)
        weighted = mesh.gradients * mesh.weights[:, None, :, None]
        friction = viscosity * (
            weighted.reshape(count, 9, -1)
            @ mesh.gradients.reshape(count, 9, -1).transpose(0, 2, 1)
        )
        blocks = np.zeros((count, 22, 22))
        for i in range(2):
            blocks[:, i:18:2, i:18:2] = friction
            pressure = -weighted[..., i] @ mesh.linear_values.T  # [E, 9, 4]
            blocks[:, i:18:2, 18:] = pressure
            blocks[:, 18:, i:18:2] = pressure.transpose(0, 2, 1)
        return blocks

    def _convection(self, state: Array, newton: float) -> Array:
        """Return the derivative of the convection term per element, [E, 22, 22]."""
        mesh = self.mesh
        local = state[self.unknowns[:, :18]].reshape(-1, 9, 2)
        velocity = np.einsum("eai,aq->eqi", local, mesh.values, optimize=True)
        carried = np.einsum("eqj,ebqj->eqb", velocity, mesh.gradients, optimize=True)
        tested = mesh.values * mesh.weights[:, None]  # [E, 9, Q]
        blocks = np.zeros((len(local), 22, 22))
        for i in range(2):
            blocks[:, i:18:2, i:18:2] = tested @ carried
        if newton:
            gradient = np.einsum("eai,eaqj->eqij", local, mesh.gradients, optimize=True)
            for i in range(2):
                for j in range(2):
                    blocks[:, i:18:2, j:18:2] += newton * (
                        (tested * gradient[:, None, :, i, j]) @ mesh.values.T
                    )
        return blocks
