"""Remembers across runs which registry hosts did not answer, so that not every command waits for them again.

It never makes an image a yes: the images of such a host are ``unknown``, as if they were asked.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from archshift.images.cache import EvidenceCache

REMEMBERED_SECONDS: Final = 300.0
"""How long archshift does not ask a host again that did not answer."""

_KIND: Final = "away"


class AwayHosts:
    """The hosts that did not answer, with the reason.

    Args:
        cache: Where they are kept between runs.
        seconds: How long they are remembered. 0 asks each host again, and still remembers the result.
        clock: Seconds since 1970.
    """

    def __init__(self, cache: EvidenceCache, seconds: float, clock: Callable[[], float] = time.time) -> None:
        self._cache = cache
        self._seconds = seconds
        self._clock = clock

    def why(self, address: str) -> str:
        """Return why an address did not answer a short time ago, and when; empty if it may be asked.

        Args:
            address: The URL, so that another port, scheme or proxy counts as another host.
        """
        known = self._cache.get(_KIND, address)
        if not known or not known[0] or not 0 <= self._clock() - known[1] < self._seconds:
            return ""
        at = datetime.fromtimestamp(known[1], UTC)
        return f"{known[0]} (asked at {at:%H:%M} UTC)"

    def remember(self, address: str, why: str) -> None:
        """Keep that an address did not answer; an empty reason says that it answers again."""
        known = self._cache.get(_KIND, address)
        if why or (known and known[0]):
            self._cache.put(_KIND, address, why, self._clock())
