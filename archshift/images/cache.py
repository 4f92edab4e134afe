"""Keeps evidence between runs, in one SQLite file in the user's cache folder. Concurrent runs are safe.

The cache keeps entries for ever, each with its time. The caller decides at each reading how old an entry may
be. The cache only saves work: its errors never fail a run, and it never holds the verdict unknown.
"""

import contextlib
import fcntl
import json
import logging
import os
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

_LOG: Final = logging.getLogger(__name__)

# The file name has the version of the layout, so different versions of archshift use different files.
_FILE: Final = "images-1.sqlite"
_BUSY_SECONDS: Final = 5.0
_BATCH: Final = 256
_TABLE: Final = """
    CREATE TABLE IF NOT EXISTS evidence (
        kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, checked_at REAL NOT NULL,
        PRIMARY KEY (kind, key)
    ) WITHOUT ROWID
"""


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return ``$XDG_CACHE_HOME/archshift``, or ``~/.cache/archshift``."""
    base = environment.get("XDG_CACHE_HOME", "")
    # The specification says to ignore a relative path.
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "archshift"


class EvidenceCache:
    """Values by kind and key, with the time of their evidence. A context manager.

    Args:
        folder: The folder of the file; it is created if it is missing. None keeps nothing beyond the run.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._memory: dict[tuple[str, str], tuple[Any, float]] = {}
        self._pending: dict[tuple[str, str], tuple[str, float]] = {}
        self._database: sqlite3.Connection | None = None

    def __enter__(self) -> "EvidenceCache":
        """Open the file; rebuild it if it is corrupt."""
        if self._folder is not None:
            try:
                self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._database = self._open()
            except (OSError, sqlite3.Error) as error:
                _LOG.warning(
                    "archshift cannot use the image cache in %s and continues without it: %s",
                    self._folder,
                    error,
                )
        return self

    def __exit__(self, *_: object) -> None:
        """Write new entries and close the file."""
        self.flush()
        if self._database is not None:
            self._database.close()
            self._database = None

    def get(self, kind: str, key: str) -> tuple[Any, float] | None:
        """Return (value, time of its evidence in seconds since 1970), or None."""
        known = self._memory.get((kind, key))
        if known is not None or self._database is None:
            return known
        row = None
        with self._forgiving():
            query = "SELECT value, checked_at FROM evidence WHERE kind = ? AND key = ?"
            row = self._database.execute(query, (kind, key)).fetchone()
        if row is None:
            return None
        try:
            return json.loads(row[0]), float(row[1])
        except (ValueError, TypeError, RecursionError):
            return None

    def put(self, kind: str, key: str, value: Any, checked_at: float) -> None:
        """Store a JSON value with the time of its evidence, in seconds since 1970."""
        self._memory[kind, key] = (value, checked_at)
        if self._database is not None:
            self._pending[kind, key] = (json.dumps(value, separators=(",", ":")), checked_at)
            if len(self._pending) >= _BATCH:
                self.flush()

    def flush(self) -> None:
        """Write new entries in one transaction."""
        if self._database is None or not self._pending:
            return
        rows = [(kind, key, value, at) for (kind, key), (value, at) in self._pending.items()]
        self._pending.clear()
        with self._forgiving(), self._database:
            # A concurrent run may have written newer evidence.
            self._database.executemany(
                "INSERT INTO evidence VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE"
                " SET value = excluded.value, checked_at = excluded.checked_at"
                " WHERE excluded.checked_at >= evidence.checked_at",
                rows,
            )

    @contextlib.contextmanager
    def _forgiving(self) -> Iterator[None]:
        """Continue without the file after an error; rebuild the file if it is corrupt."""
        try:
            yield
        except sqlite3.OperationalError as error:
            _LOG.warning("archshift cannot use the image cache and continues without it: %s", error)
            self._database = None
        except sqlite3.DatabaseError as error:
            self._database = None
            with contextlib.suppress(OSError, sqlite3.Error):
                self._database = self._rebuild(error)

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            return self._rebuild(error)

    def _connect(self) -> sqlite3.Connection:
        assert self._folder is not None  # noqa: S101
        database = sqlite3.connect(self._folder / _FILE, timeout=_BUSY_SECONDS)
        try:
            # A power cut may corrupt the file. To rebuild it costs less than to sync in each run.
            database.execute("PRAGMA synchronous = OFF")
            with database:
                database.execute(_TABLE)
            database.execute("SELECT value, checked_at FROM evidence LIMIT 1").fetchone()
        except sqlite3.Error:
            database.close()
            raise
        return database

    def _rebuild(self, cause: sqlite3.Error) -> sqlite3.Connection:
        """Replace a corrupt file with a new one.

        Two runs may see the corrupt file at the same time. The lock and the second check prevent that the
        later run deletes the file that the earlier run has rebuilt.
        """
        assert self._folder is not None  # noqa: S101
        with (self._folder / f"{_FILE}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with contextlib.suppress(sqlite3.DatabaseError):
                database = self._connect()
                if database.execute("PRAGMA quick_check(1)").fetchone() == ("ok",):
                    return database
                database.close()
            _LOG.warning(
                "archshift rebuilds the image cache %s, because it is corrupt (%s)",
                self._folder / _FILE,
                cause,
            )
            # The new file replaces the old one in one step, so other runs never see an incomplete file.
            fresh = self._folder / f"{_FILE}.new"
            fresh.unlink(missing_ok=True)
            with contextlib.closing(sqlite3.connect(fresh)) as database:
                database.execute(_TABLE)
            (self._folder / f"{_FILE}-journal").unlink(missing_ok=True)
            fresh.replace(self._folder / _FILE)
            return self._connect()
