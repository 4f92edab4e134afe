"""Release files from a server with real TLS: which are let through, and what happens to the others."""

from __future__ import annotations

import hashlib
import io
import re
import socket
import tarfile
import threading
import tomllib
import zipfile
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from tests.images.servers import Authority
from tests.tools.file_server import FileServer, trusting
from tests.tools.machine import Machine
from tools import bootstrap, downloads
from tools.downloads import DownloadError, Hosts, ReleaseFile

PROGRAM = b"#!/bin/sh\necho released\n" + b"#" * 5000
TABLE = bootstrap.TOOLS / "releases.toml"
SCRIPTS = {bootstrap.LANGUAGE_HOST_EXECUTOR, bootstrap.DYNAMIC_PROVIDER}


@pytest.fixture(autouse=True)
def _trust(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    trusting(authority, monkeypatch.setenv)


def release(url: str, content: bytes = PROGRAM, member: str = "", **settings: Any) -> ReleaseFile:
    checksum = ("sha256", hashlib.sha256(content).hexdigest())
    return ReleaseFile(
        **{"programs": {"etcd": member}, "version": "3.6.14", "platform": "any", "checksum": checksum}
        | settings,
        url=url,
    )


def fetch(file: ReleaseFile, folder: Path, hosts: Hosts | None = None) -> Path:
    """The program of a file with one."""
    folder.mkdir(exist_ok=True)
    (path,) = downloads.fetch(file, folder, hosts or Hosts(), lambda *_: None).values()
    return path


def tarball(**members: bytes | tarfile.TarInfo) -> bytes:
    """An archive; names have __ for a slash."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            info = tarfile.TarInfo(name.replace("__", "/"))
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


class TestOneFile:
    def test_the_right_one_becomes_a_program(self, server: FileServer, tmp_path: Path) -> None:
        path = fetch(release(server.put("/etcd", PROGRAM)), tmp_path)
        assert path.read_bytes() == PROGRAM
        assert path.stat().st_mode & 0o777 == 0o755
        assert [one.name for one in tmp_path.iterdir()] == ["etcd"]
        fetch(release(server.url("/etcd")), tmp_path)
        assert len(server.requests) == 1, "what is here is not fetched again"

    @pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
    def test_another_one_is_deleted_and_never_named(
        self, server: FileServer, tmp_path: Path, algorithm: str
    ) -> None:
        wrong = (algorithm, hashlib.new(algorithm, b"another").hexdigest())
        with pytest.raises(
            DownloadError, match=f"its {algorithm} differs from the pinned one, so the file was deleted"
        ):
            fetch(release(server.put("/etcd", PROGRAM), checksum=wrong), tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_one_that_is_not_there_is_said(self, server: FileServer, tmp_path: Path) -> None:
        with pytest.raises(DownloadError, match=rf"{server.host} answered with status 404"):
            fetch(release(server.url("/etcd")), tmp_path)

    def test_an_address_without_tls_is_refused(self, server: FileServer, tmp_path: Path) -> None:
        server.put("/etcd", PROGRAM)
        with pytest.raises(DownloadError, match="is not an https address"):
            fetch(release(f"http://{server.host}/etcd"), tmp_path)
        assert server.requests == []

    def test_a_server_with_another_certificate_is_not_read(
        self, server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stranger = Authority(tmp_path / "stranger")
        trusting(stranger, monkeypatch.setenv)
        with pytest.raises(DownloadError, match="cannot be reached"):
            fetch(release(server.put("/etcd", PROGRAM)), tmp_path / "folder")
        assert server.requests == []

    def test_a_size_beyond_all_bounds_is_refused(
        self, server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(downloads, "MOST_BYTES", 1000)
        with pytest.raises(
            DownloadError, match=f"it has {len(PROGRAM)} bytes, more than the limit for release files"
        ):
            fetch(release(server.put("/etcd", PROGRAM)), tmp_path)
        assert list(tmp_path.iterdir()) == []


class TestBrokenDownloads:
    def test_are_resumed_where_they_broke_off(self, server: FileServer, tmp_path: Path) -> None:
        url = server.put("/etcd", PROGRAM)
        server.cuts["/etcd"] = deque([1000, 500])
        assert fetch(release(url), tmp_path).read_bytes() == PROGRAM
        assert [asked for _, _, asked in server.requests] == [None, "bytes=1000-", "bytes=1500-"]

    def test_are_resumed_by_a_later_run(self, server: FileServer, tmp_path: Path) -> None:
        url = server.put("/etcd", PROGRAM)
        server.cuts["/etcd"] = deque([100, 100, 100])
        with pytest.raises(DownloadError, match=f"ended the download at 300 of {len(PROGRAM)} bytes"):
            fetch(release(url), tmp_path)
        assert [one.name for one in tmp_path.iterdir()] == ["download.partial"]
        assert fetch(release(url), tmp_path).read_bytes() == PROGRAM
        assert server.requests[-1] == ("GET", "/etcd", "bytes=300-")

    def test_begin_again_where_the_server_knows_no_ranges(self, server: FileServer, tmp_path: Path) -> None:
        server.ranges = False
        (tmp_path / "download.partial").write_bytes(PROGRAM[:1000])
        assert fetch(release(server.put("/etcd", PROGRAM)), tmp_path).read_bytes() == PROGRAM

    def test_begin_again_where_more_is_here_than_there(self, server: FileServer, tmp_path: Path) -> None:
        (tmp_path / "download.partial").write_bytes(b"?" * 9000)
        assert fetch(release(server.put("/etcd", PROGRAM)), tmp_path).read_bytes() == PROGRAM
        assert [asked for _, _, asked in server.requests] == ["bytes=9000-", None]

    def test_that_were_whole_are_not_asked_for_again(self, server: FileServer, tmp_path: Path) -> None:
        """An earlier run ended after the last byte and before the program had its name."""
        (tmp_path / "download.partial").write_bytes(PROGRAM)
        assert fetch(release(server.url("/etcd")), tmp_path).read_bytes() == PROGRAM
        assert server.requests == []

    def test_with_a_wrong_beginning_do_not_pass(self, server: FileServer, tmp_path: Path) -> None:
        (tmp_path / "download.partial").write_bytes(b"?" * 1000)
        with pytest.raises(DownloadError, match="differs from the pinned one"):
            fetch(release(server.put("/etcd", PROGRAM)), tmp_path)
        assert list(tmp_path.iterdir()) == [], "the next run begins from nothing"

    def test_that_stall_are_given_up_and_kept(
        self, server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(downloads, "STALL_SECONDS", 0.3)
        url = server.put("/etcd", PROGRAM)
        server.holds["/etcd"] = 1000
        hosts = Hosts()
        with pytest.raises(DownloadError, match=rf"{server.host} sent almost no data for"):
            fetch(release(url), tmp_path, hosts)
        assert (tmp_path / "download.partial").read_bytes() == PROGRAM[:1000]
        with pytest.raises(DownloadError, match="cannot be reached"):
            fetch(release(server.put("/kwok", PROGRAM)), tmp_path / "other", hosts)
        assert [path for _, path, _ in server.requests] == ["/etcd"], (
            "its host is not asked again in this run"
        )

    def test_that_only_drip_are_given_up(
        self, server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Something always comes, and it would take for ever."""
        monkeypatch.setattr(downloads, "STALL_SECONDS", 0.5)
        url = server.put("/etcd", PROGRAM)
        server.drips.add("/etcd")
        with pytest.raises(DownloadError, match=rf"{server.host} sent almost no data for"):
            fetch(release(url), tmp_path)


class TestRedirects:
    def test_to_a_host_of_the_table_are_followed(
        self, server: FileServer, another: FileServer, tmp_path: Path
    ) -> None:
        another.put("/stored", PROGRAM)
        server.redirects["/etcd"] = another.url("/stored")
        path = fetch(release(server.url("/etcd"), redirects=(another.host,)), tmp_path)
        assert path.read_bytes() == PROGRAM

    def test_to_a_foreign_host_are_refused(
        self, server: FileServer, another: FileServer, tmp_path: Path
    ) -> None:
        another.put("/stored", PROGRAM)
        server.redirects["/etcd"] = another.url("/stored")
        with pytest.raises(
            DownloadError, match=f"redirects to https://{another.host}, which releases.toml does not allow"
        ):
            fetch(release(server.url("/etcd")), tmp_path)
        assert another.requests == []

    def test_to_a_host_without_tls_are_refused(self, server: FileServer, tmp_path: Path) -> None:
        server.redirects["/etcd"] = f"http://{server.host}/stored"
        with pytest.raises(DownloadError, match=f"redirects to http://{server.host}, which releases.toml"):
            fetch(release(server.url("/etcd")), tmp_path)

    def test_to_a_name_that_only_looks_like_an_allowed_one_are_refused(
        self, server: FileServer, another: FileServer, tmp_path: Path
    ) -> None:
        server.redirects["/etcd"] = f"https://{server.host}@{another.host}/stored"
        with pytest.raises(DownloadError, match=r"which releases\.toml does not allow"):
            fetch(release(server.url("/etcd")), tmp_path)
        assert another.requests == []


class TestArchives:
    def test_give_the_named_program_alone(self, server: FileServer, tmp_path: Path) -> None:
        content = tarball(etcd__README=b"text", etcd__etcd=PROGRAM, etcd__etcdctl=b"more")
        path = fetch(release(server.put("/a.tar.gz", content), content, "etcd/etcd"), tmp_path)
        assert path.read_bytes() == PROGRAM
        assert [one.name for one in tmp_path.iterdir()] == ["etcd"]

    def test_may_be_zip_files(self, server: FileServer, tmp_path: Path) -> None:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("bin/etcd", PROGRAM)
        content = packed.getvalue()
        path = fetch(release(server.put("/a.zip", content), content, "bin/etcd"), tmp_path)
        assert path.read_bytes() == PROGRAM

    @pytest.mark.parametrize("hostile", ["../../escaped", "/tmp/archshift-escaped", "../etcd"])  # noqa: S108
    def test_write_nothing_where_their_paths_say(
        self, server: FileServer, tmp_path: Path, hostile: str
    ) -> None:
        folder = tmp_path / "deep" / "folder"
        folder.mkdir(parents=True)
        content = tarball(**{hostile.replace("/", "__"): b"hostile", "etcd": PROGRAM})
        fetch(release(server.put("/a.tar.gz", content), content, "etcd"), folder)
        written = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert written == [folder / "etcd"]
        assert not Path("/tmp/archshift-escaped").exists()  # noqa: S108

    def test_are_refused_where_the_program_is_a_link(self, server: FileServer, tmp_path: Path) -> None:
        link = tarfile.TarInfo("etcd")
        link.type, link.linkname = tarfile.SYMTYPE, "/bin/sh"
        content = tarball(etcd=link)
        with pytest.raises(DownloadError, match="its member etcd is not a plain file"):
            fetch(release(server.put("/a.tar.gz", content), content, "etcd"), tmp_path)
        assert not (tmp_path / "etcd").exists()

    def test_are_refused_where_they_lack_the_program(self, server: FileServer, tmp_path: Path) -> None:
        content = tarball(README=b"text")
        with pytest.raises(DownloadError, match="the archive does not contain etcd"):
            fetch(release(server.put("/a.tar.gz", content), content, "etcd"), tmp_path)

    def test_are_refused_where_they_are_none(self, server: FileServer, tmp_path: Path) -> None:
        with pytest.raises(DownloadError, match="the archive cannot be unpacked"):
            fetch(release(server.put("/a.tar.gz", PROGRAM), PROGRAM, "etcd"), tmp_path)
        assert not (tmp_path / "etcd").exists()


class TestHosts:
    def test_one_that_refuses_is_not_reached(self) -> None:
        assert Hosts().reachable([_closed_port()]) == set()

    def test_one_that_says_nothing_is_given_up_and_asked_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(downloads, "REACH_SECONDS", 0.3)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            connections: list[socket.socket] = []
            threading.Thread(target=lambda: connections.append(silent.accept()[0]), daemon=True).start()
            host = f"127.0.0.1:{silent.getsockname()[1]}"
            hosts = Hosts()
            assert hosts.reachable([host]) == set()
            assert hosts.reachable([host]) == set()
            silent.settimeout(0.2)
            with pytest.raises(TimeoutError):
                silent.accept()
            for connection in connections:
                connection.close()

    def test_one_that_answers_anything_is_reached(self, server: FileServer) -> None:
        assert Hosts().reachable([server.host, _closed_port()]) == {server.host}


class TestTheTable:
    @pytest.mark.parametrize("platform", ["linux/amd64", "linux/arm64", "darwin/arm64"])
    def test_has_only_what_the_pins_accept(self, platform: str) -> None:
        """A bump of a pin moves the release files along, or takes them out."""
        files = downloads.release_files(TABLE, platform)
        assert files
        assert [file.url for file in files if not bootstrap._accepted(file)] == []
        names = [name for file in files for name in file.programs if name != bootstrap.KWOK_STAGES]
        assert len(names) == len(set(names)), "one file a program"
        known = {program.name for program in bootstrap.PROGRAMS}
        assert set(names) <= known | SCRIPTS

    @pytest.mark.parametrize("platform", ["linux/amd64", "linux/arm64"])
    def test_spares_a_lab_on_linux_every_build(self, platform: str) -> None:
        names = {name for file in downloads.release_files(TABLE, platform) for name in file.programs}
        assert {*bootstrap.LAB, *SCRIPTS, bootstrap.KWOK_STAGES} <= names

    def test_joins_the_stages_in_the_order_of_the_build(self) -> None:
        """What a lab without Go gets is the same file, to the byte."""
        files = downloads.release_files(TABLE, "linux/amd64")
        urls = [file.url for file in files if bootstrap.KWOK_STAGES in file.programs]
        folders = [url.partition(f"/v{_pin('kwok')}/")[2].rpartition("/")[0] for url in urls]
        sources = list(bootstrap._STAGES_FILE.sources)
        assert list(dict.fromkeys(folders)) == sources
        assert urls == sorted(urls, key=lambda url: (sources.index(folders[urls.index(url)]), url))

    def test_names_a_source_for_every_checksum(self) -> None:
        for entry in tomllib.loads(TABLE.read_text())["file"]:
            assert re.search(r"\b[0-9a-f]{40}\b|go\.sum", entry["source"]), entry["url"]
            assert re.fullmatch(r"[0-9a-f]{64}|[0-9a-f]{128}", entry.get("sha256") or entry["sha512"])
            assert entry["url"].startswith("https://"), entry["url"]
            assert entry["version"] in entry["url"], "the version is the one that is fetched"


class TestTheOrder:
    """What `python3 tools/bootstrap.py` takes: PATH, what is here, a release file, a build."""

    @pytest.fixture
    def with_go(self, with_go: Machine, authority: Authority) -> Machine:
        trusting(authority, with_go.environment.__setitem__)
        return with_go

    @pytest.fixture
    def without_go(self, machine: Machine, authority: Authority) -> Machine:
        trusting(authority, machine.environment.__setitem__)
        return machine

    def test_a_release_file_spares_the_build(self, with_go: Machine, server: FileServer) -> None:
        with_go.releases.write_text(_entry(server.put("/etcd", PROGRAM), "3.6.14", etcd=""))
        code, found, said = with_go.run("etcd")
        assert code == 0, said
        assert (found["etcd"]["from"], found["etcd"]["version"]) == ("release", "3.6.14")
        assert Path(found["etcd"]["path"]).read_bytes() == PROGRAM
        assert with_go.built() == []
        assert f"downloading etcd 3.6.14 from {server.host}\ndownloaded etcd 3.6.14 in 0 s\n" in said
        _, again, said = with_go.run("etcd")
        assert (again, said, len(server.requests)) == (found, "", 1)

    def test_an_installed_program_comes_first(self, with_go: Machine, server: FileServer) -> None:
        with_go.releases.write_text(_entry(server.put("/etcd", PROGRAM), "3.6.14", etcd=""))
        with_go.says("etcd", "etcd Version: 3.5.21")
        _, found, _ = with_go.run("etcd")
        assert found["etcd"]["from"] == "PATH"
        assert server.requests == []

    def test_a_built_program_comes_first(self, with_go: Machine, server: FileServer) -> None:
        with_go.run("etcd")
        with_go.releases.write_text(_entry(server.put("/etcd", PROGRAM), "3.6.14", etcd=""))
        _, found, said = with_go.run("etcd")
        assert (found["etcd"]["from"], said) == ("built", "")
        assert server.requests == []

    def test_a_wrong_file_is_said_and_the_program_is_built(
        self, with_go: Machine, server: FileServer
    ) -> None:
        with_go.releases.write_text(_entry(server.put("/etcd", PROGRAM), "3.6.14", b"another", etcd=""))
        code, found, said = with_go.run("etcd")
        assert code == 0, said
        assert found["etcd"]["from"] == "built"
        assert (
            "etcd 3.6.14 is not downloaded: "
            "its sha256 differs from the pinned one, so the file was deleted.\n" in said
        )
        assert with_go.left_over() == []

    def test_a_host_that_is_not_there_is_said_once_for_all_its_files(self, with_go: Machine) -> None:
        host = _closed_port()
        with_go.releases.write_text(
            _entry(f"https://{host}/etcd", "3.6.14", etcd="")
            + _entry(f"https://{host}/kwok", _pin("kwok"), kwok="")
        )
        code, found, said = with_go.run("etcd", "kwok")
        assert code == 0, said
        assert {found["etcd"]["from"], found["kwok"]["from"]} == {"built"}
        assert f"{host} cannot be reached, so these programs are not downloaded: etcd, kwok\n" in said
        assert said.count("cannot be reached") == 1
        assert "programs to build: 2" in said

    def test_a_release_that_the_pins_do_not_accept_is_not_asked_for(
        self, with_go: Machine, server: FileServer
    ) -> None:
        with_go.releases.write_text(
            _entry(server.put("/etcd", PROGRAM), "3.4.23", etcd="")
            + _entry(server.put("/registry", PROGRAM), "3.1.1", registry="")
        )
        _, found, _ = with_go.run("etcd", "registry")
        assert {found["etcd"]["from"], found["registry"]["from"]} == {"built"}
        assert server.requests == []

    def test_the_engine_of_a_release_has_its_own_language_host_beside_it(
        self, with_go: Machine, server: FileServer
    ) -> None:
        host = bootstrap.LANGUAGE_HOST
        names = ("pulumi", host, *sorted(SCRIPTS))
        content = tarball(**{f"pulumi/{name}".replace("/", "__"): PROGRAM for name in names})
        members = {name: f"pulumi/{name}" for name in names}
        with_go.releases.write_text(_entry(server.put("/p.tar.gz", content), "3.245.0", content, **members))
        code, found, said = with_go.run("pulumi")
        assert code == 0, said
        assert {found[name]["from"] for name in names} == {"release"}
        assert len({Path(found[name]["path"]).parent for name in names}) == 1
        assert with_go.built() == []
        assert f"downloaded pulumi and {host} 3.245.0" in said

    def test_a_lab_needs_no_go_where_everything_can_be_downloaded(
        self, without_go: Machine, server: FileServer
    ) -> None:
        """The stages are the documents of two files, as a build would join them."""
        entries = [
            _entry(server.put(f"/{name}", name.encode()), _pin(name), name.encode(), **{name: ""})
            for name in bootstrap.LAB
            if name not in ("pulumi", bootstrap.LANGUAGE_HOST)
        ]
        names = ("pulumi", bootstrap.LANGUAGE_HOST, *sorted(SCRIPTS))
        content = tarball(**dict.fromkeys(names, PROGRAM))
        archive = server.put("/p.tgz", content)
        entries.append(_entry(archive, _pin("pulumi"), content, **{name: name for name in names}))
        for part in (b"kind: Stage\nname: one\n", b"kind: Stage\nname: two\n"):
            url = server.put(f"/{len(server.files)}.yaml", part)
            entries.append(_entry(url, _pin("kwok"), part, **{bootstrap.KWOK_STAGES: ""}))
        without_go.releases.write_text("".join(entries))
        code, found, said = without_go.run()
        assert code == 0, said
        assert {program["from"] for program in found.values()} == {"release"}
        assert found.keys() == {*bootstrap.LAB, *SCRIPTS, bootstrap.KWOK_STAGES}
        stages = Path(found[bootstrap.KWOK_STAGES]["path"]).read_text()
        assert stages == "kind: Stage\nname: one\n---\nkind: Stage\nname: two\n"
        asked = len(server.requests)
        code, again, said = without_go.run()
        assert (code, again, said) == (0, found, "")
        assert len(server.requests) == asked

    def test_without_go_what_no_release_has_is_one_sentence(
        self, without_go: Machine, server: FileServer
    ) -> None:
        without_go.releases.write_text(_entry(server.put("/etcd", PROGRAM), "3.6.14", etcd=""))
        code, found, said = without_go.run("etcd", "kubectl")
        assert (code, found) == (1, {})
        assert said.splitlines()[-1].startswith("Some programs must be built, but Go is missing: ")


def _pin(name: str) -> str:
    (program,) = (program for program in bootstrap.PROGRAMS if program.name == name)
    return bootstrap.pinned_version(program.pin, program.module).removeprefix("v")


def _entry(url: str, version: str, content: bytes = PROGRAM, **programs: str) -> str:
    """An entry of the table."""
    members = ", ".join(f'"{name}" = "{member}"' for name, member in programs.items())
    return (
        f'[[file]]\nprograms = {{ {members} }}\nversion = "{version}"\nplatform = "any"\nurl = "{url}"\n'
        f'sha256 = "{hashlib.sha256(content).hexdigest()}"\n'
        'source = "the test"\n'
    )


def _closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as port:
        return f"127.0.0.1:{port.getsockname()[1]}"
