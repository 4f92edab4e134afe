"""The one exception that users see."""


class ArchshiftError(Exception):
    """A problem that the user can solve.

    The command line and the program print both parts as one sentence, without a traceback. They stop before
    they change anything.

    Attributes:
        problem: What is wrong. It names the key or the object, and the value.
        way_out: What the user can do; empty where the problem already says it.
    """

    def __init__(self, problem: str, way_out: str = "") -> None:
        super().__init__(problem, way_out)
        self.problem = problem
        self.way_out = way_out

    def __str__(self) -> str:
        return f"{self.problem}; {self.way_out}" if self.way_out else self.problem


class UnavailableError(ArchshiftError):
    """A server was unreachable or too busy; the same request may work a moment later."""
