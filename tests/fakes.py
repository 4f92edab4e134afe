"""What plays a part in tests: a cluster, server-side apply, the registries and the engine."""

import copy
import json
import re
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from archshift.cluster.client import APPLY, MERGE, Cluster, RefusedError
from archshift.cluster.image_evidence import ClusterEvidence
from archshift.cluster.kinds import CONTROLLERS
from archshift.cluster.model import Inventory
from archshift.common.errors import ArchshiftError
from archshift.images.verdict import MULTI_ARCH
from archshift.images.workload import WorkloadVerdict

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


PODS = "/api/v1/pods"
IDENTITY = "/api/v1/namespaces/kube-system"

Json = dict[str, Any]
_Fields = tuple[str, ...]


_IDENTITY = [("metadata", key) for key in ("name", "namespace", "uid")]
# Lists and maps that server-side apply replaces as a whole.
_ATOMIC = ("nodeSelector", REQUIRED, PREFERRED, "selector", "tolerations", "labelSelector", "matchLabelKeys")


@dataclass(frozen=True)
class Apply:
    """One server-side apply."""

    path: str
    body: Json
    field_manager: str
    force: bool = False
    dry_run: bool = False


class FakeCluster(Cluster):
    """A cluster that holds objects: collection path to items. Remembers what it was asked.

    A collection of one namespace is a part of the collection of all, unless it is given itself. A test's own
    cluster says in ``before`` and ``after`` what happens meanwhile, and in ``allows`` and ``terminate`` what
    becomes of evicted pods.
    """

    def __init__(
        self, objects: Mapping[str, Sequence[Json]] | None = None, refused: Mapping[str, str] | None = None
    ) -> None:
        """Hold the objects; collections that are not given are empty.

        Args:
            objects: Collection path to items.
            refused: Paths that may not be read, with the words of the refusal.
        """
        # A client that can send nothing: no TLS context to load, and no way out to the network.
        nowhere = httpx2.MockTransport(lambda _: httpx2.Response(500))
        super().__init__(httpx2.Client(transport=nowhere), "https://cluster.example")
        self.objects = dict(objects or {})
        self.refused = dict(refused or {})
        self.lists: list[tuple[str, dict[str, str]]] = []
        self.gets: list[str] = []
        self.patches: list[tuple[str, Json, str, str]] = []
        self.applies: list[Apply] = []
        self.uid = "6a0c9f1e"
        self.created: list[tuple[str, Json, str]] = []
        self.deletions: list[tuple[str, str]] = []
        self.evicted: list[str] = []

    def before(self, verb: str, path: str) -> None:
        """What happens before an answer, or the error that is the answer."""

    def after(self, verb: str, path: str) -> None:
        """What happens after a change, or the error that is the answer."""

    def allows(self, pod: Json, uid: str) -> bool:
        """Say whether a budget allows the eviction of a pod, by the uid that is asked for."""
        del pod, uid
        return True

    def terminate(self, pod: Json) -> None:
        """What becomes of an evicted pod."""
        self.objects[PODS] = [other for other in self.objects[PODS] if other is not pod]

    def list(self, path: str, **parameters: str) -> Iterator[Json]:
        """Yield a collection; a selector of fields selects by one of them, a selector of labels by all."""
        self.lists.append((path, parameters))
        self._ask("list", path)
        field, _, wanted = parameters.get("fieldSelector", "").partition("=")
        for item in self._collection(path):
            value: Any = item
            for key in filter(None, field.split(".")):
                value = value.get(key, "")
            if _selected(item, parameters.get("labelSelector", "")) and (not field or value == wanted):
                yield item

    def get(self, path: str) -> Json:
        """Return an object."""
        self.gets.append(path)
        self._ask("get", path)
        if path == IDENTITY:
            return {"metadata": {"name": "kube-system", "uid": self.uid}}
        if path == "/apis":
            versions = sorted(
                {"/".join(name.split("/")[2:4]) for name in self.objects if name.startswith("/apis/")}
            )
            return {
                "groups": [
                    {"name": version.partition("/")[0], "preferredVersion": {"groupVersion": version}}
                    for version in versions
                ]
            }
        item = self._item(path)
        if item is None:
            raise RefusedError(f"{self.server}: {path}: not found", status=404, words="not found")
        return item

    def serves(self, group_version: str, kind: str) -> bool:
        """Say whether a collection of such a kind was given."""
        return any(
            path.startswith(f"/apis/{group_version}/") and path.endswith(f"/{_plural(kind)}")
            for path in self.objects
        )

    def apply(
        self,
        path: str,
        body: Mapping[str, Any],
        field_manager: str,
        *,
        force: bool = False,
        dry_run: bool = False,
    ) -> Json:
        """Remember the apply, and return the object, which stays as it is."""
        self.applies.append(Apply(path, dict(body), field_manager, force=force, dry_run=dry_run))
        self._ask("apply", path)
        self.after("apply", path)
        return self.get(path)

    def patch(self, path: str, body: Mapping[str, Any], content_type: str, field_manager: str) -> None:
        """Remember the patch; a merge patch changes the object."""
        self.patches.append((path, dict(body), content_type, field_manager))
        self._ask("patch", path)
        item = self._item(path)
        if item is not None and content_type == MERGE:
            _merge_patch(item, body)
        self.after("patch", path)

    def create(self, collection: str, body: Mapping[str, Any], field_manager: str = "archshift") -> bool:
        """Add an object, unless there is one of its name."""
        self.created.append((collection, dict(body), field_manager))
        self._ask("create", collection)
        name = body["metadata"].get("name", "")
        if name and self._item(f"{collection}/{name}") is not None:
            return False
        item = copy.deepcopy(dict(body))
        self.objects[collection] = [*self.objects.get(collection, ()), item]
        self.after("create", collection)
        return True

    def delete(self, path: str) -> None:
        """Remove an object; one that is gone needs no removal."""
        self.deletions.append((path, ""))
        self._ask("delete", path)
        item = self._item(path)
        self.objects = {
            name: [other for other in items if other is not item] for name, items in self.objects.items()
        }
        self.after("delete", path)

    def delete_all(self, path: str, label_selector: str) -> None:
        """Remove what the labels select."""
        self.deletions.append((path, label_selector))
        self._ask("delete", path)
        self.objects[path] = [
            item for item in self.objects.get(path, ()) if not _selected(item, label_selector)
        ]
        self.after("delete", path)

    def evict(self, namespace: str, pod: str, uid: str = "") -> bool:
        """Evict a pod where ``allows`` says so; one that is gone needs no eviction."""
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}"
        self._ask("evict", path)
        item = self._item(path)
        if item is not None:
            if not self.allows(item, uid):
                return False
            self.evicted.append(pod)
            self.terminate(item)
        self.after("evict", path)
        return True

    def _ask(self, verb: str, path: str) -> None:
        self.before(verb, path)
        if path in self.refused:
            raise ArchshiftError(self.refused[path])

    def _collection(self, path: str) -> Sequence[Json]:
        whole = re.fullmatch(r"(.+)/namespaces/([^/]+)(/[^/]+)", path)
        if path in self.objects or not whole:
            return self.objects.get(path, ())
        items = self.objects.get(whole[1] + whole[3], ())
        return [item for item in items if item["metadata"].get("namespace") == whole[2]]

    def _item(self, path: str) -> Json | None:
        collection, _, name = path.rpartition("/")
        items = self._collection(collection)
        return next((item for item in items if item["metadata"].get("name") == name), None)


