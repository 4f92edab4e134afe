"""Edits of a stack's file: nothing changes but what is meant to."""

import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from archshift.common.errors import ArchshiftError
from archshift.settings.stack_file import StackFile, read_text, write_text
from tests.properties import examples

RATIO = ("config", "archshift:arm_ratio")
RAMP = ("config", "archshift:ramp")
SINCE = (*RAMP, "since")
PAUSE = (*RAMP, "pause")

FILE = """\
# Production: a week after staging.

config:
    # The number that moves weekly.
    archshift:arm_ratio:   "0.2"   # was 0.0
    archshift:ramp:
        start: "2026-03-02"   # a Monday
        windows: [ {days: [mon], from: '09:00'} ,  ]
        since: '2026-03-02T09:00:00+01:00'  # by archshift ramp

        # what follows is another key's
    aws:region: eu-west-1
    archshift:token:
        secure: v1:Zm9v:YmFy/+==
encryptionsalt: v1:q8qaWOVgO4k=:v1:KaeBWYaLhIA6bIZ0:p2WJ7vzyM5zRCIxJtYYgCwwJ11OlZw==
"""


def edited(text: str) -> StackFile:
    return StackFile(text, "Pulumi.prod.yaml")


def lines(old: str, new: str) -> list[tuple[str, str]]:
    """The lines that differ, where there are as many before as after."""
    before, after = old.splitlines(keepends=True), new.splitlines(keepends=True)
    assert len(before) == len(after)
    return [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]]


def test_a_value_is_replaced_in_its_place_and_quotes() -> None:
    """One line a value; blanks and comments on it stay."""
    file = edited(FILE)
    file.set(RATIO, "0.5")
    file.set(SINCE, "2026-03-09T09:00:00+01:00")
    assert lines(FILE, file.text) == [
        (
            '    archshift:arm_ratio:   "0.2"   # was 0.0\n',
            '    archshift:arm_ratio:   "0.5"   # was 0.0\n',
        ),
        (
            "        since: '2026-03-02T09:00:00+01:00'  # by archshift ramp\n",
            "        since: '2026-03-09T09:00:00+01:00'  # by archshift ramp\n",
        ),
    ]


def test_a_new_value_is_the_last_line_of_its_map() -> None:
    """Before the comments of what follows; taken out again, the file is the same byte for byte."""
    file = edited(FILE)
    file.set(PAUSE, {"reason": 'an "incident": #42', "until": "2026-03-20"})
    added = '        pause: {reason: "an \\"incident\\": #42", until: "2026-03-20"}\n'
    before = "        since: '2026-03-02T09:00:00+01:00'  # by archshift ramp\n"
    assert file.text == FILE.replace(before, before + added)
    assert yaml.safe_load(file.text)["config"]["archshift:ramp"]["pause"] == {
        "reason": 'an "incident": #42',
        "until": "2026-03-20",
    }
    assert file.remove(PAUSE)
    assert file.text == FILE
    assert not file.remove(PAUSE)
    assert file.text == FILE


# Each holds OLD once.
WRITTEN = [
    ("config: {archshift:arm_ratio: OLD}\n", "0.2", "1.0"),
    ("config: {'archshift:arm_ratio': OLD , a:b: c}", "'0.2'", "'1.0'"),
    ("config:\r\n  archshift:arm_ratio: OLD\r\n", "0.2", "1.0"),
    ("\ufeffconfig:\n  archshift:arm_ratio: OLD # ü 🚀\n", "0.2", "1.0"),
    ("---\nconfig:\n  archshift:arm_ratio:OLD\n", "", " 1.0"),
    ("config:\n  archshift:arm_ratio:\n    OLD\n...\n", "'0.2'", "'1.0'"),
    ("config:\n  ? archshift:arm_ratio\n  : OLD\n", "0", "1.0"),
    ("config:\n  a:b: 1OLD", "", '\n  archshift:arm_ratio: "1.0"'),
    ("config:\r\n  a:b: |\r\n    x\r\nOLDz: 1\r\n", "", '  archshift:arm_ratio: "1.0"\r\n'),
    ("config: {OLD}\n", "", 'archshift:arm_ratio: "1.0"'),
    ("config: {a:b: cOLD}\n", "", ', archshift:arm_ratio: "1.0"'),
    ("config: {a:b: cOLD,}\n", "", ', archshift:arm_ratio: "1.0"'),
    ("config:\n  a:b: &x {c: 1}\n  d:e: *x\n  archshift:arm_ratio: OLD\n", "0.2", "1.0"),
]


