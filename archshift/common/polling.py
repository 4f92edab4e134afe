"""Repeated questions about something that changes by itself, until a deadline."""

import math
import time
from collections.abc import Callable
from typing import TypeVar

from archshift.common.errors import UnavailableError

_Answer = TypeVar("_Answer")


class Polling:
    """The pauses between two readings: short at first, and each twice as long as the last.

    Args:
        deadline: The end, on the clock of ``time.monotonic()``; by default never.
        first: The first pause, seconds.
        most: The longest pause, seconds.
    """

    def __init__(self, deadline: float = math.inf, *, first: float = 0.2, most: float = 2.0) -> None:
        self._deadline = deadline
        self._first = self._next = first
        self._most = most

    @property
    def late(self) -> bool:
        """Whether the deadline has passed."""
        return time.monotonic() >= self._deadline

    def restart(self) -> None:
        """Begin with short pauses again, because something changed."""
        self._next = self._first

    def pause(self, least: float = 0.0) -> None:
        """Sleep until the next reading, for so many seconds at least."""
        time.sleep(max(self._next, least))
        self._next = min(2 * self._next, self._most)


def retry_until(
    ask: Callable[[], _Answer], deadline: float, worthwhile: Callable[[], bool] = lambda: True
) -> _Answer:
    """Ask until there is an answer: a server that restarts or throttles answers again soon.

    Args:
        ask: What is asked; has no effect that a second time could spoil.
        deadline: Until when, of ``time.monotonic()``.
        worthwhile: Whether to ask again before that, after a failure.

    Raises:
        ArchshiftError: Any other failure at once; that it is not available, after the deadline.
    """
    polling = Polling(deadline, first=1.0, most=1.0)
    while True:
        try:
            return ask()
        except UnavailableError:
            if not worthwhile() or polling.late:
                raise
        polling.pause()
