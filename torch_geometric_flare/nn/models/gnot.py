"""The General Neural Operator Transformer."""

import torch
from torch import Tensor, nn

from torch_geometric_flare.functional import PointBatch
from torch_geometric_flare.nn.attention.linear_attention import LinearAttention
from torch_geometric_flare.nn.backbone import Backbone
from torch_geometric_flare.nn.checks import (
    check_condition_channels,
    check_grid,
    check_heads,
    check_positive,
)
from torch_geometric_flare.nn.dense.residual_mlp import pointwise_mlp, reset_truncated
from torch_geometric_flare.nn.expert_block import ExpertBlock
from torch_geometric_flare.nn.initialization import (
    Init,
    check_init,
    reset_carrying,
    reset_scoring,
)


def reference_grid_code(grid: tuple[int, int], reference: int) -> Tensor:
    r"""Return the distances of each grid point to the points of a coarse lattice.

    Args:
        grid: Rows $H$ and columns $W$ of the points; point $(i, j)$ lies at
            $(i / (H - 1), j / (W - 1))$ in the unit square.
        reference: Rows and columns $R$ of the lattice on the unit square.

    Returns:
        $[HW, R^2]$ in float64, both dimensions in row-major order.
    """

    def lattice(rows: int, columns: int) -> Tensor:
        lines = (torch.linspace(0, 1, n, dtype=torch.float64) for n in (rows, columns))
        return torch.cartesian_prod(*lines)

    return torch.cdist(lattice(*grid), lattice(reference, reference))


