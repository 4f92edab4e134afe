"""Who owns which field, read from managedFields as API servers write them."""

from typing import Any

import pytest

from archshift.cluster.ownership import FieldOwner, owned_part, owners

CONTAINER = 'k:{"name":"cart"}'
PORT = 'k:{"containerPort":8080,"protocol":"TCP"}'
ZONE = 'k:{"topologyKey":"topology.kubernetes.io/zone","whenUnsatisfiable":"ScheduleAnyway"}'

# What `kubectl apply --server-side --field-manager helm` leaves behind, shortened.
HELM_FIELDS: dict[str, Any] = {
    "f:metadata": {
        "f:labels": {"f:team": {}},
        "f:finalizers": {".": {}, 'v:"example.com/keep"': {}},
    },
    "f:spec": {
        "f:replicas": {},
        "f:selector": {},
        "f:template": {
            "f:spec": {
                "f:containers": {
                    CONTAINER: {
                        ".": {},
                        "f:name": {},
                        "f:image": {},
                        "f:ports": {PORT: {".": {}, "f:containerPort": {}, "f:name": {}}},
                        "f:resources": {"f:requests": {"f:cpu": {}}},
                    }
                },
                "f:nodeSelector": {},
                "f:topologySpreadConstraints": {ZONE: {".": {}, "f:maxSkew": {}}},
            }
        },
    },
}

LIVE: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {
        "name": "cart",
        "labels": {"team": "shop", "added-by": "someone"},
        "finalizers": ["example.com/keep", "example.com/other"],
    },
    "spec": {
        "replicas": 3,
        "progressDeadlineSeconds": 600,
        "selector": {"matchLabels": {"app": "cart"}},
        "template": {
            "spec": {
                "containers": [
                    {"name": "istio-proxy", "image": "proxy:1"},
                    {
                        "name": "cart",
                        "image": "cart:1",
                        "imagePullPolicy": "IfNotPresent",
                        "ports": [
                            {"name": "http", "containerPort": 8080, "protocol": "TCP"},
                            {"name": "dns", "containerPort": 8080, "protocol": "UDP"},
                        ],
                        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
                    },
                ],
                "nodeSelector": {"disk": "ssd", "kubernetes.io/os": "linux"},
                "topologySpreadConstraints": [
                    {
                        "topologyKey": "topology.kubernetes.io/zone",
                        "whenUnsatisfiable": "ScheduleAnyway",
                        "maxSkew": 1,
                        "nodeTaintsPolicy": "Honor",
                    },
                    {"topologyKey": "kubernetes.io/arch", "whenUnsatisfiable": "DoNotSchedule", "maxSkew": 2},
                ],
            }
        },
    },
}

MANAGED: list[dict[str, Any]] = [
    {"manager": "helm", "operation": "Apply", "apiVersion": "apps/v1", "fieldsV1": HELM_FIELDS},
    {
        "manager": "kubectl-client-side-apply",
        "operation": "Update",
        "fieldsV1": {"f:spec": {"f:template": {"f:spec": {"f:affinity": {".": {}, "f:nodeAffinity": {}}}}}},
    },
    {
        "manager": "kube-controller-manager",
        "operation": "Update",
        "subresource": "status",
        "fieldsV1": {"f:status": {"f:replicas": {}}},
    },
    {"manager": "helm", "operation": "Update", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
    {"manager": "emptied", "operation": "Update"},
]

POD_SPEC = ("f:spec", "f:template", "f:spec")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (("f:spec", "f:replicas"), {FieldOwner("helm", "Apply"), FieldOwner("helm", "Update")}),
        ((*POD_SPEC, "f:nodeSelector"), {FieldOwner("helm", "Apply")}),
        ((*POD_SPEC, "f:containers"), {FieldOwner("helm", "Apply")}),
        ((*POD_SPEC, "f:containers", CONTAINER, "f:ports", PORT), {FieldOwner("helm", "Apply")}),
        ((*POD_SPEC, "f:topologySpreadConstraints", ZONE), {FieldOwner("helm", "Apply")}),
        (
            (*POD_SPEC, "f:affinity", "f:nodeAffinity"),
            {FieldOwner("kubectl-client-side-apply", "Update")},
        ),
        (
            (*POD_SPEC, "f:affinity", "f:nodeAffinity", "f:requiredDuringSchedulingIgnoredDuringExecution"),
            set(),
        ),
        ((*POD_SPEC, "f:tolerations"), set()),
        ((*POD_SPEC, "f:nodeSelector", "f:disk"), set()),
    ],
)
def test_a_field_has_the_owners_that_the_api_server_recorded(
    path: tuple[str, ...], expected: set[FieldOwner]
) -> None:
    """A conflict names who really owns the field; what nobody owns is free.

    The same name counts twice: as it applied, and as it updated.
    """
    assert owners(MANAGED, path) == expected


def test_an_owner_is_printed_by_its_name() -> None:
    """A sentence says helm, not a data class."""
    assert str(FieldOwner("helm", "Apply")) == "helm"


def test_the_owned_part_is_what_the_manager_applied() -> None:
    """Giving a field back re-applies all of an owner's fields; one too few would be deleted.

    Items are found by their keys (a port by number and protocol), set members by value, atomic
    maps whole; nothing of others (istio-proxy, a label, a default) slips in.
    """
    assert owned_part(LIVE, HELM_FIELDS) == {
        "metadata": {"labels": {"team": "shop"}, "finalizers": ["example.com/keep"]},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "cart"}},
            "template": {
                "spec": {
                    "containers": [
                        {
                            "name": "cart",
                            "image": "cart:1",
                            "ports": [{"containerPort": 8080, "protocol": "TCP", "name": "http"}],
                            "resources": {"requests": {"cpu": "100m"}},
                        }
                    ],
                    "nodeSelector": {"disk": "ssd", "kubernetes.io/os": "linux"},
                    "topologySpreadConstraints": [
                        {
                            "topologyKey": "topology.kubernetes.io/zone",
                            "whenUnsatisfiable": "ScheduleAnyway",
                            "maxSkew": 1,
                        }
                    ],
                }
            },
        },
    }


def test_a_field_that_is_gone_is_left_out() -> None:
    """managedFields may lag behind; a field that the object no longer has is not invented."""
    assert owned_part({"spec": {"replicas": 2}}, {"f:spec": {"f:replicas": {}, "f:paused": {}}}) == {
        "spec": {"replicas": 2}
    }


def test_list_items_come_in_live_order() -> None:
    """The order of containers is the object's, whatever the order of the keys."""
    fields: dict[str, Any] = {f'k:{{"name":"{name}"}}': {"f:image": {}} for name in ("b", "a")}
    live = [{"name": "a", "image": "1"}, {"name": "x", "image": "2"}, {"name": "b", "image": "3"}]
    assert owned_part(live, fields) == [{"name": "a", "image": "1"}, {"name": "b", "image": "3"}]


def test_sets_of_values_keep_their_members_only() -> None:
    """A set's members are JSON values, numbers and texts."""
    assert owned_part(["a", "b", 3], {".": {}, 'v:"a"': {}, "v:3": {}}) == ["a", 3]
