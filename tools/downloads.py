"""Downloads official release files, and rejects every file whose checksum differs from the pinned one.

This file uses only the standard library, because it runs before the project's Python environment exists.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import re
import shutil
import tarfile
import threading
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urljoin, urlsplit

# The time for a host's first answer: name resolution, connection, TLS and the first byte together.
REACH_SECONDS = 5.0
# A download ends if the server sends less than this many bytes in this many seconds.
STALL_SECONDS = 30.0
STALL_BYTES = 1024 * 1024
# The largest file of the table has 300 MB, and the largest program inside has 200 MB.
MOST_BYTES = 1024**3
# How often one run resumes a broken download. A later run resumes it too.
_ATTEMPTS = 3
_CHUNK = 256 * 1024
_CHECKSUMS = ("sha256", "sha512")


class DownloadError(Exception):
    """Why a release file is not used, in one sentence."""


@dataclass(frozen=True)
class ReleaseFile:
    """One file of an official release.

    Attributes:
        programs: The programs inside: our name, and the path in the archive ("" is the file itself).
        version: The release, without a leading v.
        platform: In Go's spelling, for example linux/arm64, or "any".
        url: The address of the file.
        checksum: The name of the digest and its value.
        redirects: The hosts to which the URL's host may redirect.
    """

    programs: Mapping[str, str]
    version: str
    platform: str
    url: str
    checksum: tuple[str, str]
    redirects: tuple[str, ...] = ()

    @property
    def host(self) -> str:
        """The host of the URL, with the port if the URL has one."""
        return urlsplit(self.url).netloc

    @property
    def key(self) -> str:
        """The name of its folder in the cache; a changed pin gives another folder."""
        return self.checksum[1][:16]


def release_files(table: Path, platform: str) -> list[ReleaseFile]:
    """The table's files for a platform, in the order of the table."""
    import tomllib  # not at the top, so that an older Python reaches the message about its version

    content = tomllib.loads(table.read_text())
    redirects: dict[str, list[str]] = content.get("redirects", {})
    return [
        ReleaseFile(
            programs=entry["programs"],
            version=entry["version"],
            platform=entry["platform"],
            url=entry["url"],
            checksum=next((name, entry[name]) for name in _CHECKSUMS if name in entry),
            redirects=tuple(redirects.get(urlsplit(entry["url"]).netloc, ())),
        )
        for entry in content.get("file", [])
        if entry["platform"] in (platform, "any")
    ]


# --- hosts ----------------------------------------------------------------------------------


class Hosts:
    """Knows which hosts answer. It asks each host once per run, all at the same time, up to a deadline."""

    def __init__(self) -> None:
        self._answers: dict[str, bool] = {}

    def reachable(self, hosts: Iterable[str]) -> set[str]:
        """Those of the hosts that answer."""
        hosts = set(hosts)
        attempts = {host: _HostCheck(host) for host in sorted(hosts - self._answers.keys())}
        deadline = time.monotonic() + REACH_SECONDS
        for host, attempt in attempts.items():
            self._answers[host] = attempt.answered(deadline)
        return {host for host in hosts if self._answers[host]}

    def lost(self, host: str) -> None:
        """Treat a host as unreachable for the rest of the run."""
        self._answers[host] = False


