"""With placement at admission, a step evicts exactly the pods on the wrong side, within each one's limits."""

import contextlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from time import sleep as real_sleep
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archshift.actions.evictions import Allowance
from archshift.actions.moving import move_pods, set_back_entries
from archshift.actions.rollout_limits import RolloutLimits
from archshift.actions.rollouts import StepResult
from archshift.cluster.canaries import read_canaries
from archshift.cluster.client import BusyError, RefusedError
from archshift.cluster.entries import PLACED_ANNOTATION, Entry, Scaling, entry_key, policy_name
from archshift.cluster.kinds import CONTROLLERS
from archshift.cluster.live_placement import POLICIES, REPLACED_ANNOTATION, entries_in
from archshift.cluster.pod_fields import INEXACT_ANNOTATION
from archshift.common.architectures import AMD64
from archshift.common.errors import ArchshiftError, UnavailableError
from archshift.plan.admission import policy
from archshift.plan.model import PlannedWorkload
from archshift.plan.placement import max_skew, preferred_side
from tests.build import Json, node, planned, pod, workload
from tests.fakes import PODS, Clock, FakeCluster

STACK = "prod"
X86 = "all on amd64"
LIMITS = RolloutLimits(longest=5000.0, no_progress=60.0)
MAPS = "/api/v1/configmaps"
POLICY = policy_name(STACK, "shop")
RESTARTED = "kubectl.kubernetes.io/restartedAt"
LONG_AGO = "2026-01-01T00:00:00Z"
CRASH = {
    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
    "lastState": {"terminated": {"exitCode": 1, "message": "exec /app: exec format error"}},
}
SIDES = {"arm64": "arm", "amd64": "intel"}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch, 1000.0)


@dataclass
class Running:
    """A pod of the simulated cluster."""

    name: str
    uid: str
    of: str
    revision: int
    born: float
    node: str = ""
    placed_by: str = ""
    old: bool = False


