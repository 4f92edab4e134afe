"""The stack's settings: every key, and every sentence about a value that does not do."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from archshift.cluster.model import Discovery
from archshift.common.errors import ArchshiftError
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
    assert (found.platform, found.kube_context, found.field_manager) == ("eks", None, "archshift/dev")


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
        f"archshift:arm_ratio: {text!r} is not a number from 0.0 to 1.0, such as 0.2"
    )


def test_a_missing_ratio_says_how_to_set_it() -> None:
    """A new stack's first mistake."""
    with pytest.raises(ArchshiftError) as error:
        stack_settings.load("dev", {})
    assert str(error.value) == "archshift:arm_ratio is not set; pulumi config set arm_ratio 0.2"


def test_an_unknown_key_is_refused_with_the_known_ones() -> None:
    """A typing slip does not silently do nothing; what is known is what Pulumi.yaml declares."""
    declared = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"]
    known = ", ".join(sorted(declared))
    assert refused(arm_ration="0.5") == f"archshift:arm_ration is not a setting; there are: {known}"


def test_an_unknown_platform_is_refused() -> None:
    """The two there are stand in the sentence."""
    assert refused(platform="gke") == "archshift:platform: 'gke' is none of eks, lab"


def test_an_empty_context_is_the_current_one() -> None:
    """As the default in Pulumi.yaml has it."""
    assert load(kube_context="").kube_context is None
    assert load(node_groups="", workloads="").node_groups == {}


GROUP = {"instance_type": "m7g.large", "size": 1}
KEY = "archshift:node_groups.arm"


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ([], f"{KEY}: [] is not a map; write it as YAML below the key"),
        ({"size": 1}, f"{KEY}.instance_type is missing; every node group has one"),
        ({"instance_type": "m7g.large"}, f"{KEY}.size is missing; every node group has one"),
        ({**GROUP, "size": -1}, f"{KEY}.size: -1 is not a whole number of nodes, 0 or more"),
        ({**GROUP, "size": 1.5}, f"{KEY}.size: 1.5 is not a whole number of nodes, 0 or more"),
        ({**GROUP, "size": True}, f"{KEY}.size: True is not a whole number of nodes, 0 or more"),
        ({**GROUP, "size": "3"}, f"{KEY}.size: '3' is not a whole number of nodes, 0 or more"),
        ({**GROUP, "instance_type": 7}, f"{KEY}.instance_type: 7 is not an instance type"),
        ({**GROUP, "zones": "a"}, f"{KEY}.zones: 'a' is not a list of names"),
        ({**GROUP, "zones": []}, f"{KEY}.zones: [] names no availability zone; give at least one"),
        ({**GROUP, "zones": ["a", 2]}, f"{KEY}.zones[1]: 2 is not a name"),
        ({**GROUP, "labels": ["a"]}, f"{KEY}.labels: ['a'] is not a map; write it as YAML below the key"),
        (
            {**GROUP, "labels": {"spot": True}},
            f'{KEY}.labels.spot: True is not text; put it in quotes, as in "true"',
        ),
        (
            {**GROUP, "labels": {"kubernetes.io/arch": "arm64"}},
            f"{KEY}.labels.kubernetes.io/arch follows from instance_type; remove it",
        ),
        ({**GROUP, "taints": {}}, f"{KEY}.taints: {{}} is not a list"),
        ({**GROUP, "taints": ["x"]}, f"{KEY}.taints[0]: 'x' is not a map; write it as YAML below the key"),
        ({**GROUP, "taints": [{"value": "x"}]}, f"{KEY}.taints[0].key is missing; every taint has one"),
        ({**GROUP, "taints": [{"key": 5}]}, f"{KEY}.taints[0].key: 5 is not text"),
        (
            {**GROUP, "taints": [{"key": "a", "value": True}]},
            f"{KEY}.taints[0].value: True is not text; put it in quotes",
        ),
        (
            {**GROUP, "taints": [{"key": "a", "effect": "Never"}]},
            f"{KEY}.taints[0].effect: 'Never' is none of NoSchedule, PreferNoSchedule, NoExecute",
        ),
        (
            {**GROUP, "taints": [{"key": "a", "efect": "NoSchedule"}]},
            f"{KEY}.taints[0].efect is not a setting; there are: effect, key, value",
        ),
        (
            {**GROUP, "count": 1},
            f"{KEY}.count is not a setting; there are: instance_type, labels, size, taints, zones",
        ),
    ],
)
def test_a_node_group_that_does_not_do_is_refused(group: Any, message: str) -> None:
    """The sentence has the whole path of the key."""
    assert refused(node_groups={"arm": group}) == message


