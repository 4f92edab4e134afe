"""``archshift gate`` as one runs it: what it prints, writes, and ends with."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.fakes import FakePulumi, Run
from tests.gate.prometheus import Server
from tests.gate.shop import BEGIN, CART, CATALOG, DB, END, SETTINGS, STEP, shop
from tests.gate.weeks import Pods

AT = ("--at", END.isoformat(), "--since", STEP.isoformat())


@pytest.fixture(scope="module")
def well(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Prometheus of a shop that does well."""
    with shop().serve(tmp_path_factory.mktemp("well")) as server:
        yield server


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Prometheus of a shop whose catalog is slower on Graviton."""
    with shop(graviton=Pods(2, latency_p95=0.27)).serve(tmp_path_factory.mktemp("slow")) as server:
        yield server


def configure(pulumi: FakePulumi, server: Server, **gate: object) -> None:
    """Set the stack to ask a Prometheus."""
    pulumi.configure(arm_ratio="0.5", gate={"prometheus": server.url, **SETTINGS, **gate})


def test_the_table_shows_queries_windows_figures_and_the_verdict_last(
    run: Run, pulumi: FakePulumi, well: Server
) -> None:
    """A person sees what was asked of when, what came out, and against which limit."""
    configure(pulumi, well)
    code, out, err = run("gate", *AT)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith(
        "pods, 2026-03-10 09:05 UTC to 2026-03-10 12:00 UTC, every 5m: count by (namespace, "
    )
    head = next(index for index, line in enumerate(lines) if line.startswith("WORKLOAD"))
    assert lines[head].split() == ["WORKLOAD,", "FIGURE", "GRAVITON", "AGAINST", "LIMIT", "VERDICT"]
    assert lines[head + 1].split() == [CART, "2", "of", "4", "pods", "x86", "pass"]
    assert ["errors", "0.10%", "0.10%", "0.60%", "pass"] in [line.split() for line in lines]
    since = "; at this ratio since 2026-03-10 09:00 UTC"
    assert lines[-3:] == [
        f"dev at 0.5, 2026-03-10 09:00 UTC to 2026-03-10 12:00 UTC{since}",
        "  3 workloads do as well on Graviton as on x86",
        "pass",
    ]


def test_the_queries_in_full_need_no_rule(run: Run, pulumi: FakePulumi, well: Server) -> None:
    """What --queries prints can be pasted into any Prometheus that scrapes the cluster."""
    configure(pulumi, well)
    _, out, _ = run("gate", *AT, "--queries")
    assert "archshift:" not in out.partition("WORKLOAD")[0]
    assert "topk by (node)" in out


def test_the_evidence_is_written_whole_and_for_everybody(
    run: Run, pulumi: FakePulumi, slow: Server, tmp_path: Path
) -> None:
    """The file is what --json prints; by default beside Pulumi.yaml, in a folder that is made."""
    configure(pulumi, slow)
    code, out, err = run("gate", *AT, "--json", "--output", "-C", str(tmp_path))
    assert (code, err) == (3, "")
    file = tmp_path / "gates" / "dev.json"
    evidence = json.loads(file.read_text())
    assert evidence == json.loads(out)
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert [path.name for path in file.parent.iterdir()] == ["dev.json"]
    assert (evidence["stack"], evidence["arm_ratio"], evidence["verdict"]) == ("dev", 0.5, "hold")
    assert (evidence["at"], evidence["since"]) == ("2026-03-10T12:00:00+00:00", "2026-03-10T09:00:00+00:00")
    assert evidence["window"] == {"from": "2026-03-10T09:00:00+00:00", "to": "2026-03-10T12:00:00+00:00"}
    assert evidence["caps"] == {CATALOG: 0.5}
    assert [row["workload"] for row in evidence["workloads"]] == [CART, CATALOG, DB]
    row = evidence["workloads"][1]
    assert (row["verdict"], row["max_ratio"], row["against"]) == ("hold", 0.5, "x86")
    assert set(row["figures"]["latency_p95"]) == {"verdict", "graviton", "base", "limit", "reason"}
    assert evidence["reasons"][0].startswith(f"{CATALOG}: p95 latency ")
    assert {"name", "query", "from", "to", "step"} == set(evidence["queries"][0])


def test_the_evidence_goes_where_it_is_told_to(
    run: Run, pulumi: FakePulumi, well: Server, tmp_path: Path
) -> None:
    """By the option, or by the settings from the folder of Pulumi.yaml; what cannot be written is said."""
    configure(pulumi, well, evidence="proof/gate.json")
    run("gate", *AT, "--output", "-C", str(tmp_path))
    assert (tmp_path / "proof" / "gate.json").is_file()
    run("gate", *AT, "--output", str(tmp_path / "mine.json"))
    assert (tmp_path / "mine.json").is_file()
    # A backend may put an organisation and the project before a stack's name.
    configure(pulumi, well)
    run("gate", *AT, "--output", "-C", str(tmp_path), "-s", "acme/archshift/prod")
    assert (tmp_path / "gates" / "prod.json").is_file()
    (tmp_path / "file").write_text("")
    code, _, err = run("gate", *AT, "--output", str(tmp_path / "file" / "x.json"))
    assert code == 1
    assert err.startswith(f"archshift: --output: archshift cannot write {tmp_path}/file/x.json (")


def test_a_cap_lets_the_fleet_go_on(run: Run, pulumi: FakePulumi, slow: Server) -> None:
    """The max_ratio that the gate names, set as it says."""
    overrides = {CATALOG: {"max_ratio": 0.5, "reason": "slower on Graviton"}}
    pulumi.configure(
        arm_ratio="0.5", gate={"prometheus": slow.url, **SETTINGS}, workloads={"overrides": overrides}
    )
    code, out, _ = run("gate", *AT, "--json")
    assert code == 0
    assert json.loads(out)["workloads"][1]["verdict"] == "capped"
    assert json.loads(out)["reasons"][1].startswith(f"the fleet goes on without {CATALOG}: p95 latency ")


def test_exit_codes_say_the_verdict(run: Run, pulumi: FakePulumi, well: Server, slow: Server) -> None:
    """0 pass, 3 hold, 5 step-back, 6 unknown; 1 and 4 are for what is not asked at all."""
    configure(pulumi, well, soak="4h")
    code, out, _ = run("gate", *AT)
    assert (code, out.splitlines()[-1]) == (3, "hold")
    assert "the step has soaked for 3.0 h of 4h; the soak ends at 2026-03-10T13:00+00:00" in out
    configure(pulumi, slow, tolerances={"latency_p95": {"hold": 0.01, "step_back": 0.02}})
    assert run("gate", *AT)[0] == 5
    configure(pulumi, well)
    assert run("gate", "--at", END.isoformat())[0] == 6, "nobody knows since when"
    assert (
        run("gate", "--at", (BEGIN - timedelta(days=1)).isoformat(), "--since", "2026-03-01T00:00Z")[0] == 6
    )
    pulumi.configure(arm_ratio="0.5")
    code, out, err = run("gate", *AT)
    assert (code, out) == (1, "")
    assert err == (
        "archshift: archshift:gate.prometheus is not set; set it to the address of the Prometheus that "
        "scrapes "
        "kube-state-metrics\n"
    )
    with pytest.raises(SystemExit) as exit_:
        run("gate", "--at", "yesterday")
    assert exit_.value.code == 4


def test_now_is_judged_by_the_clock(run: Run, pulumi: FakePulumi, well: Server) -> None:
    """Without --at it is now, of which a Prometheus with old data knows nothing."""
    configure(pulumi, well)
    code, out, _ = run("gate", "--json", "--since", "2026-03-01T00:00Z")
    assert code == 6
    answer = json.loads(out)
    assert answer["reasons"][0].startswith("there is no kube_pod_info of the workloads from ")
    assert datetime.fromisoformat(answer["at"]) > END


def test_a_step_that_has_only_just_been_taken_is_not_measured(
    run: Run, pulumi: FakePulumi, well: Server
) -> None:
    """There is no window yet; the soak says until when."""
    configure(pulumi, well)
    code, out, _ = run("gate", "--json", "--at", END.isoformat(), "--since", END.isoformat())
    assert code == 3
    assert json.loads(out)["reasons"][0].startswith("the step has soaked for 0.0 h of 2h")
    assert json.loads(out)["queries"] == []
