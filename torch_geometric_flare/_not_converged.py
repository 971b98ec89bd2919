"""The exception of a solver that could not finish."""


class NotConverged(RuntimeError):
    """A solver stopped before its solution was accurate enough."""
