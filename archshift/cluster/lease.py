"""A Lease in the cluster: whoever holds it is the only one that moves a stack's pods.

Two commands that move pods at once would each undo the entries of the other. The Lease says who moves pods
now. Its holder writes it again and again. A holder that was killed does not, so somebody else may take the
Lease over after its time.

Clocks of two machines may differ. So nobody compares the times in the Lease with a clock: a holder is dead if
its Lease has not changed for that long while somebody watched (as in k8s.io/client-go/tools/leaderelection).
"""

import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from archshift.cluster.client import MERGE, Cluster, RefusedError
from archshift.cluster.kinds import Resource
from archshift.common.errors import ArchshiftError, UnavailableError
from archshift.common.kubernetes import of_stack
from archshift.common.text import printable

LEASES: Final = Resource(api_version="coordination.k8s.io/v1", plural="leases")

NAMESPACE: Final = "default"
"""Every cluster has it, and placeholders run there too."""

SECONDS: Final = 30.0
"""After this time without a sign of life, somebody else takes the Lease over."""

RENEW_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 2.0
_FIELD_MANAGER: Final = "archshift-lease"
_MISSING: Final = 404
_CONFLICT: Final = 409
_FORBIDDEN: Final = 403
_LONGEST_NAME: Final = 150
_RELEASES: Final = 3
"""How often to try to give it back while another client changes it."""

_JOIN_SECONDS: Final = 15.0
"""How long to wait for a renewal that is under way. The connection closes after it."""


def lease_name(stack_label: str) -> str:
    """Return the name of a stack's Lease."""
    return of_stack("archshift-moves", stack_label)


@dataclass(slots=True)
class Lease:
    """The Lease of a stack, as one command holds it.

    Attributes:
        cluster: The connection.
        stack_label: The stack.
        holder: Who holds it: what the command is, the machine, and a random part.
    """

    cluster: Cluster
    stack_label: str
    holder: str
    _renewed: float = float("-inf")
    _ended: threading.Event = field(default_factory=threading.Event)

    @property
    def holds(self) -> bool:
        """Whether nobody else can hold it now. After a pause of the process, somebody else may."""
        return not self._ended.is_set() and time.monotonic() - self._renewed < SECONDS - RENEW_SECONDS

    @property
    def _path(self) -> str:
        return f"{LEASES.collection(NAMESPACE)}/{lease_name(self.stack_label)}"

    def take(self, say: Callable[[str], None], patience: float = 0.0) -> None:
        """Take it as soon as it is free, or its holder is dead.

        Args:
            say: Called if that takes time.
            patience: How long to wait for a holder that is alive, in seconds.

        Raises:
            ArchshiftError: Somebody holds it and is alive, or the API server refuses.
        """
        first, since = "", time.monotonic()
        end = since + patience
        while True:
            now = time.monotonic()
            live = self._read()
            if live is None:
                if self.cluster.create(LEASES.collection(NAMESPACE), self._body(), _FIELD_MANAGER):
                    self._renewed = now
                    return
                continue
            who = printable(_holder_in(live), _LONGEST_NAME)
            # Every write counts: any client that keeps the Lease is alive.
            sign = f"{live['metadata'].get('resourceVersion')} {(live.get('spec') or {}).get('renewTime')}"
            if not who or (sign == first and now - since >= SECONDS):
                if self._write(self._body(), live):
                    self._renewed = now
                    return
            elif not first:
                first, since = sign, now
                say(f"waiting for {who}, at most {SECONDS:.0f} s: it holds the Lease, or it was killed")
            elif sign != first and now < end:
                first, since = sign, now
            elif sign != first:
                raise ArchshiftError(
                    f"{who} moves pods of the same stack now, as the Lease "
                    f"{NAMESPACE}/{lease_name(self.stack_label)} says",
                    f"try again after it has ended; if it is killed, the Lease is free {SECONDS:.0f} s later",
                )
            time.sleep(_LOOK_SECONDS)

    def renew(self) -> None:
        """Write it again if this command still holds it."""
        now = time.monotonic()
        try:
            live = self._read()
            if live is None or _holder_in(live) != self.holder:
                self._ended.set()
            elif self._write(self._body(), live):
                self._renewed = now
        except UnavailableError:
            # The next time; without any, it is lost by the clock.
            return
        except ArchshiftError:
            self._ended.set()

    def give_back(self) -> None:
        """Let the next one take it at once. If that is not possible, it is free after its time."""
        self._ended.set()
        with contextlib.suppress(ArchshiftError):
            for _ in range(_RELEASES):
                live = self._read()
                if live is None or _holder_in(live) != self.holder:
                    return
                if self._write({"metadata": {}, "spec": {"holderIdentity": None}}, live):
                    return

    def stop(self) -> None:
        """Renew it no more."""
        self._ended.set()

    def keep(self) -> None:
        """Renew it until it is lost, stopped or given back."""
        while not self._ended.wait(RENEW_SECONDS):
            self.renew()

    def _read(self) -> dict[str, Any] | None:
        try:
            return self.cluster.get(self._path)
        except RefusedError as error:
            if error.status != _MISSING:
                raise
            return None

    def _write(self, body: dict[str, Any], live: Mapping[str, Any]) -> bool:
        """Change it as it was read; return False if another client was faster."""
        if version := live["metadata"].get("resourceVersion"):
            body["metadata"]["resourceVersion"] = version
        try:
            self.cluster.patch(self._path, body, MERGE, _FIELD_MANAGER)
        except RefusedError as error:
            if error.status not in (_CONFLICT, _MISSING):
                raise
            return False
        return True

    def _body(self) -> dict[str, Any]:
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        return {
            "apiVersion": LEASES.api_version,
            "kind": "Lease",
            "metadata": {"name": lease_name(self.stack_label), "namespace": NAMESPACE},
            "spec": {
                "holderIdentity": self.holder,
                "leaseDurationSeconds": int(SECONDS),
                "acquireTime": now,
                "renewTime": now,
            },
        }