def _plural(kind: str) -> str:
    name = kind.lower()
    return f"{name[:-1]}ies" if name.endswith("y") else f"{name}s"


def _selected(item: Json, selector: str) -> bool:
    """Say whether labels are what a selector such as ``a,b=c`` wants."""
    labels = item["metadata"].get("labels") or {}
    pairs = (term.partition("=") for term in selector.split(",") if term)
    return all(labels.get(key) == value if equals else key in labels for key, equals, value in pairs)


def _merge_patch(into: Json, body: Mapping[str, Any]) -> None:
    for key, value in body.items():
        if isinstance(value, Mapping):
            _merge_patch(into.setdefault(key, {}), value)
        elif value is None:
            into.pop(key, None)
        else:
            into[key] = value


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
        super().__init__()
        self.live = live
        metadata = live.base["metadata"]
        self.collection = CONTROLLERS[live.kind].collection(metadata["namespace"])

    def before(self, verb: str, path: str) -> None:
        """Show the workload as it is now."""
        del verb, path
        self.objects = {self.collection: [self.live.json()]}

    def after(self, verb: str, path: str) -> None:
        """Apply the patch."""
        del path
        if verb == "patch":
            _, body, content_type, field_manager = self.patches[-1]
            if content_type == APPLY:
                self.live.apply(body, field_manager, force=True)
            else:
                self.live.update(body, field_manager)
        if verb == "apply":
            done = self.applies[-1]
            self.live.apply(done.body, done.field_manager, force=done.force)


def _leaves(value: Mapping[str, Any], path: _Fields = ()) -> dict[_Fields, Any]:
    found: dict[_Fields, Any] = {}
    for key, inner in value.items():
        here = (*path, key)
        if here in (("apiVersion",), ("kind",)) or here in _IDENTITY:
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


class Clock:
    """A clock that only sleeping moves.

    Attributes:
        now: What ``time.monotonic`` says.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, now: float = 0.0) -> None:
        """Replace the clock and the sleep of ``time``."""
        self.now = now
        monkeypatch.setattr("time.monotonic", lambda: self.now)
        monkeypatch.setattr("time.sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
