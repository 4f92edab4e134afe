"""What the next pods of a workload need, and where they may run. Pure.

The live pods of the present template have the answer, because they went through admission. Without such a pod
the template has it, together with what the cluster will add.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any, Final

from archshift.cluster.kinds import (
    CONTROLLERS,
    UNREAD,
    WorkloadKind,
    has_replicas,
    observed,
    on_every_node,
)
from archshift.cluster.model import MOST_MISSING, Workload
from archshift.cluster.pod_fields import Template
from archshift.cluster.pod_needs import Admission
from archshift.cluster.pods import Pod, scheduler_of, system_of
from archshift.cluster.scheduling import Condition, Unmet
from archshift.cluster.volumes import Claims, Volumes
from archshift.common.resources import Resources
from archshift.images.workload import containers_of

_ADDED_TO_ALL: Final = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
"""Admission gives every pod tolerations for these temporary taints."""


def of_template(workload: Workload, item: Mapping[str, Any], admission: Admission) -> Workload:
    """Return a workload with what its template needs.

    Args:
        workload: The workload with all other facts.
        item: Its JSON.
        admission: What the cluster adds to new pods.
    """
    record, spec, status = CONTROLLERS[workload.kind], item["spec"], item.get("status") or {}
    pod_spec = record.template(item)["spec"]
    runtime_class = admission.runtime_class(pod_spec)
    seen = observed(item)
    return replace(
        workload,
        requests=admission.requests_of(workload.namespace, pod_spec),
        tolerations=(*(pod_spec.get("tolerations") or ()), *runtime_class.tolerations),
        system=system_of(pod_spec),
        conditions=tuple(_conditions(pod_spec, runtime_class.node_selector)),
        scheduler=scheduler_of(pod_spec),
        device_claims=tuple(claim["name"] for claim in pod_spec.get("resourceClaims") or ()),
        claims=_claims(spec, pod_spec),
        keeps_old_pods=_keeps_old_pods(record, spec),
        updated_pods=status.get("updatedReplicas", 0) if seen else 0,
        pod_revision=status.get("updateRevision", "") if seen else "",
    )


def _conditions(pod_spec: Mapping[str, Any], runtime_selector: Mapping[str, str]) -> Iterable[Condition]:
    if runtime_selector:
        unmet = Unmet("runtime class", pod_spec["runtimeClassName"])
        yield Condition(unmet=unmet, selector=runtime_selector)
    name = pod_spec.get("nodeName")
    if name:
        fields = [{"key": "metadata.name", "operator": "In", "values": [name]}]
        required = {"nodeSelectorTerms": [{"matchFields": fields}]}
        yield Condition(unmet=Unmet("node name", name), required=required)


def _claims(spec: Mapping[str, Any], pod_spec: Mapping[str, Any]) -> Claims:
    shared, generic = [], []
    own = {
        template["metadata"]["name"]: template["spec"].get("storageClassName")
        for template in spec.get("volumeClaimTemplates") or ()
    }
    for volume in pod_spec.get("volumes") or ():
        if volume.get("persistentVolumeClaim") and volume.get("name") not in own:
            shared.append(volume["persistentVolumeClaim"]["claimName"])
        if volume.get("ephemeral"):
            claim = volume["ephemeral"].get("volumeClaimTemplate") or {}
            generic.append((volume["name"], (claim.get("spec") or {}).get("storageClassName")))
    first = (spec.get("ordinals") or {}).get("start", 0)
    return Claims(tuple(shared), tuple(own.items()), tuple(generic), first)


def _keeps_old_pods(record: WorkloadKind, spec: Mapping[str, Any]) -> bool:
    """Return whether a rollout needs new pods before it may remove the last old one."""
    limit, replicas = record.rollout_limit, record.replicas(spec)
    return limit is not None and limit.strategy == "strategy" and limit.pods(spec, replicas) < replicas


def of_cluster(workload: Workload, pods: Sequence[Pod], volumes: Volumes) -> Workload:
    """Return a workload with what its live pods and its volumes need.

    Args:
        workload: From ``of_template``.
        pods: Its live pods. Of pods that are alike, one is enough.
        volumes: The cluster's volumes.
    """
    workload = _with_volumes(workload, volumes)
    pods = _of_present_template(workload, pods)
    if not pods:
        return workload
    # Kinds without replicas have no revision that tells old pods from new ones.
    at_least = [] if has_replicas(workload.kind) else [workload.requests]
    return replace(
        workload,
        requests=reduce(Resources.largest, [*at_least, *(pod.requests for pod in pods)]),
        tolerations=(*workload.tolerations, *_added_tolerations(workload, pods)),
        conditions=(*workload.conditions, *_added_rules(workload, pods)),
    )


def _with_volumes(workload: Workload, volumes: Volumes) -> Workload:
    claims, namespace = workload.claims, workload.namespace
    if claims == Claims():
        return workload
    scaler = workload.autoscaled
    pods = scaler.most_pods(workload.replicas) if scaler else workload.replicas
    pods = min(pods, workload.replicas + MOST_MISSING)
    unshared = None
    if workload.keeps_old_pods:
        sharing = {name: volumes.sharing(namespace, name) for name in claims.shared}
        unshared = next(((name, who) for name, who in sharing.items() if who != "all"), None)
    return replace(
        workload,
        conditions=(*workload.conditions, *volumes.of_all_pods(namespace, claims)),
        pod_conditions=volumes.of_each_pod(namespace, workload.name, claims, pods),
        unshared=unshared,
    )


def _of_present_template(workload: Workload, pods: Sequence[Pod]) -> Sequence[Pod]:
    if workload.settled or not pods:
        return pods
    label = workload.template.revision_label
    revision = workload.pod_revision
    if not revision and workload.updated_pods:
        # The controller makes only new pods of the present template, except after the loss of an old one.
        revision = max(pods, key=lambda pod: pod.created).labels.get(label, "")
    return [pod for pod in pods if pod.labels.get(label) == revision] if revision else []


def _added_tolerations(workload: Workload, pods: Sequence[Pod]) -> list[Mapping[str, Any]]:
    """Return the tolerations that all pods have and the template lacks."""
    first, *others = [pod.rules.get("tolerations") or () for pod in pods]
    return [
        toleration
        for toleration in first
        if toleration not in workload.tolerations
        and toleration.get("key") not in _ADDED_TO_ALL
        and all(toleration in tolerations for tolerations in others)
    ]


def _added_rules(workload: Workload, pods: Sequence[Pod]) -> Iterable[Condition]:
    """Yield the node selector and required affinity that all pods have and the template lacks.

    archshift's own fields are in the template, so they are never among them.
    """
    first, *others = [pod.rules for pod in pods]
    known = {**(workload.template.spec.get("node-selector") or {})}
    for condition in workload.conditions:
        known |= condition.selector
    selector = {
        label: value
        for label, value in (first.get("node-selector") or {}).items()
        if known.get(label) != value
        and all((rules.get("node-selector") or {}).get(label) == value for rules in others)
    }
    if selector:
        yield Condition(unmet=Unmet("admission", ", ".join(sorted(selector))), selector=selector)
    required = first.get("required")
    # The controller of a DaemonSet ties each pod to its node by such an affinity.
    if on_every_node(workload.kind) or any(rules.get("required") != required for rules in others):
        return
    terms = _terms_without_ours(workload.template, required)
    if terms and required != workload.template.spec.get("required"):
        labels = {each["key"] for term in terms for each in term.get("matchExpressions") or ()}
        unmet = Unmet("admission", ", ".join(sorted(labels)))
        yield Condition(unmet=unmet, required={"nodeSelectorTerms": terms})


def _terms_without_ours(template: Template, required: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """Return the terms of a pod without archshift's expressions; empty if a term has no others."""
    own, all_ = (
        [
            expression
            for term in (value or {}).get("nodeSelectorTerms") or ()
            for expression in term.get("matchExpressions") or ()
        ]
        for value in (template.application_value("required"), template.spec.get("required"))
    )
    terms: list[Mapping[str, Any]] = [
        {
            **term,
            "matchExpressions": [
                expression
                for expression in term.get("matchExpressions") or ()
                if expression in own or expression not in all_
            ],
        }
        for term in (required or {}).get("nodeSelectorTerms") or ()
    ]
    return terms if all(term["matchExpressions"] or term.get("matchFields") for term in terms) else []


