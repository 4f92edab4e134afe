"""The exceptions that users see."""

from collections.abc import Iterable


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
    """The other side was away or too busy; the same question may be answered a moment later."""
