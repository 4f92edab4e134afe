"""Edits of a stack's file, ``Pulumi.<stack>.yaml``, that change only one value.

Comments, order, quotes, line ends and encrypted values stay, byte for byte. The YAML parser tells where the
value begins and ends in the text. After the edit, the text is parsed again to prove that only the value
changed.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml

from archshift.common.errors import ArchshiftError
from archshift.common.files import replace_file

_LARGEST: Final = 1 << 20
"""In bytes; a stack's file has a few thousand."""

_LINE_END: Final = re.compile(r"\r\n|\n|\r")
_NUMBER: Final = re.compile(r"\d+\.\d+")

Value: TypeAlias = str | Mapping[str, str]
"""The values that can be set: text, or a map of texts."""


@dataclass(frozen=True, slots=True)
class _Node:
    """A part of the document as it is written. An alias stays an alias.

    Attributes:
        kind: scalar, mapping, sequence or alias.
        start: The index of its beginning in the text.
        end: The index of the end of its last word.
        content: Its anchor, its tag, whether it is plain, and a scalar's text. 0.5 and "0.5" differ.
        items: Its parts; in a mapping, keys and values in turn.
        flow: Whether it is in brackets.
    """

    kind: str
    start: int
    end: int
    content: tuple[Any, ...] = ()
    items: list["_Node"] = field(default_factory=list)
    flow: bool = False

    @property
    def text(self) -> str:
        """The text of a scalar."""
        return str(self.content[-1]) if self.kind == "scalar" else ""

    @property
    def pairs(self) -> list[tuple["_Node", "_Node"]]:
        return list(zip(self.items[::2], self.items[1::2], strict=True))

    @property
    def meaning(self) -> object:
        """Everything except its position."""
        return (self.kind, self.content, [item.meaning for item in self.items])


class StackFile:
    """The text of a stack's file, and its edits.

    Raises:
        ArchshiftError: It is not YAML with a map.
    """

    def __init__(self, text: str, name: str) -> None:
        self.text = text
        self._name = name
        try:
            root = _read(text)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f" (line {mark.line + 1})" if mark else ""
            raise ArchshiftError(f"{name} is not YAML{where}", "correct it first") from None
        except RecursionError:
            raise ArchshiftError(f"{name} is nested too deeply to be edited", "edit it by hand") from None
        if root is None or root.kind != "mapping":
            raise ArchshiftError(f"{name} holds no settings", "is it the stack's file?")
        self._root = root

    def get(self, *path: str) -> str | None:
        """Return the text of a value; None if the value is missing or is not text."""
        node = self._find(path)
        return node.text if node and node.kind == "scalar" else None

    def set(self, path: tuple[str, ...], value: Value) -> None:
        """Set a value. An existing value keeps its place and quotes; a new value goes to the end of its map.

        Args:
            path: The keys, from the outermost one.
            value: The value.

        Raises:
            ArchshiftError: The map is missing, or is written in a way that cannot be edited safely.
        """
        parent, key = self._map(path[:-1]), path[-1]
        old = self._child(parent, key)
        if old is None:
            line = f"{key}: {_written(value)}"
            pair = _parsed(line).items
            expected = self._with(path[:-1], replace(parent, items=[*parent.items, *pair]))
            if not parent.flow:
                edited = self._appended(parent, line)
            elif parent.items:
                edited = self._spliced(parent.items[-1].end, parent.items[-1].end, f", {line}")
            else:
                edited = self._spliced(parent.start + 1, parent.start + 1, line)
        else:
            self._refuse_names(old, key)
            written = _written(value, like=self.text[old.start : old.end], old=old)
            expected = self._with(path, _parsed(written))
            # An empty value begins directly after its colon.
            gap = " " if old.start == old.end else ""
            edited = self._spliced(old.start, old.end, gap + written)
        self._take(edited, expected, key)

    def remove(self, path: tuple[str, ...]) -> bool:
        """Remove a key and its value; return whether the key existed.

        Raises:
            ArchshiftError: It is written in a way that cannot be edited safely.
        """
        if self._find(path) is None:
            return False
        parent = self._map(path[:-1])
        pairs = parent.pairs
        index = next(number for number, (name, _) in enumerate(pairs) if name.text == path[-1])
        name, value = pairs[index]
        if not parent.flow:
            start, end = self._line_start(name.start), self._line_after(value.end)
        elif index + 1 < len(pairs):
            start, end = name.start, pairs[index + 1][0].start
        else:
            start, end = pairs[index - 1][1].end if index else name.start, value.end
        left = [item for number, pair in enumerate(pairs) if number != index for item in pair]
        expected = self._with(path[:-1], replace(parent, items=left))
        self._take(self._spliced(start, end, ""), expected, path[-1])
        return True

    def _find(self, path: tuple[str, ...]) -> _Node | None:
        node: _Node | None = self._root
        for key in path:
            node = self._child(node, key) if node else None
        return node

    def _child(self, parent: _Node, key: str) -> _Node | None:
        if parent.kind != "mapping":
            return None
        matches = [value for name, value in parent.pairs if name.kind == "scalar" and name.text == key]
        if len(matches) > 1:
            raise ArchshiftError(f"{self._name}: {key} is there {len(matches)} times", "remove all but one")
        return matches[0] if matches else None

    def _map(self, path: tuple[str, ...]) -> _Node:
        node = self._find(path)
        if node is None or node.kind != "mapping":
            raise ArchshiftError(f"{self._name} has no map {path[-1]}", "write it there first")
        self._refuse_names(node, path[-1])
        return node

    def _refuse_names(self, node: _Node, key: str) -> None:
        if node.kind == "alias" or any(node.content[:2]):
            raise ArchshiftError(
                f"{self._name}: {key} has an anchor, an alias or a tag, which archshift does not edit",
                "write its value out",
            )

    def _with(self, path: tuple[str, ...], node: _Node) -> object:
        """Return the file's meaning with another node at a path."""

        def change(old: _Node, keys: tuple[str, ...]) -> _Node:
            if not keys:
                return node
            items = []
            for name, value in old.pairs:
                items += [name, change(value, keys[1:]) if name.text == keys[0] else value]
            return replace(old, items=items)

        return change(self._root, path).meaning

    def _take(self, edited: str, expected: object, key: str) -> None:
        try:
            root = _read(edited)
        except yaml.YAMLError:
            root = None
        if root is None or root.meaning != expected:
            raise ArchshiftError(
                f"{self._name}: {key} stands there in a way that archshift does not edit",
                "change it by hand",
            )
        self.text, self._root = edited, root

    def _spliced(self, start: int, end: int, text: str) -> str:
        return self.text[:start] + text + self.text[end:]

    def _appended(self, parent: _Node, line: str) -> str:
        first = parent.items[0].start
        indent = " " * (first - self._line_start(first))
        at = self._line_after(parent.end)
        match = _LINE_END.search(self.text)
        line_end = match[0] if match else "\n"
        if self.text[at - 1] not in "\r\n":
            return self._spliced(at, at, f"{line_end}{indent}{line}")
        return self._spliced(at, at, f"{indent}{line}{line_end}")

    def _line_start(self, index: int) -> int:
        return max(self.text.rfind("\n", 0, index), self.text.rfind("\r", 0, index)) + 1

    def _line_after(self, index: int) -> int:
        match = _LINE_END.search(self.text, index)
        return match.end() if match else len(self.text)