@pytest.mark.parametrize(("text", "before", "after"), WRITTEN)
def test_every_way_to_write_a_map(text: str, before: str, after: str) -> None:
    """Braces, quotes, Windows' line ends, a byte-order mark, no line end at the end, anchors elsewhere."""
    file = edited(text.replace("OLD", before))
    file.set(RATIO, "1.0")
    assert file.text == text.replace("OLD", after)
    assert float(file.get(*RATIO) or "") == 1.0


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("config:\n  archshift:ramp: {start: x, pause: {reason: y}, since: z}\n", "{start: x, since: z}"),
        ("config:\n  archshift:ramp: {start: x, pause: {reason: y}}\n", "{start: x}"),
        ("config:\n  archshift:ramp: {pause: {reason: y}, start: x}\n", "{start: x}"),
        ("config:\n  archshift:ramp: {pause: {reason: y}}\n", "{}"),
    ],
)
def test_a_key_is_taken_out_of_braces(before: str, after: str) -> None:
    file = edited(before)
    assert file.remove(PAUSE)
    assert file.text == f"config:\n  archshift:ramp: {after}\n"


def test_a_pause_of_several_lines_goes_as_a_whole() -> None:
    """Also where somebody wrote it by hand, with a comment in it."""
    before, after = "config:\n  archshift:ramp:\n    start: x\n", "    since: z\n# end\n"
    file = edited(f"{before}    pause:\n      # why\n      reason: y\n      until: t # then\n{after}")
    assert file.remove(PAUSE)
    assert file.text == before + after


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("config: [", "Pulumi.prod.yaml is not YAML (line 1); correct it first"),
        ("config: \x07", "Pulumi.prod.yaml is not YAML; correct it first"),
        ("a: 1\n---\nb: 2\n", "Pulumi.prod.yaml holds no settings; is it the stack's file?"),
        ("", "Pulumi.prod.yaml holds no settings; is it the stack's file?"),
        ("- a", "Pulumi.prod.yaml holds no settings; is it the stack's file?"),
        ("[" * 1500, "Pulumi.prod.yaml is n"),
        ("a: 1\n", "Pulumi.prod.yaml has no map config; write it there first"),
        ("config: x\n", "Pulumi.prod.yaml has no map config; write it there first"),
        (
            "config: &c {archshift:arm_ratio: 1}\n",
            "Pulumi.prod.yaml: config has an anchor, an alias or a tag",
        ),
        ("x: &c 0.2\nconfig: {archshift:arm_ratio: *c}\n", "arm_ratio has an anchor, an alias or a tag"),
        ("config: {archshift:arm_ratio: !!str 0.2}\n", "arm_ratio has an anchor, an alias or a tag"),
        (
            "config:\n  archshift:arm_ratio: 0.2\n  archshift:arm_ratio: 0.5\n",
            "Pulumi.prod.yaml: archshift:arm_ratio is there 2 times; remove all but one",
        ),
    ],
)
def test_what_cannot_be_edited_safely_is_refused(text: str, sentence: str) -> None:
    """In one sentence, with the text as it was."""
    with pytest.raises(ArchshiftError) as error:
        edited(text).set(RATIO, "0.5")
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_an_edit_that_would_change_more_is_refused() -> None:
    """A block of text that keeps its blank lines would lose them to a new line behind it."""
    text = "config:\n  archshift:ramp:\n    note: |+\n      x\n\n\n"
    file = edited(text)
    with pytest.raises(ArchshiftError, match="since stands there in a way that archshift does not edit"):
        file.set(SINCE, "z")
    assert file.text == text


# --- properties -----------------------------------------------------------------------------

WORDS = st.sampled_from(["x", "'y z'", '"0.2"', "{a: [1, 2]}", "[p, {q: r}]", "v1:Zm9v=", "~", "ü 🚀"])
COMMENTS = st.sampled_from(["", "  # c", ' # it\'s "q": {'])
PLAIN = st.tuples(st.sampled_from(["aws:region", "a:b", "archshift:images", "z:z"]), WORDS, COMMENTS)


