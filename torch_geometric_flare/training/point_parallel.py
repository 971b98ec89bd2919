"""Training on samples whose points are distributed over processes."""

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
    """Return this process's part of the points of a sample or a batch.

    Args:
        data: The sample or batch, the same on every process of the group.
        group: The processes that share the points.

    Returns:
        A copy with this process's rows of every field of points, equal in number on all
        processes up to one, and with `group` as an attribute. It may have no points of
        some graphs.

    Raises:
        ValueError: If `data` has edges, because these lead to points of other
            processes.
    """
    if data.num_edges > 0:
        raise ValueError(
            "the data has edges, which lead to points of other processes: point "
            "parallelism supports only point clouds; delete edge_index"
        )
    points, rank, size = data.num_nodes, group.rank(), group.size()
    start, stop = points * rank // size, points * (rank + 1) // size
    shard = copy.copy(data)
    for name, value in data.to_dict().items():
        if name == "ptr":
            del shard.ptr
        elif name != "u" and data.is_node_attr(name):  # u has one row per graph
            dim = data.__cat_dim__(name, value)
            shard[name] = value.narrow(dim, start, stop - start)
    if "num_nodes" in data:
        shard.num_nodes = stop - start
    shard.group = group
    return shard


class PointParallelStrategy(DDPStrategy):
    r"""Distributes the points of each sample over processes, and samples over groups.

    The processes form a device mesh with two dimensions, `samples` and `points`.
    Processes in one row get the same samples, each a part of the points
    (`shard_points`), and exchange latent states. Rows get different samples. Gradients
    are summed over a row and averaged over the rows, so training takes the same steps
    as a single process with the samples of all rows in its batch.

    Every process holds all weights and starts with those of the first, as in
    Lightning's class, but gradients are reduced once at the end of backward.

    Batches are `Data` with the process group as the attribute `group`.
    `SurrogateModule` passes it to the loss, and to the model if its forward has this
    argument. In a custom module, pass it to the model and to `metrics.relative_l2`, or
    scale a local loss so that its sum over the group is the intended loss. `predict`
    returns the fields at each process's points.

    Args:
        processes_per_sample: Number of processes, with consecutive ranks, that share
            the points of a sample. It must divide the total number of processes.
        timeout: Maximum time that a process waits for another.
        process_group_backend: See Lightning. Default: `nccl` on GPUs, `gloo` on CPUs.

    Raises:
        ValueError: If `processes_per_sample` is not a positive integer or, in `fit`,
            does not divide the number of processes, or the model's forward has no
            argument `group`.
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
        """The processes that share the points of this process's samples."""
        return self._group("points")

    @property
    def data_group(self) -> "ProcessGroup":
        """The processes with other samples and the same part of the points."""
        return self._group("samples")

    @property
    def distributed_sampler_kwargs(self) -> dict[str, Any]:
        """The number of rows that divide the samples, and the index of this row."""
        group = self.data_group
        return {"num_replicas": group.size(), "rank": group.rank()}

    def _group(self, dimension: str) -> "ProcessGroup":
        if self._mesh is None:
            raise RuntimeError(
                "the process group is not initialized: call this within fit"
            )
        return self._mesh[dimension].get_group()

    def setup_distributed(self) -> None:
        """Initialize the process group and the device mesh."""
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
        """Move the module to its device after checking that its model has `group`."""
        module = self.lightning_module
        if isinstance(module, SurrogateModule):
            _check_model(module.surrogate.model)
        super().model_to_device()

    def configure_ddp(self) -> None:
        """Broadcast the weights of the first process, without wrapping the module."""
        module = self.lightning_module
        assert module is not None
        for tensor in chain(module.parameters(), module.buffers()):
            dist.broadcast(tensor.detach(), 0)

    def batch_to_device(
        self, batch: Any, device: torch.device | None = None, dataloader_idx: int = 0
    ) -> Any:
        """Select this process's part of the points."""
        if not isinstance(batch, Data):
            raise ValueError(
                f"a batch is a {type(batch).__name__}, expected "
                "torch_geometric.data.Data, whose points can be distributed"
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
        """Reduce the gradients after backward, before clipping."""

        def reducing_closure() -> Any:
            result = closure()
            reduce_gradients(
                chain(*(group["params"] for group in optimizer.param_groups)),
                self.point_group,
                self.data_group,
            )
            return result

        return super().optimizer_step(optimizer, reducing_closure, model, **kwargs)


def _check_model(model: nn.Module) -> None:
    if "group" not in forward_parameters(model):
        network = type(unwrap(model)).__name__
        raise ValueError(
            f"{network}.forward has no argument group: each process would treat its "
            "points as the whole sample; use another strategy"
        )
