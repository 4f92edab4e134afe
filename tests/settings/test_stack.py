"""The stack's settings: every key, and every sentence about a value that does not do."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from archshift.cluster.model import Autoscaler, Discovery
from archshift.common.errors import ArchshiftError, SettingsError
from archshift.cost.rules import CostRules
from archshift.nodes.groups import Taint
from archshift.plan.exceptions import BreakGlass, PolicyException
from archshift.plan.model import Rules
from archshift.settings import stack as stack_settings
from tests.build import load, refused

ROOT = Path(__file__).resolve().parents[2]


def test_one_number_is_enough() -> None:
    """Everything else has a default; keys of other projects are not ours to judge."""
    found = stack_settings.load("dev", {"archshift:arm_ratio": "0.2", "aws:region": "eu-west-1"})
    assert found == stack_settings.Settings(stack="dev", arm_ratio=0.2, cost=CostRules(region="eu-west-1"))
    assert (found.platform, found.kube_context) == ("eks", None)
    assert (found.mark, found.field_manager) == ("archshift/dev", "archshift/dev/patches")


def test_every_setting_gets_its_shape() -> None:
    """A complete configuration, key by key."""
    found = load(
        arm_ratio="0.37",
        kube_context="staging",
        node_groups={
            "graviton": {
                "instance_type": "m7g.xlarge",
                "size": 3,
                "zones": ["a", "b"],
                "labels": {"team": "shop"},
                "taints": [{"key": "arch", "value": "arm64", "effect": "NoExecute"}, {"key": "spot"}],
            },
            "x86": {"instance_type": "m7i.large", "size": 0},
        },
        workloads={
            "namespaces": ["shop", "platform"],
            "exclude": ["shop/Deployment/legacy"],
            "label_selector": "team=shop",
            "overrides": {
                "shop/Deployment/pay": {"force": True, "reason": "agreed with payments"},
                "shop/StatefulSet/db": {"hold": True},
                "shop/CronJob/report": {"wave": "late", "max_ratio": 0.5},
            },
            "autoscaled": {"shop/Rollout/web": {}, "shop/Deployment/cart": {"max_replicas": 9}},
        },
    )
    assert (found.arm_ratio, found.kube_context) == (0.37, "staging")
    graviton, x86 = found.node_groups.values()
    assert (graviton.name, graviton.instance_type.name, graviton.size) == ("graviton", "m7g.xlarge", 3)
    assert (graviton.zones, dict(graviton.labels)) == (("a", "b"), {"team": "shop"})
    assert graviton.taints == (
        Taint(key="arch", value="arm64", effect="NoExecute"),
        Taint(key="spot", value="", effect="NoSchedule"),
    )
    assert (x86.size, x86.zones, x86.architecture) == (0, ("a",), "amd64")
    assert found.discovery == Discovery(
        namespaces=("shop", "platform"),
        exclude=frozenset({"shop/Deployment/legacy"}),
        label_selector="team=shop",
        autoscaled={
            "shop/Rollout/web": Autoscaler(by=f"{W}.autoscaled"),
            "shop/Deployment/cart": Autoscaler(by=f"{W}.autoscaled", most=9),
        },
    )
    assert found.rules == {
        "shop/Deployment/pay": Rules(force=True, reason="agreed with payments"),
        "shop/StatefulSet/db": Rules(hold=True),
        "shop/CronJob/report": Rules(wave="late", max_ratio=0.5),
    }


@pytest.mark.parametrize(("text", "ratio"), [("0", 0.0), ("1", 1.0), ("0.0", 0.0), ("1.0", 1.0), (".5", 0.5)])
def test_both_ends_are_ratios(text: str, ratio: float) -> None:
    """0 and 1 are steps of the ramp like any other."""
    assert load(arm_ratio=text).arm_ratio == ratio


@pytest.mark.parametrize(
    "text", ["1.5", "-0.1", "abc", "NaN", "nan", "", "true", "inf", "-inf", "0,5", "50%", "[0.5]", "null"]
)
def test_a_ratio_that_is_none_is_refused(text: str) -> None:
    """One sentence with the key, the value and an example."""
    assert refused(arm_ratio=text) == (
        f"archshift:arm_ratio: {text!r} is invalid; use a number from 0.0 to 1.0"
    )


def test_a_missing_ratio_says_how_to_set_it() -> None:
    """A new stack's first mistake."""
    with pytest.raises(ArchshiftError) as error:
        stack_settings.load("dev", {})
    assert str(error.value) == "archshift:arm_ratio is missing; pulumi config set arm_ratio 0.2"