class _Lift(nn.Module):
    r"""The input rows of the blocks: geometry, state and inputs, $[g, f, x]$.

    The input is $x$, concatenated with the positional code if there is one.
    """

    def __init__(
        self, in_channels: int, channels: int, code: int, embed_inputs: bool
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.first = 0 if embed_inputs else in_channels  # column to embed from
        embedded = in_channels + code - self.first
        self.geometry = pointwise_mlp(embedded, 2 * channels, channels, nn.GELU())
        self.state = pointwise_mlp(embedded, 2 * channels, channels, nn.GELU())
        self.placeholder = nn.Parameter(torch.empty(channels))

    def forward(self, x: Tensor) -> Tensor:
        embedded = x[..., self.first :] if self.first else x
        f = self.state(embedded) + self.placeholder
        g = self.geometry(embedded)
        return torch.cat([g, f, x[..., : self.in_channels].to(f.dtype)], dim=-1)


class _Head(nn.Module):
    """Predict the fields from the state in rows [g, f, x]."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.mlp = pointwise_mlp(channels, 2 * channels, out_channels, nn.GELU())

    def forward(self, rows: Tensor) -> Tensor:
        y: Tensor = self.mlp(rows[:, self.channels : 2 * self.channels])
        return y


class GNOT(Backbone):
    r"""The General Neural Operator Transformer on points, with gated experts.

    From [arXiv 2302.14376](https://arxiv.org/abs/2302.14376), in the variant of the
    comparison in [arXiv 2508.12594](https://arxiv.org/abs/2508.12594). MLPs with one
    exact GELU embed the inputs $x$ of each point as its geometry $g$, the same in all
    blocks, and its state $f$, to which a learned placeholder is added. With
    `LinearAttention` $A$ and $B$, a block computes

    $$h_1 = g + A(\text{queries } \mathrm{LN}(g),\;
      \text{keys and values } \mathrm{LN}(f)), \qquad
      h_2 = h_1 + \mathrm{LN}(\mathrm{experts}_1(h_1))$$

    $$h_3 = h_2 + B(\mathrm{LN}(h_2)), \qquad
      f \leftarrow h_3 + \mathrm{LN}(\mathrm{experts}_2(h_3)), \qquad
      \mathrm{experts}(h) = \sum_e \mathrm{softmax}_E(\mathrm{gate}(x))_e\,
      \mathrm{MLP}_e(h)$$

    and an MLP of the last $f$ predicts the fields. Points are encoded twice per block.
    Blocks pass on $[g, f, x]$, so chunks and `predict_stream` store $2C + C_\text{in}$
    numbers per point.

    **Reference grid.** With `grid`, both embeddings take the distances $c$ of $(i / (H
    - 1), j / (W - 1))$ to a lattice on the unit square instead of $x$, as in the
    comparison: only the gates get the inputs. `embed_inputs=True` embeds $[x, c]$,
    unlike the comparison. With `grid`, each graph must have all points of the grid in
    row-major order, and `group` and `predict_stream` are not supported.

    Args:
        in_channels: Width of the input.
        hidden_channels: Width $C$ of the hidden features; 128 in the comparison.
        out_channels: Number of fields to predict.
        num_layers: Number of blocks.
        heads: Number of attention heads of each block.
        num_experts: Number of MLPs $E$ of each mixture.
        mlp_ratio: Inner width of gates and experts divided by $C$.
        grid: Rows $H$ and columns $W$ of the points, for the reference grid; `None` for
            unstructured points.
        reference_grid: Rows and columns of the lattice.
        embed_inputs: Whether the embeddings take the inputs in addition to the
            distances.
        chunk_size: Number of points to process at a time in forward and backward, with
            the same result; `None` for all at once. Can be set on an existing model.
            Each block then saves only its input and recomputes the rest in backward.
        init: Parameter initialization, `"scaled"` or `"paper"`, see
            `nn.initialization`.
        condition_channels: Number of conditions `u` of each graph, which modulate all
            norms of the blocks except that of $g$, as in `nn.ResidualBlock`; 0 for
            none.

    Shapes:
        - input: $[N, C_\text{in}]$, `batch` $[N]$
        - output: $[N, C_\text{out}]$

    Raises:
        ValueError: If a size is not positive, `heads` does not divide
            `hidden_channels`, `grid` is not a pair of sizes, or `embed_inputs` is given
            without `grid`. The forward also raises it if a graph does not have the
            points of `grid`.

    Examples:
        >>> model = GNOT(3, 32, 1, num_layers=2, heads=4)
        >>> model(torch.randn(500, 3)).shape
        torch.Size([500, 1])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        num_layers: int = 8,
        heads: int = 8,
        num_experts: int = 3,
        mlp_ratio: int = 2,
        grid: tuple[int, int] | None = None,
        reference_grid: int = 8,
        embed_inputs: bool = False,
        chunk_size: int | None = None,
        init: Init = "scaled",
        condition_channels: int = 0,
    ) -> None:
        super().__init__()
        check_positive(
            in_channels=in_channels,
            hidden_channels=hidden_channels,
            out_channels=out_channels,
            num_layers=num_layers,
            heads=heads,
            num_experts=num_experts,
            mlp_ratio=mlp_ratio,
            reference_grid=reference_grid,
            chunk_size=chunk_size,
        )
        check_heads(hidden_channels, heads)
        if embed_inputs and grid is None:
            raise ValueError(
                "embed_inputs is True but grid is None, and without a grid the inputs "
                "are embedded anyway: pass grid or omit embed_inputs"
            )
        self.in_channels = in_channels
        self.hidden_channels = hidden_channels
        self.out_channels = out_channels
        self.num_layers = num_layers
        self.heads = heads
        self.num_experts = num_experts
        self.mlp_ratio = mlp_ratio
        self.grid = None if grid is None else check_grid(grid)
        self.reference_grid = reference_grid
        self.embed_inputs = embed_inputs
        self.chunk_size = chunk_size
        self.init = check_init(init)
        self.condition_channels = check_condition_channels(condition_channels)

        width = hidden_channels
        if grid is None:
            self.lift = _Lift(in_channels, width, 0, True)
        else:
            self.lift = _Lift(in_channels, width, reference_grid**2, embed_inputs)
        self.blocks = nn.ModuleList(
            ExpertBlock(
                in_channels, width, heads, num_experts, mlp_ratio, condition_channels
            )
            for _ in range(num_layers)
        )
        self.norm = nn.Identity()
        self.head = _Head(width, out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reset parameters."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                reset_truncated(module)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()
        assert isinstance(self.lift, _Lift)
        self._reset_lift()
        if self.init == "scaled":
            for module in self.modules():
                if isinstance(module, ExpertBlock):
                    reset_carrying(module.gate)
                elif isinstance(module, LinearAttention):
                    reset_scoring(module.query)
                    reset_scoring(module.key)
        nn.init.uniform_(self.lift.placeholder, 0.0, 1.0 / self.hidden_channels)

    def why_unsupported(self, way: str) -> str | None:
        """Return why the network does not support a feature, see `Backbone`."""
        if self.grid is not None and way != "chunk_size":
            return f"it needs the whole grid={self.grid}"
        return super().why_unsupported(way)

    def input_rows(self, x: Tensor, layout: PointBatch) -> Tensor:
        """Return the inputs and, with `grid`, the code of each point's position."""
        if self.grid is None:
            return x
        rows, columns = self.grid
        size = rows * columns
        for points in layout.sizes:
            if points not in (0, size):
                raise ValueError(
                    f"a graph has {points} points, but this GNOT requires "
                    f"grid={self.grid} of {size} points: build one for that grid, or "
                    "one without grid"
                )
        code = reference_grid_code(self.grid, self.reference_grid).to(x)
        return torch.cat([x, code.repeat(x.size(0) // size, 1)], dim=-1)

    def __repr__(self) -> str:
        grid = "" if self.grid is None else f", grid={self.grid}"
        inputs = ", embed_inputs=True" if self.embed_inputs else ""
        return (
            f"{type(self).__name__}({self.in_channels}, {self.hidden_channels}, "
            f"{self.out_channels}, num_layers={self.num_layers}, heads={self.heads}, "
            f"num_experts={self.num_experts}{grid}{inputs})"
        )