@dataclass
class Controller:
    """A workload of the simulated cluster."""

    kind: str
    name: str
    replicas: int
    spec: Json = field(default_factory=dict)
    breaks_on: tuple[str, ...] = ()
    starts_in: float = 1.0
    generation: int = 4
    observed: int = 4
    restarted: str = ""
    revision: int = 1
    image: str = "app:1"
    most_away: int = 0
    ordinals: list[str] = field(default_factory=list)

    @property
    def limit(self) -> int:
        """How many pods may be away."""
        if self.kind in CONTROLLERS:
            return CONTROLLERS[self.kind].most_away({**self.spec, "replicas": self.replicas})
        return max(1, self.replicas // 4)


class Fleet(FakeCluster):
    """A cluster that replaces evicted pods, places them by their entries, and makes them ready later."""

    def __init__(self, clock: Clock, *, room: int = 1000) -> None:
        super().__init__({"/api/v1/nodes": [node("intel", "amd64"), node("arm")], MAPS: []})
        self.clock, self.room = clock, room
        self.workloads: dict[str, Controller] = {}
        self.running: list[Running] = []
        self.numbers = itertools.count()
        self.budgets: dict[str, int] = {}
        self.unseen = 0
        """So many next pods are placed by the entry before."""
        self.before_entries: dict[str, str] = {}
        self.wrong_evictions: list[str] = []
        self.restarts: list[str] = []
        self.crowds: list[str] = []
        """Evictions beside a first pod that was not ready yet."""

    # --- filling it ---

    def add(
        self,
        name: str,
        replicas: int,
        wanted: int,
        *,
        on_arm: int = 0,
        kind: str = "Deployment",
        spec: Mapping[str, Any] | None = None,
        old: str = "all on amd64",
        scaling: Scaling | None = None,
        **options: Any,
    ) -> PlannedWorkload:
        """Add a workload and its entry; return its row."""
        of = Controller(kind, name, replicas, dict(spec or {}), **options)
        self.workloads[f"shop/{kind}/{name}"] = of
        for index in range(replicas):
            made = self._make(of, place=False, ordinal=index)
            made.node, made.placed_by = ("arm" if index < on_arm else "intel"), old
            made.born, made.old = -1e6, True
        entry = str(Entry(wanted, replicas, scaling=scaling))
        self.set_entry(kind, name, entry)
        self.before_entries[f"shop/{kind}/{name}"] = old
        live = kind in CONTROLLERS
        record = CONTROLLERS.get(kind)
        away = record.most_away({**of.spec, "replicas": replicas}) if record else 1
        recreate = record is not None and record.ends_all_first(of.spec)
        return planned(
            name,
            replicas,
            wanted,
            kind=kind,
            graviton=on_arm,
            entry=entry,
            movable=True,
            restarts=live and (away < 1 or recreate),
        )

    def set_entry(self, kind: str, name: str, entry: str) -> None:
        data = {**self.data, entry_key(kind, name): entry}
        made = policy(STACK, "shop", data)
        for former in self.objects.get(POLICIES.collection(), ()):
            # The engine owns no annotation that another client wrote, and leaves it.
            made["metadata"]["annotations"] = dict(former["metadata"].get("annotations") or {})
        self.objects[POLICIES.collection()] = [made]

    def sides(self, name: str) -> tuple[int, int]:
        """How many of its pods are on x86 and on Graviton."""
        own = [each.node for each in self.running if each.of.endswith(f"/{name}")]
        return own.count("intel"), own.count("arm")

    def entry(self, kind: str, name: str) -> str:
        return self.data[entry_key(kind, name)]

    @property
    def data(self) -> dict[str, str]:
        """The entries in the policy."""
        items = self.objects.get(POLICIES.collection()) or ()
        return entries_in(items[0]) if items else {}

    # --- what a cluster does by itself ---

    def _key(self, of: Controller) -> str:
        return f"shop/{of.kind}/{of.name}"

    def _make(self, of: Controller, *, place: bool = True, ordinal: int | None = None) -> Running:
        number = next(self.numbers)
        name = f"{of.name}-{ordinal}" if of.kind == "StatefulSet" else f"{of.name}-{number}"
        made = Running(name, f"uid-{number}", self._key(of), of.revision, self.clock.now)
        if place:
            self._place(of, made)
        self.running.append(made)
        return made

    def _place(self, of: Controller, made: Running) -> None:
        text = self.entry(of.kind, of.name)
        if self.unseen > 0:
            self.unseen -= 1
            text = self.before_entries[made.of]
        made.placed_by = text
        entry = Entry.parse(text)
        counts = dict.fromkeys(SIDES, 0)
        for other in self.running:
            if other.of == made.of and other.node and other.revision == made.revision:
                counts["arm64" if other.node == "arm" else "amd64"] += 1
        if entry is None or entry.scaling:
            # An entry that keeps a ratio lets a successor come back to its side.
            made.node = "intel"
            return
        if entry.graviton in (0, entry.replicas):
            choices = ["arm64" if entry.graviton else "amd64"]
        else:
            skew = max_skew(entry.graviton, entry.replicas)
            first = preferred_side(entry.graviton, entry.replicas)
            order = [first, *(side for side in SIDES if side != first)]
            choices = [side for side in order if counts[side] + 1 - min(counts.values()) <= skew]
        for side in choices:
            if side == "arm64":
                if self.room <= 0:
                    continue
                self.room -= 1
            made.node = SIDES[side]
            return

    def ready(self, each: Running) -> bool:
        of = self.workloads[each.of]
        if not each.node or (("arm64" if each.node == "arm" else "amd64") in of.breaks_on and not each.old):
            return False
        return self.clock.now - each.born >= of.starts_in

    def complete(self, key: str) -> bool:
        """Whether all pods of a workload are available."""
        own = [each for each in self.running if each.of == key]
        return len(own) == self.workloads[key].replicas and all(map(self.available, own))

    def available(self, each: Running) -> bool:
        of = self.workloads[each.of]
        wait = of.starts_in + float(of.spec.get("minReadySeconds") or 0)
        return self.ready(each) and self.clock.now - each.born >= wait

    def _roll(self, of: Controller) -> None:
        """Go one step on with a rollout: one more pod first, or all pods at once."""
        own = [each for each in self.running if each.of == self._key(of)]
        old = [each for each in own if each.revision != of.revision]
        new = [each for each in own if each.revision == of.revision]
        if of.spec.get("strategy", {}).get("type") == "Recreate":
            for each in old:
                self.running.remove(each)
            while len([each for each in self.running if each.of == self._key(of)]) < of.replicas:
                self._make(of)
            return
        if old and all(map(self.available, new)):
            if len(own) > of.replicas:
                self.running.remove(old[0])
            else:
                self._make(of)

    def tick(self) -> None:
        for key, of in self.workloads.items():
            of.observed = of.generation
            own = [each for each in self.running if each.of == key]
            if any(each.revision != of.revision for each in own):
                self._roll(of)
            elif of.kind == "StatefulSet":
                names = {each.name for each in own}
                for index in range(of.replicas):
                    if f"{of.name}-{index}" not in names:
                        self._make(of, ordinal=index)
            else:
                for _ in range(of.replicas - len(own)):
                    self._make(of)
            self.note(of)

    def note(self, of: Controller) -> None:
        """Remember the most pods that were away at a time."""
        there = sum(self.available(each) for each in self.running if each.of == self._key(of))
        of.most_away = max(of.most_away, of.replicas - there)

    # --- what it answers ---

    def before(self, verb: str, path: str) -> None:
        """Let time pass, and show everything as it is now."""
        if verb == "list" and path.endswith("nodes"):
            self.tick()
        for kind in ("Deployment", "StatefulSet"):
            collection = CONTROLLERS[kind].collection("shop")
            self.objects[collection] = [self.show(of) for of in self.workloads.values() if of.kind == kind]
        self.objects[PODS] = [self.show_pod(each) for each in self.running]

    def show(self, of: Controller) -> Json:
        item = workload(of.kind, of.name, replicas=of.replicas, spec=of.spec)
        item["metadata"]["generation"] = of.generation
        own = [each for each in self.running if each.of == self._key(of)]
        item["status"] = {
            "observedGeneration": of.observed,
            "replicas": len(own),
            "updatedReplicas": sum(each.revision == of.revision for each in own),
            "availableReplicas": sum(map(self.available, own)),
        }
        return item

    def show_pod(self, each: Running) -> Json:
        of = self.workloads[each.of]
        owner, labels = (of.kind, of.name), {}
        if of.kind == "Deployment":
            hash_ = f"r{each.revision}"
            owner, labels = ("ReplicaSet", f"{of.name}-{hash_}"), {"pod-template-hash": hash_}
        item = pod(each.name, each.node, owner=owner, labels=labels)
        item["metadata"]["uid"] = each.uid
        state = (each.node, self.ready(each), self.clock.now - each.born >= 1)
        item["metadata"]["resourceVersion"] = f"{state}"
        item["metadata"]["annotations"] = {PLACED_ANNOTATION: each.placed_by} if each.placed_by else {}
        item["spec"]["containers"][0]["image"] = of.image
        ready = {"type": "Ready", "status": str(self.ready(each))}
        item["status"] = {"phase": "Running", "conditions": [ready]}
        if each.old:
            ready["lastTransitionTime"] = LONG_AGO
        broken = each.node and ("arm64" if each.node == "arm" else "amd64") in of.breaks_on and not each.old
        if broken and self.clock.now - each.born >= 1:
            item["status"]["containerStatuses"] = [{"name": "main", "ready": False, **CRASH}]
        if not each.node:
            item["status"] = {
                "phase": "Pending",
                "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/2 nodes"}],
            }
        return item

    def allows(self, pod: Json, uid: str) -> bool:
        """Evict unless a budget is used up; remember evictions of pods that are where they belong."""
        assert uid == pod["metadata"]["uid"]
        each = next(each for each in self.running if each.uid == uid)
        of = self.workloads[each.of]
        if self.budgets.get(of.name, 1) <= 0:
            return False
        entry = Entry.parse(self.entry(of.kind, of.name))
        assert entry
        wanted = of.replicas if entry.graviton == entry.replicas else entry.graviton
        x86, arm = self.sides(of.name)
        others = [other for other in self.running if other.of == each.of and other is not each]
        alone = len(others) == of.replicas - 1 and all(map(self.available, others))
        proven = any(other.node == "arm" and self.ready(other) for other in others)
        if each.node == "intel" and not (alone or proven):
            self.crowds.append(each.name)
        stranded = not each.node and each.placed_by != self.entry(of.kind, of.name)
        if not (stranded or (arm > wanted if each.node == "arm" else x86 > of.replicas - wanted)):
            self.wrong_evictions.append(each.name)
        return True

    def terminate(self, pod: Json) -> None:
        """End it; its successor comes with the next look."""
        each = next(each for each in self.running if each.uid == pod["metadata"]["uid"])
        self.running.remove(each)
        self.note(self.workloads[each.of])

    def create(self, collection: str, body: Mapping[str, Any], field_manager: str = "archshift") -> bool:
        """Create a ConfigMap of the shop beside the entries."""
        assert collection == "/api/v1/namespaces/shop/configmaps"
        self._ask("create", collection)
        self.created.append((collection, dict(body), field_manager))
        item = {**body, "metadata": {**body["metadata"], "namespace": "shop"}}
        if any(other["metadata"]["name"] == item["metadata"]["name"] for other in self.objects[MAPS]):
            return False
        self.objects[MAPS] = [*self.objects[MAPS], item]
        return True

    def after(self, verb: str, path: str) -> None:
        """Begin a rollout after a restart."""
        if verb != "patch" or "/apps/v1/" not in path or "spec" not in self.patches[-1][1]:
            return
        _, body, _, manager = self.patches[-1]
        stamp = body["spec"]["template"]["metadata"]["annotations"][RESTARTED]
        assert stamp.endswith("Z")
        assert manager == "archshift/prod/patches"
        kind = "Deployment" if "deployments" in path else "StatefulSet"
        of = self.workloads[f"shop/{kind}/{path.rpartition('/')[2]}"]
        of.generation += 1
        of.revision += 1
        self.restarts.append(of.name)


def move(
    cluster: FakeCluster, *rows: PlannedWorkload, limits: RolloutLimits = LIMITS, **options: Any
) -> StepResult:
    return move_pods(
        cluster, rows, stack_label=STACK, field_manager="archshift/prod/patches", limits=limits, **options
    )


# --- which pods move ------------------------------------------------------------------------

SCALING = Scaling(within=18, spread=1, side=AMD64, weight=47)


def test_pods_that_a_soft_rule_of_a_patch_sends_back_are_noted(clock: Clock) -> None:
    """So that the next rebalance does not restart them again. With an entry, an exact one is possible."""
    fleet = Fleet(clock)
    row = replace(fleet.add("cart", 10, 4, on_arm=3, scaling=SCALING), entry="")
    done = move(fleet, row)
    assert (len(fleet.evicted), fleet.sides("cart")) == (1, (7, 3))
    assert row.key in done.inexact
    ((_, body, _, _),) = [one for one in fleet.patches if "deployments" in one[0]]
    assert body["metadata"]["annotations"][INEXACT_ANNOTATION].endswith(";3;1")