def test_an_unknown_key_is_refused_with_the_known_ones() -> None:
    """A typing slip does not silently do nothing; what is known is what Pulumi.yaml declares."""
    declared = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"]
    known = ", ".join(sorted(declared))
    assert refused(arm_ration="0.5") == f"archshift:arm_ration is not a setting; there are: {known}"


def test_an_unknown_platform_is_refused() -> None:
    """The two there are stand in the sentence."""
    assert refused(platform="gke") == "archshift:platform: 'gke' is invalid; use eks or lab"


def test_an_empty_context_is_the_current_one() -> None:
    """As the default in Pulumi.yaml has it."""
    assert load(kube_context="").kube_context is None
    assert load(node_groups="", workloads="").node_groups == {}


GROUP = {"instance_type": "m7g.large", "size": 1}
KEY = "archshift:node_groups.arm"
MAP = "is invalid; use a map, written as YAML below the key"
NODES = "is invalid; use a whole number of nodes, 0 or more"


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ([], f"{KEY}: [] {MAP}"),
        ({"size": 1}, f"{KEY}.instance_type is missing; add an instance type"),
        ({"instance_type": "m7g.large"}, f"{KEY}.size is missing; add a whole number of nodes, 0 or more"),
        ({**GROUP, "size": -1}, f"{KEY}.size: -1 {NODES}"),
        ({**GROUP, "instance_type": 7}, f"{KEY}.instance_type: 7 is invalid; use an instance type"),
        ({**GROUP, "zones": []}, f"{KEY}.zones: [] is invalid; use a list of one or more availability zones"),
        ({**GROUP, "zones": ["a", 2]}, f"{KEY}.zones[1]: 2 is invalid; use a name in quotes"),
        ({**GROUP, "labels": ["a"]}, f"{KEY}.labels: ['a'] {MAP}"),
        (
            {**GROUP, "labels": {"spot": True}},
            f'{KEY}.labels.spot: True is invalid; use text in quotes, as in "true"',
        ),
        (
            {**GROUP, "labels": {"kubernetes.io/arch": "arm64"}},
            f"{KEY}.labels.kubernetes.io/arch: the architecture follows from the instance types; "
            "remove the label",
        ),
        ({**GROUP, "taints": {}}, f"{KEY}.taints: {{}} is invalid; use a list"),
        ({**GROUP, "taints": ["x"]}, f"{KEY}.taints[0]: 'x' {MAP}"),
        ({**GROUP, "taints": [{"value": "x"}]}, f"{KEY}.taints[0].key is missing; add text in quotes"),
        ({**GROUP, "taints": [{"key": 5}]}, f"{KEY}.taints[0].key: 5 is invalid; use text in quotes"),
        ({**GROUP, "taints": [{"key": ""}]}, f"{KEY}.taints[0].key: '' is invalid; use text in quotes"),
        (
            {**GROUP, "taints": [{"key": "a", "value": True}]},
            f"{KEY}.taints[0].value: True is invalid; use text in quotes",
        ),
        (
            {**GROUP, "taints": [{"key": "a", "effect": "Never"}]},
            f"{KEY}.taints[0].effect: 'Never' is invalid; use NoSchedule, PreferNoSchedule or NoExecute",
        ),
        (
            {**GROUP, "taints": [{"key": "a", "efect": "NoSchedule"}]},
            f"{KEY}.taints[0].efect is not a setting; there are: effect, key, value",
        ),
        (
            {**GROUP, "count": 1},
            f"{KEY}.count is not a setting; there are: instance_type, labels, provisioner, size, taints, "
            "zones",
        ),
    ],
)
def test_a_node_group_that_does_not_do_is_refused(group: Any, message: str) -> None:
    """The sentence has the whole path of the key."""
    assert refused(node_groups={"arm": group}) == message


def test_an_unknown_instance_type_is_refused_with_the_nearest() -> None:
    """The same sentence as everywhere, with the group's key."""
    message = refused(node_groups={"arm": {**GROUP, "instance_type": "m7g.lrge"}})
    assert message.startswith(f"{KEY}.instance_type: 'm7g.lrge' is an unknown instance type; ")
    assert "m7g.large" in message