def workload_of(pods: Sequence[Pod], volumes: Volumes) -> Workload:
    """Return the owner of pods that no known template describes, or a bare pod, as a workload.

    Args:
        pods: All its pods, at least one.
        volumes: The cluster's volumes.
    """
    first = pods[0]
    each = tuple(volumes.of_claims(pod.namespace, pod.claims) for pod in pods)
    template = replace(first.template, labels=first.labels)
    if first.runs_to_end or not first.owner:
        # Nobody starts such a pod again, so it needs its companions no more. They must not stay for it.
        template = replace(template, affinity=())
    return Workload(
        namespace=first.namespace,
        kind=first.owner.kind if first.owner else "Pod",
        name=first.owner.name if first.owner else first.name,
        replicas=len(pods),
        template=template,
        # The pods may differ, so keep room for the largest.
        requests=reduce(Resources.largest, (pod.requests for pod in pods)),
        tolerations=tuple(first.rules.get("tolerations") or ()),
        system=first.system,
        pod_conditions=each if any(each) else (),
    )


def steered_by_pods(key: str, pods: Sequence[Pod], volumes: Volumes) -> Workload:
    """Return a workload that archshift steers at admission, although only its pods show it.

    Args:
        key: ``namespace/Kind/name``.
        pods: All its pods, at least one.
        volumes: The cluster's volumes.
    """
    _, kind, name = key.split("/", 2)
    # The newest pods tell what the next ones need.
    newest_first = sorted(pods, key=lambda pod: pod.created, reverse=True)
    newest = newest_first[0]
    own = newest.owner is not None and newest.owner.kind == kind
    if kind in UNREAD and not own:
        label = UNREAD[kind].revision_label
    else:
        # As the policy counts (plan/admission.py).
        label = CONTROLLERS["StatefulSet"].revision_label
        if kind == "ReplicaSet" or not all(label in pod.labels for pod in pods):
            label = ""
    return replace(
        workload_of(newest_first, volumes),
        kind=kind,
        name=name,
        # Pods that end by themselves are no permanent pods, so nothing moves them.
        replicas=0 if newest.runs_to_end else len(pods),
        template=replace(newest.template, labels=newest.labels, revision_label=label),
        one_side=not label and kind != "ReplicaSet",
        containers=containers_of(json.loads(newest.images)["spec"]),
        pulls_as=newest.pulls_as,
        scheduler=newest.scheduler,
        device_claims=newest.device_claims,
    )
