r"""Exact solution of stacks that grow layer by layer.

Layer $l$ joins the unknowns of plane $l - 1$ with those of plane $l$; plane 0 is held.
In step $l$ the layers 1 to $l$ exist, and the new one is loaded:

$$K_l\, \Delta u^{(l)} = f_l, \qquad K_l = \sum_{m \le l} \begin{pmatrix} A_m & B_m \\
B_m^\top & C_m \end{pmatrix}.$$

All matrices are block-tridiagonal, and differ from the one before by the last layer
alone. Elimination from the plate upwards is therefore shared by all steps,

$$T_l = C_l - B_l^\top S_{l-1}^{-1} B_l, \qquad S_l = T_l + A_{l+1},$$

and so is substitution downwards, since steps add up. With $f_l = (a_l, c_l)$,

$$T_l\, \Delta u^{(l)}_l = c_l - B_l^\top S_{l-1}^{-1} a_l, \qquad
\sum_{m > l} \Delta u^{(m)}_l = S_l^{-1} \Big(a_{l+1} - B_{l+1} \sum_{m > l}
\Delta u^{(m)}_{l+1}\Big).$$
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.linalg.blas import dsyrk
from scipy.sparse import coo_array

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Layer:
    """Stiffness and load of one layer between planes of P and of Q unknowns.

    Args:
        upper: Unknowns of the plane above that the layer touches, [T]; increasing.
        lower_stiffness: The block A, of all unknowns of the plane below, [P, P].
        coupling: The block B, of these and `upper`, [P, T].
        upper_stiffness: The block C, of `upper`, [T, T].
        lower_load: Right side in the step that adds the layer, [P].
        upper_load: The same of `upper`, [T].
    """

    upper: Index
    lower_stiffness: coo_array
    coupling: coo_array
    upper_stiffness: coo_array
    lower_load: Array
    upper_load: Array


def solve_growing(
    sizes: Sequence[int], layers: Sequence[Layer]
) -> tuple[list[Array], list[Array]]:
    """Sum up the increments of all steps.

    Args:
        sizes: Unknowns of planes 0 to L. Those of plane 0 are held at 0; each of the
            others is touched by a layer next to it.
        layers: Layers 1 to L. Each stack of the first of them is stable.

    Returns:
        Two lists with a vector for each plane. The first is the sum over all steps, the
        second over those after the plane's own layer: what the layer above it sees.

    Raises:
        numpy.linalg.LinAlgError: If a stack of layers is not stable.
    """
    born = [np.zeros(size) for size in sizes]
    factors = [np.zeros((0, 0))]  # of S; nothing remains of plane 0
    for number, layer in enumerate(layers, start=1):
        # LAPACK reads lower triangles, column by column: all else would be copied.
        own = layer.upper_stiffness.toarray(order="F")  # becomes T
        right = layer.upper_load
        if number > 1:
            half = solve_triangular(
                factors[-1],
                layer.coupling.toarray(order="F"),
                lower=True,
                overwrite_b=True,
                check_finite=False,
            )
            own = dsyrk(-1.0, half, 1.0, own, trans=1, lower=1, overwrite_c=1)
            right = right - layer.coupling.T @ _solve(factors[-1], layer.lower_load)
        factor = cholesky(own, lower=True, check_finite=False)
        born[number][layer.upper] = _solve(factor, right)
        if number < len(layers):
            schur = _spread(own, layer.upper, sizes[number])
            schur += layers[number].lower_stiffness.toarray(order="F")
            factors.append(
                cholesky(schur, lower=True, overwrite_a=True, check_finite=False)
            )

    later = [np.zeros(size) for size in sizes]
    for plane in range(len(layers) - 1, 0, -1):
        layer = layers[plane]
        above = (born[plane + 1] + later[plane + 1])[layer.upper]
        right = layer.lower_load - layer.coupling @ above
        later[plane] = _solve(factors[plane], right)
    return [own + rest for own, rest in zip(born, later, strict=True)], later


def _spread(matrix: Array, index: Index, size: int) -> Array:
    """Return a matrix of `size` that holds another one at an index."""
    if len(index) == size:
        return matrix
    result = np.zeros((size, size), order="F")
    result[np.ix_(index, index)] = matrix
    return result


def _solve(factor: Array, right: Array) -> Array:
    """Return the solution for a lower Cholesky factor."""
    solution: Array = cho_solve((factor, True), right, check_finite=False)
    return solution
