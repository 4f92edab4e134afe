"""What plays a part in tests: a cluster, server-side apply, the registries and the engine."""

import json
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2

from archshift.cluster.client import APPLY, Cluster
from archshift.cluster.image_evidence import ClusterEvidence
from archshift.cluster.kinds import CONTROLLERS
from archshift.cluster.model import Inventory
from archshift.images.verdict import MULTI_ARCH
from archshift.images.workload import WorkloadVerdict

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


Json = dict[str, Any]
_Fields = tuple[str, ...]


# Lists and maps that server-side apply replaces as a whole.
_ATOMIC = ("nodeSelector", REQUIRED, PREFERRED, "selector", "tolerations", "labelSelector", "matchLabelKeys")


class FakeCluster(Cluster):
    """A cluster that holds objects: collection path to items. Remembers what it was asked."""

    def __init__(self, objects: Mapping[str, Sequence[Json]] | None = None) -> None:
        """Hold the objects; collections that are not given are empty."""
        # A client that can send nothing: no TLS context to load, and no way out to the network.
        nowhere = httpx2.MockTransport(lambda _: httpx2.Response(500))
        super().__init__(httpx2.Client(transport=nowhere), "https://cluster.example")
        self.objects = dict(objects or {})
        self.lists: list[tuple[str, dict[str, str]]] = []
        self.patches: list[tuple[str, Json, str, str]] = []

    def list(self, path: str, **parameters: str) -> Iterator[Json]:
        """Yield a collection; a selector of fields or labels selects by one of them."""
        self.lists.append((path, parameters))
        field, _, wanted = parameters.get("fieldSelector", "").partition("=")
        for item in list(self.objects.get(path, ())):
            found: Any = item
            for key in filter(None, field.split(".")):
                found = found.get(key, "")
            label, _, value = parameters.get("labelSelector", "").partition("=")
            labelled = not value or (item["metadata"].get("labels") or {}).get(label) == value
            if labelled and (not field or found == wanted):
                yield item

    def patch(self, path: str, body: Mapping[str, Any], content_type: str, field_manager: str) -> None:
        """Remember the patch."""
        self.patches.append((path, dict(body), content_type, field_manager))


class Live:
    """One workload under server-side apply."""

    def __init__(self, kind: str, base: Json) -> None:
        """Start from an object whose fields nobody owns."""
        self.kind = kind
        self.base = base
        self.values: dict[_Fields, Any] = {}
        self.owners: dict[tuple[str, str], set[_Fields]] = {}
        self.generation = 1

    def apply(self, body: Mapping[str, Any], manager: str, *, force: bool = False) -> None:
        """Apply a patch: afterwards ``manager`` owns exactly what the patch says."""
        fields = _leaves(body)
        before = dict(self.values)
        mine = (manager, "Apply")
        for path, value in fields.items():
            if path in self.values and self.values[path] != value:
                for owner, owned in self.owners.items():
                    if owner != mine and path in owned:
                        assert force, f"conflict: {path} is owned by {owner}"
                        owned.remove(path)
            self.values[path] = value
        given_up = self.owners.get(mine, set()) - set(fields)
        self.owners[mine] = set(fields)
        for path in given_up:
            if not any(path in owned for owned in self.owners.values()):
                del self.values[path]
        if {p: v for p, v in before.items() if p[0] == "spec"} != {
            p: v for p, v in self.values.items() if p[0] == "spec"
        }:
            self.generation += 1

    def update(self, body: Mapping[str, Any], manager: str) -> None:
        """Write fields as an update or merge patch does: no conflicts, ownership moves."""
        for path, value in _leaves(body).items():
            for owned in self.owners.values():
                owned.discard(path)
            self.values[path] = value
            self.owners.setdefault((manager, "Update"), set()).add(path)

    @property
    def fields(self) -> Json:
        """The applied fields as JSON."""
        return _nested(self.values)

    def json(self) -> Json:
        """The whole object, as a list returns it."""
        item: Json = json.loads(json.dumps(self.base))
        _merge(item, self.fields)
        item["metadata"]["generation"] = self.generation
        item["status"]["observedGeneration"] = self.generation
        item["metadata"]["managedFields"] = [
            {"manager": manager, "operation": operation, "fieldsV1": _field_set(paths)}
            for (manager, operation), paths in self.owners.items()
            if paths
        ]
        return item


