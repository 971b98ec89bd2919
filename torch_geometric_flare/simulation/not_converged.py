"""The exception of a solver that could not finish, where simulators look for it."""

from torch_geometric_flare._not_converged import NotConverged

__all__ = ["NotConverged"]
