"""The proxy forwards what it is given, and fails as a network does when it is told to."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from chaos.proxy import Proxy


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends back what it receives."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve(connection: socket.socket) -> None:
            with connection:
                try:
                    while data := connection.recv(4096):
                        connection.sendall(data)
                except OSError:
                    pass  # reset, as the tests want it

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(echo: int) -> Iterator[Proxy]:
    """A proxy before it."""
    proxy = Proxy(echo)
    yield proxy
    proxy.close()


def connected(proxy: Proxy) -> socket.socket:
    """A connection through the proxy over which something has gone."""
    client = socket.create_connection(("127.0.0.1", proxy.port), timeout=10)
    assert said(client, b"hello") == b"hello"
    return client


def said(client: socket.socket, data: bytes) -> bytes:
    """Send something and return as much of what comes back."""
    client.sendall(data)
    got = b""
    while len(got) < len(data):
        chunk = client.recv(65536)
        if not chunk:
            break
        got += chunk
    return got


def test_what_goes_in_comes_out(proxy: Proxy) -> None:
    """A megabyte, there and back, and the end of it."""
    data = bytes(range(256)) * 4096
    with connected(proxy) as client:
        sender = threading.Thread(target=client.sendall, args=(data,))
        sender.start()
        got = b""
        while len(got) < len(data):
            got += client.recv(65536)
        sender.join()
        assert got == data
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""


def test_dropped_connections_are_reset_and_new_ones_are_taken(proxy: Proxy) -> None:
    """The client sees a broken connection, not an answer, and may come again."""
    with connected(proxy) as client:
        proxy.drop()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    connected(proxy).close()


def test_refused_connections_are_taken_again_afterwards(proxy: Proxy) -> None:
    """While it refuses, nothing goes through, neither old nor new."""
    with connected(proxy) as client:
        proxy.refuse(True)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with pytest.raises((AssertionError, OSError)):
        connected(proxy)
    proxy.refuse(False)
    connected(proxy).close()


def test_a_stall_swallows_and_loses_nothing(proxy: Proxy) -> None:
    """Nothing comes while it lasts; afterwards all does."""
    with connected(proxy) as client:
        proxy.stall(True)
        client.sendall(b"are you there?")
        client.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(10)
        proxy.stall(False)
        assert said(client, b"") == b""
        assert client.recv(100) == b"are you there?"


def test_slow_connections_are_slow_and_whole(proxy: Proxy) -> None:
    """Each piece takes at least as long as it was told, in each direction."""
    with connected(proxy) as client:
        proxy.slow(0.3)
        begun = time.monotonic()
        assert said(client, b"slow") == b"slow"
        assert time.monotonic() - begun >= 0.6


def test_a_server_that_is_away_is_a_broken_connection() -> None:
    """Where nobody listens behind it, the client is not left hanging."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    proxy = Proxy(port)
    try:
        with (
            # The reset may be there before the connection is known to be.
            pytest.raises(ConnectionResetError),
            socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client,
        ):
            client.recv(1)
    finally:
        proxy.close()
