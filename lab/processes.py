"""Servers that keep running after the command that started them; later commands find them again."""

from __future__ import annotations

import contextlib
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

import psutil

_PORTS: Final = range(20_000, 30_000)
"""Below the ports that Linux and macOS use for outgoing connections. Otherwise such a connection could take
the port of a server that is down, for example after a crash. A client could then even connect to itself."""


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1."""
    with socket.socket() as candidate:
        # As for the servers: a port whose last connections are still closing counts as free.
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port(taken: Collection[int] = ()) -> int:
    """A port of 127.0.0.1 that nobody uses and that is not in `taken`."""
    while True:
        port = secrets.choice(_PORTS)
        if port not in taken and is_free(port):
            return port


class Server:
    """A server of a lab, identified by the lab's own link to its program.

    A process is this server only if it has the recorded pid *and* was started through the lab's link. No
    other process on the machine has that name, so a pid that now belongs to another process is safe.
    """

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.program = directory / "bin" / name
        self.log = directory / "logs" / f"{name}.log"
        self._pid_file = directory / "run" / f"{name}.pid"
        self._child: subprocess.Popen[bytes] | None = None

    def start(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        """Starts the server in its own session, so that neither Ctrl-C nor a closed terminal stops it."""
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".previous.log"))
        with self.log.open("wb") as log:
            self._child = subprocess.Popen(
                [str(self.program), *arguments],
                cwd=self.log.parent,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._pid_file.write_text(f"{self._child.pid}\n")
        # For a moment after the start, a process has no command line that identifies it.
        deadline = time.monotonic() + 5
        while self.process() is None and self._child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)

    def process(self) -> psutil.Process | None:
        """The running server, or None."""
        if self._child is not None:
            self._child.poll()  # an ended child stays in the process table until poll() reads its exit code
        try:
            process = psutil.Process(int(self._pid_file.read_text()))
            # If the program is a script, the first word is its interpreter.
            ours = str(self.program) in process.cmdline()[:2]
            return process if ours and process.status() != psutil.STATUS_ZOMBIE else None
        except (OSError, ValueError, psutil.Error):
            return None

    def ask_to_stop(self) -> None:
        """Sends SIGTERM and does not wait."""
        self._signal(signal.SIGTERM)

    def stop(self, grace: float) -> None:
        """Stops the server: SIGTERM first, SIGKILL after `grace` seconds. The process is gone on return."""
        process = self.process()
        if process is not None:
            self.ask_to_stop()
            with contextlib.suppress(psutil.Error):
                _, alive = psutil.wait_procs([process], timeout=grace)
                if alive:
                    process.kill()
                    psutil.wait_procs(alive, timeout=10)
        self._pid_file.unlink(missing_ok=True)

    def kill(self) -> None:
        """Kills the server without warning, as a crash would."""
        self.stop(grace=0)

    def last_words(self, lines: int = 8) -> str:
        """The last lines of its log."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").strip().splitlines()[-lines:])

    def _signal(self, number: signal.Signals) -> None:
        process = self.process()
        if process is not None:
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)