def _holder_in(live: Mapping[str, Any]) -> str:
    """Return who holds a Lease; empty for nobody."""
    return str((live.get("spec") or {}).get("holderIdentity") or "")


def still_sole(lease: Lease | None) -> bool:
    """Return whether nobody else can move pods now. Without the right to have a Lease, nobody can tell."""
    return lease is None or lease.holds


@contextlib.contextmanager
def sole_mover(
    cluster: Cluster,
    stack_label: str,
    command: str,
    *,
    required: bool = True,
    patience: float = 0.0,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[Lease | None]:
    """Be the only one that moves pods of a stack; yield the Lease, or None without the right to have one.

    Args:
        cluster: The connection.
        stack_label: The stack.
        command: Who others see as the holder: ``archshift rebalance``.
        required: Whether to stop without the right to have a Lease.
        patience: As ``Lease.take``.
        say: Called if it waits for another holder.

    Raises:
        ArchshiftError: Somebody else moves pods of the stack, or the API server refuses.
    """
    lease = Lease(
        cluster, stack_label, f"{command} on {socket.gethostname()} ({os.getpid()}-{uuid.uuid4().hex[:8]})"
    )
    try:
        lease.take(say, patience)
    except RefusedError as error:
        if error.status != _FORBIDDEN:
            raise
        if required:
            raise ArchshiftError(
                f"this user may not have the Lease {NAMESPACE}/{lease_name(stack_label)}, without which two "
                f"commands could move pods at once ({error.words})",
                "apply the role that archshift rbac --only rebalancing prints",
            ) from None
        yield None
        return
    keeper = threading.Thread(target=lease.keep, name="lease", daemon=True)
    keeper.start()
    try:
        yield lease
    finally:
        lease.stop()
        keeper.join(_JOIN_SECONDS)
        lease.give_back()


def wait_until_free(
    cluster: Cluster, stack_label: str, command: str, say: Callable[[str], None] = lambda _: None
) -> None:
    """Return when nobody moves pods of a stack, or is not able to say so.

    Args:
        cluster: The connection.
        stack_label: The stack.
        command: Who others see as the holder in the meantime.
        say: Called if it waits for a holder.

    Raises:
        ArchshiftError: Somebody moves pods of the stack, or the API server cannot be reached.
    """
    path = f"{LEASES.collection(NAMESPACE)}/{lease_name(stack_label)}"
    try:
        held = _holder_in(cluster.get(path))
    except RefusedError as error:
        if error.status not in (_MISSING, _FORBIDDEN):
            raise
        return
    if held:
        with sole_mover(cluster, stack_label, command, required=False, say=say):
            pass
