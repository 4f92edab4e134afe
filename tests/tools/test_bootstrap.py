"""Finding and building the programs, with tiny stand-ins for all of them, Go included."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tools.machine import Machine, copy_of_the_pins
from tools import bootstrap

_EVERYBODYS = [program for program in bootstrap.PROGRAMS if program.kit not in bootstrap.EXTRA_KITS]


@pytest.fixture
def pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the pins that a test may change."""
    copy = tmp_path / "project"
    copy_of_the_pins(copy)
    monkeypatch.setattr(bootstrap, "TOOLS", copy / "tools")
    monkeypatch.setattr(bootstrap, "PROJECT", copy)
    return copy


class TestTheCacheKey:
    @pytest.mark.parametrize(
        "changed",
        [
            "tools/engine/go.mod",
            "tools/engine/go.sum",
            "tools/engine/pulumi-resource-kubernetes/main.go",
            "tools/python-host/go.sum",
        ],
    )
    def test_changes_with_everything_that_the_engine_is_built_from(self, pins: Path, changed: str) -> None:
        before = bootstrap.cache_key("engine"), bootstrap.cache_key("cluster")
        (pins / changed).write_text((pins / changed).read_text() + "\n// changed\n")
        after = bootstrap.cache_key("engine"), bootstrap.cache_key("cluster")
        assert after[0] != before[0]
        assert after[1] == before[1], "what did not change is not built again"

    def test_of_the_registry_leaves_the_long_builds_alone(self, pins: Path) -> None:
        before = {kit: bootstrap.cache_key(kit) for kit in ("engine", "cluster", "registry")}
        source = pins / "tools" / "registry" / "registry" / "main.go"
        source.write_text(source.read_text() + "\n// changed\n")
        changed = {kit for kit, key in before.items() if bootstrap.cache_key(kit) != key}
        assert changed == {"registry"}

    def test_changes_with_the_plugin_version_that_the_sdk_asks_for(self, pins: Path) -> None:
        before = bootstrap.cache_key("engine")
        project = pins / "pyproject.toml"
        version = bootstrap.pinned_version("pulumi-kubernetes", "engine").removeprefix("v")
        project.write_text(
            project.read_text().replace(f"pulumi-kubernetes=={version}", "pulumi-kubernetes==9.9.9")
        )
        assert bootstrap.cache_key("engine") != before
        assert bootstrap.kubernetes_plugin_folder() == "resource-kubernetes-v9.9.9"

    def test_changes_with_the_machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        before = bootstrap.cache_key("cluster")
        monkeypatch.setattr(bootstrap, "go_platform", lambda: "plan9/mips")
        assert bootstrap.cache_key("cluster") != before

    def test_a_pin_that_is_gone_is_named(self) -> None:
        with pytest.raises(
            bootstrap.BootstrapError, match=r"tools/engine/go\.mod does not require example\.com/x"
        ):
            bootstrap.pinned_version("example.com/x", "engine")


class TestVersions:
    @pytest.mark.parametrize(
        ("answer", "version"),
        [
            ("v3.245.0", (3, 245, 0)),
            ("Kubernetes v1.36.3", (1, 36, 3)),
            ("Client Version: v1.32.4-dispatcher\nKustomize Version: v5.5.0", (1, 32, 4)),
            ("etcd Version: 3.6.16\nGit SHA: Not provided", (3, 6, 16)),
            ("kwok version v0.8.0 go1.26.8 (linux/amd64)", (0, 8, 0)),
            ("1.26", (1, 26, 0)),
            ("something else", None),
        ],
    )
    def test_are_read_as_the_programs_print_them(self, answer: str, version: tuple[int, ...] | None) -> None:
        assert bootstrap.parse_version(answer) == version


