"""Image references are read as Docker reads them. Pure."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archshift.images.registry.reference import ImageReferenceError, Reference, parse_reference

SHA = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nginx", ("docker.io", "library/nginx", "latest", "")),
        ("nginx:1.25", ("docker.io", "library/nginx", "1.25", "")),
        ("team/app", ("docker.io", "team/app", "latest", "")),
        ("index.docker.io/nginx", ("docker.io", "library/nginx", "latest", "")),
        ("docker.io/library/nginx", ("docker.io", "library/nginx", "latest", "")),
        ("localhost/app", ("localhost", "app", "latest", "")),
        ("registry:5000/app", ("registry:5000", "app", "latest", "")),
        ("registry:5000/a/b:v1", ("registry:5000", "a/b", "v1", "")),
        (f"registry:5000/a:v1@{SHA}", ("registry:5000", "a", "v1", SHA)),
        (f"quay.io/a/b@{SHA}", ("quay.io", "a/b", "", SHA)),
        ("[::1]:5000/a", ("[::1]:5000", "a", "latest", "")),
        ("Registry/a", ("Registry", "a", "latest", "")),
        ("a__b/c-d.e", ("docker.io", "a__b/c-d.e", "latest", "")),
    ],
)
def test_references(text: str, expected: tuple[str, ...]) -> None:
    """Docker's defaults for host, library/ and tag; ports and digests stay (kubearchinspect cut at ':')."""
    assert parse_reference(text) == Reference(*expected)


def test_the_digest_is_what_is_asked_for() -> None:
    """A tag beside it decides nothing; and the full form reads back as the same."""
    reference = parse_reference(f"registry:5000/a:v1@{SHA}")
    assert (reference.tag_or_digest, str(reference)) == (SHA, f"registry:5000/a:v1@{SHA}")
    assert parse_reference("a").tag_or_digest == "latest"


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":1",
        "a:",
        "a:b:c",
        "A",
        "a/B",
        "a//b",
        "/a",
        "a/",
        "-a",
        "a@sha256:12",
        "a@md5:" + "a" * 32,
        "a@",
        "a:" + "t" * 129,
        "reg istry/a",
        "host.example:port/a",
        "host.example:65536/a",
        "http://host/a",
        "a\n",
        "a" * 64,
        SHA,
        "x.example/" + "a" * 250,
        "../a",
        "a/../b",
        "a?b",
        "a%2f",
    ],
)
def test_what_is_no_reference(text: str) -> None:
    """Nothing is mended, so nothing else than what was meant is asked for."""
    with pytest.raises(ImageReferenceError, match=r"is not a valid|does not name a registry|is longer than"):
        parse_reference(text)


@settings(deadline=None)
@given(st.text(max_size=80) | st.from_regex(r"[a-zA-Z0-9./:@_-]{1,80}"))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text raises anything else, and what is read reads back from its full form."""
    try:
        reference = parse_reference(text)
    except ImageReferenceError:
        return
    assert parse_reference(str(reference)) == reference
