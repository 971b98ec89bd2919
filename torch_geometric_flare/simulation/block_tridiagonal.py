r"""Exact solution of stacks that grow layer by layer.

Layer $l$ couples the unknowns of planes $l - 1$ and $l$; plane 0 is fixed. In step $l$,
layers 1 to $l$ exist, and the new layer is loaded:

$$K_l\, \Delta u^{(l)} = f_l, \qquad K_l = \sum_{m \le l} \begin{pmatrix} A_m & B_m \\
B_m^\top & C_m \end{pmatrix}.$$

All matrices are block-tridiagonal and differ from the preceding one only by the last
layer. Therefore, all steps share the elimination from the plate upward,

$$T_l = C_l - B_l^\top S_{l-1}^{-1} B_l, \qquad S_l = T_l + A_{l+1},$$

and, because the increments of all steps are summed, the back substitution. With $f_l =
(a_l, c_l)$,

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
    """Stiffness and load of one layer between planes with P and Q unknowns.

    Args:
        upper: Indices of the upper plane's unknowns that the layer touches, [T],
            increasing.
        lower_stiffness: Block A of all unknowns of the lower plane, [P, P].
        coupling: Block B between these and `upper`, [P, T].
        upper_stiffness: Block C of `upper`, [T, T].
        lower_load: Load on the lower plane in the step that adds the layer, [P].
        upper_load: Load on `upper` in this step, [T].
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
    """Sum the increments of all steps.

    Args:
        sizes: Number of unknowns of planes 0 to L. Those of plane 0 are fixed at 0. An
            adjacent layer touches each of the others.
        layers: Layers 1 to L. Layers 1 to $l$ must form a stable stack for each $l$.

    Returns:
        Two lists with one vector per plane. The first is the sum over all steps, the
        second the sum over the steps after the plane's own layer, which the next layer
        is subject to.

    Raises:
        numpy.linalg.LinAlgError: If a stack of layers is not stable.
    """
    initial = [np.zeros(size) for size in sizes]
    factors = [np.zeros((0, 0))]  # of S; plane 0 has no unknowns
    for number, layer in enumerate(layers, start=1):
        # LAPACK expects lower triangles in column-major order; other layouts are
        # copied.
        block = layer.upper_stiffness.toarray(order="F")  # becomes T
        load = layer.upper_load
        if number > 1:
            half = solve_triangular(
                factors[-1],
                layer.coupling.toarray(order="F"),
                lower=True,
                overwrite_b=True,
                check_finite=False,
            )
            block = dsyrk(-1.0, half, 1.0, block, trans=1, lower=1, overwrite_c=1)
            load = load - layer.coupling.T @ _solve(factors[-1], layer.lower_load)
        factor = cholesky(block, lower=True, check_finite=False)
        initial[number][layer.upper] = _solve(factor, load)
        if number < len(layers):
            schur = _spread(block, layer.upper, sizes[number])
            schur += layers[number].lower_stiffness.toarray(order="F")
            factors.append(
                cholesky(schur, lower=True, overwrite_a=True, check_finite=False)
            )

    later = [np.zeros(size) for size in sizes]
    for plane in range(len(layers) - 1, 0, -1):
        layer = layers[plane]
        above = (initial[plane + 1] + later[plane + 1])[layer.upper]
        load = layer.lower_load - layer.coupling @ above
        later[plane] = _solve(factors[plane], load)
    return [a + b for a, b in zip(initial, later, strict=True)], later


def _spread(matrix: Array, index: Index, size: int) -> Array:
    """Scatter a matrix to an index of a zero matrix of `size`."""
    if len(index) == size:
        return matrix
    result = np.zeros((size, size), order="F")
    result[np.ix_(index, index)] = matrix
    return result


def _solve(factor: Array, load: Array) -> Array:
    """Return the solution for a lower Cholesky factor."""
    solution: Array = cho_solve((factor, True), load, check_finite=False)
    return solution
