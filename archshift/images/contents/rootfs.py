"""The file system of an image, made from its layers: names, links and programs. Pure.

Layers are applied in the same way as by container runtimes: whiteouts delete only content of lower layers,
links in the folders of a path are followed within the root, and the last component of a path is replaced.
"""

from collections.abc import Callable, Iterable
from typing import Final

from archshift.images.contents.layers import Entry, File, Folder, Hardlink, Layer, Symlink

MOST_LINKS: Final = 40
"""How many links one path may have before Linux fails with ELOOP."""


_FOLDER_BYTES: Final = 400
"""The memory for a folder."""

_STEPS: Final = 1024
"""After so many steps through folders the limits are checked."""


class LoopError(Exception):
    """A path has too many links."""


class _Folder:
    __slots__ = ("children",)

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}


_Node = _Folder | File | Symlink


class Rootfs:
    """A file system. Layers are applied from the lowest up.

    Args:
        layers: The first layers, in order.
        take_memory: Called with the memory of new folders, and with 0 from time to time. It raises if the
            limits are reached.
    """

    def __init__(
        self, layers: Iterable[Layer] = (), take_memory: Callable[[int], None] = lambda _: None
    ) -> None:
        self._root = _Folder()
        self._take_memory = take_memory
        self._steps = 0
        for layer in layers:
            self.apply(layer)

    def apply(self, layer: Layer) -> None:
        """Apply a layer on top of the others."""
        for path in layer.emptied:
            parent, _ = self._parent(f"{path}/.", make=False)
            if parent is not None:
                parent.children.clear()
        for path in layer.removed:
            parent, name = self._parent(path, make=False)
            if parent is not None:
                parent.children.pop(name, None)
        for path, entry in layer.entries:
            self._put(path, entry)

    def find(self, path: str) -> tuple[str, File | None, tuple[str, ...]]:
        """Follow a path and its links.

        Args:
            path: Absolute.

        Returns:
            The final path without links; the file there, or None; and all paths on the way, because a volume
            may hide one of them.

        Raises:
            LoopError: The path has too many links.
        """
        end, node, passed = self._walk(path)
        return end, node if isinstance(node, File) else None, passed

    def _walk(self, path: str, *, make: bool = False) -> tuple[str, "_Node | None", tuple[str, ...]]:
        todo = _parts(path)
        done: list[str] = []
        folders = [self._root]
        passed: list[str] = []
        links = 0
        while todo:
            self._steps += 1
            if self._steps % _STEPS == 0:
                self._take_memory(0)
            name = todo.pop()
            if name == "..":
                if done:
                    done.pop()
                    folders.pop()
                continue
            here = "/" + "/".join([*done, name])
            passed.append(here)
            node: _Node | None = folders[-1].children.get(name)
            if isinstance(node, Symlink):
                links += 1
                if links > MOST_LINKS:
                    raise LoopError(here)
                if node.target.startswith("/"):
                    done, folders = [], [self._root]
                todo += _parts(node.target)
                continue
            if make and not isinstance(node, _Folder):
                self._take_memory(_FOLDER_BYTES)
                node = folders[-1].children[name] = _Folder()
            if not todo:
                return here, node, tuple(passed)
            if not isinstance(node, _Folder):
                return here, None, tuple(passed)
            done.append(name)
            folders.append(node)
        return "/" + "/".join(done), folders[-1], tuple(passed)

    def _parent(self, path: str, *, make: bool) -> tuple[_Folder | None, str]:
        above, _, name = path.rpartition("/")
        try:
            node = self._walk(above, make=make)[1]
        except LoopError:
            return None, name
        return (node if isinstance(node, _Folder) else None), name

    def _put(self, path: str, entry: Entry) -> None:
        parent, name = self._parent(path, make=True)
        if parent is None:
            return
        if isinstance(entry, Folder):
            if not isinstance(parent.children.get(name), _Folder):
                self._take_memory(_FOLDER_BYTES)
                parent.children[name] = _Folder()
        elif isinstance(entry, Hardlink):
            holder, target = self._parent(entry.target, make=False)
            node = holder.children.get(target) if holder else None
            parent.children[name] = node if node and not isinstance(node, _Folder) else File(executable=False)
        else:
            parent.children[name] = entry


def _parts(path: str) -> list[str]:
    """Return the components of a path in reverse order."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]
