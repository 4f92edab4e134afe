"""A TCP proxy on 127.0.0.1 that can drop, refuse, slow down and stall connections.

TLS passes through unchanged. So a client sees a failing network, but no other certificate.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import Any

_CHUNK = 64 * 1024


class Proxy:
    """Forwards connections to a port of this machine, in its own thread, until `close`."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._refusing = False
        self._delay = 0.0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._flowing: asyncio.Event
        self._server: asyncio.Server
        self._run(self._listen())
        self.port: int = self._server.sockets[0].getsockname()[1]

    def drop(self) -> None:
        """Reset all connections, but accept new ones."""
        self._run(self._reset())

    def refuse(self, on: bool) -> None:
        """Reset all connections, including new ones."""
        self._refusing = on
        if on:
            self.drop()

    def slow(self, seconds: float) -> None:
        """Delay every piece of data by so many seconds; 0 for no delay."""
        self._delay = seconds

    def stall(self, on: bool) -> None:
        """Forward nothing and close nothing, as a network that loses all packets."""
        self._loop.call_soon_threadsafe(self._flowing.clear if on else self._flowing.set)

    def calm(self) -> None:
        """End every fault."""
        self.refuse(False)
        self.slow(0)
        self.stall(False)

    def close(self) -> None:
        """Close the port and every connection."""
        self.calm()
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def _reset(self) -> None:
        for writer in list(self._open):
            _break(writer)

    async def _end(self) -> None:
        self._server.close()
        await self._reset()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if self._refusing or task is None:
            _break(writer)
            return
        self._tasks.add(task)
        self._open.add(writer)
        behind: asyncio.StreamWriter | None = None
        try:
            answers, behind = await asyncio.open_connection("127.0.0.1", self._target)
            self._open.add(behind)
            await asyncio.gather(self._pump(reader, behind), self._pump(answers, writer))
        except OSError:
            _break(writer)  # the target does not listen, or one side was reset
        finally:
            for stream in (writer, behind):
                if stream is not None:
                    self._open.discard(stream)
                    stream.close()
            self._tasks.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK):
            if self._delay:
                await asyncio.sleep(self._delay)
            await self._flowing.wait()
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()


def _break(writer: asyncio.StreamWriter) -> None:
    """Reset a connection without closing it properly, as when a router between the two fails."""
    if not writer.transport.is_closing():
        # With a linger time of 0, the kernel sends a reset.
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()
