"""The exceptions that users see."""

from collections.abc import Iterable


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

    @property
    def errors(self) -> tuple["ArchshiftError", ...]:
        """The error itself; several where it stands for several."""
        return (self,)


class SettingsError(ArchshiftError):
    """All that is wrong with a stack's settings: a sentence and a line for each error."""

    def __init__(self, errors: Iterable[ArchshiftError]) -> None:
        self._errors = tuple(errors)
        super().__init__("\n".join(map(str, self._errors)))

    @property
    def errors(self) -> tuple[ArchshiftError, ...]:
        """Each of them, in the order of the configuration."""
        return self._errors


class UnavailableError(ArchshiftError):
    """A server was unreachable or too busy; the same request may work a moment later."""