@pytest.mark.parametrize("wanted", [0, 4, 10])
def test_pods_of_an_autoscaled_workload_move_by_an_exact_entry(clock: Clock, wanted: int) -> None:
    """By its own entry their successors may come back. Afterwards its own entry is there again."""
    fleet = Fleet(clock)
    rows = [
        fleet.add("cart", 10, wanted, on_arm=2, scaling=SCALING),
        fleet.add("web", 5, 3, on_arm=3, scaling=SCALING),
        fleet.add("db", 4, 2),
    ]
    before = fleet.data
    assert move(fleet, *rows) == StepResult()
    assert [fleet.sides(name) for name in ("cart", "web", "db")] == [(10 - wanted, wanted), (2, 3), (2, 2)]
    assert (len(fleet.evicted), fleet.wrong_evictions) == (abs(wanted - 2) + 2, [])
    assert fleet.data == before
    placed = {each.placed_by for each in fleet.running if each.of.endswith("/cart") and not each.old}
    assert placed == {str(Entry(wanted, 10))}


def test_an_autoscaled_workload_that_goes_back_to_x86_stays_there(clock: Clock) -> None:
    """Its own entry does not come back: its image does not run on Graviton."""
    fleet = Fleet(clock)
    row = fleet.add("cart", 10, 4, scaling=SCALING, breaks_on=("arm64",))
    done = move(fleet, row)
    assert "its pods are back on x86" in done.failures[row.key]
    assert (fleet.sides("cart"), fleet.entry("Deployment", "cart")) == ((10, 0), "all on amd64")


def test_an_entry_that_somebody_changed_meanwhile_stays(clock: Clock) -> None:
    """The pods of that workload move by what is there, and those of others by their exact entries."""
    fleet = Fleet(clock)
    row, other = fleet.add("cart", 4, 2, scaling=SCALING), fleet.add("web", 4, 2, scaling=SCALING)
    fleet.set_entry("Deployment", "cart", "all on arm64")
    move(fleet, row, other)
    assert fleet.entry("Deployment", "cart") == "all on arm64"
    assert (fleet.sides("web"), fleet.entry("Deployment", "web")) == ((2, 2), other.entry)


def test_an_autoscaled_workload_has_its_own_entry_again_after_an_interruption(clock: Clock) -> None:
    """Somebody stops the update while its pods move."""

    class Stopped(Fleet):
        def allows(self, pod: Json, uid: str) -> bool:
            if len(self.evicted) == 2:
                raise KeyboardInterrupt
            return super().allows(pod, uid)

    fleet = Stopped(clock)
    row = fleet.add("cart", 10, 4, scaling=SCALING)
    with pytest.raises(KeyboardInterrupt):
        move(fleet, row)
    assert fleet.entry("Deployment", "cart") == row.entry


