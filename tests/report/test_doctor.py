"""What the doctor makes of what engine, API server and EKS say."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from importlib.metadata import requires, version
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archshift.cluster.client import Cluster
from archshift.common.aws import AssumedRole, AwsIdentity
from archshift.common.errors import ArchshiftError
from archshift.nodes.eks import EksCluster, NewCluster
from archshift.ramp.measurement import Sample
from archshift.ramp.prometheus import Prometheus
from archshift.report import doctor
from archshift.report.checks import CheckResult, from_error, run_check
from archshift.report.rights import check_rights, needs
from archshift.settings.stack import Settings, load
from tests.build import cluster_of, configuration, eks_group, live_group, workload
from tests.documents import DOCS
from tests.images.servers import Server

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
NEVER: Callable[[str], bool] = lambda _: False  # noqa: E731


def stack(**values: Any) -> Settings:
    """Settings of a stack at 0.2."""
    config = {"arm_ratio": "0.2", **values}
    return load(
        "prod",
        configuration(**config),
        {},
    )


# --- the autoscaler ---


@pytest.mark.parametrize(
    ("flags", "outcome"),
    [
        (["--balance-similar-node-groups"], "warning"),
        (["--balance-similar-node-groups=true", "--balancing-ignore-label=team"], "warning"),
        (["--balance-similar-node-groups", "--balancing-ignore-label=archshift/node-group"], "ok"),
        (["--balance-similar-node-groups=false"], "ok"),
        (["--expander=least-waste"], "ok"),
    ],
)
def test_an_autoscaler_that_balances_zones_must_not_compare_archshifts_label(
    flags: list[str], outcome: str
) -> None:
    """Each group has another value of it, so none would be similar to another any more."""
    image = "registry.k8s.io/autoscaling/cluster-autoscaler:v1.34.0"
    container = {"name": "a", "image": image, "command": ["./cluster-autoscaler", *flags]}
    scaler = workload(name="scaler", namespace="kube-system", pod_spec={"containers": [container]})
    cluster: Any = cluster_of(deployments=[workload(), scaler])
    (found,) = doctor.check_autoscaler(cluster)
    assert found.outcome == outcome
    if outcome == "warning":
        assert found.message == (
            "kube-system/scaler balances similar node groups, but archshift's label makes each group "
            "different"
        )
        assert found.fix == "give it the flag --balancing-ignore-label=archshift/node-group"
    other: Any = cluster_of(deployments=[workload()])
    assert list(doctor.check_autoscaler(other)) == []


# --- the engine and its plugins ---


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ("v3.245.0\n", "ok"),
        ("3.245.7", "ok"),
        ("v3.300.0-alpha.1+dirty", "ok"),
        ("v3.244.9", "problem"),
        ("v4.1.0", "problem"),
        ("v2.300.0", "problem"),
        ("warning: a new version\n", "unknown"),
        ("", "unknown"),
    ],
)
def test_the_engine_is_of_the_pinned_minor_or_newer(said: str, outcome: str) -> None:
    """The SDK asks for what its own engine has; another major version is another program."""
    found = doctor.check_engine(said, "3.245.0")
    assert found.outcome == outcome
    assert bool(found.fix) == (outcome != "ok")


def test_an_old_engine_is_told_which_one_to_install() -> None:
    """Both versions, and the one to have."""
    assert doctor.check_engine("v3.1.0", "3.245.0") == CheckResult(
        "engine",
        "problem",
        "pulumi is 3.1.0, but the program needs 3.245.0",
        "install pulumi 3.245 or a later 3.x",
    )


def plugin(version: str, name: str = "kubernetes", kind: str = "resource") -> dict[str, str]:
    """One line of `pulumi plugin ls --json`."""
    return {"name": name, "kind": kind, "version": version}


@pytest.mark.parametrize(
    ("listed", "outcome", "found"),
    [
        ([plugin("4.25.0")], "ok", "4.25.0"),
        ([plugin("4.24.0"), plugin("4.25.0"), plugin("4.26.1")], "ok", "4.25.0"),
        ([plugin("4.24.0"), plugin("4.26.1")], "warning", "4.25.0 is not installed, only 4.24.0, 4.26.1"),
        ([plugin("4.24.0"), plugin("5.0.0")], "warning", "4.25.0 is not installed, only 4.24.0, 5.0.0"),
        ([plugin("4.25.0", kind="language")], "warning", "4.25.0 is not installed"),
        ([plugin("4.25.0", "aws"), "nonsense", {}], "warning", "4.25.0 is not installed"),
        ([plugin("what")], "warning", "4.25.0 is not installed"),
        ({}, "unknown", "pulumi plugin ls --json prints no list"),
        (None, "unknown", "pulumi plugin ls --json prints no list"),
    ],
)
def test_a_plugin_serves_as_the_engine_chooses_it(listed: Any, outcome: str, found: str) -> None:
    """Exactly the version that the SDK asks for; what is missing is fetched later, so a warning."""
    (one,) = doctor.check_plugins(listed, [doctor.Plugin("kubernetes", "4.25.0")], NEVER)
    assert (one.outcome, one.message) == (outcome, found)


def test_a_plugin_on_path_wins() -> None:
    """Then the engine does not look at its folder at all."""
    on_path = {"pulumi-resource-aws"}.__contains__
    wanted = [doctor.Plugin("aws", "7.51.0"), doctor.Plugin("kubernetes", "4.25.0")]
    aws, kubernetes = doctor.check_plugins([], wanted, on_path)
    assert (aws.outcome, kubernetes.outcome) == ("ok", "warning")
    assert kubernetes.fix.endswith("pulumi plugin install resource kubernetes v4.25.0")


def test_the_component_for_clusters_starts_plugins_of_its_own() -> None:
    """A machine without internet needs these versions too, beside those of the program."""
    inside = list(doctor.plugins_inside("pulumi-eks", requires("pulumi-eks") or ()))
    assert {plugin.name for plugin in inside} == {"aws", "kubernetes"}
    assert inside[0].version != version("pulumi-aws")
    (found,) = doctor.check_plugins([], inside[:1], NEVER)
    assert (found.check, found.outcome) == ("plugin aws for pulumi-eks", "warning")


@pytest.mark.parametrize(
    ("printed", "outcome", "message"),
    [
        ("aws-cli/2.31.4 Python/3.13.7 Linux/6.1 exe/x86_64\n", "ok", "aws 2.31.4"),
        ("aws-cli/2.7.0 Python/3.9", "ok", "aws 2.7.0"),
        ("aws-cli/2.6.4 Python/3.9", "problem", "aws is 2.6.4, which is too old"),
        ("aws-cli/1.42.0 Python/3.11", "ok", "aws 1.42.0"),
        ("aws-cli/1.23.9 Python/3.8", "problem", "aws is 1.23.9, which is too old"),
        ("", "unknown", "aws --version prints ''"),
        (None, "problem", "aws is not on PATH, and the kubeconfig calls it"),
    ],
)
def test_the_aws_cli_is_what_pulumi_eks_accepts(printed: str | None, outcome: str, message: str) -> None:
    found = doctor.check_aws_cli(printed)
    assert (found.outcome, found.message) == (outcome, message)


def test_the_credentials_are_named_and_those_of_the_provider_alone_are_a_warning() -> None:
    """Else images are unknown, and nobody knows why."""
    role = AssumedRole("arn:aws:iam::1:role/deploy", more={"ExternalId": "secret-id"})
    fine = doctor.check_aws_identity(AwsIdentity("prod", (role,)))
    assert (fine.outcome, fine.message) == (
        "ok",
        "those of the profile prod, then arn:aws:iam::1:role/deploy",
    )
    keys = {"aws:accessKey": "A", "aws:secretKey": "S", "aws:region": "eu-west-1"}
    found = doctor.check_aws_identity(load("prod", {"archshift:arm_ratio": "0.2", **keys}, {}).aws)
    assert found.outcome == "warning"
    assert found.message == (
        "only Pulumi's AWS provider reads aws:accessKey, aws:secretKey; registries, prices and the "
        "kubeconfig use others"
    )


# --- findings ---


def test_an_errors_way_out_becomes_the_fix() -> None:
    """Errors are one sentence whose way out comes last; one without gets the check's own."""
    assert from_error("x", ArchshiftError("a: b; c", "do d")) == CheckResult(
        "x", "problem", "a: b; c", "do d"
    )
    assert from_error("x", ArchshiftError("a is bad"), "unknown", "see y") == CheckResult(
        "x", "unknown", "a is bad", "see y"
    )


