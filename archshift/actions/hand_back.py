"""Hands an object of another owner back: its values stay, and nothing of archshift is left on it."""

from typing import Any, Final

from archshift.actions.workload_patch import read_live
from archshift.cluster.client import MERGE, Cluster, RefusedError
from archshift.common.kubernetes import OURS

_CONFLICT: Final = 409
_MOST_CONFLICTS: Final = 5
_MARKS: Final = (OURS, "pulumi.com/")
"""How the labels and annotations of archshift and of its engine begin."""


def hand_back(cluster: Cluster, path: str, manager: str) -> None:
    """Take archshift's name off all fields of an object, and its labels and annotations off the object.

    To give up fields by an apply would remove those that nobody else owns. So their owner is removed instead.

    Args:
        cluster: The cluster.
        path: The path of the object. A missing object is no error.
        manager: The field manager of archshift.

    Raises:
        ArchshiftError: The API server cannot be reached, or refuses.
    """
    for attempt in range(_MOST_CONFLICTS):
        live = read_live(cluster, path)
        if live is None:
            return
        meta = live["metadata"]
        others = [entry for entry in meta.get("managedFields") or () if entry.get("manager") != manager]
        body: dict[str, Any] = {
            "resourceVersion": meta["resourceVersion"],
            # For the API server an empty list means no change, and one empty entry means no owners.
            "managedFields": others or [{}],
        }
        for kind in ("annotations", "labels"):
            marks = [key for key in meta.get(kind) or () if key.startswith(_MARKS)]
            body[kind] = dict.fromkeys(marks)
        try:
            cluster.patch(path, {"metadata": body}, MERGE, manager)
        except RefusedError as error:
            if error.status != _CONFLICT or attempt == _MOST_CONFLICTS - 1:
                raise
        else:
            return
