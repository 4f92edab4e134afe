"""The bounds of one audit: how many images are read at a time, for how long, and in how much memory.

Whoever may create a pod chooses what an audit reads. So no image may take the time or the memory of others: a
slow one waits beside them, and ends at its own deadline.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from archshift.images.registry.errors import UnreadableError
from archshift.images.registry.transport import Limits

_LITTLE: Final = 1 << 20
"""Whoever holds less memory is not asked to give it back."""


class _Registry:
    """The images of one registry.

    Attributes:
        turns: How many of them are read at the same time.
        late: How many in a row reached their deadline.
    """

    def __init__(self, limits: Limits) -> None:
        self.turns = asyncio.Semaphore(limits.images_per_registry)
        self.late = 0


class Turn:
    """The turn of one image: its deadline, and its share of the memory. Only for the thread of the loop."""

    def __init__(self, bounds: "Bounds", deadline: asyncio.Timeout) -> None:
        self._bounds = bounds
        self._deadline = deadline
        self._begun = asyncio.get_running_loop().time()
        self._received = 0
        self.memory = 0
        self.refused = ""

    @property
    def speed(self) -> float:
        """Bytes a second since its begin."""
        return self._received / (asyncio.get_running_loop().time() - self._begun + 1)

    def received(self, size: int) -> None:
        """Note bytes of a layer: they move the deadline, because large images take long."""
        self._received += size
        limits = self._bounds.limits
        seconds = min(limits.image_seconds + self._received / limits.slowest_bytes, limits.deep_seconds)
        self._end_at(self._begun + seconds)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock of the image, while it waits for a thread and works there within other limits."""
        begun = asyncio.get_running_loop().time()
        self._end_at(self._bounds.ends)
        try:
            yield
        finally:
            self._begun += asyncio.get_running_loop().time() - begun
            self.received(0)

    def _end_at(self, time: float) -> None:
        if not self.refused and not self._deadline.expired():
            self._deadline.reschedule(min(time, self._bounds.ends))

    def holds(self, memory: int) -> None:
        """Note how much memory the image takes now."""
        self.memory = memory
        self._bounds.make_room()

    def refuse(self, why: str) -> None:
        """End the turn now."""
        self.refused, self.memory = why, 0
        if not self._deadline.expired():
            self._deadline.reschedule(asyncio.get_running_loop().time())


class Bounds:
    """The turns of all images of a run."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._all = asyncio.Semaphore(limits.images)
        self._registries: dict[str, _Registry] = defaultdict(lambda: _Registry(limits))
        self._turns: set[Turn] = set()
        self._begun: float | None = None

    @property
    def ends(self) -> float:
        """When the run ends, in the time of the loop. Its first image starts it."""
        if self._begun is None:
            self._begun = asyncio.get_running_loop().time()
        return self._begun + self.limits.run_seconds

    @asynccontextmanager
    async def turn(self, registry: str) -> AsyncIterator[Turn]:
        """Wait for the turn of an image of a registry, and end what takes too long.

        Raises:
            UnreadableError: The image reached its deadline, or the run did, or earlier images of the registry
                reached theirs.
        """
        limits, images = self.limits, self._registries[registry]
        ends = self.ends
        async with images.turns, self._all:
            now = asyncio.get_running_loop().time()
            if now >= ends:
                raise UnreadableError(
                    f"the audit takes more than {limits.run_seconds:g} s, so archshift did not read this "
                    "image; the next audit begins with the evidence of this one"
                )
            if images.late >= limits.give_up_after:
                raise UnreadableError(
                    f"archshift gave up on {registry}: {images.late} of its images in a row took more than "
                    f"{limits.image_seconds:g} s"
                )
            turn = None
            try:
                async with asyncio.timeout_at(min(now + limits.image_seconds, ends)) as deadline:
                    turn = Turn(self, deadline)
                    self._turns.add(turn)
                    yield turn
            except TimeoutError:
                if turn is not None and turn.refused:
                    raise UnreadableError(turn.refused) from None
                images.late += 1
                raise UnreadableError(
                    f"{registry} answers too slowly: archshift stopped reading this image after "
                    f"{asyncio.get_running_loop().time() - now:.0f} s"
                ) from None
            else:
                images.late = 0
            finally:
                if turn is not None:
                    self._turns.discard(turn)

    def make_room(self) -> None:
        """End the slowest images while all together take too much memory."""
        while sum(turn.memory for turn in self._turns) > self.limits.all_memory_bytes:
            turns = [turn for turn in self._turns if turn.memory > _LITTLE]
            if not turns:
                return
            turn = min(turns, key=lambda turn: turn.speed)
            turn.refuse("its layers come too slowly, and other images needed the memory")
