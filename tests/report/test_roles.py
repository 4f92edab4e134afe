"""The roles of a stack: what the one table of permissions becomes."""

import re
from dataclasses import replace
from typing import Any

import pytest
import yaml

from archshift.cli.main import main
from archshift.report.rights import needs
from archshift.report.roles import deploying_role, looking_role, pull_secret_roles, rebalancing_role
from archshift.settings.stack import Settings
from tests.build import load
from tools.roles import FOLDER, files

CHANGES = {"create", "update", "delete", "deletecollection", "patch"}


def everything() -> Settings:
    """A stack that uses all that needs permissions."""
    return load(
        arm_ratio="0.5",
        placement="admission",
        provisioner="karpenter",
        arm64_tests={"all": True},
        monitoring={"namespace": "monitoring"},
    )


def rules(manifests: list[dict[str, Any]], kind: str = "ClusterRole") -> list[dict[str, Any]]:
    return [rule for each in manifests if each["kind"] == kind for rule in each["rules"]]


def test_the_looking_role_can_change_nothing_but_by_a_patch_which_the_policy_makes_a_dry_run() -> None:
    manifests = looking_role(everything())
    for rule in [*rules(manifests), *rules(manifests, "Role")]:
        if CHANGES & set(rule["verbs"]):
            assert rule["verbs"] in (["patch"], ["get", "list", "patch"])
            assert set(rule["apiGroups"]) <= {"apps", "batch"}
            assert set(rule["resources"]) <= {"deployments", "statefulsets", "daemonsets", "cronjobs"}
        assert "secrets" not in rule["resources"]
        assert "*" not in str(rule)
    policy = next(each for each in manifests if each["kind"] == "ValidatingAdmissionPolicy")
    assert policy["spec"]["failurePolicy"] == "Fail"
    binding = next(each for each in manifests if each["kind"] == "ValidatingAdmissionPolicyBinding")
    assert binding["spec"] == {"policyName": policy["metadata"]["name"], "validationActions": ["Deny"]}


def test_another_group_has_a_policy_of_its_own_and_it_comes_before_the_role() -> None:
    """The first group may still have roles in namespaces, so its policy must stay."""
    names = set()
    for group in ("archshift-looking", "team-a", "team-b"):
        policy, binding, *roles = looking_role(everything(), group)
        assert [policy["kind"], binding["kind"]] == [
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionPolicyBinding",
        ]
        assert f"'{group}' in request.userInfo.groups" in str(policy)
        assert policy["metadata"] == binding["metadata"] == {"name": binding["spec"]["policyName"]}
        names.add(policy["metadata"]["name"])
        assert {role["kind"] for role in roles} == {
            "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding",
        }  # fmt: skip
    assert len(names) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--looking-group", "system:authenticated"], "is a group of Kubernetes itself; name a group"),
        (["--deploying-group", "system:masters"], "is a group of Kubernetes itself; name a group"),
        (["--looking-group", "system:serviceaccounts"], "is a group of Kubernetes itself; name a group"),
        (["--looking-group", "system:serviceaccounts:kube-system"], "is a group of Kubernetes itself; name"),
        (["--looking-group", "same", "--deploying-group", "same"], "so neither could change anything"),
    ],
)
def test_a_group_of_everybody_gets_no_role(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The looking role's policy would stop all changes in the cluster."""
    assert main(["rbac", "--stack", "prod", *arguments]) == 1
    assert words in capsys.readouterr().err


def test_the_accounts_of_one_namespace_are_a_group(capsys: pytest.CaptureFixture[str]) -> None:
    """The command goes on, and finds no stack."""
    main(["rbac", "--stack", "prod", "--looking-group", "system:serviceaccounts:ci", "--cwd", "/nowhere"])
    assert "group" not in capsys.readouterr().err


def test_the_deploying_role_has_all_that_the_table_lists_but_no_secrets_of_all_namespaces() -> None:
    settings = everything()
    manifests = deploying_role(settings)
    granted = {
        (verb, f"{resource}.{group}".rstrip("."), name, each["metadata"].get("namespace", ""))
        for each in manifests
        if each["kind"] in ("Role", "ClusterRole")
        for rule in each["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", [""])
    }
    for need in needs(settings):
        for right in (*need.rights, *need.looking):
            namespace = "" if right.resource == "namespaces" else right.namespace
            if right.resource != "secrets":
                assert (right.verb, right.resource, right.name, namespace) in granted, right
    assert not any(resource == "secrets" for _, resource, _, _ in granted)


@pytest.mark.parametrize("kind", ["mutatingadmissionpolicies", "prometheusrules", "nodepools"])
def test_the_engine_may_watch_what_it_deletes(kind: str) -> None:
    """Without that right, a delete that takes a moment waits for the ten minutes of the engine's plugin."""
    verbs = {
        right.verb
        for need in needs(everything())
        for right in need.rights
        if right.resource.partition(".")[0] == kind
    }
    assert {"delete", "list", "watch"} <= verbs


def test_pull_secrets_are_readable_by_name_in_their_own_namespace() -> None:
    role, binding, other, _ = pull_secret_roles(
        "prod", [("shop", "b"), ("shop", "a"), ("bank", "a")], ["x", "y"]
    )
    assert (role["metadata"], role["rules"]) == (
        {"name": "archshift-pull-secrets-prod", "namespace": "bank"},
        [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a"], "verbs": ["get"]}],
    )
    assert [subject["name"] for subject in binding["subjects"]] == ["x", "y"]
    assert other["rules"][0]["resourceNames"] == ["a", "b"]


NAMES = ("prod", "Prod", "prod.", "pro_d", "pro-d", "pro.d", "x" * 90)


def test_two_stacks_in_one_cluster_share_no_object() -> None:
    """`kubectl apply` of one stack's roles would take rights from the other, or its policy."""
    seen: dict[tuple[str, str, str], str] = {}
    for stack in NAMES:
        settings = replace(everything(), stack=stack)
        secrets = [*pull_secret_roles(settings.stack_label, [("shop", "a")], ["x"])]
        for group in ("archshift-looking", "team-a"):
            for each in (
                *looking_role(settings, group),
                *deploying_role(settings),
                *rebalancing_role(settings),
                *secrets,
            ):
                name = each["metadata"]["name"]
                key = each["kind"], each["metadata"].get("namespace", ""), name
                assert seen.setdefault(key, settings.stack_label) == settings.stack_label, key
                assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,250}[a-z0-9])?", name), name
                if "roleRef" in each:
                    assert each["roleRef"]["name"] == name