@st.composite
def files(draw: st.DrawFn) -> str:
    """A stack's file as somebody may have written it."""
    indent = " " * draw(st.integers(1, 4))
    quote = draw(st.sampled_from(['"', "'", ""]))
    ramp = [f'{indent * 2}start: "2026-03-02"{draw(COMMENTS)}']
    if draw(st.booleans()):
        ramp.append(f"{indent * 2}since: '2026-03-02T09:00:00Z'{draw(COMMENTS)}")
    if draw(st.booleans()):
        ramp.append(
            f"{indent * 2}windows:\n{indent * 2}- days: [mon]\n{indent * 2}  from: '09:00'{draw(COMMENTS)}"
        )
    ramp = draw(st.permutations(ramp))
    body = draw(st.just("\n".join(ramp)) | st.just(f'{indent * 2}{{start: "2026-03-02" }}'))
    blocks = [
        f"{indent}archshift:arm_ratio: {quote}0.2{quote}{draw(COMMENTS)}",
        f"{indent}archshift:ramp:{draw(COMMENTS)}\n{body}",
        f"{indent}archshift:token:\n{indent}  secure: v1:abc/+=",
    ]
    blocks += [
        f"{indent}{key}: {word}{comment}"
        for key, word, comment in draw(st.lists(PLAIN, max_size=3, unique_by=lambda one: one[0]))
    ]
    separated: list[str] = []
    for block in draw(st.permutations(blocks)):
        separated += [
            block,
            *draw(st.lists(st.sampled_from(["", f"{indent}# note", "# far left"]), max_size=2)),
        ]
    text = "\n".join(["# top", "config:", *separated, "encryptionsalt: v1:abc:v1:d==", ""])
    text = text[:-1] if draw(st.booleans()) else text
    return text.replace("\n", draw(st.sampled_from(["\n", "\r\n"])))


@examples
@given(files(), st.sampled_from(["0.0", "0.5", "1.0"]))
def test_nothing_but_the_touched_lines_changes(text: str, ratio: str) -> None:
    """A step changes the line of arm_ratio, in its value alone, and that of since, or adds one line."""
    file = edited(text)
    file.set(RATIO, ratio)
    ((before, after),) = lines(text, file.text)
    assert before.replace("0.2", ratio, 1) == after
    stepped = file.text
    file.set(SINCE, "2026-03-09T09:00:00Z")
    if "since" in text:
        ((before, after),) = lines(stepped, file.text)
        assert before.replace("03-02", "03-09", 1) == after
    elif "{start" in text:
        ((before, after),) = lines(stepped, file.text)
        assert after == before.replace(" }", ', since: "2026-03-09T09:00:00Z" }')
    else:
        new, old = file.text.splitlines(keepends=True), stepped.splitlines(keepends=True)
        (at,) = (number for number, line in enumerate(new) if "since" in line)
        assert new[at].strip() == 'since: "2026-03-09T09:00:00Z"'
        assert new[:at] + new[at + 1 :] == old
    values, old_values = yaml.safe_load(file.text), yaml.safe_load(text)
    old_values["config"]["archshift:arm_ratio"] = values["config"]["archshift:arm_ratio"]
    old_values["config"]["archshift:ramp"]["since"] = "2026-03-09T09:00:00Z"
    assert values == old_values


@examples
@given(files(), st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), min_size=1))
def test_a_pause_comes_and_goes_without_a_trace(text: str, reason: str) -> None:
    """Whatever its reason says, which the engine reads back; after it the file is the same byte for byte."""
    file = edited(text)
    file.set(PAUSE, {"reason": reason})
    assert yaml.safe_load(file.text)["config"]["archshift:ramp"]["pause"] == {"reason": reason}
    file.remove(PAUSE)
    assert file.text in (text, text + "\n", text + "\r\n")
    assert file.text == text or not text.endswith("\n")


# --- the file -------------------------------------------------------------------------------


def test_a_file_is_written_whole_with_its_mode(tmp_path: Path) -> None:
    """Line ends and mode stay, a link stays a link, and nothing is left beside it."""
    path, link = tmp_path / "real.yaml", tmp_path / "Pulumi.prod.yaml"
    path.write_bytes(b"a: 1\r\nb: 2\n")
    path.chmod(0o640)
    link.symlink_to(path)
    write_text(link, read_text(link).replace("1", "3"))
    assert path.read_bytes() == b"a: 3\r\nb: 2\n"
    assert path.stat().st_mode & 0o777 == 0o640
    assert link.is_symlink()
    assert {one.name for one in tmp_path.iterdir()} == {"real.yaml", "Pulumi.prod.yaml"}


def test_a_write_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no half of it beside."""
    path = tmp_path / "Pulumi.prod.yaml"
    path.write_text("a: 1\n")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(
        ArchshiftError, match=r"cannot be written \(No space left on device\); it is as it was"
    ):
        write_text(path, "a: 2\n")
    assert [one.name for one in tmp_path.iterdir()] == ["Pulumi.prod.yaml"]
    assert path.read_text() == "a: 1\n"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, r"cannot be read \(No such file or directory\)"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"#" * ((1 << 20) + 1), "has more than 1048576 bytes"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    path = tmp_path / "Pulumi.prod.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArchshiftError, match=sentence):
        read_text(path)