W = "archshift:workloads"
WORKLOAD = (
    "is invalid; use namespace/Kind/name with a kind such as Deployment, StatefulSet, DaemonSet, CronJob"
)


@pytest.mark.parametrize(
    ("workloads", "message"),
    [
        ("shop", f"{W}: 'shop' {MAP}"),
        ("null", f"{W}: None {MAP}"),
        (
            {"namespace": "shop"},
            f"{W}.namespace is not a setting; there are: autoscaled, exclude, label_selector, "
            "namespaces, overrides",
        ),
        ({"namespaces": "shop"}, f"{W}.namespaces: 'shop' is invalid; use a list of names"),
        (
            {"label_selector": {"a": "b"}},
            f"{W}.label_selector: {{'a': 'b'}} is invalid; use a label selector such as team=shop",
        ),
        ({"exclude": ["shop/cart"]}, f"{W}.exclude[0]: 'shop/cart' {WORKLOAD}"),
        (
            {"exclude": "shop/Job/cart"},
            f"{W}.exclude: 'shop/Job/cart' is invalid; use a list of namespace/Kind/name",
        ),
        ({"overrides": {"shop/deployment/cart": {}}}, f"{W}.overrides: 'shop/deployment/cart' {WORKLOAD}"),
        ({"overrides": {"/Deployment/cart": {}}}, f"{W}.overrides: '/Deployment/cart' {WORKLOAD}"),
        ({"overrides": ["x"]}, f"{W}.overrides: ['x'] {MAP}"),
        ({"autoscaled": ["shop/Deployment/cart"]}, f"{W}.autoscaled: ['shop/Deployment/cart'] {MAP}"),
        ({"autoscaled": {"cart": {}}}, f"{W}.autoscaled: 'cart' {WORKLOAD}"),
        (
            {"autoscaled": {"shop/Deployment/cart": {"min_replicas": -1}}},
            f"{W}.autoscaled.shop/Deployment/cart.min_replicas: -1 is invalid; "
            "use a whole number of replicas, 0 or more",
        ),
        (
            {"autoscaled": {"shop/Deployment/cart": {"min_replicas": 5, "max_replicas": 4}}},
            f"{W}.autoscaled.shop/Deployment/cart.max_replicas: 4 is less than min_replicas (5); raise it",
        ),
    ],
)
def test_a_discovery_that_does_not_do_is_refused(workloads: Any, message: str) -> None:
    """Which workloads are looked at must be what was meant."""
    assert refused(workloads=workloads) == message


CART = f"{W}.overrides.shop/Deployment/cart"
REASON = f"{CART}.force: true takes fields from their owner, so a reason is required; add reason: with text"


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (None, f"{CART}: None {MAP}"),
        ({"hold": 1}, f"{CART}.hold: 1 is invalid; use true or false"),
        ({"max_ratio": None}, f"{CART}.max_ratio: None is invalid; use a number from 0.0 to 1.0"),
        ({"wave": "first"}, f"{CART}.wave: 'first' is invalid; use early or late"),
        ({"force": "yes"}, f"{CART}.force: 'yes' is invalid; use true or false"),
        ({"reason": 5}, f"{CART}.reason: 5 is invalid; use text in quotes"),
        ({"force": True}, REASON),
        ({"force": True, "reason": "  "}, REASON),
        (
            {"forced": True},
            f"{CART}.forced is not a setting; there are: force, hold, max_ratio, reason, steer_owned, wave",
        ),
    ],
)
def test_an_override_that_does_not_do_is_refused(rule: Any, message: str) -> None:
    """``force`` above all is never taken for granted."""
    assert refused(workloads={"overrides": {"shop/Deployment/cart": rule}}) == message


def test_text_that_is_no_json_is_refused() -> None:
    """``pulumi config set node_groups m7g`` without --path."""
    assert refused(node_groups="m7g.large: 3") == (f"archshift:node_groups: 'm7g.large: 3' {MAP}")


def declared() -> dict[str, dict[str, Any]]:
    """The keys that Pulumi.yaml declares."""
    found: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"]
    return found


def test_the_project_declares_exactly_the_keys_that_are_read() -> None:
    """``pulumi config`` and the program agree on what there is."""
    known = refused(nonsense="").partition("there are: ")[2].split(", ")
    assert sorted(declared()) == known
    assert all(entry.get("description") and entry.get("type") for entry in declared().values())


