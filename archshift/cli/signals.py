"""Signals that end a command as Ctrl-C does."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def signals_as_interrupts(*, once: bool = False) -> Iterator[None]:
    """Treat SIGTERM, which pipelines send, like Ctrl-C, so that a command can end in order.

    Args:
        once: Ignore further ones, which pipelines send too, because they would interrupt the end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        for number in before if once else ():
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
