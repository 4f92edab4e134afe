"""What has to be there before a step: engine, plugins, cluster, registries and Prometheus. Reads only."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from archshift.cluster.client import Cluster
from archshift.cluster.image_evidence import audit_options, read_pull_secrets
from archshift.cluster.model import Inventory
from archshift.common.aws import aws_client
from archshift.common.errors import ArchshiftError
from archshift.images.registry.hosts import ImageRules
from archshift.images.registry.reference import ImageReferenceError, parse_reference
from archshift.images.verdict import UNKNOWN
from archshift.nodes.eks import EksCluster, LiveCluster
from archshift.ramp.measurement import Measurer
from archshift.ramp.prometheus import Prometheus
from archshift.ramp.promql import Expressions
from archshift.report.checks import CheckResult, Outcome, from_error

if TYPE_CHECKING:
    # Settings are built from this package's types; here they are only passed in.
    from archshift.settings.stack import Settings

IMAGES_OF_A_REGISTRY: Final = 2
"""How many images are asked for in each registry: whether it answers us, not what it holds."""

_MOST_REGISTRIES: Final = 20
_MOST_NAMED: Final = 3

_ALLOWLIST: Final = (
    "give kube-state-metrics --metric-labels-allowlist=nodes=[kubernetes.io/arch] (docs/monitoring.md has "
    "other ways)"
)

# What the gate asks for beside the applications' own metrics, and who exports it.
_OF_PODS: Final = ("kube_pod_info", "kube_pod_status_phase", "kube_replicaset_owner")
_OF_RESTARTS: Final = (
    "kube_pod_container_status_restarts_total",
    "container_cpu_usage_seconds_total",
    "container_memory_working_set_bytes",
)


def check_engine(printed: str, wanted: str) -> CheckResult:
    """Judge the engine.

    Args:
        said: What ``pulumi version`` prints.
        wanted: Version of the SDK that the program is run with.
    """
    version, sdk = _version(printed), _version(wanted)
    if version is None or sdk is None:
        text = " ".join(printed.split())[:80]
        return CheckResult(
            "engine", "unknown", f"pulumi version says {text!r}", "check which program pulumi is on PATH"
        )
    if version[0] != sdk[0] or version[:2] < sdk[:2]:
        problem = f"pulumi is {_dotted(version)}, and the program is made for {_dotted(sdk)}"
        return CheckResult(
            "engine", "problem", problem, f"install pulumi {sdk[0]}.{sdk[1]} or a later {sdk[0]}.x"
        )
    return CheckResult("engine", "ok", f"pulumi {_dotted(version)}")


def check_plugins(
    listed: Any, wanted: Mapping[str, str], on_path: Callable[[str], bool]
) -> Iterator[CheckResult]:
    """Judge the engine's plugins. One that is missing is fetched by the first preview, if it may.

    Args:
        listed: What ``pulumi plugin ls --json`` prints, parsed.
        wanted: Name of each provider that is needed to the version that its SDK asks for.
        on_path: Says whether a program is on PATH: the engine prefers it to all plugins.

    Yields:
        A finding for each.
    """
    if not isinstance(listed, list):
        yield CheckResult(
            "plugins",
            "unknown",
            "pulumi plugin ls --json does not print a list",
            "check which program pulumi is on PATH",
        )
        return
    there = [plugin for plugin in listed if isinstance(plugin, dict) and plugin.get("kind") == "resource"]
    for name, version in wanted.items():
        check, needed = f"plugin {name}", _version(version)
        installed = {
            _version(str(plugin.get("version"))) for plugin in there if plugin.get("name") == name
        } - {None}
        # As the engine chooses: of the same major version, and not older.
        serving = [
            candidate
            for candidate in installed
            if candidate and needed and candidate[0] == needed[0] and candidate >= needed
        ]
        if on_path(f"pulumi-resource-{name}"):
            yield CheckResult(check, "ok", f"pulumi-resource-{name} is on PATH, which the engine prefers")
        elif serving:
            yield CheckResult(check, "ok", _dotted(max(serving)))
        else:
            others = ", ".join(_dotted(other) for other in sorted(filter(None, installed)))
            yield CheckResult(
                check,
                "warning",
                f"{version} is not installed" + (f", only {others}" if others else ""),
                f"the first preview fetches it where it may; else pulumi plugin install resource {name} "
                f"v{version}",
            )


def _version(text: str) -> tuple[int, int, int] | None:
    match = re.search(r"\bv?(\d{1,6})\.(\d{1,6})\.(\d{1,6})", text)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def _dotted(version: tuple[int, int, int]) -> str:
    return ".".join(map(str, version))


# --- the cluster ----------------------------------------------------------------------------


def check_cluster(cluster: Cluster) -> Iterator[CheckResult]:
    """Say which API server answers, and as whom it knows us.

    Raises:
        ArchshiftError: It does not answer, or refuses the credentials.
    """
    version = str(cluster.get("/version").get("gitVersion", "of unknown version"))[:40]
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    try:
        answer = cluster.post_review("/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
        user = str(answer["status"]["userInfo"]["username"])[:200]
    # Kubernetes has had it since 1.28; who we are is only told, never judged.
    except (ArchshiftError, KeyError, TypeError):
        user = "a user whose name it does not tell"
    yield CheckResult("cluster", "ok", f"{cluster.server} is Kubernetes {version} and knows us as {user}")


def check_identity(cluster: Cluster, wanted: EksCluster) -> CheckResult:
    """Say whether the kubeconfig reaches the cluster that ``archshift:cluster.name`` names.

    Pods would else be counted in one cluster and nodes made in another.
    """
    check = "EKS cluster"
    try:
        live = describe(wanted)
    except ArchshiftError as error:
        return from_error(check, error, "unknown", "check the AWS credentials and aws:region")
    if live is None:
        if wanted.create:
            return CheckResult(check, "warning", f"{wanted.name!r} is not there yet", "pulumi up makes it")
        return CheckResult(
            check,
            "problem",
            f"there is no EKS cluster {wanted.name!r} in {wanted.region or 'the usual region'}",
            "correct archshift:cluster.name or aws:region",
        )
    try:
        live.check_context(cluster.server, cluster.authority)
    except ArchshiftError as error:
        return from_error(check, error)
    return CheckResult(check, "ok", f"the kubeconfig reaches {live.arn}")


def describe(cluster: EksCluster) -> LiveCluster | None:
    """Return a cluster as EKS describes it; None if there is none of that name.

    Raises:
        ArchshiftError: boto3 is not installed, or AWS refused.
    """
    try:
        client = aws_client("eks", cluster.region, "EKS is asked", profile=cluster.profile)
        described = client.describe_cluster(name=cluster.name)["cluster"]
        # One that is being made has neither.
        return LiveCluster(described["arn"], described["endpoint"], described["certificateAuthority"]["data"])
    except ArchshiftError:
        raise
    # botocore has no common base for what credentials, network and service raise.
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        if "ResourceNotFoundException" in reason:
            return None
        raise ArchshiftError(
            f"EKS does not say what {cluster.name!r} is: {reason}",
            "check the AWS credentials, aws:region and the right eks:DescribeCluster",
        ) from None


# --- registries -----------------------------------------------------------------------------


def check_registries(cluster: Cluster, inventory: Inventory, rules: ImageRules) -> Iterator[CheckResult]:
    """Say of each registry that the cluster's images are in whether it lets us read.

    A couple of images of each are asked for anew, whatever is known of them.
    """
    # Its HTTP client costs half a second to import.
    from archshift.images.audit import audit_images

    secrets, notes = read_pull_secrets(cluster, inventory)
    chosen = sample(
        container.use.image for containers in inventory.containers.values() for container in containers
    )
    verdicts = audit_images(
        [image for images in chosen.values() for image in images],
        audit_options(replace(rules, deep=False), secrets, keep=False),
    )
    for registry, images in chosen.items():
        unread = [verdicts[image] for image in images if verdicts[image].verdict == UNKNOWN]
        check = f"registry {registry}"
        if not unread:
            yield CheckResult(check, "ok", f"read {', '.join(images)}")
            continue
        yield CheckResult(
            check,
            "problem" if len(unread) == len(images) else "warning",
            f"{unread[0].image} cannot be read: {unread[0].reason}",
            "log in with docker login, let its pull secret be read, or say in archshift:images.registries "
            "how it is reached (docs/images.md); until then such images stay on x86",
        )
    for note in notes:
        yield CheckResult("pull secrets", "warning", note, "docs/permissions.md lists what is read")


def sample(images: Iterator[str]) -> dict[str, list[str]]:
    """Return a couple of images of each registry, of the first registries by name."""
    by_registry: dict[str, list[str]] = {}
    for image in sorted(set(images)):
        try:
            registry = parse_reference(image).registry
        except ImageReferenceError:
            continue
        sampled = by_registry.setdefault(registry, [])
        if len(sampled) < IMAGES_OF_A_REGISTRY:
            sampled.append(image)
    return dict(sorted(by_registry.items())[:_MOST_REGISTRIES])


# --- Prometheus -----------------------------------------------------------------------------


def check_prometheus(prometheus: Prometheus, settings: "Settings", now: datetime) -> Iterator[CheckResult]:
    """Say whether Prometheus has what the gate asks for.

    Args:
        prometheus: The connection.
        settings: The stack's settings.
        now: This machine's time.

    Raises:
        ArchshiftError: Prometheus does not answer.
    """
    gate = settings.gate
    expressions = Expressions(
        namespaces=settings.discovery.namespaces, selector=gate.selector, metrics=gate.metrics
    )
    if problem := Measurer(prometheus, expressions).clock_problem(now, now):
        yield CheckResult("Prometheus", "problem", problem.partition("; ")[0], "set both clocks by NTP")
    else:
        yield CheckResult("Prometheus", "ok", f"{prometheus.url} answers, and its clock is ours")

    def count(expression: str) -> int:
        return int(sum(sample.value for sample in prometheus.query(f"count({expression})", now)))

    yield _nodes(prometheus, expressions, count, now)
    selector = "{" + gate.selector + "}" if gate.selector else ""
    yield _exported(
        "metrics of pods",
        [name for name in _OF_PODS if not count(name + selector)],
        _OF_PODS,
        "problem",
        "",
        "have this Prometheus scrape kube-state-metrics, and check archshift:gate.selector",
    )
    yield _exported(
        "metrics of containers",
        [name for name in _OF_RESTARTS if not count(name + selector)],
        _OF_RESTARTS,
        "warning",
        ", so the gate does not compare it",
        "have this Prometheus scrape kube-state-metrics and, through the kubelet, cAdvisor",
    )
    of_applications = {"latency": f"{gate.metrics.latency}_bucket", "requests": gate.metrics.requests}
    for setting, metric in of_applications.items():
        if getattr(gate.metrics, setting):
            yield _exported(
                f"metrics of applications: {setting}",
                [] if count(metric + selector) else [metric],
                (metric,),
                "problem",
                ", so the gate ends as unknown",
                f'name the metric as archshift:gate.metrics.{setting}, or "" if there is none',
            )


def _exported(
    check: str, missing: Sequence[str], wanted: Sequence[str], without: Outcome, effect: str, fix: str
) -> CheckResult:
    if missing:
        return CheckResult(check, without, f"there is no {', '.join(missing)}{effect}", fix)
    return CheckResult(check, "ok", ", ".join(wanted))


def _nodes(
    prometheus: Prometheus, expressions: Expressions, count: Callable[[str], int], now: datetime
) -> CheckResult:
    check = "metrics of nodes"
    known = count(expressions.node_arch())
    lost: Sequence[str] = sorted(
        series.labels.get("node", "?") for series in prometheus.query(expressions.nodes_without_arch(), now)
    )
    if lost:
        named = ", ".join(lost[:_MOST_NAMED]) + (" ..." if len(lost) > _MOST_NAMED else "")
        return CheckResult(
            check,
            "problem",
            f"of {len(lost)} of {known + len(lost)} nodes the architecture is not known: {named}",
            _ALLOWLIST,
        )
    if not known:
        return CheckResult(
            check,
            "problem",
            "there is neither kube_node_labels nor kube_node_info",
            "have this Prometheus scrape kube-state-metrics, and check archshift:gate.selector",
        )
    return CheckResult(check, "ok", f"the architecture of {known} nodes is known")