def test_an_unknown_instance_type_is_refused_with_the_nearest() -> None:
    """The same sentence as everywhere, with the group's key."""
    message = refused(node_groups={"arm": {**GROUP, "instance_type": "m7g.lrge"}})
    assert message.startswith(f"{KEY}.instance_type: 'm7g.lrge' is not an instance type archshift knows; ")
    assert "m7g.large" in message


W = "archshift:workloads"
KINDS = "Deployment, StatefulSet, DaemonSet, CronJob"


@pytest.mark.parametrize(
    ("workloads", "message"),
    [
        ([], f"{W}: [] is not a map; write it as YAML below the key"),
        ("shop", f"{W}: 'shop' is not a map; write it as YAML below the key"),
        ("null", f"{W}: None is not a map; write it as YAML below the key"),
        (
            {"namespace": "shop"},
            f"{W}.namespace is not a setting; there are: exclude, label_selector, namespaces, overrides",
        ),
        ({"namespaces": "shop"}, f"{W}.namespaces: 'shop' is not a list of names"),
        ({"namespaces": [True]}, f"{W}.namespaces[0]: True is not a name"),
        (
            {"label_selector": {"a": "b"}},
            f"{W}.label_selector: {{'a': 'b'}} is not a label selector such as team=shop",
        ),
        (
            {"exclude": ["shop/cart"]},
            f"{W}.exclude: 'shop/cart' is not namespace/Kind/name with one of the kinds {KINDS}",
        ),
        (
            {"overrides": {"shop/deployment/cart": {}}},
            f"{W}.overrides: 'shop/deployment/cart' is not namespace/Kind/name with one of the kinds {KINDS}",
        ),
        (
            {"overrides": {"/Deployment/cart": {}}},
            f"{W}.overrides: '/Deployment/cart' is not namespace/Kind/name with one of the kinds {KINDS}",
        ),
        ({"overrides": ["x"]}, f"{W}.overrides: ['x'] is not a map; write it as YAML below the key"),
    ],
)
def test_a_discovery_that_does_not_do_is_refused(workloads: Any, message: str) -> None:
    """Which workloads are looked at must be what was meant."""
    assert refused(workloads=workloads) == message


CART = f"{W}.overrides.shop/Deployment/cart"


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (None, f"{CART}: None is not a map; write it as YAML below the key"),
        ({"hold": "yes"}, f"{CART}.hold: 'yes' is not true or false"),
        ({"hold": 1}, f"{CART}.hold: 1 is not true or false"),
        ({"max_ratio": 2}, f"{CART}.max_ratio: 2 is not a number from 0.0 to 1.0, such as 0.2"),
        ({"max_ratio": True}, f"{CART}.max_ratio: True is not a number from 0.0 to 1.0, such as 0.2"),
        ({"max_ratio": None}, f"{CART}.max_ratio: None is not a number from 0.0 to 1.0, such as 0.2"),
        ({"wave": "first"}, f"{CART}.wave: 'first' is none of early, late"),
        ({"wave": ["early"]}, f"{CART}.wave: ['early'] is none of early, late"),
        ({"reason": 5}, f"{CART}.reason: 5 is not text"),
        (
            {"force": True},
            f"{CART}.force: true takes fields from their owner and needs a reason: beside it that says why",
        ),
        (
            {"force": True, "reason": "  "},
            f"{CART}.force: true takes fields from their owner and needs a reason: beside it that says why",
        ),
        (
            {"forced": True},
            f"{CART}.forced is not a setting; there are: force, hold, max_ratio, reason, wave",
        ),
    ],
)
def test_an_override_that_does_not_do_is_refused(rule: Any, message: str) -> None:
    """``force`` above all is never taken for granted."""
    assert refused(workloads={"overrides": {"shop/Deployment/cart": rule}}) == message