def test_the_examples_are_what_the_table_says() -> None:
    """Run ``python -m tools.roles`` after a change of permissions."""
    for name, text in files().items():
        assert (FOLDER / name).read_text() == text, name
    assert {file.name for file in FOLDER.iterdir()} == {*files()}


@pytest.mark.parametrize("role", [looking_role, deploying_role, rebalancing_role])
def test_a_stack_of_some_namespaces_gets_no_right_to_patch_elsewhere(role: Any) -> None:
    settings = load(arm_ratio="0.5", workloads={"namespaces": ["shop"]})
    manifests = yaml.safe_load(yaml.safe_dump(role(settings)))
    assert not any("patch" in rule["verbs"] and "apps" in rule["apiGroups"] for rule in rules(manifests))
    patching = [rule for rule in rules(manifests, "Role") if "patch" in rule["verbs"]]
    assert patching
    spaces = {each["metadata"].get("namespace") for each in manifests if each["kind"] == "Role"}
    assert spaces == ({"shop"} if role is looking_role else {"shop", "default"}), "and the Lease"


@pytest.mark.parametrize("placement", ["admission", "patches"])
def test_the_rebalancing_role_changes_no_workload_and_makes_pods_in_one_namespace_only(
    placement: str,
) -> None:
    """With patches, it may note on a workload which pods came back."""
    pools = {"x86": {"instance_types": ["m6i.large"], "limits": {"cpu": 8}}}
    made = rebalancing_role(
        load(arm_ratio="0.5", placement=placement, provisioner="karpenter", node_groups=pools)
    )
    changes = {
        f"{verb} {resource} {each['metadata'].get('namespace', '')}".rstrip()
        for each in made
        for rule in each.get("rules", ())
        for resource in rule["resources"]
        for verb in rule["verbs"]
        if verb in CHANGES
    }
    more = {
        "admission": {
            "patch mutatingadmissionpolicies",
            *(f"{verb} configmaps" for verb in ("create", "patch", "delete")),
        },
        "patches": {"patch deployments", "patch statefulsets"},
    }
    assert changes == more[placement] | {
        "create pods/eviction",
        "patch pods",
        *(f"{verb} leases default" for verb in ("create", "patch")),
        *(f"{verb} pods default" for verb in ("create", "delete", "deletecollection")),
    }
    assert "secrets" not in str(made)