def test_an_interruption_before_the_first_move_leaves_no_exact_entry(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While archshift waits until the API server sees the entries."""
    fleet = Fleet(clock)
    row = fleet.add("cart", 10, 4, scaling=SCALING)
    seen = []

    def interrupted(_: float) -> None:
        seen.append(fleet.entry("Deployment", "cart"))
        raise KeyboardInterrupt

    monkeypatch.setattr("archshift.actions.moving.time.sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        move(fleet, row)
    assert (seen, fleet.entry("Deployment", "cart")) == (["4 of 10 on arm64"], row.entry)


class KilledError(BaseException):
    """Nothing runs after this."""


class Killed(Fleet):
    """A cluster in which the command is killed at an eviction, and can write nothing more."""

    dead = False

    def before(self, verb: str, path: str) -> None:
        if self.dead:
            raise KilledError
        super().before(verb, path)

    def allows(self, pod: Json, uid: str) -> bool:
        if len(self.evicted) == 2:
            self.dead = True
            raise KilledError
        return super().allows(pod, uid)


def killed(clock: Clock) -> tuple[Killed, PlannedWorkload, PlannedWorkload]:
    """Two workloads whose exact entries were left."""
    fleet = Killed(clock)
    rows = fleet.add("cart", 10, 4, scaling=SCALING), fleet.add("web", 10, 4, scaling=SCALING)
    with pytest.raises(KilledError):
        move(fleet, *rows)
    fleet.dead = False
    assert (fleet.entry("Deployment", "cart"), fleet.entry("Deployment", "web")) == ("4 of 10 on arm64",) * 2
    return fleet, *rows


def test_the_entries_that_a_killed_command_left_are_set_back(clock: Clock) -> None:
    """Once, and nothing is written where nothing was left."""
    fleet, cart, web = killed(clock)
    assert set_back_entries(fleet, "staging", {}) == {}
    assert set_back_entries(fleet, STACK, {}) == {cart.key: "", web.key: ""}
    assert fleet.data == {entry_key("Deployment", row.name): row.entry for row in (cart, web)}
    written = len(fleet.patches)
    assert set_back_entries(fleet, STACK, {}) == {}
    assert len(fleet.patches) == written


def test_an_entry_that_somebody_changed_since_is_not_set_back(clock: Clock) -> None:
    """Such as the next update, or a workload that went back to x86."""
    fleet, _, web = killed(clock)
    fleet.set_entry("Deployment", "cart", "all on amd64")
    assert set_back_entries(fleet, STACK, {}) == {web.key: ""}
    assert fleet.entry("Deployment", "cart") == "all on amd64"


@pytest.mark.parametrize(
    "note",
    [
        "no JSON",
        "[1]",
        "[" * 100_000,
        '{"Deployment.cart": "x"}',
        '{"Deployment.cart": ["4 of 10 on arm64", "x y"]}',
    ],
)
def test_a_note_that_archshift_did_not_write_changes_no_entry(clock: Clock, note: str) -> None:
    fleet, _, _ = killed(clock)
    before = fleet.data
    fleet.objects[POLICIES.collection()][0]["metadata"]["annotations"] = {REPLACED_ANNOTATION: note}
    assert set_back_entries(fleet, STACK, {}) == {}
    assert fleet.data == before


def test_an_entry_that_cannot_be_set_back_says_why(clock: Clock) -> None:
    fleet, cart, _ = killed(clock)

    def before(verb: str, path: str) -> None:
        if verb == "patch" and path.startswith(POLICIES.collection()):
            raise NO

    fleet.before = before  # type: ignore[method-assign]
    assert (
        set_back_entries(fleet, STACK, {})[cart.key] == "the API server refuses its entry in the policy (no)"
    )


class Unwilling(Fleet):
    """A cluster that answers some changes of a policy with an error, after the first one."""

    failures: tuple[ArchshiftError | None, ...] = ()
    asked = 0

    def before(self, verb: str, path: str) -> None:
        super().before(verb, path)
        if verb == "patch" and path.startswith(POLICIES.collection()):
            self.asked += 1
            error = self.failures[self.asked - 1] if self.asked <= len(self.failures) else None
            if error:
                raise error


AWAY = UnavailableError("the cluster cannot be reached")
CONFLICT = RefusedError("conflict", status=409, words="the object has been modified")
NO = RefusedError("not allowed", status=403, words="no")


@pytest.mark.parametrize("failures", [(None, AWAY, AWAY), (CONFLICT,), (None, CONFLICT), (AWAY,)])
def test_an_entry_is_written_when_the_api_server_answers_again(
    clock: Clock, failures: tuple[ArchshiftError | None, ...]
) -> None:
    """Or when nobody else writes the policy at the same moment."""
    fleet = Unwilling(clock)
    fleet.failures = failures
    row = fleet.add("cart", 10, 4, scaling=SCALING)
    assert move(fleet, row) == StepResult()
    assert (fleet.sides("cart"), fleet.entry("Deployment", "cart")) == ((6, 4), row.entry)


@pytest.mark.parametrize("error", [NO, AWAY])
def test_an_exact_entry_that_stays_is_named(clock: Clock, error: ArchshiftError) -> None:
    """The moves count, and the next update sets it back."""
    fleet = Unwilling(clock)
    fleet.failures = (None, *(error,) * 100)
    row = fleet.add("cart", 10, 4, scaling=SCALING)
    done = move(fleet, row)
    assert (done.failures, fleet.sides("cart")) == ({}, (6, 4))
    assert done.notes[row.key].startswith("its entry is still the exact one of this step, because ")
    assert done.notes[row.key].endswith("; run pulumi up")


def test_exactly_the_pods_on_the_wrong_side_are_evicted(clock: Clock) -> None:
    fleet = Fleet(clock)
    rows = [fleet.add("cart", 10, 4), fleet.add("web", 8, 8, on_arm=5), fleet.add("db", 5, 0, on_arm=2)]
    assert move(fleet, *rows) == StepResult()
    assert [fleet.sides(name) for name in ("cart", "web", "db")] == [(6, 4), (0, 8), (5, 0)]
    assert (len(fleet.evicted), fleet.wrong_evictions, fleet.patches) == (4 + 3 + 2, [], [])


def test_where_all_is_right_nothing_is_read(clock: Clock) -> None:
    fleet = Fleet(clock)
    rows = [fleet.add("cart", 10, 0), fleet.add("web", 8, 3, on_arm=3)]
    rows.append(planned("left", 3, None))
    assert move(fleet, *rows) == StepResult()
    assert (fleet.lists, fleet.gets, fleet.evicted) == ([], [], [])


def test_workloads_of_a_namespace_are_read_together(clock: Clock) -> None:
    """One list of pods and one of each kind a look, however many workloads there are."""
    fleet = Fleet(clock)
    rows = [fleet.add(f"web-{number}", 4, 1) for number in range(50)]
    assert move(fleet, *rows) == StepResult()
    looks = sum(path == "/api/v1/nodes" for path, _ in fleet.lists)
    assert len(fleet.lists) == 3 * looks
    assert looks < 20
    assert len(fleet.evicted) == 50


def test_an_update_that_was_killed_goes_on(clock: Clock) -> None:
    class Killed(Fleet):
        def after(self, verb: str, path: str) -> None:
            super().after(verb, path)
            if verb == "evict" and len(self.evicted) == 3:
                raise KeyboardInterrupt

    fleet = Killed(clock)
    row = fleet.add("cart", 10, 6)
    with pytest.raises(KeyboardInterrupt):
        move(fleet, row)
    assert move(fleet, row) == StepResult()
    assert (fleet.sides("cart"), len(fleet.evicted)) == ((4, 6), 6)


@pytest.mark.parametrize("kind", ["ReplicaSet", "Rollout", "MetricStore"])
def test_kinds_without_known_limits_lose_a_quarter_at_a_time(clock: Clock, kind: str) -> None:
    fleet = Fleet(clock)
    big, small = fleet.add("big", 12, 12, kind=kind), fleet.add("small", 3, 2, kind=kind)
    assert move(fleet, big, small) == StepResult()
    assert (fleet.sides("big"), fleet.sides("small")) == ((0, 12), (1, 2))
    assert fleet.workloads[f"shop/{kind}/big"].most_away == 3
    assert fleet.workloads[f"shop/{kind}/small"].most_away == 1


def test_jobs_and_bare_pods_are_never_evicted(clock: Clock) -> None:
    fleet = Fleet(clock)
    rows = [fleet.add("batch", 3, 3, kind="Job"), planned("alone", 1, 1, kind="Pod")]
    assert move(fleet, *rows) == StepResult()
    assert fleet.evicted == []


def test_a_stateful_set_moves_by_ordinal_and_one_at_a_time(clock: Clock) -> None:
    fleet = Fleet(clock)
    row = fleet.add("db", 5, 3, kind="StatefulSet")
    assert move(fleet, row) == StepResult()
    assert fleet.evicted == ["db-4", "db-3", "db-2"]
    assert fleet.workloads["shop/StatefulSet/db"].most_away == 1


def test_of_an_autoscaled_stateful_set_those_pods_move_that_keep_the_share_at_every_scale(
    clock: Clock,
) -> None:
    """It ends the highest ordinals first: with 2 of 5, 1 of 2 or 3 pods are left on Graviton, and 0 of 1."""
    fleet = Fleet(clock)
    row = replace(fleet.add("db", 5, 2, kind="StatefulSet"), autoscaled=True)
    assert move(fleet, row) == StepResult()
    assert fleet.evicted == ["db-3", "db-1"]


def test_no_pod_of_a_stateful_set_goes_while_another_is_not_ready(clock: Clock) -> None:
    """Even if its own limit permits more."""
    rolling = {"updateStrategy": {"rollingUpdate": {"maxUnavailable": 3}}}
    fleet = Fleet(clock)
    row = fleet.add("db", 5, 3, kind="StatefulSet", spec=rolling)
    broken = next(each for each in fleet.running if each.name == "db-0")
    broken.born, broken.old = 1e9, False
    result = move(fleet, row, incomplete=[row.key])
    assert fleet.evicted == []
    assert result.notes == {row.key: "it was incomplete before the step and stands still: 4 of 5 pods ready"}


# --- limits ---------------------------------------------------------------------------------


def test_a_budget_that_allows_no_eviction_stops_only_its_workload(clock: Clock) -> None:
    fleet = Fleet(clock)
    fleet.budgets["tight"] = 0
    tight, cart = fleet.add("tight", 4, 2), fleet.add("cart", 8, 4)
    assert move(fleet, tight, cart).inexact == {tight.key: "its PodDisruptionBudget allows no eviction"}
    assert (fleet.sides("tight"), fleet.sides("cart")) == ((4, 0), (4, 4))


def test_a_budget_that_never_allows_one_is_not_waited_for(clock: Clock) -> None:
    fleet = Fleet(clock)
    fleet.budgets["tight"] = 0
    row = fleet.add("tight", 4, 2)
    fleet.objects["/apis/policy/v1/poddisruptionbudgets"] = [
        {
            "metadata": {"name": "all", "namespace": "shop", "generation": 1},
            "spec": {"selector": {}, "minAvailable": 4},
            "status": {"observedGeneration": 1, "desiredHealthy": 4, "expectedPods": 4, "currentHealthy": 4},
        }
    ]
    result = move(fleet, row)
    assert "the PodDisruptionBudget all never allows an eviction" in result.inexact[row.key]
    assert clock.now < 1010


def test_a_budget_that_frees_itself_is_waited_for(clock: Clock) -> None:
    class Freed(Fleet):
        def tick(self) -> None:
            super().tick()
            self.budgets["cart"] = int(self.clock.now > 1030)

    fleet = Freed(clock)
    assert move(fleet, fleet.add("cart", 4, 2)) == StepResult()
    assert fleet.sides("cart") == (2, 2)


def test_limits_that_allow_no_pod_away_are_said_where_the_plan_restarts_nothing(clock: Clock) -> None:
    fleet = Fleet(clock)
    row = fleet.add("one", 1, 1)
    row = planned("one", 1, 1, entry=row.entry)
    assert move(fleet, row).inexact == {row.key: "its rollout limits allow no unavailable pod"}
    assert fleet.evicted == []


def test_min_ready_seconds_count_for_each_successor(clock: Clock) -> None:
    fleet = Fleet(clock)
    row = fleet.add("cart", 4, 4, spec={"minReadySeconds": 30})
    assert move(fleet, row) == StepResult()
    assert fleet.workloads[row.key].most_away == 1
    assert clock.now - 1000 >= 4 * 30


# --- rollouts where no pod may be away ---------------------------------------------------------


def test_one_replica_is_rolled_out_and_is_never_away(clock: Clock) -> None:
    fleet = Fleet(clock)
    rows = [fleet.add("one", 1, 1), fleet.add("three", 3, 2), fleet.add("right", 3, 1, on_arm=1)]
    assert [row.restarts for row in rows] == [True, True, True]
    assert move(fleet, *rows) == StepResult()
    assert (fleet.sides("one"), fleet.sides("three")) == ((0, 1), (1, 2))
    assert sorted(fleet.restarts) == ["one", "three"]
    assert fleet.evicted == []
    assert {of.most_away for of in fleet.workloads.values()} == {0}


def test_recreate_is_rolled_out(clock: Clock) -> None:
    fleet = Fleet(clock)
    row = fleet.add("exclusive", 2, 2, spec={"strategy": {"type": "Recreate"}})
    assert move(fleet, row) == StepResult()
    assert (fleet.sides("exclusive"), fleet.restarts, fleet.evicted) == ((0, 2), ["exclusive"], [])


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("Deployment", {"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}}),
        ("StatefulSet", {}),
    ],
)
def test_one_replica_without_a_surge_is_evicted(clock: Clock, kind: str, spec: Json) -> None:
    fleet = Fleet(clock)
    assert move(fleet, fleet.add("one", 1, 1, kind=kind, spec=spec)) == StepResult()
    assert (fleet.sides("one"), fleet.restarts, len(fleet.evicted)) == ((0, 1), [], 1)


def test_a_paused_deployment_is_not_restarted(clock: Clock) -> None:
    fleet = Fleet(clock)
    row = fleet.add("one", 1, 1, spec={"paused": True})
    assert move(fleet, row).inexact == {row.key: "its rollouts are paused (spec.paused)"}
    assert fleet.restarts == []


# --- the first pod ------------------------------------------------------------------------------


def test_others_follow_when_the_first_has_been_ready_for_long_enough(clock: Clock) -> None:
    evictions: list[float] = []

    class Timed(Fleet):
        def terminate(self, pod: Json) -> None:
            evictions.append(self.clock.now)
            super().terminate(pod)

    fleet = Timed(clock)
    row = fleet.add("cart", 12, 6)
    limits = RolloutLimits(no_progress=60.0, canary_seconds=100.0)
    assert move(fleet, row, limits=limits) == StepResult()
    assert evictions[1] - evictions[0] >= 100
    assert evictions[-1] - evictions[1] < 30


def test_a_workload_with_healthy_pods_on_graviton_needs_no_first_pod(clock: Clock) -> None:
    fleet = Fleet(clock)
    row = fleet.add("cart", 12, 6, on_arm=1)
    limits = RolloutLimits(no_progress=60.0, canary_seconds=100.0)
    assert move(fleet, row, limits=limits) == StepResult()
    assert clock.now < 1030


def test_no_first_pod_on_the_way_back(clock: Clock) -> None:
    fleet = Fleet(clock)
    row = fleet.add("cart", 12, 0, on_arm=12)
    limits = RolloutLimits(no_progress=60.0, canary_seconds=100.0)
    assert move(fleet, row, limits=limits) == StepResult()
    assert clock.now < 1050


@pytest.mark.parametrize(
    ("replicas", "kind"), [(10, "Deployment"), (1, "Deployment"), (4, "StatefulSet"), (6, "MetricStore")]
)
def test_what_fails_on_graviton_goes_back_and_is_held_while_others_move(
    clock: Clock, replicas: int, kind: str
) -> None:
    fleet = Fleet(clock)
    bad = fleet.add("bad", replicas, replicas, kind=kind, breaks_on=("arm64",))
    good = fleet.add("good", 8, 4)
    result = move(fleet, bad, good)
    assert result.failures == {
        bad.key: "it failed on Graviton (container main: CrashLoopBackOff, exec /app: exec format error, "
        "exit code 1); its pods are back on x86 and stay there until its image changes"
    }
    assert (fleet.sides("bad"), fleet.sides("good")) == ((replicas, 0), (4, 4))
    assert fleet.entry(kind, "bad") == "all on amd64"
    assert fleet.workloads[bad.key].most_away <= max(1, fleet.workloads[bad.key].limit)
    (canary,) = read_canaries(fleet, STACK, ["shop"]).values()
    assert (canary.workload, canary.container, canary.image) == (bad.key, "main", "app:1")
    if replicas > 1:
        assert len([name for name in fleet.evicted if name.startswith("bad")]) == 2


def test_a_first_pod_of_an_interrupted_step_is_still_watched(clock: Clock) -> None:
    """The numbers are right already, but it does not run."""
    fleet = Fleet(clock)
    row = fleet.add("bad", 10, 1, on_arm=1, breaks_on=("arm64",))
    first = next(each for each in fleet.running if each.node == "arm")
    first.old, first.born = False, 0.0
    result = move(fleet, row, incomplete=[row.key])
    assert "it failed on Graviton" in result.failures[row.key]
    assert fleet.sides("bad") == (10, 0)


def test_one_pod_that_crashes_beside_healthy_ones_is_no_reason_to_go_back(clock: Clock) -> None:
    """The step has moved nothing of it, and its images run on Graviton."""
    fleet = Fleet(clock)
    row = fleet.add("cart", 10, 5, on_arm=5, breaks_on=("arm64",))
    first = next(each for each in fleet.running if each.node == "arm")
    first.old, first.born = False, 0.0
    result = move(fleet, row, incomplete=[row.key])
    assert (result.failures, fleet.evicted, fleet.created) == ({}, [], [])


def test_what_fails_on_both_sides_says_nothing_about_graviton(clock: Clock) -> None:
    fleet = Fleet(clock)
    row = fleet.add("bad", 4, 2, on_arm=1, breaks_on=("arm64", "amd64"))
    for each in fleet.running[:2]:
        each.old, each.born = False, 0.0
    assert {each.node for each in fleet.running[:2]} == {"arm", "intel"}
    result = move(fleet, row, incomplete=[row.key])
    assert (result.failures, fleet.evicted, fleet.created) == ({}, [], [])
    assert "it was incomplete before the step" in result.notes[row.key]


def test_a_first_pod_that_only_does_not_become_ready_stays(clock: Clock) -> None:
    """That proves nothing about its image, and a later update goes on."""
    fleet = Fleet(clock)
    row = fleet.add("slow", 10, 5, starts_in=1e5)
    result = move(fleet, row)
    assert result.failures == {row.key: "its new pods are not ready yet"}
    assert (fleet.sides("slow"), fleet.created) == ((9, 1), [])
    assert fleet.entry("Deployment", "slow") == "5 of 10 on arm64"


def test_without_an_entry_to_set_back_nothing_more_is_evicted(clock: Clock) -> None:
    class Refusing(Fleet):
        def before(self, verb: str, path: str) -> None:
            super().before(verb, path)
            if verb == "patch" and path.endswith(POLICY):
                raise RefusedError("forbidden", status=403, words="no")

    fleet = Refusing(clock)
    row = fleet.add("bad", 10, 5, breaks_on=("arm64",))
    (text,) = move(fleet, row).failures.values()
    assert text.endswith(
        "1 pod could not go back to x86: its pods stay, because the API server refuses its entry in the "
        "policy (no)"
    )
    assert len(fleet.evicted) == 1


def test_without_x86_nodes_it_does_not_go_back(clock: Clock) -> None:
    class Emptied(Fleet):
        def tick(self) -> None:
            super().tick()
            if self.evicted:
                self.objects["/api/v1/nodes"] = [node("intel", "amd64", unschedulable=True), node("arm")]

    fleet = Emptied(clock)
    row = fleet.add("bad", 10, 5, breaks_on=("arm64",))
    (text,) = move(fleet, row).failures.values()
    assert "no x86 node takes pods now" in text
    assert len(fleet.evicted) == 1


def test_evidence_that_cannot_be_kept_is_said(clock: Clock) -> None:
    fleet = Fleet(clock)
    row = fleet.add("bad", 10, 5, breaks_on=("arm64",))
    fleet.refused["/api/v1/namespaces/shop/configmaps"] = "not allowed"
    (text,) = move(fleet, row).failures.values()
    assert text.endswith("the evidence could not be kept: not allowed")
    assert fleet.sides("bad") == (10, 0)


def test_failures_of_a_namespace_at_the_same_time_are_all_kept(clock: Clock) -> None:
    """Each is written after another has read the ConfigMap."""

    class Slow(Fleet):
        def before(self, verb: str, path: str) -> None:
            if "canaries" in path:
                real_sleep(0.01)
            super().before(verb, path)

    fleet = Slow(clock)
    rows = [fleet.add(f"bad-{number}", 4, 2, breaks_on=("arm64",)) for number in range(6)]
    assert len(move(fleet, *rows).failures) == 6
    assert {*read_canaries(fleet, STACK, ["shop"])} == {row.key for row in rows}


# --- pods that land wrongly ---------------------------------------------------------------------


def test_a_pod_that_an_older_entry_placed_is_evicted_again(clock: Clock) -> None:
    """The API server had not seen the new entry yet: that is not in vain."""
    fleet = Fleet(clock)
    row = fleet.add("cart", 10, 5)
    fleet.unseen = 2
    assert move(fleet, row) == StepResult()
    assert (fleet.sides("cart"), len(fleet.evicted)) == ((5, 5), 7)


def test_a_pod_that_an_older_entry_keeps_off_all_nodes_is_made_again(clock: Clock) -> None:
    """Its share had no room on Graviton, and now all pods belong on x86."""
    fleet = Fleet(clock, room=0)
    row = fleet.add("cart", 8, 0, old="4 of 8 on arm64")
    fleet.running[0].node = ""
    assert move(fleet, row, incomplete=[row.key]) == StepResult()
    fleet.tick()
    assert (fleet.sides("cart"), len(fleet.evicted)) == ((8, 0), 1)


def test_without_a_policy_a_pod_without_a_node_is_not_made_again_for_ever(clock: Clock) -> None:
    fleet = Fleet(clock, room=0)
    row = fleet.add("cart", 8, 0, old="all on arm64")
    fleet.running[0].node, fleet.unseen = "", 10**6
    assert "0/2 nodes" in move(fleet, row, incomplete=[row.key]).notes[row.key]
    assert len(fleet.evicted) == 4


@pytest.mark.parametrize("strategy", ["RollingUpdate", "Recreate"])
def test_pods_that_had_no_node_before_the_step_neither_fail_it_nor_hold_it_up(
    clock: Clock, strategy: str
) -> None:
    """No node can hold them, whatever their entry is: for example, their volumes do not exist."""
    fleet = Fleet(clock, room=0)
    spec = {"strategy": {"type": strategy}}
    row = fleet.add("stuck", 1, 1, spec=spec)
    fleet.running[0].node = ""
    result = move(fleet, row, incomplete=[row.key])
    assert result.failures == {}
    assert "it was incomplete before the step and stands still: 0 of 1 pods ready" in result.notes[row.key]
    assert clock.now - 1000 < 40


def test_a_workload_that_the_step_makes_worse_fails_it_though_it_was_incomplete(clock: Clock) -> None:
    """One of its pods was not ready, and finds the only room. Then the step takes ready pods."""
    fleet = Fleet(clock, room=1)
    row = fleet.add("cart", 8, 4, spec={"strategy": {"rollingUpdate": {"maxUnavailable": 4}}})
    fleet.running[0].born, fleet.running[0].old = 1e9, False
    result = move(fleet, row, incomplete=[row.key])
    assert fleet.evicted
    assert "its new pods are not ready" in result.failures[row.key]


def test_without_a_policy_it_ends(clock: Clock) -> None:
    fleet = Fleet(clock)
    row, other = fleet.add("cart", 10, 5), fleet.add("web", 4, 4, on_arm=4)
    fleet.unseen = 10**6
    (why,) = move(fleet, row, other).inexact.values()
    assert why.startswith("its new pods are not placed by its entry (annotation archshift/placement)")
    assert len(fleet.evicted) == 4


def test_a_full_side_is_said_and_not_tried_for_ever(clock: Clock) -> None:
    fleet = Fleet(clock, room=2)
    row = fleet.add("cart", 10, 9)
    assert row.entry == "9 of 10 on arm64"
    assert move(fleet, row).inexact == {
        row.key: "the scheduler puts 7 of its pods on the other side, although Graviton nodes have room; "
        "check its own spread constraints and pod affinities"
    }
    assert len(fleet.evicted) <= 2 + 2 * fleet.workloads[row.key].limit
    assert fleet.patches == []


def test_nodes_that_join_late_are_waited_for(clock: Clock) -> None:
    class Joining(Fleet):
        def tick(self) -> None:
            if self.clock.now > 1015:
                self.objects["/api/v1/nodes"] = [node("intel", "amd64"), node("arm"), node("late")]
                self.room = 100
            super().tick()

    fleet = Joining(clock, room=1)
    assert move(fleet, fleet.add("cart", 10, 9), patience=20) == StepResult()
    assert fleet.sides("cart") == (1, 9)


def test_a_pin_without_room_is_said_in_the_schedulers_words(clock: Clock) -> None:
    fleet = Fleet(clock, room=0)
    row = fleet.add("cart", 10, 10)
    assert move(fleet, row).failures == {row.key: "its new pods are not ready (0/2 nodes)"}
    assert len(fleet.evicted) == 1


# --- somebody else meanwhile --------------------------------------------------------------------


def test_a_workload_that_is_deleted_stops_no_other(clock: Clock) -> None:
    class Deleted(Fleet):
        def tick(self) -> None:
            if len(self.evicted) > 2 and "shop/Deployment/gone" in self.workloads:
                del self.workloads["shop/Deployment/gone"]
                self.running = [each for each in self.running if "/gone" not in each.of]
            super().tick()

    fleet = Deleted(clock)
    gone, cart = fleet.add("gone", 10, 5), fleet.add("cart", 8, 4)
    assert move(fleet, gone, cart) == StepResult(notes={gone.key: "it was deleted during the step"})
    assert fleet.sides("cart") == (4, 4)


def test_a_workload_that_is_scaled_is_said_unless_all_its_pods_have_one_side(clock: Clock) -> None:
    class Scaled(Fleet):
        def tick(self) -> None:
            if len(self.evicted) > 2:
                for of in self.workloads.values():
                    of.replicas = 12
            super().tick()

    fleet = Scaled(clock)
    share, whole = fleet.add("share", 10, 5), fleet.add("whole", 10, 10)
    assert move(fleet, share, whole) == StepResult(
        inexact={share.key: "it now has 12 replicas, but the plan was for 10"}
    )
    assert fleet.sides("whole") == (0, 12)


def test_a_rollout_by_its_owner_is_waited_for(clock: Clock) -> None:
    class Rolled(Fleet):
        begun = False

        def tick(self) -> None:
            if len(self.evicted) == 1 and not self.begun:
                self.begun = True
                of = self.workloads["shop/Deployment/cart"]
                of.revision, of.generation = 2, of.generation + 1
            super().tick()

    fleet = Rolled(clock)
    assert move(fleet, fleet.add("cart", 6, 3)) == StepResult()
    assert (fleet.sides("cart"), len(fleet.evicted)) == ((3, 3), 1)


def test_an_api_server_that_is_away_is_asked_again(clock: Clock) -> None:
    class Away(Fleet):
        asked = 0

        def before(self, verb: str, path: str) -> None:
            self.asked += 1
            if self.asked % 3 == 0:
                raise UnavailableError("the cluster cannot be reached")
            super().before(verb, path)

        def after(self, verb: str, path: str) -> None:
            super().after(verb, path)
            if verb == "evict" and len(self.evicted) % 2:
                raise UnavailableError("the cluster cannot be reached")

    fleet = Away(clock)
    row = fleet.add("cart", 10, 5)
    assert move(fleet, row) == StepResult()
    assert (fleet.sides("cart"), len(fleet.evicted)) == ((5, 5), 5)
    assert fleet.workloads[row.key].most_away <= 2


def test_an_eviction_that_is_not_allowed_stops_only_its_workload(clock: Clock) -> None:
    class Forbidden(Fleet):
        def before(self, verb: str, path: str) -> None:
            super().before(verb, path)
            if verb == "evict" and "/locked-" in path:
                raise RefusedError("not allowed: pods/eviction", status=403, words="no")

    fleet = Forbidden(clock)
    locked, cart = fleet.add("locked", 4, 2), fleet.add("cart", 8, 4)
    assert move(fleet, locked, cart) == StepResult(inexact={locked.key: "not allowed: pods/eviction"})
    assert fleet.sides("cart") == (4, 4)


def test_a_namespace_that_is_being_deleted_is_no_matter_of_rights(clock: Clock) -> None:
    words = (
        'pods "x" is forbidden: unable to create new content in namespace shop because it is being terminated'
    )

    class Ending(Fleet):
        def before(self, verb: str, path: str) -> None:
            super().before(verb, path)
            if verb == "evict" and "/leaving-" in path:
                raise RefusedError(f"not allowed: {words}", "docs/permissions.md", status=403, words=words)

    fleet = Ending(clock)
    leaving, cart = fleet.add("leaving", 4, 2), fleet.add("cart", 8, 4)
    assert move(fleet, leaving, cart) == StepResult(notes={leaving.key: "its namespace is being deleted"})
    assert fleet.sides("cart") == (4, 4)


def test_a_namespace_that_cannot_be_read_stops_no_other(clock: Clock) -> None:
    fleet = Fleet(clock)
    fleet.refused["/api/v1/namespaces/closed/pods"] = "not allowed"
    closed = PlannedWorkload(
        key="closed/ReplicaSet/web",
        namespace="closed",
        kind="ReplicaSet",
        name="web",
        replicas=3,
        wanted=1,
        graviton=0,
    )
    assert move(fleet, closed, fleet.add("cart", 8, 4)) == StepResult(inexact={closed.key: "not allowed"})
    assert fleet.sides("cart") == (4, 4)


def test_the_update_does_not_wait_for_ever(clock: Clock) -> None:
    fleet = Fleet(clock)
    row = fleet.add(
        "cart", 100, 100, starts_in=40.0, spec={"strategy": {"rollingUpdate": {"maxUnavailable": 1}}}
    )
    result = move(fleet, row, limits=RolloutLimits(longest=300.0, no_progress=60.0))
    assert "of its pods still had to move after 300 s" in result.notes[row.key]
    assert clock.now < 1400


def test_room_is_made_first_and_without_it_no_pod_moves(clock: Clock) -> None:
    fleet = Fleet(clock)
    row, right = fleet.add("cart", 10, 5), fleet.add("right", 4, 2, on_arm=2)
    asked: list[list[str]] = []

    def bring_up(_: object, rows: Any) -> None:
        assert fleet.evicted == []
        asked.append([each.key for each in rows])

    assert move(fleet, row, right, bring_up_nodes=bring_up) == StepResult()
    assert asked == [[row.key]]

    def fail(*_: object) -> None:
        raise ArchshiftError("no Graviton node came up")

    more = fleet.add("more", 10, 5)
    assert move(fleet, more, bring_up_nodes=fail).failures == {
        "new nodes": "no pod moves: no Graviton node came up"
    }
    assert fleet.sides("more") == (10, 0)


def test_progress_is_said_with_the_time_that_is_left(clock: Clock) -> None:
    fleet = Fleet(clock)
    rows = [fleet.add(name, 10, 5) for name in ("a", "b", "c")]
    said: list[str] = []
    assert move(fleet, *rows, say=said.append) == StepResult()
    assert said[0].startswith("0 of 15 pods have moved; waiting for shop/Deployment/a")
    assert any("; about " in text and text.split("about ")[1].startswith(tuple("123456789")) for text in said)


# --- all of it ----------------------------------------------------------------------------------

KINDS = st.sampled_from(["Deployment", "StatefulSet", "ReplicaSet"])
ROLLING: st.SearchStrategy[Json] = st.sampled_from(
    [{}, {"maxUnavailable": 1}, {"maxUnavailable": "50%"}, {"maxSurge": 0}]
)


@st.composite
def workloads(draw: st.DrawFn) -> tuple[str, int, int, int, Json, bool]:
    replicas = draw(st.integers(1, 12))
    return (
        draw(KINDS),
        replicas,
        draw(st.integers(0, replicas)),
        draw(st.integers(0, replicas)),
        draw(ROLLING),
        draw(st.booleans()),
    )


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fleets=st.lists(workloads(), min_size=1, max_size=4),
    unseen=st.integers(0, 3),
    room=st.sampled_from([0, 2, 1000]),
    seconds=st.sampled_from([0, 3]),
    killed_at=st.sets(st.integers(1, 12), max_size=3),
)
def test_any_fleet_ends_within_its_limits_and_moves_only_what_must_move(
    monkeypatch: pytest.MonkeyPatch, fleets: Any, unseen: int, room: int, seconds: int, killed_at: set[int]
) -> None:
    """Also if the update is killed after some evictions, and another one goes on."""

    class Killed(Fleet):
        def after(self, verb: str, path: str) -> None:
            super().after(verb, path)
            if verb == "evict" and len(self.evicted) in killed_at:
                killed_at.remove(len(self.evicted))
                raise KeyboardInterrupt

    clock = Clock(monkeypatch)
    fleet = Killed(clock, room=room)
    rows, due = [], 0
    for number, (kind, replicas, wanted, on_arm, rolling, breaks) in enumerate(fleets):
        field_name = "updateStrategy" if kind == "StatefulSet" else "strategy"
        limits = {field_name: {"rollingUpdate": rolling}, "minReadySeconds": seconds}
        spec: Json = {} if kind == "ReplicaSet" else limits
        rows.append(
            fleet.add(
                f"w{number}",
                replicas,
                wanted,
                on_arm=on_arm,
                kind=kind,
                spec=spec,
                breaks_on=("arm64",) if breaks else (),
            )
        )
        due += abs(wanted - on_arm)
    fleet.unseen, killed = unseen, bool(killed_at)
    while True:
        try:
            result = move(fleet, *rows, incomplete=[row.key for row in rows if not fleet.complete(row.key)])
            break
        except KeyboardInterrupt:
            failed = read_canaries(fleet, STACK, ["shop"])
            rows = [
                replace(row, graviton=fleet.sides(row.name)[1])
                if row.key not in failed
                else replace(row, graviton=fleet.sides(row.name)[1], wanted=0, action="hold", entry=X86)
                for row in rows
            ]
    fleet.tick()
    assert fleet.wrong_evictions == []
    assert killed or not fleet.crowds
    for row in rows:
        of = fleet.workloads[row.key]
        assert of.most_away <= of.limit, row
        if row.key not in {**result.failures, **result.notes, **result.inexact}:
            assert fleet.sides(row.name) == (row.replicas - (row.wanted or 0), row.wanted)
    if room == 1000 and not any(breaks for *_, breaks in fleets):
        assert (result.failures, result.inexact) == ({}, {})
        assert len(fleet.evicted) <= due + unseen


# --- a command that is killed at any write, and what comes after it ----------------------------


class Dies(Fleet):
    """A cluster whose client is killed before or after its n-th change, and writes nothing more."""

    to_come, late = -1, False

    def before(self, verb: str, path: str) -> None:
        if self.to_come == 0:
            raise KilledError
        super().before(verb, path)
        if verb in ("patch", "evict"):
            self.to_come -= 1
            if self.to_come == 0 and not self.late:
                raise KilledError

    def after(self, verb: str, path: str) -> None:
        super().after(verb, path)
        if self.to_come == 0 and verb in ("patch", "evict"):
            raise KilledError

    @property
    def noted(self) -> str:
        (policy_,) = self.objects[POLICIES.collection()]
        return str((policy_["metadata"].get("annotations") or {}).get(REPLACED_ANNOTATION) or "")


NEWER = replace(SCALING, weight=12)

AFTER: Mapping[str, tuple[str, str]] = {
    # What happens to the entry of cart before the next rebalance, and its entry after that.
    "nothing": ("", ""),
    "an update with another share": (str(Entry(6, 10, scaling=NEWER)), str(Entry(6, 10, scaling=NEWER))),
    "an update that holds it on x86": ("all on amd64", "all on amd64"),
    "an update after its autoscaler went": ("4 of 10 on arm64", "4 of 10 on arm64"),
    "an edit by hand": ("1 of 10 on arm64", "1 of 10 on arm64"),
    "an edit that leaves it alone": ("left alone", "left alone"),
}


@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("write", [1, 2, 5, 10])
def test_whenever_a_command_is_killed_the_next_one_keeps_what_is_newer(
    clock: Clock, write: int, after: str, *, late: bool
) -> None:
    """At the first write, an eviction or the last write. An update leaves the note; a rebalance does not."""
    fleet = Dies(clock)
    cart, web = fleet.add("cart", 10, 4, scaling=SCALING), fleet.add("web", 10, 4, scaling=SCALING)
    fleet.to_come, fleet.late = write, late
    with contextlib.suppress(KilledError):
        move(fleet, cart, web)
    fleet.to_come = -1
    meanwhile, wanted = AFTER[after]
    if meanwhile:
        fleet.set_entry("Deployment", "cart", meanwhile)
    planned_entries = {web.key: web.entry, cart.key: meanwhile or cart.entry}
    if after.startswith("an edit"):
        planned_entries[cart.key] = cart.entry
    set_back_entries(fleet, STACK, planned_entries)
    assert fleet.entry("Deployment", "web") == web.entry
    assert fleet.entry("Deployment", "cart") == (wanted or cart.entry)
    assert fleet.noted == ""
    move(fleet, web)
    assert (fleet.sides("web"), fleet.entry("Deployment", "web")) == ((6, 4), web.entry)


def test_an_entry_that_went_with_its_workload_does_not_come_back(clock: Clock) -> None:
    fleet, _, web = killed(clock)
    (policy_,) = fleet.objects[POLICIES.collection()]
    note = policy_["metadata"]["annotations"]
    made = policy(STACK, "shop", {entry_key("Deployment", "web"): fleet.entry("Deployment", "web")})
    made["metadata"]["annotations"] = note
    fleet.objects[POLICIES.collection()] = [made]
    assert set_back_entries(fleet, STACK, {web.key: web.entry}) == {web.key: ""}
    assert fleet.data == {entry_key("Deployment", "web"): web.entry}


def test_a_note_that_could_not_be_set_back_outlives_the_next_moves(clock: Clock) -> None:
    """Of the workloads that do not move now; the rebalance after that sets them back."""
    fleet, cart, web = killed(clock)
    fleet.set_entry("Deployment", "web", web.entry)
    fleet.evicted.append("an earlier one, so that nobody kills this command")
    move(fleet, web)
    assert fleet.entry("Deployment", "cart") == "4 of 10 on arm64"
    assert set_back_entries(fleet, STACK, {cart.key: cart.entry}) == {cart.key: ""}
    assert fleet.entry("Deployment", "cart") == cart.entry


def test_evictions_that_fail_for_ever_end_after_the_patience(clock: Clock) -> None:
    """A webhook whose server is down answers 500 to each eviction. Trying again is no progress."""

    class Down(Fleet):
        def before(self, verb: str, path: str) -> None:
            if verb == "evict":
                raise BusyError("no answer", status=500, words="failed calling webhook")
            super().before(verb, path)

    fleet = Down(clock)
    row = fleet.add("cart", 10, 4)
    began = clock.now
    done = move(fleet, row)
    assert row.key in {**done.failures, **done.notes, **done.inexact}
    assert clock.now - began < 2 * LIMITS.no_progress


def test_whoever_lost_the_lease_writes_no_entry_and_evicts_nothing(clock: Clock) -> None:
    """The next holder may have replaced the entry."""
    fleet = Fleet(clock)
    row = fleet.add("cart", 10, 4, scaling=SCALING)
    done = move(fleet, row, allowance=Allowance(holds=lambda: False))
    assert (fleet.evicted, fleet.entry("Deployment", "cart")) == ([], row.entry)
    assert done.inexact[row.key] == "another command may move pods of the stack now"


def test_whoever_loses_the_lease_while_pods_move_sets_nothing_back(clock: Clock) -> None:
    fleet = Fleet(clock)
    row = fleet.add("cart", 10, 4, scaling=SCALING)
    done = move(fleet, row, allowance=Allowance(holds=lambda: not fleet.evicted))
    assert fleet.entry("Deployment", "cart") == "4 of 10 on arm64"
    assert "another command may move pods now" in done.notes[row.key]
    assert set_back_entries(fleet, STACK, {row.key: row.entry}) == {row.key: ""}