def test_what_was_found_before_an_error_counts() -> None:
    """An examination that breaks off is a result beside those it made."""

    def examine() -> Iterator[CheckResult]:
        yield CheckResult("x", "ok", "fine")
        raise ArchshiftError("gone", "come back")

    assert run_check("x", examine) == [
        CheckResult("x", "ok", "fine"),
        CheckResult("x", "problem", "gone", "come back"),
    ]


# --- the cluster ---


def api_server(reviews: Callable[[Mapping[str, str]], Any]) -> Cluster:
    """A cluster whose API server answers access reviews as told."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        spec = json.loads(request.content)["spec"]["resourceAttributes"]
        status = reviews(spec)
        return (
            httpx2.Response(500, json={"message": status})
            if isinstance(status, str)
            else httpx2.Response(201, json={"status": status})
        )

    client = httpx2.Client(transport=httpx2.MockTransport(answer), base_url="https://cluster.example")
    return Cluster(client, "https://cluster.example")


def outcomes(cluster: Cluster, settings: Settings) -> dict[str, str]:
    """Purpose to outcome."""
    return {one.check.removeprefix("rights: "): one.outcome for one in check_rights(cluster, settings)}


def test_what_is_allowed_everywhere_is_not_asked_for_each_namespace() -> None:
    """A stack of a hundred namespaces costs no more than one of all, where a ClusterRole allows it."""
    asked: list[Mapping[str, str]] = []

    def allow(attributes: Mapping[str, str]) -> dict[str, bool]:
        asked.append(attributes)
        return {"allowed": True}

    wide = stack(workloads={"namespaces": [f"team-{number}" for number in range(100)]})
    assert set(outcomes(api_server(allow), wide).values()) == {"ok"}
    assert len(asked) < 60
    assert not any("namespace" in one for one in asked)


def test_a_missing_right_says_verb_resource_and_namespaces() -> None:
    """Verbs of a resource together, and where; the rest of the purposes stay ok."""

    def allow(attributes: Mapping[str, str]) -> dict[str, bool]:
        in_shop = attributes.get("namespace") == "shop"
        asked = (attributes["verb"], attributes["resource"])
        return {"allowed": not (asked in {("create", "jobs"), ("delete", "jobs")} and not in_shop)}

    tested = stack(workloads={"namespaces": ["shop", "web", "api"]}, arm64_tests={"all": True})
    found = list(check_rights(api_server(allow), tested))
    bad = [one for one in found if one.outcome != "ok"]
    assert [one.check for one in bad] == ["rights: tests on arm64"]
    assert bad[0].message.startswith("not allowed: create, delete jobs.batch in web, api; ")


@pytest.mark.parametrize("namespaces", [None, ["shop", "web"]])
@pytest.mark.parametrize("lacks", ["", "get", "create"])
def test_a_right_that_a_role_limits_to_one_name_is_enough(namespaces: list[str] | None, lacks: str) -> None:
    """docs/permissions.md limits the evidence of failed canaries so; a create cannot be limited."""
    name = "archshift-canaries-prod"

    def allow(attributes: Mapping[str, str]) -> dict[str, bool]:
        if attributes["resource"] != "configmaps":
            return {"allowed": True}
        verb = attributes["verb"]
        return {"allowed": verb != lacks and (verb == "create" or attributes.get("name") == name)}

    settings = stack(**({"workloads": {"namespaces": namespaces}} if namespaces else {}))
    (found,) = (
        one for one in check_rights(api_server(allow), settings) if one.check == "rights: failed canaries"
    )
    if not lacks:
        assert (found.outcome, found.message) == ("ok", "all allowed")
        return
    what = "create configmaps" if lacks == "create" else f"get configmaps {name}"
    where = " in shop, web" if namespaces else ""
    assert found.message.startswith(f"not allowed: {what}{where}; ")


@pytest.mark.parametrize(
    "status",
    [{"allowed": False, "evaluationError": "webhook is down"}, {}, None, {"allowed": "yes"}, "no etcd"],
)
def test_what_the_api_server_does_not_say_is_unknown(status: Any) -> None:
    """A no with an error may be a yes; an answer that is none is not a no either. Never ok."""
    assert set(outcomes(api_server(lambda _: status), stack()).values()) == {"unknown"}


def test_a_plain_no_counts_more_than_what_is_unknown() -> None:
    """One verb is refused, another cannot be told: it is known that it will not work."""

    def allow(attributes: Mapping[str, str]) -> Any:
        if attributes["resource"] == "nodes":
            return {"allowed": False}
        return "no etcd"

    assert outcomes(api_server(allow), stack())["plan and status"] == "problem"


def every_stack() -> list[Settings]:
    """Stacks that between them need everything."""
    more: dict[str, Any] = {
        "monitoring": {"namespace": "monitoring"},
        "arm64_tests": {"all": True},
    }
    group = {"size": 1, "instance_type": "m7g.large"}
    pool = {"instance_families": ["m7g"], "limits": {"cpu": 4}}
    return [
        stack(**more),
        stack(platform="lab", node_groups={"graviton": group}),
        stack(
            provisioner="karpenter",
            node_groups={"graviton": pool},
        ),
    ]


def test_every_right_is_in_the_document() -> None:
    """The doctor asks for nothing that docs/permissions.md does not list, verb by verb."""
    text = (DOCS / "permissions.md").read_text()
    # A table's row, or a sentence over some lines.
    rows = [line for line in text.splitlines() if line.startswith("|")]
    rows += [" ".join(paragraph.split()) for paragraph in text.split("\n\n") if not paragraph.startswith("|")]
    unlisted = set()
    for settings in every_stack():
        for need in needs(settings):
            for right in need.rights:
                resource = right.resource.partition(".")[0]
                if not any(
                    re.search(rf"\b{re.escape(resource)}\b", row) and re.search(rf"\b{right.verb}\b", row)
                    for row in rows
                ):
                    unlisted.add((right.verb, right.resource))
    assert unlisted == set()


# --- EKS ---


@pytest.mark.parametrize(
    ("options", "result"),
    [
        (
            {"live": live_group("general", size=5)},
            CheckResult("node group x86", "ok", "'general' has 5 nodes of 2 to 8, with m5.large"),
        ),
        (
            {"live": live_group("general", status="DEGRADED")},
            CheckResult(
                "node group x86", "warning", "'general' is DEGRADED", "look at the health of the group at EKS"
            ),
        ),
        (
            {"live": live_group("general", scaling_groups=()), "autoscaled": True},
            CheckResult(
                "node group x86",
                "warning",
                "EKS names no Auto Scaling group of 'general'",
                "look at the health of the group at EKS",
            ),
        ),
        (
            {},
            CheckResult("node group x86", "ok", "it does not exist yet; pulumi up makes it, with m5.large"),
        ),
    ],
)
def test_a_node_group_is_as_eks_describes_it(options: dict[str, Any], result: CheckResult) -> None:
    assert [*doctor.check_node_groups([eks_group("x86", "m5.large", **options)])] == [result]


ARN = "arn:aws:eks:eu-west-1:123456789012:cluster/prod"
CA = "Q0E="


@pytest.fixture
def eks(servers: Callable[[str], Server], monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server in place of EKS, and an identity."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    server = servers("")
    monkeypatch.setenv("AWS_ENDPOINT_URL_EKS", server.base)
    described = {"arn": ARN, "endpoint": "https://prod.eks.example", "certificateAuthority": {"data": CA}}
    server.answer("GET /clusters/prod$", 200, json.dumps({"cluster": described}).encode())
    return server


def reached(server: str, authority: str = "") -> Cluster:
    """A kubeconfig's connection."""
    nowhere = httpx2.MockTransport(lambda _: httpx2.Response(500))
    return Cluster(httpx2.Client(transport=nowhere), server, authority)