class _HostCheck:
    """A request to a host, in a thread, because nothing else limits the time of the name resolution."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._answered = False
        self._done = threading.Event()
        threading.Thread(target=self._ask, daemon=True).start()

    def _ask(self) -> None:
        # Send a real request, because a proxy also accepts connections to hosts that it refuses.
        request = urllib.request.Request(f"https://{self._host}/", method="HEAD")
        try:
            urllib.request.build_opener(_Stay).open(request, timeout=REACH_SECONDS).close()
            self._answered = True
        except urllib.error.HTTPError as error:
            # Any HTTP status shows that the server answers. A proxy's refusal is no HTTPError.
            error.close()
            self._answered = True
        except (OSError, http.client.HTTPException, ValueError):
            pass
        finally:
            self._done.set()

    def answered(self, deadline: float) -> bool:
        self._done.wait(max(0.0, deadline - time.monotonic()))
        return self._answered


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirect, because a redirect is an answer too."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class _Guarded(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only with https, and only to an allowed host of the table."""

    def __init__(self, file: ReleaseFile, hosts: Hosts) -> None:
        self._file = file
        self._hosts = hosts

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        target = urlsplit(urljoin(req.full_url, newurl))
        if target.scheme != "https" or target.netloc not in (self._file.host, *self._file.redirects):
            place = f"{target.scheme}://{target.netloc}"
            raise DownloadError(f"{self._file.host} redirects to {place}, which releases.toml does not allow")
        if not self._hosts.reachable([target.netloc]):
            raise DownloadError(f"{target.netloc} cannot be reached")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


# --- one file -------------------------------------------------------------------------------

Report = Callable[[int, "int | None"], None]
"""Receives the number of bytes so far and the total (None if unknown), now and then."""


def fetch(file: ReleaseFile, folder: Path, hosts: Hosts, report: Report) -> dict[str, Path]:
    """Downloads a release file and puts its programs into the folder, if they are not there yet.

    Args:
        file: The file to download.
        folder: The file's own folder; the caller must keep other processes from writing to it.
        hosts: The hosts that answer.
        report: Receives the progress.

    Raises:
        DownloadError: The download failed, or the file has another checksum.
    """
    paths = {name: folder / name for name in file.programs}
    if all(path.exists() for path in paths.values()):
        return paths
    if urlsplit(file.url).scheme != "https":
        raise DownloadError(f"{file.url} is not an https address")
    partial = folder / "download.partial"
    # The file may be complete already, if an earlier run stopped after the download.
    if not _is_right(partial, file):
        _download(file, partial, hosts, report)
    if not _is_right(partial, file):
        partial.unlink()
        raise DownloadError(f"its {file.checksum[0]} differs from the pinned one, so the file was deleted")
    # Open, rename or make the file executable only now, after the check of its digest.
    try:
        unpacked = {name: folder / f".{name}.unpacking" for name in file.programs}
        if all(file.programs.values()):
            _unpack(partial, file, unpacked)
        else:
            for path in unpacked.values():
                shutil.copyfile(partial, path)
        for name, path in unpacked.items():
            path.chmod(0o644 if name.endswith(".yaml") else 0o755)
            path.replace(paths[name])
    finally:
        for left in folder.glob(".*.unpacking"):
            left.unlink()
    partial.unlink()
    return paths


def _is_right(path: Path, file: ReleaseFile) -> bool:
    algorithm, value = file.checksum
    if not path.exists():
        return False
    with path.open("rb") as content:
        return hashlib.file_digest(content, algorithm).hexdigest() == value


def _download(file: ReleaseFile, partial: Path, hosts: Hosts, report: Report) -> None:
    """Complete the partial file, from where an earlier attempt ended."""
    why = ""
    for _ in range(_ATTEMPTS):
        if not hosts.reachable([file.host]):
            raise DownloadError(why or f"{file.host} cannot be reached")
        before = _size(partial)
        try:
            whole, why = _attempt(file, partial, hosts, report)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise DownloadError(f"{file.host} answered with status {error.code}") from error
            # The partial file is too long or already complete with a wrong digest, so start again.
            partial.unlink(missing_ok=True)
            continue
        except (OSError, http.client.HTTPException) as error:
            whole, why = False, f"{file.host} did not send the whole file ({_words(error)})"
        if whole:
            return
        if _size(partial) <= before:
            break
    hosts.lost(file.host)
    raise DownloadError(why)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _words(error: BaseException) -> str:
    reason = getattr(error, "reason", error)
    return str(reason) or type(error).__name__


