"""Secrets in text: those that are known, however they are written, and what looks like one."""

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from archshift.common.redact import HIDDEN, Redactor, secrets_of_config, secrets_of_environment
from tests.properties import examples

SECRET = "hunter2-väl/ue+x=="


@pytest.mark.parametrize(
    "written",
    [
        SECRET,
        quote(SECRET, safe=""),
        json.dumps(SECRET)[1:-1],
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode().rstrip("="),
    ],
)
def test_a_known_secret_is_hidden_however_it_is_written(written: str) -> None:
    """Plain, in a URL, in JSON, and as Kubernetes keeps it in a Secret."""
    assert Redactor([SECRET]).text(f"data: <{written}> is wrong") == f"data: <{HIDDEN}> is wrong"


@examples
@given(
    secret=st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Z"]), min_size=4),
    before=st.text(),
    after=st.text(),
)
def test_no_text_keeps_a_known_secret(secret: str, before: str, after: str) -> None:
    """Wherever it stands, in keys as well as in values."""
    assume(secret not in HIDDEN and secret.lower() not in ("true", "false", "null", "none"))
    redactor = Redactor([secret])
    text = before + secret + after
    value = redactor.json({text: [text, {"a": text}]})
    for found in (redactor.text(text), *value, value[next(iter(value))][0]):
        # What is put in its place may complete it with what stood around it; then nothing is told.
        assert secret not in found.replace(HIDDEN, "\0")


def test_lines_of_a_secret_are_secrets() -> None:
    """A key in several lines is quoted line by line, and folded into one."""
    redactor = Redactor(["first line of it\nsecond line of it\n"])
    assert redactor.text("x second line of it x") == f"x {HIDDEN} x"
    assert redactor.text("first line of it second line of it") == HIDDEN


def test_what_cannot_be_told_from_a_word_stays() -> None:
    """A secret of three letters, or the word true, would take half of every report with it."""
    assert Redactor(["abc", "true"]).text("abc is true") == "abc is true"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Authorization: Bearer abc.def-ghi", "Authorization: Bearer "),
        ("asked with bearer abcdefgh12345", "asked with bearer "),
        ("GET https://robot:pa55@registry.example/v2/", "GET https://"),
        ("token=abcdef&x=1", "token="),
        ("DB_PASSWORD=abcdef", "DB_PASSWORD="),
        ('{"password": "abcdef"}', '{"password": "'),
        ("got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.sig back", "got "),
        ("key AKIAIOSFODNN7EXAMPLE", "key "),
        ("as ghp_0123456789abcdefghij", "as "),
        ("token k8s-aws-v1.aHR0cHM6Ly9zdHMu", "token "),
        ("https://sts.example/?X-Amz-Signature=0a1b2c", "https://sts.example/?X-Amz-Signature="),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY-----", ""),
    ],
)
def test_what_looks_like_a_credential_is_hidden(text: str, kept: str) -> None:
    """Nobody has to know the value for that."""
    assert Redactor().text(text).startswith(f"{kept}{HIDDEN}")
    for part in ("abcdef", "pa55", "AKIA", "ghp_", "k8s-aws", "0a1b2c", "MIIabc", "eyJ"):
        assert part not in Redactor().text(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at https://robot:pa/ss@registry.example/v2/", "at https://[secret]@registry.example/v2/"),
        ("at https://robot:pa@ss@registry.example/v2/", "at https://[secret]@registry.example/v2/"),
        ("at https://robot:p/a@s:s/@registry.example", "at https://[secret]@registry.example"),
        (r"at https:\/\/robot:pass@registry.example", r"at https:\/\/[secret]@registry.example"),
        (
            '{"auths":{"r.example":{"auth":"cm9ib3Q6cGFzcw=="}}}',
            '{"auths":{"r.example":{"auth":"[secret]"}}}',
        ),
        (r"{\"auth\":\"cm9ib3Q6cGFzcw==\"}", r"{\"auth\":\"[secret]\"}"),
        ("token: abcdef", "token: [secret]"),
        ("token: x", "token: [secret]"),
        ("secret: abcdef", "secret: [secret]"),
        ("session_token: abcdef", "session_token: [secret]"),
        ("AWS_SESSION_TOKEN: abcdef", "AWS_SESSION_TOKEN: [secret]"),
        ('password: "two words"', 'password: "[secret]"'),
        ("password: 'it''s'", "password: '[secret]''s'"),
        ("as dckr_pat_0123456789abcdef", "as [secret]"),
        ("as npm_0123456789abcdefghij", "as [secret]"),
        ("as hvs.CAESIJ0123456789", "as [secret]"),
        ("as AIzaSyA0123456789abcdefghij", "as [secret]"),
        ("https://a.blob.example/x?sv=1&sig=ab%2Bc&se=2", "https://a.blob.example/x?sv=1&sig=[secret]&se=2"),
        ("-eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.sig.", "-[secret]."),
    ],
)
def test_forms_that_a_review_found(text: str, shown: str) -> None:
    """Passwords with a slash or an at sign, values in JSON and YAML, and tokens of well-known services."""
    assert Redactor().text(text) == shown