def test_the_context_reaches_the_cluster_of_that_name(eks: Server) -> None:
    """By its endpoint, or behind a tunnel by its authority."""
    prod = EksCluster(name="prod", region="eu-west-1")
    for cluster in (reached("https://prod.eks.example"), reached("https://localhost:8443", CA)):
        assert doctor.check_identity(cluster, prod) == CheckResult(
            "EKS cluster", "ok", f"the kubeconfig reaches {ARN}"
        )
    other = doctor.check_identity(reached("https://other.eks.example", "T1RIRVI="), prod)
    assert other.outcome == "problem"
    assert other.message.startswith("archshift:kube_context reaches https://other.eks.example, and ")
    assert other.fix.startswith("run `aws eks update-kubeconfig --region eu-west-1 --name prod`")
    (seen, *_) = eks.requests
    assert "/eu-west-1/eks/aws4_request" in seen.headers["Authorization"]


def test_a_cluster_that_is_not_there(eks: Server) -> None:
    """A wrong name is a problem; one that the stack makes comes with the first update."""
    missing = json.dumps({"message": "No cluster found for name: test."}).encode()
    eks.answer("GET /clusters/test$", 404, missing, x_amzn_ErrorType="ResourceNotFoundException")
    wrong = doctor.check_identity(reached("https://x"), EksCluster(name="test", region="eu-west-1"))
    assert (wrong.outcome, wrong.message) == ("problem", "there is no EKS cluster 'test' in eu-west-1")
    new = EksCluster(name="test", region="eu-west-1", create=NewCluster(version="1.34", vpc="vpc-1"))
    assert doctor.check_identity(reached("https://x"), new).outcome == "warning"