class LiveCluster(FakeCluster):
    """A cluster of one live workload, which takes patches."""

    def __init__(self, live: Live) -> None:
        """Hold the workload."""
        super().__init__()
        self.live = live
        metadata = live.base["metadata"]
        self.collection = CONTROLLERS[live.kind][0].format(f"namespaces/{metadata['namespace']}/")

    def list(self, path: str, **parameters: str) -> Iterator[Json]:
        """Yield the workload."""
        self.objects = {self.collection: [self.live.json()]}
        yield from super().list(path, **parameters)

    def patch(self, path: str, body: Mapping[str, Any], content_type: str, field_manager: str) -> None:
        """Patch the workload."""
        super().patch(path, body, content_type, field_manager)
        if content_type == APPLY:
            self.live.apply(body, field_manager, force=True)
        else:
            self.live.update(body, field_manager)


def _leaves(value: Mapping[str, Any], path: _Fields = ()) -> dict[_Fields, Any]:
    found: dict[_Fields, Any] = {}
    for key, inner in value.items():
        here = (*path, key)
        if here in (("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace")):
            continue
        if key == "topologySpreadConstraints":
            for item in inner:
                keys = {name: item[name] for name in ("topologyKey", "whenUnsatisfiable")}
                item_key = f"k:{json.dumps(keys, separators=(',', ':'))}"
                found |= {(*here, item_key, name): setting for name, setting in item.items()}
        elif isinstance(inner, Mapping) and key not in _ATOMIC:
            found |= _leaves(inner, here)
        else:
            found[here] = inner
    return found


def _nested(values: Mapping[_Fields, Any]) -> Json:
    root: Json = {}
    items: dict[_Fields, Json] = {}
    for path, value in values.items():
        where: Any = root
        for index, key in enumerate(path[:-1]):
            if key.startswith("k:"):
                if path[: index + 1] not in items:
                    items[path[: index + 1]] = {}
                    where.append(items[path[: index + 1]])
                where = items[path[: index + 1]]
            elif key == "topologySpreadConstraints":
                where = where.setdefault(key, [])
            else:
                where = where.setdefault(key, {})
        where[path[-1]] = value
    return root


def _field_set(paths: set[_Fields]) -> Json:
    root: Json = {}
    for path in sorted(paths):
        where = root
        for key in path:
            where = where.setdefault(key if key.startswith("k:") else f"f:{key}", {})
    return root


def _merge(into: Json, other: Mapping[str, Any]) -> None:
    for key, value in other.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def proven(
    _cluster: object, inventory: Inventory, _rules: object, *, keep: bool = True, watch: object = None
) -> ClusterEvidence:
    """Stand in for the registries: every image that the inventory runs is multi-arch."""
    del keep, watch
    running = {**inventory.containers, **inventory.unsteered_workloads}
    return ClusterEvidence({key: WorkloadVerdict(key, MULTI_ARCH, (), ()) for key in running})


PULUMI = """#!{python}
import json, os, sys
with open(os.environ["FAKE_PULUMI"]) as file:
    answers = json.load(file)
arguments = sys.argv[1:]
with open(os.environ["FAKE_PULUMI"] + ".log", "a") as file:
    file.write(json.dumps(arguments) + "\\n")
answer = answers["config" if "config" in arguments else "stack"]
sys.stdout.write(answer.get("out", ""))
sys.stderr.write(answer.get("err", ""))
sys.exit(answer.get("code", 0))
"""


class FakePulumi:
    """A ``pulumi`` program on PATH that answers what it is told to."""

    def __init__(self, folder: Path) -> None:
        """Write the program."""
        self._answers = folder / "answers.json"
        program = folder / "pulumi"
        program.write_text(PULUMI.format(python=sys.executable))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        self.stack: dict[str, Any] = {"out": "dev\n"}
        self.configure(arm_ratio="0.5")

    def configure(self, **values: Any) -> None:
        """Set the stack's configuration."""
        entries = {
            f"archshift:{key}": {"value": value if isinstance(value, str) else json.dumps(value)}
            for key, value in values.items()
        }
        self.answer({"out": json.dumps({**entries, "aws:token": {"secret": True}})})

    def answer(self, config: dict[str, Any]) -> None:
        """Set the answer to ``pulumi config``."""
        self._answers.write_text(json.dumps({"stack": self.stack, "config": config}))

    @property
    def calls(self) -> list[list[str]]:
        """The arguments of every call."""
        log = Path(f"{self._answers}.log")
        return [json.loads(line) for line in log.read_text().splitlines()]


Run = Callable[..., tuple[int, str, str]]
