"""Work that callers share."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")


@dataclass(slots=True)
class _Piece(Generic[_T]):
    task: asyncio.Task[_T]
    waiting: int = 0


class Shared(Generic[_T]):
    """Does each piece of work once, by its key. It stops when the last caller has gone away."""

    def __init__(self) -> None:
        self._pieces: dict[Hashable, _Piece[_T]] = {}

    async def get(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Return the result of the work, or raise its error, now and for later callers."""
        piece = self._pieces.get(key)
        if piece is None:
            piece = self._pieces[key] = _Piece(asyncio.create_task(work()))
        if piece.task.done():
            return piece.task.result()
        piece.waiting += 1
        try:
            return await asyncio.shield(piece.task)
        finally:
            piece.waiting -= 1
            if not piece.waiting and not piece.task.done():
                self.forget(key)
                piece.task.cancel()

    def forget(self, key: Hashable) -> None:
        """Do the work again for the next caller."""
        self._pieces.pop(key, None)