def test_what_aws_does_not_say_is_unknown(eks: Server) -> None:
    """Refused, or half an answer: nobody knows which cluster it is."""
    prod = EksCluster(name="prod", region="eu-west-1")
    denied = json.dumps({"message": "not authorized to perform: eks:DescribeCluster"}).encode()
    eks.answer("GET /clusters/prod$", 403, denied, x_amzn_ErrorType="AccessDeniedException")
    found = doctor.check_identity(reached("https://prod.eks.example"), prod)
    assert found.outcome == "unknown"
    assert "eks:DescribeCluster" in found.message
    assert found.fix.startswith(
        "check the AWS credentials, aws:region and the permission eks:DescribeCluster"
    )
    eks.answer("GET /clusters/prod$", 200, json.dumps({"cluster": {"arn": ARN}}).encode())
    assert doctor.check_identity(reached("https://prod.eks.example"), prod).outcome == "unknown"


@pytest.mark.parametrize(
    ("status", "fix"),
    [
        ("CREATING", "run `aws eks wait cluster-active --name prod`, and try again"),
        ("DELETING", "run `aws eks wait cluster-deleted --name prod`, and try again"),
        ("FAILED", "see why in the EKS console, delete the cluster, and create it again"),
    ],
)
def test_a_cluster_that_nobody_can_use_yet(eks: Server, status: str, fix: str) -> None:
    """EKS describes it then without an endpoint; that is no fault of the credentials."""
    answer = json.dumps({"cluster": {"arn": ARN, "status": status}}).encode()
    eks.answer("GET /clusters/prod$", 200, answer)
    prod = EksCluster(name="prod", region="eu-west-1")
    assert doctor.check_identity(reached("https://x"), prod) == CheckResult(
        "EKS cluster", "warning", f"the EKS cluster 'prod' is {status}", fix
    )


