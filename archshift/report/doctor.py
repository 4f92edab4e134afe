"""Checks before a step: engine, plugins, cluster, registries and Prometheus. They only read."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from archshift.cluster.client import Cluster
from archshift.cluster.image_evidence import audit_options, read_pull_secrets
from archshift.cluster.live_placement import check_served, read_live_placement, serves_placement
from archshift.cluster.model import Inventory
from archshift.common.aws import AwsIdentity
from archshift.common.errors import ArchshiftError
from archshift.common.kubernetes import GROUP_LABEL
from archshift.common.text import counted, first_few, one_line
from archshift.images.registry.hosts import ImageRules
from archshift.images.registry.reference import ImageReferenceError, parse_reference
from archshift.images.verdict import UNKNOWN
from archshift.nodes.eks import EksCluster, NotReadyError, describe_cluster
from archshift.nodes.groups import EksNodeGroup
from archshift.plan.model import Placement
from archshift.plan.placed_pods import why_away
from archshift.plan.reasons import policies_away, troubles
from archshift.ramp.figures import exported_metrics
from archshift.ramp.measurement import Measurer
from archshift.ramp.prometheus import Prometheus
from archshift.ramp.promql import Expressions
from archshift.report.checks import CheckResult, Outcome, from_error

if TYPE_CHECKING:
    # Settings are built from this package's types; here they are only passed in.
    from archshift.settings.stack import Settings

IMAGES_OF_A_REGISTRY: Final = 2
"""How many images of each registry the check reads: enough to see whether the registry answers."""

_MOST_REGISTRIES: Final = 20
_MOST_NAMED: Final = 3

_ALLOWLIST: Final = (
    "start kube-state-metrics with --metric-labels-allowlist=nodes=[kubernetes.io/arch] "
    "(docs/monitoring.md has other ways)"
)

# https://github.com/pulumi/pulumi-eks/blob/master/nodejs/eks/dependencies.ts
_AWS_CLI_1: Final = (1, 24, 0)
_AWS_CLI_2: Final = (2, 7, 0)

# A group that EKS updates or makes is no reason to worry.
_WELL: Final = ("ACTIVE", "CREATING", "UPDATING")
_LOOK_AT_EKS: Final = "look at the health of the group at EKS"

_IGNORES_GROUPS: Final = f"--balancing-ignore-label={GROUP_LABEL}"

# What tells the gate which pods there are and where; the figures' own metrics are in ramp/figures.py.
_OF_PODS: Final = ("kube_pod_info", "kube_pod_status_phase", "kube_replicaset_owner")


def check_engine(printed: str, wanted: str) -> CheckResult:
    """Check the engine's version.

    Args:
        printed: The output of ``pulumi version``.
        wanted: Version of the SDK that runs the program.
    """
    version, sdk = _version(printed), _version(wanted)
    if version is None or sdk is None:
        text = one_line(printed, 80)
        return CheckResult(
            "engine", "unknown", f"pulumi version prints {text!r}", "check which pulumi is on PATH"
        )
    if version[0] != sdk[0] or version[:2] < sdk[:2]:
        problem = f"pulumi is {_dotted(version)}, but the program needs {_dotted(sdk)}"
        return CheckResult(
            "engine", "problem", problem, f"install pulumi {sdk[0]}.{sdk[1]} or a later {sdk[0]}.x"
        )
    return CheckResult("engine", "ok", f"pulumi {_dotted(version)}")


class Plugin(NamedTuple):
    """A plugin of the engine.

    Attributes:
        name: The provider's name.
        version: The version that its user asks for.
        user: The component that asks for it; empty for the program.
    """

    name: str
    version: str
    user: str = ""


def plugins_inside(component: str, requires: Iterable[str]) -> Iterator[Plugin]:
    """Yield the plugins that a component of several languages starts, such as ``pulumi-eks``.

    Args:
        component: The name of its package.
        requires: The package's requirements, as its metadata lists them. The oldest versions that it accepts
            are those that the component itself was built with.
    """
    for requirement in requires:
        match = re.match(r"pulumi-([a-z]+)\b.*>=\s*(\d+\.\d+\.\d+)", requirement)
        if match:
            yield Plugin(match[1], match[2], component)


def check_aws_cli(printed: str | None) -> CheckResult:
    """Check the AWS CLI, which kubeconfigs call for a token. pulumi-eks refuses older versions.

    Args:
        printed: The output of ``aws --version``; None if the program is not on PATH.
    """
    check, fix = "AWS CLI", "install the AWS CLI 2.7 or later"
    if printed is None:
        return CheckResult(check, "problem", "aws is not on PATH, and the kubeconfig calls it", fix)
    version = _version(printed)
    if version is None:
        text = one_line(printed, 80)
        return CheckResult(check, "unknown", f"aws --version prints {text!r}", "check which aws is on PATH")
    if version < (_AWS_CLI_1 if version[0] == 1 else _AWS_CLI_2):
        return CheckResult(check, "problem", f"aws is {_dotted(version)}, which is too old", fix)
    return CheckResult(check, "ok", f"aws {_dotted(version)}")


def check_aws_identity(identity: AwsIdentity) -> CheckResult:
    """Check that everything asks AWS with the credentials of the provider."""
    check = "AWS credentials"
    if identity.provider_only:
        keys = ", ".join(identity.provider_only)
        return CheckResult(
            check,
            "warning",
            f"only Pulumi's AWS provider reads {keys}; registries, prices and the kubeconfig use others",
            "use aws:profile, aws:assumeRoles or the variables of the AWS CLI instead",
        )
    roles = [role.arn for role in identity.roles]
    source = f"of the profile {identity.profile}" if identity.profile else "of the environment"
    return CheckResult(check, "ok", ", then ".join([f"those {source}", *roles]))


def check_plugins(
    listed: Any, wanted: Iterable[Plugin], on_path: Callable[[str], bool]
) -> Iterator[CheckResult]:
    """Check the engine's plugins. The first preview downloads a missing plugin, if it can.

    Args:
        listed: The parsed output of ``pulumi plugin ls --json``.
        wanted: The plugins that the program needs.
        on_path: Whether a program is on PATH: the engine prefers such a program to all plugins.
    """
    if not isinstance(listed, list):
        yield CheckResult(
            "plugins",
            "unknown",
            "pulumi plugin ls --json prints no list",
            "check which pulumi is on PATH",
        )
        return
    there = [plugin for plugin in listed if isinstance(plugin, dict) and plugin.get("kind") == "resource"]
    for name, version, user in wanted:
        check = f"plugin {name} for {user}" if user else f"plugin {name}"
        installed = {
            _version(str(plugin.get("version"))) for plugin in there if plugin.get("name") == name
        } - {None}
        if on_path(f"pulumi-resource-{name}"):
            yield CheckResult(check, "ok", f"pulumi-resource-{name} is on PATH; the engine prefers it")
        # The engine starts exactly the version that an SDK asks for, no newer one.
        elif _version(version) in installed:
            yield CheckResult(check, "ok", version)
        else:
            others = ", ".join(_dotted(other) for other in sorted(filter(None, installed)))
            yield CheckResult(
                check,
                "warning",
                f"{version} is not installed" + (f", only {others}" if others else ""),
                "the first preview downloads it; without internet access run pulumi plugin install resource "
                f"{name} v{version}",
            )


def _version(text: str) -> tuple[int, int, int] | None:
    match = re.search(r"\bv?(\d{1,6})\.(\d{1,6})\.(\d{1,6})", text)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def _dotted(version: tuple[int, int, int]) -> str:
    return ".".join(map(str, version))


# --- the cluster ----------------------------------------------------------------------------


def check_cluster(cluster: Cluster) -> Iterator[CheckResult]:
    """Report which API server answers and which user it recognises.

    Raises:
        ArchshiftError: The API server does not answer, or refuses the credentials.
    """
    version = str(cluster.get("/version").get("gitVersion", "of an unknown version"))[:40]
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    try:
        answer = cluster.post_review("/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
        user = str(answer["status"]["userInfo"]["username"])[:200]
    # Kubernetes has this API since 1.28. The user's name is information only.
    except (ArchshiftError, KeyError, TypeError):
        user = "an unknown user"
    yield CheckResult("cluster", "ok", f"{cluster.server} is Kubernetes {version}; you are {user}")


def check_placement(cluster: Cluster, placement: Placement, stack_label: str) -> Iterator[CheckResult]:
    """Check whether the API server can place pods as the settings say, and whether its policies do.

    Args:
        cluster: The connection.
        placement: Who places the pods.
        stack_label: The stack, as ``stack_label`` writes it.

    Raises:
        ArchshiftError: The API server cannot, or does not answer.
    """
    if placement == "admission":
        check_served(cluster)
        live = read_live_placement(cluster, stack_label)
        spaces = sorted(live.policies.keys() | live.bindings.keys())
        away = {space: why for space in spaces if (why := why_away(live, space, stack_label))}
        for text in policies_away(away):
            problem, _, way_out = text.rpartition("; ")
            yield CheckResult("placement", "warning", problem, way_out)
        if not away:
            yield CheckResult("placement", "ok", "the API server places pods at admission")
    elif serves_placement(cluster):
        yield CheckResult(
            "placement",
            "ok",
            "patches place pods, so a step restarts whole workloads; archshift:placement: admission would "
            "restart only the pods that move (docs/placement.md)",
        )
    else:
        yield CheckResult(
            "placement", "ok", "patches place pods; this API server has no placement at admission yet"
        )


def check_identity(cluster: Cluster, wanted: EksCluster) -> CheckResult:
    """Check that the kubeconfig reaches the cluster that ``archshift:cluster.name`` names.

    Otherwise archshift would count pods in one cluster and create nodes in another.
    """
    check = "EKS cluster"
    try:
        live = describe_cluster(wanted)
    except NotReadyError as error:
        return from_error(check, error, "warning")
    except ArchshiftError as error:
        return from_error(check, error, "unknown", "check the AWS credentials and aws:region")
    if live is None:
        if wanted.create:
            return CheckResult(
                check, "warning", f"{wanted.name!r} does not exist yet", "pulumi up creates it"
            )
        return CheckResult(
            check,
            "problem",
            f"there is no EKS cluster {wanted.name!r} in {wanted.region or 'the default region'}",
            "correct archshift:cluster.name or aws:region",
        )
    try:
        live.check_context(cluster.server, cluster.authority)
    except ArchshiftError as error:
        return from_error(check, error)
    return CheckResult(check, "ok", f"the kubeconfig reaches {live.arn}")


def check_node_groups(groups: Iterable[EksNodeGroup]) -> Iterator[CheckResult]:
    """Report how EKS describes the managed node groups of a stack, and which of them are not well.

    Args:
        groups: The groups, with what EKS says of them.
    """
    for group in groups:
        check, live = f"node group {group.name}", group.live
        types = ", ".join(kind.name for kind in group.instance_types)
        if live is None:
            yield CheckResult(check, "ok", f"it does not exist yet; pulumi up makes it, with {types}")
        elif live.status not in _WELL:
            yield CheckResult(check, "warning", f"{live.name!r} is {live.status}", _LOOK_AT_EKS)
        elif group.autoscaled and not live.scaling_groups:
            yield CheckResult(
                check, "warning", f"EKS names no Auto Scaling group of {live.name!r}", _LOOK_AT_EKS
            )
        else:
            sizes = f"{counted(live.desired_size, 'node')} of {live.min_size} to {live.max_size}"
            yield CheckResult(check, "ok", f"{live.name!r} has {sizes}, with {types}")


def check_autoscaler(cluster: Cluster) -> Iterator[CheckResult]:
    """Check that cluster-autoscaler still balances the groups of different zones.

    It compares the labels of their nodes, and archshift gives each group a label of its own
    (https://github.com/kubernetes/autoscaler/tree/master/cluster-autoscaler/processors/nodegroupset).

    Raises:
        ArchshiftError: The API server does not answer, or refuses.
    """
    for deployment in cluster.list("/apis/apps/v1/deployments"):
        for container in deployment["spec"]["template"]["spec"].get("containers") or ():
            if not re.search(r"(^|/)cluster-autoscaler([:@]|$)", str(container.get("image", ""))):
                continue
            flags = " ".join([*(container.get("command") or ()), *(container.get("args") or ())]).split()
            name = f"{deployment['metadata']['namespace']}/{deployment['metadata']['name']}"
            balances = {"--balance-similar-node-groups", "--balance-similar-node-groups=true"} & {*flags}
            if balances and _IGNORES_GROUPS not in flags:
                yield CheckResult(
                    "autoscaler",
                    "warning",
                    f"{name} balances similar node groups, but archshift's label makes each group different",
                    f"give it the flag {_IGNORES_GROUPS}",
                )
            else:
                yield CheckResult("autoscaler", "ok", f"{name} needs no other flags")


# --- pods -----------------------------------------------------------------------------------


def check_pods(inventory: Inventory) -> CheckResult:
    """Check that the pods of all workloads run, and that no rollout is stuck."""
    causes = troubles(inventory.troubles)
    if not causes:
        return CheckResult("pods", "ok", "no pod of a workload is pending, and no rollout is stuck")
    return CheckResult(
        "pods",
        "warning",
        first_few(causes, _MOST_NAMED, separator="; ", rest="; {} more causes"),
        "make these pods run before a step, because archshift does not wait for their rollouts",
    )


# --- registries -----------------------------------------------------------------------------


def check_registries(cluster: Cluster, inventory: Inventory, rules: ImageRules) -> Iterator[CheckResult]:
    """Check for each registry of the cluster's images whether archshift can read it.

    The check reads a few images of each registry again, even if evidence about them exists.
    """
    # Its HTTP client takes half a second to import.
    from archshift.images.audit import audit_images

    secrets, notes = read_pull_secrets(cluster, inventory)
    chosen = sample(
        container.use.image
        for containers in inventory.containers.values()
        for container in containers
        # A volume may hold an artifact, which is no image.
        if container.role != "volume"
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
            "log in with docker login, allow archshift to read the pull secret, or configure the registry in "
            "archshift:images.registries (docs/images.md); until then these images stay on x86",
        )
    for note in notes:
        yield CheckResult(
            "pull secrets", "warning", note, "docs/permissions.md lists the secrets that archshift reads"
        )


def sample(images: Iterator[str]) -> dict[str, list[str]]:
    """Return a few images of each registry, for the first registries by name."""
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
    """Check that Prometheus has the metrics that the gate needs.

    Raises:
        ArchshiftError: Prometheus does not answer.
    """
    gate = settings.gate
    expressions = Expressions(
        namespaces=settings.discovery.namespaces, selector=gate.selector, metrics=gate.metrics
    )
    if problem := Measurer(prometheus, expressions).clock_problem(now, now):
        yield from_error("Prometheus", problem)
    else:
        yield CheckResult(
            "Prometheus", "ok", f"{prometheus.url} answers, and its clock agrees with this machine's"
        )

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
        "let this Prometheus scrape kube-state-metrics, and check archshift:gate.selector",
    )
    of_containers = [
        metric.exported_name(gate.metrics) for metric in exported_metrics(gate.metrics, "failures", "usage")
    ]
    yield _exported(
        "metrics of containers",
        [name for name in of_containers if not count(name + selector)],
        of_containers,
        "warning",
        ", so the gate does not compare it",
        "let this Prometheus scrape kube-state-metrics, and cAdvisor through the kubelet",
    )
    for metric in exported_metrics(gate.metrics, "latency", "requests"):
        name = metric.exported_name(gate.metrics)
        yield _exported(
            f"metrics of applications: {metric.setting}",
            [] if count(name + selector) else [name],
            (name,),
            "problem",
            ", so the gate's verdict will be unknown",
            f'set archshift:gate.metrics.{metric.setting} to your metric, or to "" if there is none',
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
        named = first_few(lost, _MOST_NAMED, rest=" ...")
        return CheckResult(
            check,
            "problem",
            f"the architecture of {len(lost)} of {counted(known + len(lost), 'node')} is unknown: {named}",
            _ALLOWLIST,
        )
    if not known:
        return CheckResult(
            check,
            "problem",
            "there is neither kube_node_labels nor kube_node_info",
            "let this Prometheus scrape kube-state-metrics, and check archshift:gate.selector",
        )
    return CheckResult(check, "ok", f"the architecture of {counted(known, 'node')} is known")