@pytest.mark.parametrize(
    "part",
    ["-eyJ", "eyJ.", "a.", "eyJabcdefgh", "://", "://a:", "://a@", "token", "token ", 'token="', "token: \\",
     "auth\"", "bearer ", "authorization: ", "-----BEGIN ", "-----BEGIN PRIVATE KEY-----", "-----END ",
     "ghp_", "SG.",
     "Invalid value: ", 'Invalid value: "\\', "?sig", " ", "\\", '"', "/", "@"],
)  # fmt: skip
def test_a_long_text_takes_no_longer_than_its_length(part: str) -> None:
    """A quarter of a million characters: tried again from each, they would take minutes to hours."""
    text = part * (250_000 // len(part))
    assert len(Redactor(["hunter2"]).text(f"{text}hunter2")) <= 16 * len(text)


def test_a_value_that_the_api_server_refuses_is_not_shown() -> None:
    """It quotes the field's value, which may come from a secret."""
    said = 'spec.image: Invalid value: "hunter \\"2\\"": must not have spaces'
    assert Redactor().text(said) == "spec.image: Invalid value: [not shown]: must not have spaces"


@pytest.mark.parametrize(
    "text",
    [
        "shop/Deployment/web: held on x86: registry.example/web:1.2@sha256:0a1b is amd64-only: its image",
        "x86 capacity stays: 1 workload needs x86; give these workloads images for arm64 or remove them",
        "shop/Deployment/token-service: left alone: pins amd64 by its own nodeSelector",
        "the pull secret shop/registry is not readable: 403",
        "the Secret shop/robot is not a pull secret: it has neither .dockerconfigjson nor .dockercfg",
        "shop/Deployment/token: left alone: pins amd64 by its own nodeSelector",
        "read https://registry.example:5000/v2/app@sha256:0a1b and https://example.com/@somebody",
    ],
)
def test_ordinary_sentences_stay(text: str) -> None:
    """Hiding too much would make a report useless."""
    assert Redactor().text(text) == text


def test_secrets_are_known_by_their_entries_and_names() -> None:
    """All that a secret map holds is secret; variables are judged by their names."""
    entries = {
        "archshift:arm_ratio": {"value": "0.5", "secret": False},
        "app:password": {"value": "hunter2", "secret": True},
        "app:map": {
            "value": '{"a":"deep1"}',
            "objectValue": {"a": "deep1", "b": ["deep2", 12345]},
            "secret": True,
        },
    }
    assert secrets_of_config(entries) == ["hunter2", '{"a":"deep1"}', "deep1", "deep2", "12345"]
    environment = {"PULUMI_CONFIG_PASSPHRASE": "p", "ARCHSHIFT_PROMETHEUS_TOKEN": "t", "HOME": "/root"}
    assert secrets_of_environment(environment) == ["p", "t"]
