"""The error of solvers that stopped early."""


class NotConverged(RuntimeError):
    """A solver stopped before its solution was accurate enough."""
