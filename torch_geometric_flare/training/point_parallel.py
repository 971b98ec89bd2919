"""Training on samples whose points are spread over processes."""

import copy
from collections.abc import Callable
from datetime import timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import DDPStrategy
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.optim import Optimizer
from torch_geometric.data import Data

from torch_geometric_flare.functional import reduce_gradients
from torch_geometric_flare.nn.checks import check_positive
from torch_geometric_flare.surrogates import forward_parameters, unwrap
from torch_geometric_flare.training.module import SurrogateModule

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def shard_points(data: Data, group: "ProcessGroup") -> Data:
    """Return this process's share of the points of a sample or a batch.

    Args:
        data: The same on every process of the group.
        group: The processes that share the points.

    Returns:
        A copy with equal shares, up to one, of the rows of every field of points, and
        with `group` as the field of that name. Of some graphs it may hold no point.

    Raises:
        ValueError: If `data` has edges: a process would need those of other points.
    """
    if data.num_edges > 0:
        raise ValueError(
            "the data has edges, which lead to points of other processes: point "
            "parallelism takes point clouds; delete edge_index"
        )
    points, rank, size = data.num_nodes, group.rank(), group.size()
    start, stop = points * rank // size, points * (rank + 1) // size
    shard = copy.copy(data)
    for name, value in data.to_dict().items():
        if name == "ptr":
            del shard.ptr
        elif name != "u" and data.is_node_attr(name):  # u is of graphs, however many
            dim = data.__cat_dim__(name, value)
            shard[name] = value.narrow(dim, start, stop - start)
    if "num_nodes" in data:
        shard.num_nodes = stop - start
    shard.group = group
    return shard


class PointParallelStrategy(DDPStrategy):
    r"""Spreads the points of each sample over processes, and samples over groups.

    The processes form a mesh of two dimensions, `samples` and `points`. Those of one
    row get the same samples, each a share of the points (`shard_points`), and exchange
    latent states; rows get different samples. Gradients are summed over a row and
    averaged over the rows: training takes the steps of a single process that has the
    samples of all rows in its batch.

    Every process holds all weights and starts with those of the first, as in
    Lightning's class; but gradients are reduced once, at the end of backward.

    Batches are `Data` with the process group as the field `group`. `SurrogateModule`
    hands it to a model whose forward names it, and to its loss. In a module of your own
    pass it to the model and to `metrics.relative_l2`, or divide a loss that is not
    shared so that its sum over the group is what you mean. `predict` gives each process
    the fields at its own points.

    Args:
        processes_per_sample: Processes that share the points of a sample; it must
            divide the number of all processes. Consecutive ranks share.
        timeout: How long a process waits for another.
        process_group_backend: As Lightning names it; by default `nccl` on GPUs, `gloo`
            on CPUs.

    Raises:
        ValueError: If `processes_per_sample` is not a positive integer or, in `fit`,
            does not divide the number of processes, or the model's forward names no
            `group`.
    """

    def __init__(
        self,
        processes_per_sample: int,
        timeout: timedelta = timedelta(minutes=30),
        process_group_backend: str | None = None,
    ) -> None:
        check_positive(processes_per_sample=processes_per_sample)
        super().__init__(timeout=timeout, process_group_backend=process_group_backend)
        self.processes_per_sample = processes_per_sample
        self._mesh: DeviceMesh | None = None

    @property
    def point_group(self) -> "ProcessGroup":
        """The processes that share the points of this one's samples."""
        return self._group("points")

    @property
    def data_group(self) -> "ProcessGroup":
        """The processes that have other samples and the same share of the points."""
        return self._group("samples")

    @property
    def distributed_sampler_kwargs(self) -> dict[str, Any]:
        """Number of rows that share out the samples, and the index of this one."""
        group = self.data_group
        return {"num_replicas": group.size(), "rank": group.rank()}

    def _group(self, dimension: str) -> "ProcessGroup":
        if self._mesh is None:
            raise RuntimeError("the processes have not met yet: call this within fit")
        return self._mesh[dimension].get_group()

    def setup_distributed(self) -> None:
        """Let the processes meet and form the mesh."""
        rows, rest = divmod(self.world_size, self.processes_per_sample)
        if rest:
            raise ValueError(
                f"processes_per_sample={self.processes_per_sample} does not divide the "
                f"{self.world_size} processes (devices times num_nodes): change one"
            )
        super().setup_distributed()
        self._mesh = init_device_mesh(
            self.root_device.type,
            (rows, self.processes_per_sample),
            mesh_dim_names=("samples", "points"),
        )

    def model_to_device(self) -> None:
        """Move the module, if its model can share points."""
        module = self.lightning_module
        if isinstance(module, SurrogateModule):
            _check_model(module.surrogate.model)
        super().model_to_device()

    def configure_ddp(self) -> None:
        """Give every process the weights of the first, and no wrapper to the module."""
        module = self.lightning_module
        assert module is not None
        for tensor in chain(module.parameters(), module.buffers()):
            dist.broadcast(tensor.detach(), 0)

    def batch_to_device(
        self, batch: Any, device: torch.device | None = None, dataloader_idx: int = 0
    ) -> Any:
        """Take this process's share of the points."""
        if not isinstance(batch, Data):
            raise ValueError(
                f"a batch is a {type(batch).__name__}, expected "
                "torch_geometric.data.Data, whose points can be shared out"
            )
        shard = shard_points(batch, self.point_group)
        return super().batch_to_device(shard, device, dataloader_idx)

    def optimizer_step(
        self,
        optimizer: Optimizer,
        closure: Callable[[], Any],
        model: LightningModule | nn.Module | None = None,
        **kwargs: Any,
    ) -> Any:
        """Reduce the gradients once all of a step are there, before clipping."""

        def closure_of_all() -> Any:
            result = closure()
            reduce_gradients(
                chain(*(group["params"] for group in optimizer.param_groups)),
                self.point_group,
                self.data_group,
            )
            return result

        return super().optimizer_step(optimizer, closure_of_all, model, **kwargs)


def _check_model(model: nn.Module) -> None:
    if "group" not in forward_parameters(model):
        network = type(unwrap(model)).__name__
        raise ValueError(
            f"{network}.forward takes no group: each process would treat its points "
            "as all there are; train it with another strategy"
        )