class TestBuilding:
    def test_what_is_missing_is_built_once(self, with_go: Machine) -> None:
        code, found, said = with_go.run()
        assert code == 0, said
        assert {program["from"] for program in found.values()} == {"built", "module"}
        assert len(with_go.built()) == len(_EVERYBODYS)
        for program in found.values():
            assert Path(program["path"]).is_relative_to(with_go.cache)
        assert "built kube-apiserver v1.36" in said
        code, again, said = with_go.run()
        assert (code, again) == (0, found)
        assert said == "", "the second time there is nothing to say"
        assert len(with_go.built()) == len(_EVERYBODYS)

    def test_versions_are_stamped_from_the_pins(self, with_go: Machine) -> None:
        with_go.run()
        commands = with_go.log.read_text()
        pulumi = bootstrap.pinned_version("github.com/pulumi/pulumi/pkg/v3", "engine")
        kubernetes = bootstrap.pinned_version("k8s.io/kubernetes", "cluster")
        assert f"common/version.Version={pulumi} " in commands
        assert f"client-go/pkg/version.gitVersion={kubernetes} " in commands
        registry = bootstrap.pinned_version("github.com/distribution/distribution/v3", "registry")
        crane = bootstrap.pinned_version("github.com/google/go-containerregistry", "registry")
        assert f"distribution/v3/version.version={registry} " in commands
        assert f"crane/cmd.Version={crane} " in commands
        assert "-X main.version=4." in commands

    def test_the_stages_are_joined_into_one_file(self, with_go: Machine) -> None:
        _, found, _ = with_go.run()
        stages = Path(found[bootstrap.KWOK_STAGES]["path"]).read_text()
        assert stages.count("kind: Stage") == 3
        assert stages.count("---") == 2
        assert "Kustomization" not in stages

    @pytest.mark.parametrize("name", [bootstrap.LANGUAGE_HOST_EXECUTOR, bootstrap.DYNAMIC_PROVIDER])
    def test_the_engines_scripts_can_be_executed(self, with_go: Machine, name: str) -> None:
        """They are beside the engine, which warns about programs of other folders."""
        _, found, _ = with_go.run()
        script = Path(found[name]["path"])
        assert os.access(script, os.X_OK)
        assert script.parent == Path(found["pulumi"]["path"]).parent

    def test_how_long_it_takes_is_said_first(self, with_go: Machine) -> None:
        """All of it, and what would spare most; nothing where nothing is built."""
        _, _, said = with_go.run()
        first = said.splitlines()[0]
        assert re.match(rf"programs to build: {len(_EVERYBODYS)}, about \d\d min on 2 cores, once", first), (
            said
        )
        assert "(pulumi on PATH would save 6 min: " in first
        _, _, said = with_go.run()
        assert "programs to build" not in said

    def test_what_only_some_tests_need_is_built_where_it_is_asked_for(self, with_go: Machine) -> None:
        _, found, _ = with_go.run()
        assert "prometheus" not in found
        code, found, said = with_go.run("--with", "monitoring")
        assert code == 0, said
        assert with_go.built()[-2:] == ["promtool", "prometheus"]
        assert "-tags remove_all_sd" in with_go.log.read_text().splitlines()[-1]
        assert Path(found["prometheus"]["path"]).parent == Path(found["promtool"]["path"]).parent

    def test_an_interrupted_build_leaves_nothing_half_and_is_resumed(self, with_go: Machine) -> None:
        with_go.environment["FAKE_GO_PAUSE"] = "600"
        process = with_go.start()
        _wait_until(lambda: with_go.left_over() != [])
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=300)
        assert process.returncode == 130
        assert "The next run continues from here" in said
        assert with_go.left_over() == []
        del with_go.environment["FAKE_GO_PAUSE"]
        code, found, said = with_go.run()
        assert code == 0, said
        assert Path(found["pulumi"]["path"]).read_text().endswith("echo built\n")

    def test_a_killed_build_is_cleaned_up_by_the_next(self, with_go: Machine) -> None:
        with_go.environment["FAKE_GO_PAUSE"] = "3"
        process = with_go.start()
        _wait_until(lambda: with_go.left_over() != [])
        process.kill()
        process.communicate(timeout=20)
        assert with_go.left_over() != []
        del with_go.environment["FAKE_GO_PAUSE"]
        code, _, said = with_go.run()
        assert code == 0, said
        assert with_go.left_over() == []

    def test_two_checkouts_do_not_build_twice(self, with_go: Machine) -> None:
        with_go.environment["FAKE_GO_PAUSE"] = "0.1"
        processes = [with_go.start(), with_go.start()]
        for process in processes:
            _, said = process.communicate(timeout=60)
            assert process.returncode == 0, said
        assert len(with_go.built()) == len(_EVERYBODYS)

    def test_a_failed_build_shows_the_compilers_last_words(self, with_go: Machine) -> None:
        with_go.environment["FAKE_GO_FAILS"] = "k8s.io/kubernetes/cmd/kube-scheduler"
        code, found, said = with_go.run()
        assert (code, found) == (1, {})
        assert "go build k8s.io/kubernetes/cmd/kube-scheduler failed:\n    cannot find package" in said
        assert "Traceback" not in said
        assert with_go.left_over() == []
        assert "kube-controller-manager" in with_go.built(), "what was built before stays"

    def test_without_go_one_sentence_says_what_to_install(self, machine: Machine) -> None:
        code, found, said = machine.run()
        assert (code, found) == (1, {})
        assert said.strip().splitlines()[-1].startswith("Some programs must be built, but Go is missing: ")
        assert "install Go 1.26 or newer" in said
        assert "Traceback" not in said

    def test_an_old_go_is_refused(self, with_go: Machine) -> None:
        with_go.environment["FAKE_GO_VERSION"] = "go1.22.1"
        code, _, said = with_go.run()
        assert code == 1
        assert "Go 1.22.1 is too old: install Go 1.26 or newer" in said
        assert with_go.built() == []