def test_text_that_is_no_json_is_refused() -> None:
    """``pulumi config set node_groups m7g`` without --path."""
    assert refused(node_groups="m7g.large: 3") == (
        "archshift:node_groups: 'm7g.large: 3' is not a map; write it as YAML below the key"
    )


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
    assert refused(gate={"evidence": 7}) == ("archshift:gate.evidence: 7 is not the path of a file")


UNTIL = "2026-03-02T18:00:00Z"
GLASS = {"until": UNTIL, "reason": "region is lost", "ticket": "OPS-7"}
EXCEPTION = {"rule": "arm-ratio-step", "reason": "agreed", "until": "2026-03-02T19:00:00+01:00"}
TIME = 'is not a time with its zone, such as "2026-03-02T18:00:00Z"'
TEXT = "is not text; put it in quotes"


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


def times(key: str) -> list[tuple[Any, str]]:
    """What a time may not be."""
    return [
        (text, f"{key}: {text!r} {TIME}")
        for text in ("tomorrow", "2026-03-02", "2026-03-02T18:00:00", "18:00Z", "2026-13-02T18:00:00Z")
    ] + [(1772474400, f"{key}: 1772474400 {TEXT}")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *(
            ({name: value}, f"archshift:break_glass.{name} is missing; it needs until, reason, ticket")
            for name in ("until", "reason", "ticket")
            for value in (None, "", "   ")
        ),
        *(({"until": value}, message) for value, message in times("archshift:break_glass.until")),
        ({"ticket": 4711}, f"archshift:break_glass.ticket: 4711 {TEXT}"),
        ({"ticket": 0}, f"archshift:break_glass.ticket: 0 {TEXT}"),
        ({"reason": True}, f"archshift:break_glass.reason: True {TEXT}"),
        (
            {"untill": UNTIL},
            "archshift:break_glass.untill is not a setting; there are: reason, ticket, until",
        ),
    ],
)
def test_break_glass_that_does_not_do_is_refused(change: dict[str, Any], message: str) -> None:
    """Nobody takes x86 away without saying why, where that is written, and until when."""
    assert refused(break_glass={**GLASS, **change}) == message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *(
            ({name: value}, f"archshift:policy_exception.{name} is missing; it needs rule, reason, until")
            for name in ("rule", "reason", "until")
            for value in (None, "", "   ")
        ),
        *(({"until": value}, message) for value, message in times("archshift:policy_exception.until")),
        ({"rule": ["x"]}, f"archshift:policy_exception.rule: ['x'] {TEXT}"),
        (
            {"ticket": "OPS-7"},
            "archshift:policy_exception.ticket is not a setting; there are: reason, rule, until",
        ),
    ],
)
def test_an_exception_from_a_rule_that_does_not_do_is_refused(change: dict[str, Any], message: str) -> None:
    """It names the rule, why and until when; there is no exception for good."""
    assert refused(policy_exception={**EXCEPTION, **change}) == message


@pytest.mark.parametrize(("old", "new"), [("compat_test", "arm64_tests"), ("override", "policy_exception")])
def test_an_old_key_names_the_new_one(old: str, new: str) -> None:
    """Also where it is empty: it would have no effect."""
    for value in ({}, {"all": True}):
        assert refused(**{old: value}) == (
            f"archshift:{old} is now archshift:{new}; rename the key in Pulumi.dev.yaml"
        )


@pytest.mark.parametrize("key", ["break_glass", "policy_exception"])
def test_an_exception_that_is_no_map_is_refused(key: str) -> None:
    """``pulumi config set break_glass true`` opens nothing."""
    assert refused(**{key: "true"}) == (f"archshift:{key}: True is not a map; write it as YAML below the key")
    assert refused(**{key: [1]}) == f"archshift:{key}: [1] is not a map; write it as YAML below the key"


def test_x86_is_guarded_wherever_a_stack_makes_nodes_and_images_are_checked() -> None:
    """Without evidence nothing could ever go; without infrastructure there is nothing to take away. A lab
    without a group may have had one yesterday.
    """
    assert load(node_groups={"arm": GROUP}).guarded
    assert load().guarded
    assert not stack_settings.load("dev", {"archshift:arm_ratio": "0.2"}).guarded
    assert not load(node_groups={"arm": GROUP}, images={"check": False}).guarded
