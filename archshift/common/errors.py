"""The one exception that users see."""


class ArchshiftError(Exception):
    """Something a person can act on.

    Entry points print both parts as one sentence, without a traceback, and stop before anything changes.

    Attributes:
        problem: What is wrong: it names the key or object, and the value.
        way_out: What to do about it; empty where the problem says so itself.
    """

    def __init__(self, problem: str, way_out: str = "") -> None:
        super().__init__(problem, way_out)
        self.problem = problem
        self.way_out = way_out

    def __str__(self) -> str:
        return f"{self.problem}; {self.way_out}" if self.way_out else self.problem


class UnavailableError(ArchshiftError):
    """The other side was away or too busy; the same question may be answered a moment later."""
