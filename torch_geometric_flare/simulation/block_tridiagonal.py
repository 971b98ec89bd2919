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
from scipy.linalg import cho_factor, cho_solve, solve_triangular

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Layer:
    """Stiffness and load of one layer, on the unknowns that it touches.

    Args:
        lower: Those on the plane below, by their numbers in that plane, [P].
        upper: Those on the plane above, [Q].
        stiffness: Symmetric matrix, first of `lower`, then of `upper`, [P + Q, P + Q].
        load: Right side in the step that adds the layer, [P + Q].
    """

    lower: Index
    upper: Index
    stiffness: Array
    load: Array


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
    factors, couplings, loads = [], [], []
    schur = np.zeros((0, 0))  # S of the plane below; nothing remains of plane 0
    for number, layer in enumerate(layers, start=1):
        split = len(layer.lower)
        held = number == 1
        size = 0 if held else sizes[number - 1]
        coupling = np.zeros((size, len(layer.upper)))
        load = np.zeros(size)
        if not held:
            schur[np.ix_(layer.lower, layer.lower)] += layer.stiffness[:split, :split]
            coupling[layer.lower] = layer.stiffness[:split, split:]
            load[layer.lower] = layer.load[:split]
        factor = cho_factor(schur, lower=True, check_finite=False) if size else None
        stiffness = layer.stiffness[split:, split:]
        right = layer.load[split:]
        if factor is not None:
            half = solve_triangular(
                factor[0], coupling, lower=True, check_finite=False
            )
            stiffness = stiffness - half.T @ half
            right = right - coupling.T @ cho_solve(factor, load, check_finite=False)
        own = cho_factor(stiffness, lower=True, check_finite=False)
        born[number][layer.upper] = cho_solve(own, right, check_finite=False)
        schur = np.zeros((sizes[number], sizes[number]))
        schur[np.ix_(layer.upper, layer.upper)] = stiffness
        factors.append(factor)
        couplings.append(coupling)
        loads.append(load)

    later = [np.zeros(size) for size in sizes]
    for plane in range(len(layers) - 1, 0, -1):
        above = born[plane + 1] + later[plane + 1]
        right = loads[plane] - couplings[plane] @ above[layers[plane].upper]
        later[plane] = cho_solve(factors[plane], right, check_finite=False)
    return [own + rest for own, rest in zip(born, later, strict=True)], later