class TestInstalledPrograms:
    def test_too_old_ones_are_refused_and_named(self, with_go: Machine) -> None:
        with_go.says("etcd", "etcd Version: 3.4.23")
        with_go.says("kubectl", "Client Version: v1.32.4")
        with_go.says("kwok", "kwok version v0.5.1")
        with_go.says("pulumi", "v3.100.0")
        code, found, said = with_go.run()
        assert code == 0, said
        for name in ("etcd", "kubectl", "kwok", "pulumi"):
            assert found[name]["from"] == "built"
        assert "etcd is 3.4.23; wanted: at least 3.5.13" in said
        assert "kubectl is 1.32.4; wanted: within one minor version of v1.36" in said
        assert "pulumi is 3.100.0; wanted: at least v3.245" in said

    def test_ones_that_serve_are_used_and_not_built(self, with_go: Machine) -> None:
        with_go.says("etcd", "etcd Version: 3.5.21")
        with_go.says("kubectl", "Client Version: v1.35.0")
        _, found, said = with_go.run()
        assert (found["etcd"]["from"], found["etcd"]["version"]) == ("PATH", "3.5.21")
        assert found["kubectl"]["path"] == str(with_go.bin / "kubectl")
        assert "not used" not in said
        assert not {"kubectl", "v3"} & set(with_go.built()[4:])

    def test_crane_is_taken_from_path_and_no_other_registry_is(self, with_go: Machine) -> None:
        with_go.says("crane", "v0.23.0")
        with_go.says("registry", "registry github.com/distribution/distribution/v3 v3.1.2")
        _, found, said = with_go.run()
        assert (found["crane"]["from"], found["crane"]["version"]) == ("PATH", "0.23.0")
        assert found["registry"]["from"] == "built", "many a program has this name"
        assert "not used" not in said
        with_go.says("crane", "v0.14.0")
        _, found, said = with_go.run()
        assert found["crane"]["from"] == "built"
        assert "crane is 0.14.0; wanted: at least v0.22" in said

    def test_debians_prometheus_serves_and_an_older_one_does_not(self, with_go: Machine) -> None:
        with_go.says("prometheus", "prometheus, version 2.42.0+ds (branch: debian/sid)")
        with_go.says("promtool", "promtool, version 2.41.0 (branch: HEAD)")
        _, found, said = with_go.run("--with", "all")
        assert (found["prometheus"]["from"], found["prometheus"]["version"]) == ("PATH", "2.42.0")
        assert found["promtool"]["from"] == "built"
        assert "promtool is 2.41.0; wanted: at least 2.42" in said

    def test_a_program_that_does_not_answer_is_not_used(self, with_go: Machine) -> None:
        with_go.install("etcd", "#!/bin/sh\nexit 1\n")
        _, found, said = with_go.run()
        assert found["etcd"]["from"] == "built"
        assert "etcd is of an unknown version" in said

    def test_kubebuilders_assets_come_before_path(self, with_go: Machine) -> None:
        with_go.environment["KUBEBUILDER_ASSETS"] = str(with_go.assets)
        with_go.says("kube-apiserver", "Kubernetes v1.36.0", with_go.assets)
        with_go.says("etcd", "etcd Version: 3.6.1", with_go.assets)
        with_go.says("etcd", "etcd Version: 3.5.21")
        _, found, _ = with_go.run()
        assert found["kube-apiserver"]["from"] == "KUBEBUILDER_ASSETS"
        assert found["etcd"]["version"] == "3.6.1"
        assert found["kube-scheduler"]["from"] == "built", "the assets lack it"

    def test_what_was_built_is_not_mistaken_for_installed(self, with_go: Machine) -> None:
        _, found, _ = with_go.run()
        (with_go.bin / "etcd").symlink_to(found["etcd"]["path"])
        _, again, _ = with_go.run()
        assert again["etcd"] == found["etcd"]


