"""What a pod requests, compared with the scheduler's own formula."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archshift.cluster.pod_needs import Admission, read_defaults, read_runtime_class, requests_of
from archshift.common.resources import Resources
from tests.build import Json

MIB = 1024**2
GPU = "nvidia.com/gpu"


def container(requests: Json | None = None, limits: Json | None = None, **more: Any) -> Json:
    resources = {"requests": requests, "limits": limits}
    return {"name": "app", "resources": {key: value for key, value in resources.items() if value}, **more}


def sidecar(**requests: Any) -> Json:
    return container(requests, restartPolicy="Always")


def pod_spec(*containers: Json, init: tuple[Json, ...] = (), **more: Any) -> Json:
    return {"containers": list(containers), "initContainers": list(init), **more}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (pod_spec(container(limits={"cpu": "1", "memory": "1Gi"})), Resources(1000, 1024 * MIB)),
        (
            pod_spec(container({"cpu": "100m"}, {"cpu": "1", "memory": "64Mi"})),
            Resources(100, 64 * MIB),
        ),
        # 1 of the sidecar and 2 of the init container that starts after it, against 1.1 afterwards.
        (
            pod_spec(container({"cpu": "100m"}), init=(sidecar(cpu="1"), container({"cpu": "2"}))),
            Resources(3000),
        ),
        # An init container before the sidecar runs alone.
        (
            pod_spec(container({"cpu": "100m"}), init=(container({"cpu": "2"}), sidecar(cpu="1"))),
            Resources(2000),
        ),
        (
            pod_spec(container({"cpu": "2"}), init=(sidecar(cpu="1"), container({"cpu": "1500m"}))),
            Resources(3000),
        ),
        (
            pod_spec(container({"cpu": "1"}), resources={"requests": {"cpu": "700m", "memory": "256Mi"}}),
            Resources(700, 256 * MIB),
        ),
        # Only for the resource that the pod states; the rest is the containers' sum.
        (
            pod_spec(container({"cpu": "1", "memory": "64Mi"}), resources={"requests": {"cpu": "2"}}),
            Resources(2000, 64 * MIB),
        ),
        (pod_spec(container(), resources={"limits": {"cpu": "2"}}), Resources(2000)),
        (pod_spec(container({"cpu": "500m"}), resources={"limits": {"cpu": "2"}}), Resources(500)),
        (
            pod_spec(container({"cpu": "1"}), overhead={"cpu": "250m", "memory": "128Mi"}),
            Resources(1250, 128 * MIB),
        ),
        (
            pod_spec(container(), resources={"requests": {"cpu": "1"}}, overhead={"cpu": "250m"}),
            Resources(1250),
        ),
        (
            pod_spec(container(limits={GPU: "2", "hugepages-2Mi": "4Mi"}), container({GPU: "1"})),
            Resources(0, 0, 1, (("hugepages-2Mi", 4 * MIB), (GPU, 3))),
        ),
        (
            pod_spec(container({"ephemeral-storage": "1Gi", "aws.amazon.com/neuron": "1"})),
            Resources(0, 0, 1, (("aws.amazon.com/neuron", 1), ("ephemeral-storage", 1024 * MIB))),
        ),
        (pod_spec(container({GPU: "0"})), Resources()),
        # The device of an init container is enough for the container after it.
        (
            pod_spec(container({GPU: "1"}), init=(container({GPU: "2"}),)),
            Resources(0, 0, 1, ((GPU, 2),)),
        ),
        (pod_spec(), Resources()),
    ],
)
def test_what_the_scheduler_counts(spec: Json, expected: Resources) -> None:
    assert requests_of(spec) == expected
    assert Admission().requests_of("shop", spec) == expected


def limit_range(namespace: str, *limits: Json) -> Json:
    return {"metadata": {"namespace": namespace}, "spec": {"limits": list(limits)}}


@pytest.mark.parametrize(
    ("spec", "millicpu", "mib"),
    [
        (pod_spec(container()), 500, 512),
        (pod_spec(container(), container({"cpu": "1"})), 1500, 1024),
        (pod_spec(container(limits={"cpu": "2"})), 2000, 512),
        (pod_spec(container({"cpu": "0", "memory": "0"})), 0, 0),
        (pod_spec(container(), init=(container({"cpu": "700m"}),)), 700, 512),
        (pod_spec(container(), init=(sidecar(),)), 1000, 1024),
        # A pod's own limit becomes its request before the LimitRange changes its containers.
        (pod_spec(container(), resources={"limits": {"cpu": "2"}}), 2000, 512),
        (pod_spec(container(), resources={"requests": {"cpu": "100m"}}), 100, 512),
    ],
)
def test_a_template_gets_the_defaults_of_its_namespace(spec: Json, millicpu: int, mib: int) -> None:
    """A live pod already has them."""
    ranges = [
        limit_range(
            "shop",
            {"type": "Container", "defaultRequest": {"cpu": "500m", "memory": "512Mi"}},
            {"type": "Pod", "max": {"cpu": "8"}},
            {"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}},
        ),
        limit_range("shop", {"type": "Container", "defaultRequest": {"cpu": "100m"}}),
        limit_range("other", {"type": "Container", "defaultRequest": {"cpu": "8"}}),
        limit_range("empty", {"type": "Container", "max": {"cpu": "8"}}),
    ]
    admission = Admission(read_defaults(ranges))
    assert admission.requests_of("shop", spec) == Resources(millicpu, mib * MIB)
    assert admission.requests_of("third", spec) == requests_of(spec)


def test_a_runtime_class_adds_its_overhead_to_a_template() -> None:
    item = {
        "metadata": {"name": "sandboxed"},
        "overhead": {"podFixed": {"cpu": "250m", "memory": "128Mi"}},
        "scheduling": {
            "nodeSelector": {"kubernetes.io/arch": "amd64"},
            "tolerations": [{"key": "sandbox", "operator": "Exists"}],
        },
    }
    runtime_class = read_runtime_class(item)
    assert (runtime_class.node_selector, runtime_class.tolerations) == (
        {"kubernetes.io/arch": "amd64"},
        ({"key": "sandbox", "operator": "Exists"},),
    )
    admission = Admission(runtime_classes={"sandboxed": runtime_class})
    spec = pod_spec(container({"cpu": "100m"}), runtimeClassName="sandboxed")
    assert admission.requests_of("shop", spec) == Resources(350, 128 * MIB)
    assert requests_of(spec) == Resources(100), "a live pod has the overhead in its own spec"
    assert read_runtime_class({"metadata": {"name": "plain"}}) == admission.runtime_class({})


@pytest.mark.parametrize(
    ("status", "millicpu"),
    [
        ({}, 500),
        ({"resources": {"requests": {"cpu": "500m"}}, "allocatedResources": {"cpu": "500m"}}, 500),
        ({"resources": {"requests": {"cpu": "2"}}, "allocatedResources": {"cpu": "500m"}}, 2000),
        ({"resources": {"requests": {"cpu": "500m"}}, "allocatedResources": {"cpu": "1"}}, 1000),
        ({"resources": {}, "allocatedResources": None}, 500),
    ],
)
def test_during_a_resize_the_larger_amount_counts(status: Json, millicpu: int) -> None:
    """The node has not given anything back before the resize has ended."""
    statuses = {"containerStatuses": [{"name": "app", **status}, {"name": "other"}]}
    assert requests_of(pod_spec(container({"cpu": "500m"})), statuses) == Resources(millicpu)


AMOUNTS = st.dictionaries(
    st.sampled_from(["cpu", "memory", GPU, "ephemeral-storage"]), st.integers(0, 5).map(str), max_size=3
)


def reference(spec: Mapping[str, Any]) -> dict[str, int]:
    """The formula of https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers, word by word:
    the higher of the sum of containers and sidecars, and the highest of any init container's request together
    with the sidecars that come before it.
    """
    names = {"cpu", "memory", GPU, "ephemeral-storage"}

    def requested(one: Mapping[str, Any], name: str) -> int:
        resources = one.get("resources") or {}
        amounts = [(resources.get(key) or {}).get(name) for key in ("requests", "limits")]
        return int(next((amount for amount in amounts if amount is not None), 0))

    totals = {}
    for name in names:
        sidecars = [one for one in spec["initContainers"] if one.get("restartPolicy") == "Always"]
        running = sum(requested(one, name) for one in [*spec["containers"], *sidecars])
        starting = [
            requested(one, name)
            + sum(requested(other, name) for other in spec["initContainers"][:at] if other in sidecars)
            for at, one in enumerate(spec["initContainers"])
            if one not in sidecars
        ]
        of_pod = ((spec.get("resources") or {}).get("requests") or {}).get(name)
        total = max([running, *starting])
        if of_pod is not None and name in ("cpu", "memory"):
            total = int(of_pod)
        totals[name] = total + int((spec.get("overhead") or {}).get(name, 0))
    return totals


def containers(**more: Any) -> st.SearchStrategy[Json]:
    return st.builds(lambda requests, limits: container(requests, limits, **more), AMOUNTS, AMOUNTS)


@given(
    main=st.lists(containers(), min_size=1, max_size=3),
    init=st.lists(st.one_of(containers(), containers(restartPolicy="Always")), max_size=4),
    of_pod=AMOUNTS,
    overhead=AMOUNTS,
)
def test_it_agrees_with_the_written_formula(
    main: list[Json], init: list[Json], of_pod: Json, overhead: Json
) -> None:
    for number, one in enumerate([*main, *init]):
        one["name"] = f"c-{number}"
    spec = pod_spec(*main, init=tuple(init), resources={"requests": of_pod}, overhead=overhead)
    expected = reference(spec)
    found = requests_of(spec)
    assert (found.millicpu, found.memory) == (1000 * expected.pop("cpu"), expected.pop("memory"))
    assert dict(found.devices) == {name: amount for name, amount in expected.items() if amount}