def read_text(path: Path) -> str:
    """Return a file's text, with its line ends as they are.

    Raises:
        ArchshiftError: It cannot be read, is too large or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise ArchshiftError(f"{path} has more than {_LARGEST} bytes", "is it the stack's file?")
        return content.decode()
    except OSError as error:
        raise ArchshiftError(f"{path} cannot be read ({error.strerror})", "is it the stack's file?") from None
    except UnicodeDecodeError:
        raise ArchshiftError(f"{path} is not UTF-8", "is it the stack's file?") from None


def write_text(path: Path, text: str) -> None:
    """Replace a file's text completely or not at all. The file's mode and a link to the file stay.

    Raises:
        ArchshiftError: It cannot be written; it is unchanged.
    """
    path = path.resolve()
    try:
        replace_file(path, text, path.stat().st_mode & 0o7777)
    except OSError as error:
        raise ArchshiftError(f"{path} cannot be written ({error.strerror})", "it is as it was") from None


def _written(value: Value, like: str = '"', old: _Node | None = None) -> str:
    """Return a value as YAML in one line; text keeps the quotes of the text that it replaces."""
    if not isinstance(value, str):
        return "{" + ", ".join(f"{key}: {_written(text)}" for key, text in value.items()) + "}"
    if like.startswith("'"):
        quoted = value.replace("'", "''")
        return f"'{quoted}'"
    # Only numbers, because the engine reads other words without quotes as times or booleans.
    if old and like == old.text and _NUMBER.fullmatch(value):
        return value
    # A JSON string is a valid YAML string in double quotes.
    return json.dumps(value, ensure_ascii=False)


def _parsed(written: str) -> _Node:
    node = _read(written)
    if node is None:
        raise ValueError(written)
    return node


def _read(text: str) -> _Node | None:
    """Return the document of a text; None if there are none or several."""
    stack: list[list[_Node]] = [[]]
    starts: list[Any] = []
    events: Iterable[Any] = yaml.parse(text, Loader=yaml.SafeLoader)
    for event in events:
        start, end = event.start_mark.index, event.end_mark.index
        if isinstance(event, yaml.ScalarEvent):
            content = (event.anchor, event.tag, bool(event.implicit[0]), event.value)
            # The parser's end of a block scalar is the beginning of the next word.
            end = start + len(text[start:end].rstrip())
            stack[-1].append(_Node("scalar", start, end, content))
        elif isinstance(event, yaml.AliasEvent):
            stack[-1].append(_Node("alias", start, end, (event.anchor,)))
        elif isinstance(event, yaml.CollectionStartEvent):
            starts.append(event)
            stack.append([])
        elif isinstance(event, yaml.CollectionEndEvent):
            begin, items = starts.pop(), stack.pop()
            flow = bool(begin.flow_style)
            # The parser's end of a block is the beginning of the next word, after comments outside the block.
            end = items[-1].end if items and not flow else end
            kind = "mapping" if isinstance(begin, yaml.MappingStartEvent) else "sequence"
            stack[-1].append(_Node(kind, begin.start_mark.index, end, (begin.anchor, begin.tag), items, flow))
    return stack[0][0] if len(stack[0]) == 1 else None