# --- registries ---


@given(
    st.lists(st.sampled_from([f"{host}/a:{tag}" for host in ("a.example", "b.example") for tag in range(5)]))
)
def test_a_couple_of_images_of_each_registry(images: list[str]) -> None:
    """Every registry that an image is in, with at most two of its images, each once."""
    found = doctor.sample(iter(images))
    assert set(found) == {image.partition("/")[0] for image in images}
    for registry, some in found.items():
        assert set(some) <= {image for image in images if image.startswith(registry)}
        assert len(some) == len(set(some)) == min(2, len({i for i in images if i.startswith(registry)}))


def test_what_is_no_image_is_left_to_the_audit() -> None:
    """A broken reference belongs to no registry; Docker Hub's short names do."""
    assert doctor.sample(iter(["nginx", "UPPER case", f"sha256:{64 * 'a'}"])) == {"docker.io": ["nginx"]}


class WrongClock(Prometheus):
    """A Prometheus that has nothing, and whose clock is ten minutes ahead."""

    def clock(self) -> datetime:
        """Its time."""
        return NOW + timedelta(minutes=10)

    def query(self, expression: str, at: datetime) -> list[Sample]:
        """Nothing."""
        del expression, at
        return []


def test_a_wrong_clock_has_a_problem_and_a_fix() -> None:
    """They are two parts, whatever their words are."""
    with WrongClock("http://prometheus.example") as prometheus:
        first, *_ = doctor.check_prometheus(prometheus, stack(), NOW)
    assert first == CheckResult(
        "Prometheus",
        "problem",
        "Prometheus' clock is 600 s ahead of this machine's",
        "set both clocks by NTP",
    )
