"""Simulated transonic flow around airfoils, by the steady Euler equations."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from torch_geometric_flare._not_converged import NotConverged
from torch_geometric_flare.fields import Field, Fields
from torch_geometric_flare.simulation.airfoil_grid import WAKE_CELLS, AirfoilShape
from torch_geometric_flare.simulation.euler import GAMMA, CGridEuler
from torch_geometric_flare.simulation.parameter import (
    Parameter,
    check_parameter,
    draw,
    one_number,
)

Array = npt.NDArray[np.float64]

_COARSE_CFL, _CFL = 6.0, 7.0
_LARGEST_CHANGE = 1e-3
_LARGEST_MACH = 3.0


@dataclass(frozen=True)
class AirfoilSolution:
    """Flow at the nodes of a C-grid, with unit pressure and density in the far field.

    Args:
        nodes: Coordinates in chords, [I, J, 2]; see `AirfoilShape.c_grid`.
        density: Density, [I, J].
        velocity: Velocity, [I, J, 2].
        pressure: Pressure, [I, J].
        mach_number: Mach number, [I, J].
        change: Root-mean-square change of the density in the last iteration.
    """

    nodes: Array
    density: Array
    velocity: Array
    pressure: Array
    mach_number: Array
    change: float


@dataclass(frozen=True)
class AirfoilFlow:
    r"""Simulated airfoils for training without downloads: transonic Euler flow.

    The physics of the airfoil benchmark of Geo-FNO ([arXiv
    2207.05209](https://arxiv.org/abs/2207.05209)): a randomly deformed NACA 0012
    (`AirfoilShape`), by default at zero incidence, in steady inviscid flow,

    $$\nabla \cdot (\rho v) = 0, \qquad \nabla \cdot (\rho v v^\top + p I) = 0, \qquad
    \nabla \cdot ((\rho E + p)\, v) = 0, \qquad p = 0.4\, \rho\, \big(E - \tfrac12
    |v|^2 \big),$$

    with $v \cdot n = 0$ on the airfoil, and Mach number `mach` and $p = \rho = 1$ in
    the far field. Lengths are in chords. The solver uses cell-centered finite volumes
    (`euler.CGridEuler`) in single precision, on a C-grid of 221 × 51 nodes whose outer
    boundary is 40 chords away. A coarse grid of every second node gives the initial
    state.

    The number of iterations is fixed. With the defaults and without deformation, the
    result differs by 0.1 % from the discrete solution (relative $L^2$ of the Mach
    number), which differs by 0.9 % from that on a grid twice as fine. There is no
    viscosity, hence no boundary layer and no stall; the discretization error of this
    coarse grid dominates the drag. Samples were never compared with those of the
    benchmark, whose grids have the same size but differ.

    Args:
        mach: Mach number of the free stream; or a lower and an upper bound, such as
            `(0.6, 0.82)`, to draw it uniformly for each sample, after the shape. It is
            then a condition of the sample.
        deformation: Maximum displacement of the nodes that deform the airfoil, in
            chords.
        coarse_iterations: Number of iterations on the coarse grid.
        iterations: Number of iterations on the fine grid.
        incidence: Upward angle in degrees of the free stream relative to the chord; or
            bounds as for `mach`, such as `(-2.0, 2.0)`. It is drawn after `mach`.

    Raises:
        ValueError: If `mach` is not between 0.5 and 0.9, `deformation` not between 0
            and 0.06, `incidence` not between -5 and 5, bounds are not in order, or a
            number of iterations is not an integer of at least 1.
    """

    mach: Parameter = 0.8
    deformation: float = 0.05
    coarse_iterations: int = 300
    iterations: int = 350
    incidence: Parameter = field(default=0.0, metadata={"omit_default": True})

    name: ClassVar[str] = "simulated_airfoil"
    fields: ClassVar[Fields] = (Field("mach_number", 1, ""),)
    """The target."""
    features: ClassVar[Fields] = ()
    """Inputs in addition to the coordinates: none."""
    coordinate_bounds: ClassVar[None] = None
    """The model input is the raw coordinates."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("mach", 0.5, 0.9),
            ("deformation", 0.0, 0.06),
            ("incidence", -5.0, 5.0),
        ):
            check_parameter(name, getattr(self, name), low, high)
        for name in ("coarse_iterations", "iterations"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(
                    f"`{name}` must be an integer of at least 1, got {value!r}"
                )

    @property
    def conditions(self) -> Fields:
        """Conditions of each sample: those of `mach` and `incidence` that are drawn."""
        return tuple(
            condition
            for condition in (Field("mach"), Field("incidence", unit="°"))
            if isinstance(getattr(self, condition.name), tuple)
        )

    def sample(self, rng: np.random.Generator) -> dict[str, npt.NDArray[np.number]]:
        """Return the raw arrays of one random airfoil.

        Args:
            rng: Random generator for the shape and then the parameters with bounds;
                equal states give equal samples.

        Returns:
            `pos` in chords, [11271, 2]; `mach_number`, [11271, 1]; `grid`, (221, 51);
            each of `conditions`, [1].

        Raises:
            NotConverged: See `solve`.
        """
        shape = AirfoilShape.sample(rng, self.deformation)
        mach, incidence = draw(rng, self.mach), draw(rng, self.incidence)
        flow = self.solve(shape, mach=mach, incidence=incidence)
        drawn = {"mach": mach, "incidence": incidence}
        return {
            "pos": flow.nodes.reshape(-1, 2),
            "mach_number": flow.mach_number.reshape(-1, 1),
            "grid": np.array(flow.mach_number.shape),
            **{c.name: np.array([drawn[c.name]]) for c in self.conditions},
        }

    def solve(
        self,
        shape: AirfoilShape,
        refinement: int = 1,
        *,
        mach: float | None = None,
        incidence: float | None = None,
    ) -> AirfoilSolution:
        """Compute the flow around an airfoil.

        Args:
            shape: The airfoil.
            refinement: Number of cells along each side of a cell of the default grid. A
                grid twice as fine needs about three times the iterations.
            mach: Mach number of the free stream. Default: that of the simulator.
            incidence: Angle of the free stream in degrees. Default: that of the
                simulator.

        Returns:
            The flow at all nodes.

        Raises:
            ValueError: If the simulator has bounds for `mach` or `incidence` and no
                value is passed.
            NotConverged: If the flow is not finite, still changes by more than 0.001
                per iteration, or exceeds Mach 3.
        """
        mach = one_number("mach", mach, self.mach)
        angle = one_number("incidence", incidence, self.incidence)
        nodes = shape.c_grid(refinement)
        wake_cells = refinement * WAKE_CELLS
        with np.errstate(all="ignore"):  # non-finite values are detected below
            coarse = CGridEuler(nodes[::2, ::2], wake_cells // 2, mach, incidence=angle)
            coarse.iterate(self.coarse_iterations, _COARSE_CFL)
            fine = CGridEuler(nodes, wake_cells, mach, incidence=angle)
            fine.cells[:] = coarse.cells.repeat(2, axis=1).repeat(2, axis=2)
            fine.update_ghosts()
            change = fine.iterate(self.iterations, _CFL)
            density, velocity, pressure = fine.at_nodes()
            sound = np.sqrt(GAMMA * pressure / density)
            mach_number = np.linalg.norm(velocity, axis=2) / sound
        largest = float(mach_number.max())
        finite = math.isfinite(change) and math.isfinite(largest)
        if not (finite and change <= _LARGEST_CHANGE and largest <= _LARGEST_MACH):
            raise NotConverged(
                f"after {self.iterations} iterations around {shape}, the density "
                f"changes by {change:.1e} per iteration and the largest Mach number is "
                f"{largest:.2f}; expected at most {_LARGEST_CHANGE} and {_LARGEST_MACH}"
            )
        return AirfoilSolution(nodes, density, velocity, pressure, mach_number, change)