def _attempt(file: ReleaseFile, partial: Path, hosts: Hosts, report: Report) -> tuple[bool, str]:
    """Send one request; returns whether the file is complete, and if not, why."""
    have = _size(partial)
    request = urllib.request.Request(file.url)  # noqa: S310 - https, see fetch
    if have:
        request.add_header("Range", f"bytes={have}-")
    opener = urllib.request.build_opener(_Guarded(file, hosts))
    with contextlib.closing(opener.open(request, timeout=STALL_SECONDS)) as answer:
        goes_on = have and _begins_at(answer.headers.get("Content-Range")) == have
        if not goes_on:  # the first attempt, or a server that ignores Range
            have = 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length is not None else None
        if (total or 0) > MOST_BYTES:
            raise DownloadError(f"it has {total} bytes, more than the limit for release files")
        with partial.open("ab" if goes_on else "wb") as output:
            report(have, total)
            try:
                for chunk in _chunks(answer):
                    have += len(chunk)
                    if have > MOST_BYTES:
                        raise DownloadError("it has more bytes than the limit for release files")
                    output.write(chunk)
                    report(have, total)
            except _StalledError:
                # Another attempt would only wait for the same time again.
                hosts.lost(file.host)
                return False, f"{file.host} sent almost no data for {STALL_SECONDS:.0f} s"
    missing = total is not None and have < total
    return not missing, f"{file.host} ended the download at {have} of {total} bytes" if missing else ""


def _begins_at(content_range: str | None) -> int | None:
    match = re.match(r"bytes (\d+)-", content_range or "")
    return int(match.group(1)) if match else None


class _StalledError(Exception):
    """The server sends almost no data."""


def _chunks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yields the body in chunks.

    Raises:
        _StalledError: The server sends almost no data.
    """
    began, came = time.monotonic(), 0
    while True:
        try:
            chunk = answer.read1(_CHUNK)
        except TimeoutError as error:
            raise _StalledError from error
        if not chunk:
            return
        came += len(chunk)
        if came >= STALL_BYTES:
            began, came = time.monotonic(), 0
        elif time.monotonic() - began > STALL_SECONDS:
            raise _StalledError
        yield chunk


def _unpack(archive: Path, file: ReleaseFile, targets: Mapping[str, Path]) -> None:
    """Write the named plain files of an archive to the targets, so that the archive chooses no path."""
    wanted = {file.programs[name]: target for name, target in targets.items()}
    try:
        for member, size, source in _members(archive, zipped=file.url.endswith(".zip")):
            if target := wanted.pop(member, None):
                if source is None:
                    raise DownloadError(f"its member {member} is not a plain file")
                if size > MOST_BYTES:
                    raise DownloadError(
                        f"its member {member} has {size} bytes, more than the limit for programs"
                    )
                with source, target.open("wb") as output:
                    shutil.copyfileobj(source, output)
            if not wanted:
                return
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise DownloadError(f"the archive cannot be unpacked ({_words(error)})") from error
    raise DownloadError(f"the archive does not contain {', '.join(wanted)}")


def _members(archive: Path, *, zipped: bool) -> Iterator[tuple[str, int, IO[bytes] | None]]:
    """Yields name, size and content of each member of an archive; content is None if it is no plain file."""
    if zipped:
        with zipfile.ZipFile(archive) as pack:
            for entry in pack.infolist():
                yield entry.filename, entry.file_size, None if entry.is_dir() else pack.open(entry)
        return
    # Read the archive as a stream, because seeking in a compressed archive reads it again.
    with tarfile.open(archive, "r|*") as pack_:
        for info in pack_:
            # In some archives, all names begin with "./".
            content = pack_.extractfile(info) if info.isfile() else None
            yield info.name.removeprefix("./"), info.size, content


def joined(files: Sequence[Path]) -> str:
    """Joins the documents of YAML files."""
    return "\n---\n".join(file.read_text().strip() for file in files) + "\n"