class TestAnInstalledPulumi:
    # Installs its plugin as the real one does, when the test says that it can.
    _PULUMI = """#!/bin/sh
case "$1" in
  version) echo v3.250.1 ;;
  plugin)
    [ -n "$FAKE_PLUGIN" ] || exit 1
    folder="$HOME/.pulumi/plugins/resource-kubernetes-v$5"
    /bin/mkdir -p "$folder"
    echo plugin > "$folder/pulumi-resource-kubernetes"
    /bin/chmod 755 "$folder/pulumi-resource-kubernetes"
    ;;
esac
"""

    @pytest.fixture
    def with_pulumi(self, with_go: Machine) -> Machine:
        with_go.install("pulumi", self._PULUMI)
        with_go.says(bootstrap.LANGUAGE_HOST, "")
        with_go.says(bootstrap.LANGUAGE_HOST_EXECUTOR, "")
        with_go.says(bootstrap.DYNAMIC_PROVIDER, "")
        return with_go

    def test_is_used_and_installs_its_plugin_itself(self, with_pulumi: Machine) -> None:
        with_pulumi.environment["FAKE_PLUGIN"] = "yes"
        _, found, said = with_pulumi.run()
        assert found["pulumi"] == {
            "path": str(with_pulumi.bin / "pulumi"),
            "version": "3.250.1",
            "from": "PATH",
        }
        assert found[bootstrap.KUBERNETES_PLUGIN]["from"] == "plugin"
        assert "installing Pulumi's Kubernetes plugin" in said
        assert "pulumi" not in with_pulumi.built()
        _, again, said = with_pulumi.run()
        assert again == found
        assert "installing" not in said

    def test_gets_a_built_plugin_where_it_cannot_install_one(self, with_pulumi: Machine) -> None:
        _, found, _ = with_pulumi.run()
        assert found["pulumi"]["from"] == "PATH"
        assert found[bootstrap.KUBERNETES_PLUGIN]["from"] == "built"

    @pytest.mark.parametrize("name", [bootstrap.LANGUAGE_HOST, bootstrap.DYNAMIC_PROVIDER])
    def test_is_not_used_without_what_belongs_beside_it(self, with_pulumi: Machine, name: str) -> None:
        (with_pulumi.bin / name).unlink()
        _, found, said = with_pulumi.run()
        assert found["pulumi"]["from"] == "built"
        assert found[bootstrap.LANGUAGE_HOST_EXECUTOR]["from"] == "module", "not one of each"
        assert f"has no {name} beside it" in said


def _wait_until(condition: Callable[[], bool], timeout: float = 20) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