def test_the_declared_defaults_are_the_programs() -> None:
    """A default that the engine fills in means the same as a key that is left out."""
    defaults = {
        key: entry["default"] if isinstance(entry["default"], str) else json.dumps(entry["default"])
        for key, entry in declared().items()
        if "default" in entry
    }
    assert set(declared()) - set(defaults) == {"arm_ratio"}
    filled = {f"archshift:{key}": value for key, value in defaults.items()}
    assert stack_settings.load("dev", {"archshift:arm_ratio": "0.2", **filled}) == stack_settings.load(
        "dev", {"archshift:arm_ratio": "0.2"}
    )


@pytest.mark.parametrize("path", sorted(ROOT.glob("Pulumi.*.yaml")), ids=lambda path: path.name)
def test_the_stack_files_of_the_checkout_load(path: Path) -> None:
    """What is checked in is a working example."""
    config = yaml.safe_load(path.read_text())["config"]
    values = {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in config.items()
        if not isinstance(value, dict) or "secure" not in value
    }
    assert stack_settings.load(path.name.split(".")[1], values).arm_ratio <= 1


@pytest.mark.parametrize("stack", ["staging", "prod"])
def test_the_ramp_that_a_stack_file_shows_is_one(stack: str) -> None:
    """Whoever takes the comment signs off has four steps, by day, outside the freeze."""
    lines = (ROOT / f"Pulumi.{stack}.yaml").read_text().splitlines()
    begin = lines.index("  # archshift:ramp:")
    shown = "\n".join(line.replace("  # ", "", 1) for line in lines[begin : begin + 5])
    ramp = load(ramp=yaml.safe_load(shown)["archshift:ramp"]).ramp
    assert ramp is not None
    assert (ramp.steps, len(ramp.windows), len(ramp.freezes)) == ((0.2, 0.5, 0.8, 1.0), 1, 1)


def test_the_gates_evidence_is_beside_the_project() -> None:
    """In a file of the stack's name, without the organisation before it, or where the stack says."""
    assert (load().gated, load().evidence_file) == (False, "gates/dev.json")
    found = stack_settings.load(
        "acme/archshift/prod", {"archshift:arm_ratio": "0", "archshift:gate": '{"window": "24h"}'}
    )
    assert (found.gated, found.evidence_file) == (True, "gates/prod.json")
    assert load(gate={"evidence": "proof.json"}).evidence_file == "proof.json"
    assert refused(gate={"evidence": 7}) == "archshift:gate.evidence: 7 is invalid; use text in quotes"


UNTIL = "2026-03-02T18:00:00Z"
GLASS = {"until": UNTIL, "reason": "region is lost", "ticket": "OPS-7"}
EXCEPTION = {"rule": "arm-ratio-step", "reason": "agreed", "until": "2026-03-02T19:00:00+01:00"}
TIME = 'a time from 2000 to 2199 with its zone in quotes, such as "2026-03-02T18:00:00Z"'
TEXT = "text in quotes that is not empty"


def test_exceptions_get_their_shape() -> None:
    """Who wants what until when; spaces around the words do not matter."""
    found = load(break_glass={**GLASS, "reason": "  region is lost "}, policy_exception=EXCEPTION)
    until = datetime(2026, 3, 2, 18, 0, tzinfo=UTC)
    assert found.break_glass == BreakGlass(until=until, reason="region is lost", ticket="OPS-7")
    assert found.policy_exception == PolicyException(rule="arm-ratio-step", reason="agreed", until=until)


@pytest.mark.parametrize("value", ["", {}, "null"])
def test_without_exceptions_there_are_none(value: Any) -> None:
    """As the defaults in Pulumi.yaml have it."""
    found = load(break_glass=value, policy_exception=value)
    assert (found.break_glass, found.policy_exception) == (None, None)


