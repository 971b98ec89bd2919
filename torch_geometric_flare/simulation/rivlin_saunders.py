r"""Incompressible Rivlin-Saunders rubber in plane stress.

The out-of-plane stretch is $1 / J$, so the energy is a function of the in-plane
deformation gradient $F$ only: with $C = F^T F$ and $J = \det F$,

$$W = C_1 (\mathrm{tr}\, C + J^{-2} - 3)
+ C_2 (J^2 + J^{-2}\, \mathrm{tr}\, C - 3).$$
"""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

C1 = 1.863e5
"""First material constant in Pa."""
C2 = 9.79e3
"""Second material constant in Pa."""


def energy(gradient: Array) -> Array:
    r"""Return the energy density $W$ in Pa.

    Args:
        gradient: Deformation gradients $F$, [..., 2, 2].

    Returns:
        Energy densities, [...].
    """
    trace, _, j = _invariants(gradient)
    return C1 * (trace + j**-2 - 3.0) + C2 * (j**2 + trace * j**-2 - 3.0)


def first_piola_kirchhoff(gradient: Array) -> Array:
    r"""Return the first Piola-Kirchhoff stress $\partial W / \partial F$ in Pa.

    Args:
        gradient: Deformation gradients $F$, [..., 2, 2].

    Returns:
        Stress, [..., 2, 2].
    """
    g1, g2, cofactor, _, _ = _factors(gradient)
    return g1[..., None, None] * gradient + g2[..., None, None] * cofactor


def cauchy_stress(gradient: Array) -> Array:
    r"""Return the in-plane Cauchy stress $P F^T$ in Pa.

    Args:
        gradient: Deformation gradients $F$, [..., 2, 2].

    Returns:
        Stress, [..., 2, 2]. The volume does not change, so there is no division by its
        determinant.
    """
    return first_piola_kirchhoff(gradient) @ np.swapaxes(gradient, -1, -2)


def tangent(gradient: Array) -> Array:
    r"""Return the derivative of the first Piola-Kirchhoff stress in Pa.

    Args:
        gradient: Deformation gradients $F$, [..., 2, 2].

    Returns:
        $\partial P_{ij} / \partial F_{kl}$, [..., 2, 2, 2, 2].
    """
    g1, g2, cofactor, trace, j = _factors(gradient)
    by_cofactor = 6.0 * C1 / j**4 + 2.0 * C2 + 6.0 * C2 * trace / j**4
    mixed = -4.0 * C2 / j**3
    identity = np.einsum("ik,jl->ijkl", np.eye(2), np.eye(2))
    # The cofactor is linear in two dimensions.
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    of_cofactor = np.einsum("ik,jl->ijkl", turn, turn)

    def outer(first: Array, second: Array) -> Array:
        return first[..., :, :, None, None] * second[..., None, None, :, :]

    def weighted(weight: Array, array: Array) -> Array:
        return weight[..., None, None, None, None] * array

    return (
        weighted(g1, identity)
        + weighted(g2, of_cofactor)
        + weighted(by_cofactor, outer(cofactor, cofactor))
        + weighted(mixed, outer(gradient, cofactor) + outer(cofactor, gradient))
    )


def _invariants(gradient: Array) -> tuple[Array, Array, Array]:
    """Return the trace of C, the cofactor of F and its determinant J."""
    cofactor = np.empty_like(gradient)
    cofactor[..., 0, 0], cofactor[..., 1, 1] = gradient[..., 1, 1], gradient[..., 0, 0]
    cofactor[..., 0, 1], cofactor[..., 1, 0] = (
        -gradient[..., 1, 0],
        -gradient[..., 0, 1],
    )
    j = (gradient[..., 0, :] * cofactor[..., 0, :]).sum(axis=-1)
    return (gradient**2).sum(axis=(-1, -2)), cofactor, j


def _factors(gradient: Array) -> tuple[Array, Array, Array, Array, Array]:
    """Return g1 and g2 of P = g1 F + g2 cof F, and the invariants."""
    trace, cofactor, j = _invariants(gradient)
    g1 = 2.0 * (C1 + C2 / j**2)
    g2 = -2.0 * C1 / j**3 + 2.0 * C2 * j - 2.0 * C2 * trace / j**3
    return g1, g2, cofactor, trace, j