@pytest.mark.parametrize(
    ("key", "entry", "value", "way_out"),
    [
        *(
            ("break_glass.until", {**GLASS, "until": value}, value, TIME)
            for value in (
                *("tomorrow", "2026-03-02", "2026-03-02T18:00:00", "18:00Z", "2026-13-02T18:00:00Z"),
                *(1772474400, None, ""),
            )
        ),
        *(
            ("break_glass.reason", {**GLASS, "reason": value}, value, TEXT)
            for value in (True, None, "", "   ")
        ),
        ("break_glass.ticket", {**GLASS, "ticket": 0}, 0, TEXT),
        ("policy_exception.until", {**EXCEPTION, "until": "2026-03-02"}, "2026-03-02", TIME),
        ("policy_exception.reason", {**EXCEPTION, "reason": " "}, " ", TEXT),
        ("policy_exception.rule", {**EXCEPTION, "rule": ["x"]}, ["x"], TEXT),
    ],
)
def test_an_exception_with_an_invalid_value_is_refused(
    key: str, entry: dict[str, Any], value: Any, way_out: str
) -> None:
    """Nobody lifts the guard or a rule without saying why, and until when."""
    expected = f"archshift:{key}: {value!r} is invalid; use {way_out}"
    assert refused(**{key.partition(".")[0]: entry}) == expected


@pytest.mark.parametrize(("key", "entry"), [("break_glass", GLASS), ("policy_exception", EXCEPTION)])
def test_an_exception_needs_each_of_its_keys_and_has_no_others(key: str, entry: dict[str, str]) -> None:
    """There is no exception for good, and none that nobody answers for."""
    for name in entry:
        rest = {other: value for other, value in entry.items() if other != name}
        way_out = TIME if name == "until" else TEXT
        assert refused(**{key: rest}) == f"archshift:{key}.{name} is missing; add {way_out}"
    known = ", ".join(sorted(entry))
    assert refused(**{key: {**entry, "untill": UNTIL}}) == (
        f"archshift:{key}.untill is not a setting; there are: {known}"
    )


@pytest.mark.parametrize("key", ["break_glass", "policy_exception"])
def test_an_exception_that_is_no_map_is_refused(key: str) -> None:
    """``pulumi config set break_glass true`` opens nothing."""
    assert refused(**{key: "true"}) == f"archshift:{key}: True {MAP}"
    assert refused(**{key: [1]}) == f"archshift:{key}: [1] {MAP}"


@pytest.mark.parametrize(("old", "new"), [("compat_test", "arm64_tests"), ("override", "policy_exception")])
def test_an_old_key_names_the_new_one(old: str, new: str) -> None:
    """Also where it is empty: it would have no effect."""
    for value in ("", {}, {"all": True}):
        assert refused(**{old: value}) == (
            f"archshift:{old} is now archshift:{new}; rename the key in Pulumi.dev.yaml"
        )


def test_all_errors_are_reported_at_once() -> None:
    """Each in a line of its own: of unknown keys, of types, of values that contradict each other."""
    with pytest.raises(SettingsError) as error:
        stack_settings.load(
            "dev",
            {
                "archshift:arm_ration": "0.5",
                "archshift:override": "",
                "archshift:graviton_families": '["m7g", "m7i"]',
                "archshift:cluster": '{"name": "prod", "subnets": ["eu-west-1a"]}',
                "archshift:node_groups": json.dumps(
                    {
                        "x86": {"instance_types": ["t3.xlrage"], "desired_size": "5"},
                        "graviton": {"twin_of": "x86", "desired_size": 1},
                        "other": {"instance_types": ["m7g.large"], "min_size": 2, "max_size": 1},
                    }
                ),
                "archshift:ramp": '{"start": "2026-03-02", "freezes": [{"from": "soon", "to": 5}]}',
                "archshift:images": '{"check": false}',
            },
        )
    keys = [one.problem.partition(" ")[0].rstrip(":") for one in error.value.errors]
    assert keys == [
        "archshift:arm_ratio",
        "archshift:override",
        "archshift:arm_ration",
        "archshift:cluster.subnets[0]",
        "archshift:graviton_families[1]",
        "archshift:ramp.freezes[0].from",
        "archshift:ramp.freezes[0].to",
        "archshift:ramp.freezes[0].reason",
        "archshift:node_groups.x86.desired_size",
        "archshift:node_groups.other",
        "archshift:images.check",
    ]
    assert str(error.value).splitlines() == list(map(str, error.value.errors))


def test_x86_is_guarded_wherever_a_stack_makes_nodes_and_images_are_checked() -> None:
    """Without evidence nothing could ever go; without infrastructure there is nothing to take away. A lab
    without a group may have had one yesterday.
    """
    assert load(node_groups={"arm": GROUP}).guarded
    assert load().guarded
    assert not stack_settings.load("dev", {"archshift:arm_ratio": "0.2"}).guarded
    assert not load(node_groups={"arm": GROUP}, images={"check": False}).guarded
