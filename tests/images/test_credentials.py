"""Which login is for which registry: Docker's config, pull secrets, helpers, ECR, challenges. Little I/O."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moto import mock_aws

from archshift.cluster.image_evidence import audit_options
from archshift.common.aws import AssumedRole, AwsIdentity
from archshift.common.errors import ArchshiftError
from archshift.images.registry import ecr
from archshift.images.registry.auth import (
    Challenge,
    may_see_credentials,
    parse_challenge,
    pull_scope,
    realm_problem,
)
from archshift.images.registry.credentials import (
    AuthFile,
    Credential,
    Keychain,
    docker_config_path,
    helper_source,
    parse_auth_file,
    read_docker_config,
    read_pull_secret,
)
from archshift.images.registry.hosts import ImageRules


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("key", "registry", "repository", "matches"),
    [
        ("r.example", "r.example", "a", True),
        ("https://r.example", "r.example", "a", True),
        ("https://r.example/v1/", "r.example", "a", True),
        ("r.example/v2", "r.example", "a", True),
        ("r.example:5000", "r.example:5000", "a", True),
        ("r.example:5000", "r.example", "a", False),
        ("r.example", "r.example:5000", "a", False),
        ("example", "r.example", "a", False),
        ("*.example", "r.example", "a", True),
        ("*.example", "a.r.example", "a", False),
        ("*", "r.example", "a", False),
        ("r*.example", "r2.example", "a", True),
        ("evil-r.example", "r.example", "a", False),
        ("r.example/team", "r.example", "team/app", True),
        ("r.example/team", "r.example", "teammate/app", False),
        ("r.example/team/app", "r.example", "team/app", True),
        ("https://index.docker.io/v1/", "docker.io", "library/nginx", True),
        ("docker.io", "docker.io", "library/nginx", True),
        ("[::1]:5000", "[::1]:5000", "a", True),
    ],
)
def test_which_key_is_for_which_registry(key: str, registry: str, repository: str, matches: bool) -> None:
    """As the kubelet matches: whole host labels, the exact port, whole path components."""
    file = AuthFile({key: Credential("u", "p")})
    assert bool(file.matching(registry, repository)) == matches


def test_the_most_specific_key_comes_first() -> None:
    """A team's login is tried before the company's."""
    names = ("r.example", "r.example/team/app", "*.example", "r.example/team")
    file = AuthFile({name: Credential(name, "p") for name in names})
    found = [one.username for one in file.matching("r.example", "team/app")]
    assert found == ["r.example/team/app", "r.example/team", "r.example", "*.example"]


def test_entries_of_a_docker_config() -> None:
    """Written out, as base64, as tokens; an entry left empty by a helper is none."""
    file = parse_auth_file(
        {
            "auths": {
                "a": {"username": "u", "password": "p"},
                "b": {"auth": encoded("u:p:q")},
                "c": {"auth": encoded("<token>:"), "identitytoken": "t"},
                "d": {"registrytoken": "t"},
                "e": {},
            },
            "credHelpers": {"f": "ecr-login"},
            "credsStore": "desktop",
        },
        "here",
    )
    assert file.auths["a"] == Credential("u", "p", source="here")
    assert file.auths["b"] == Credential("u", "p:q", source="here")
    assert file.auths["c"].identity_token == "t"
    assert file.auths["d"].registry_token == "t"
    assert "e" not in file.auths
    assert (file.helper("f"), file.helper("g")) == ("ecr-login", "desktop")


def test_secrets_do_not_show() -> None:
    """A credential may end in a log or a traceback."""
    assert "hush" not in repr(Credential("user", "hush", "hush", "hush", "here"))


@pytest.mark.parametrize(
    "data",
    [
        [],
        "x",
        {"auths": [1]},
        {"auths": {"a": 1}},
        {"auths": {"a": {"auth": "!!!"}}},
        {"auths": {"a": {"auth": encoded("x")[:-1]}}},
        {"auths": {"a": {"username": 1}}},
        {"credHelpers": {"a": "../../bin/sh"}},
        {"credHelpers": {"a": 1}},
        {"credsStore": "a b"},
    ],
)
def test_a_broken_config_is_an_error(data: Any, tmp_path: Path) -> None:
    """Of the user's own file the user hears; a helper's name is a name and no path."""
    with pytest.raises(ValueError, match=r"."):
        parse_auth_file(data, "here")
    path = tmp_path / "config.json"
    path.write_text(json.dumps(data))
    with pytest.raises(ArchshiftError, match=r"the Docker config .* is invalid"):
        read_docker_config(path)


def test_where_the_docker_config_is(tmp_path: Path) -> None:
    """DOCKER_CONFIG names a folder; a file that is not there is an empty one."""
    assert docker_config_path({"DOCKER_CONFIG": "/etc/d"}) == Path("/etc/d/config.json")
    assert docker_config_path({}) == Path.home() / ".docker/config.json"
    assert read_docker_config(tmp_path / "none") == AuthFile(images=None)
    with pytest.raises(ArchshiftError, match="archshift cannot read the Docker config"):
        read_docker_config(tmp_path)


def test_pull_secrets_of_both_kinds() -> None:
    """The old dockercfg has no auths level; other secrets and broken ones are refused, not quoted."""
    auths = {"r.example": {"auth": encoded("u:p")}}
    meta = {"namespace": "ns", "name": "s"}
    for data in (
        {".dockerconfigjson": encoded(json.dumps({"auths": auths}))},
        {".dockercfg": encoded(json.dumps(auths))},
    ):
        found = read_pull_secret({"metadata": meta, "data": data})
        assert found.matching("r.example", "a") == (Credential("u", "p", source="Secret ns/s"),)
    with pytest.raises(ArchshiftError, match="the Secret ns/s is not a pull secret"):
        read_pull_secret({"metadata": meta, "data": {"token": encoded("hush")}})
    with pytest.raises(ArchshiftError, match="the pull secret ns/s is invalid") as caught:
        read_pull_secret({"metadata": meta, "data": {".dockerconfigjson": encoded("hush")}})
    assert "hush" not in str(caught.value)


def test_a_pull_secret_starts_no_program_of_this_machine() -> None:
    """A cluster's Secret that names credential helpers gives its logins and nothing else."""
    content = {
        "auths": {"registry.example": {"auth": base64.b64encode(b"robot:word").decode()}},
        "credHelpers": {"registry.example": "chosen-by-the-cluster"},
        "credsStore": "chosen-by-the-cluster",
    }
    data = {".dockerconfigjson": base64.b64encode(json.dumps(content).encode()).decode()}
    file = read_pull_secret({"metadata": {"namespace": "shop", "name": "pull"}, "data": data})
    assert (dict(file.helpers), file.store) == ({}, "")
    assert set(file.auths) == {"registry.example"}


def helper(folder: Path, text: str) -> str:
    """Write a credential helper and return its name."""
    path = folder / "docker-credential-tests"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return "tests"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('echo \'{"Username": "u", "Secret": "p"}\'', Credential("u", "p", source="docker-credential-tests")),
        (
            'echo \'{"Username": "<token>", "Secret": "t"}\'',
            Credential(identity_token="t", source="docker-credential-tests"),
        ),
        ('echo "credentials not found in native keychain"; exit 1', None),
        ('echo "locked"; exit 3', "failed with exit code 3"),
        ("echo hello", "returned an invalid answer"),
        ('echo \'{"Username": 1, "Secret": "t"}\'', "returned an invalid answer"),
    ],
)
def test_credential_helpers(
    text: str, expected: Credential | str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker's protocol: a login, none, or an error that becomes part of the reason."""
    name = helper(tmp_path, text)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    ask = helper_source(name)
    if isinstance(expected, str):
        with pytest.raises(ArchshiftError, match=expected):
            asyncio.run(_answer(ask))
    else:
        assert asyncio.run(_answer(ask)) == expected


async def _answer(ask: Any) -> Credential | None:
    found: Credential | None = await ask("r.example")
    return found


def test_a_helper_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A helper that waits for a browser nobody sees does not hold up a pipeline."""
    name = helper(tmp_path, "exec sleep 60")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr("archshift.images.registry.credentials.HELPER_SECONDS", 0.2)
    with pytest.raises(ArchshiftError, match="did not answer within 0 s"):
        asyncio.run(_answer(helper_source(name)))


def test_copies_of_one_login_are_tried_once() -> None:
    """Hundreds of namespaces hold the same secret."""
    files = [
        AuthFile(
            {"r.example": Credential("u", "p", source=f"Secret ns{n}/s")}, namespace=f"ns{n}", images=None
        )
        for n in range(300)
    ]
    found, problems = asyncio.run(_lookup(Keychain(files)))
    assert (len(found), problems) == (1, ())


def _of(namespace: str, number: int, *images: str) -> AuthFile:
    """A pull secret of pods with these images."""
    login = Credential(f"{namespace}-{number}", "p", source=f"Secret {namespace}/{number}")
    return AuthFile({"*.example.com": login}, namespace=namespace, images=frozenset(images))


def test_a_pull_secret_serves_only_the_images_of_its_pods() -> None:
    """A wildcard of one namespace's secret is no login for an image that another namespace names."""
    ours, theirs = _of("shop", 0, "r.example.com/shop/app"), _of("attacker", 0, "evil.example.com/x")
    keychain = Keychain([theirs, ours, AuthFile({"r.example.com": Credential("nobody", "p")})])

    def users(registry: str, image: str) -> list[str]:
        found, _ = asyncio.run(_lookup(keychain, registry, image))
        return [credential.username for credential in found]

    assert users("r.example.com", "r.example.com/shop/app") == ["shop-0"]
    assert users("evil.example.com", "evil.example.com/x") == ["attacker-0"]
    assert users("evil.example.com", "evil.example.com/y") == []
    # At a mirror, the image's own name counts.
    assert users("mirror.example.com", "r.example.com/shop/app") == ["shop-0"]


def test_many_logins_of_one_namespace_do_not_come_before_that_of_another() -> None:
    """Whoever may create pods and secrets could else put any number of wrong logins in front."""
    image = "r.example.com/shop/app"
    bogus = [_of("attacker", number, image) for number in range(500)]
    found, _ = asyncio.run(_lookup(Keychain([*bogus, _of("shop", 0, image)]), "r.example.com", image))
    assert [credential.username for credential in found][:3] == ["attacker-0", "shop-0", "attacker-1"]
    assert len(found) == 64


def test_many_logins_do_not_push_out_that_of_a_source() -> None:
    """A pod of any namespace may name an image that the nodes pull with their own login, as from ECR."""
    image = "r.example.com/shop/app"
    node = Credential("node", "p", source="ECR")

    async def source(_: str) -> Credential:
        return node

    bogus = [_of("attacker", number, image) for number in range(500)]
    found, _ = asyncio.run(_lookup(Keychain(bogus, [source]), "r.example.com", image))
    assert found[1] == node
    assert len(found) == 64


async def _lookup(
    keychain: Keychain, registry: str = "r.example", image: str = "r.example/a"
) -> tuple[tuple[Credential, ...], tuple[str, ...]]:
    return await keychain.lookup(registry, image.partition("/")[2], image)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", ("123456789012", "eu-west-1", False)),
        ("123456789012.dkr.ecr-fips.us-east-1.amazonaws.com", ("123456789012", "us-east-1", True)),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", ("123456789012", "cn-north-1", False)),
        ("123456789012.dkr-ecr.eu-west-1.on.aws", ("123456789012", "eu-west-1", False)),
        (
            "123456789012.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn",
            ("123456789012", "cn-north-1", False),
        ),
        ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", ("123456789012", "us-gov-west-1", True)),
        ("123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu", ("123456789012", "eusc-de-east-1", False)),
        ("123456789012.dkr.ecr.us-iso-east-1.c2s.ic.gov", ("123456789012", "us-iso-east-1", False)),
        ("123456789012.dkr.ecr.us-isob-east-1.sc2s.sgov.gov", ("123456789012", "us-isob-east-1", False)),
        ("123456789012.dkr.ecr.eu-isoe-west-1.cloud.adc-e.uk", ("123456789012", "eu-isoe-west-1", False)),
        ("123456789012.dkr.ecr.us-isof-south-1.csp.hci.ic.gov", ("123456789012", "us-isof-south-1", False)),
        # The domain of another partition, and a region of none.
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com.cn", None),
        ("123456789012.dkr.ecr.moon.amazonaws.com", None),
        ("123456789012.dkr.ecr.eu-west-1.evil.example", None),
        ("public.ecr.aws", None),
        ("12.dkr.ecr.eu-west-1.amazonaws.com", None),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.example", None),
        ("evil.example/123456789012.dkr.ecr.eu-west-1.amazonaws.com", None),
    ],
)
def test_which_hosts_are_ecr(host: str, expected: tuple[str, str, bool] | None) -> None:
    """AWS is asked for a login only for hosts that are AWS's."""
    assert ecr.parse_host(host) == (ecr.EcrRegistry(*expected) if expected else None)


def test_ecr_gives_a_login(monkeypatch: pytest.MonkeyPatch) -> None:
    """GetAuthorizationToken, against moto, with this process's AWS identity."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        host = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
        expected = boto3.client("ecr", region_name="eu-west-1").get_authorization_token(
            registryIds=["123456789012"]
        )
        pair = base64.b64decode(expected["authorizationData"][0]["authorizationToken"]).decode()
        found = asyncio.run(_ecr(host))
    assert found is not None
    assert f"{found.username}:{found.password}" == pair
    assert found.username == "AWS"


def test_ecr_is_asked_with_the_identity_of_the_stack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where this process has none: the profile has the keys, and the role may read the images."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    config = tmp_path / "config"
    config.write_text("[profile prod]\naws_access_key_id = AKIAPROD\naws_secret_access_key = secret\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    identity = AwsIdentity("prod", (AssumedRole("arn:aws:iam::123456789012:role/images"),))
    source = ecr.source(audit_options(ImageRules(aws=identity)).aws)

    async def login() -> Credential | None:
        return await source("123456789012.dkr.ecr.eu-west-1.amazonaws.com")

    with mock_aws(config={"core": {"mock_credentials": False}}):
        found = asyncio.run(login())
    assert found
    assert found.username == "AWS"


async def _ecr(host: str) -> Credential | None:
    return await ecr.source()(host)


def test_ecr_without_an_identity_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """No AWS credentials: the reason says what failed, for the verdict to carry."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    with pytest.raises(
        ArchshiftError, match="AWS did not return a login for ECR 123456789012 in eu-west-1: Unable to"
    ):
        asyncio.run(_ecr("123456789012.dkr.ecr.eu-west-1.amazonaws.com"))
    assert asyncio.run(_ecr("quay.io")) is None


def test_ecr_without_boto3_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever needs it hears of it."""
    monkeypatch.setitem(__import__("sys").modules, "boto3", None)
    with pytest.raises(ArchshiftError, match="boto3 is not installed"):
        asyncio.run(_ecr("123456789012.dkr.ecr.eu-west-1.amazonaws.com"))


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (['Bearer realm="https://a/t",service="s",scope="x"'], Challenge("bearer", "https://a/t", "s", "x")),
        (["bearer realm=https://a/t"], Challenge("bearer", "https://a/t")),
        (['Basic realm="x"'], Challenge("basic")),
        (["Basic"], Challenge("basic")),
        (['Basic realm="x", Bearer realm="https://a/t"'], Challenge("bearer", "https://a/t")),
        (['Basic realm="x"', 'Bearer realm="https://a/t"'], Challenge("bearer", "https://a/t")),
        (['Bearer realm="a\\"b"'], Challenge("bearer", 'a"b')),
        (["Negotiate abc=="], None),
        (['Bearer service="s"'], None),
        ([""], None),
        ([], None),
    ],
)
def test_challenges(headers: list[str], expected: Challenge | None) -> None:
    """Every spelling that RFC 9110 allows and registries use."""
    assert parse_challenge(headers) == expected


@settings(deadline=None)
@given(
    st.lists(st.text(max_size=60) | st.from_regex(r'(Bearer|Basic)( [a-z]+="?[a-z,\\" ]*"?,?)*'), max_size=3)
)
def test_any_challenge_is_read_or_not(headers: list[str]) -> None:
    """No header raises, or takes for ever."""
    found = parse_challenge(headers)
    assert found is None or found.scheme == "basic" or found.realm


@pytest.mark.parametrize(
    ("offered", "expected"),
    [
        ("", "repository:a/b:pull"),
        ("repository:other:pull", "repository:a/b:pull"),
        ("repository:a/b:pull,push", "repository:a/b:pull"),
        ("registry:catalog:*", "repository:a/b:pull"),
        ("aws", "aws"),
    ],
)
def test_a_token_is_asked_for_pulling_only(offered: str, expected: str) -> None:
    """A registry cannot talk us into a token that may push."""
    assert pull_scope("a/b", offered) == expected


@pytest.mark.parametrize(
    ("host", "realm", "allowed"),
    [
        ("r.example", "https://r.example/token", True),
        ("r.example:5000", "https://r.example:5001/token", True),
        ("registry.gitlab.example", "https://gitlab.example/jwt/auth", True),
        ("registry-1.docker.io", "https://auth.docker.io/token", True),
        ("r.example", "https://r.example.evil.test/token", False),
        ("r.example", "https://auth.example/token", False),
        ("r.example", "https://example/token", False),
        ("a.azurecr.io", "https://b.azurecr.io/token", False),
        ("10.0.0.1", "https://0.0.1/token", False),
        ("r.example", "https://sso.test/token", True),
        ("r.example", "https://sso2.test:8443/token", True),
        ("r.example", "https://sso2.test/token", False),
    ],
)
def test_who_may_see_a_login(host: str, realm: str, allowed: bool) -> None:
    """The registry's own host, a parent of it, Docker Hub's, or one that the user named; nobody else."""
    assert may_see_credentials(host, realm, ("sso.test", "sso2.test:8443")) == allowed


@pytest.mark.parametrize(
    ("realm", "problem"),
    [
        ("https://a/token", ""),
        ("http://a/token", "uses plain http, which is not allowed for a"),
        ("http://plain/token", ""),
        ("http://plain:80/token", ""),
        ("https://a\\@b/token", "is not"),
        ("http://plain:81/token", "uses plain http"),
        ("http://port:81/token", ""),
        ("ftp://a/token", "is not an http or https URL with a host"),
        ("/token", "is not an http or https URL with a host"),
        ("https://u:p@a/token", "is not an http or https URL with a host"),
        ("https://a:port/", "is not a URL"),
        ("https://[/", "is not a URL"),
    ],
)
def test_which_token_endpoints_are_asked_at_all(realm: str, problem: str) -> None:
    """https, or plain http where the user said so for that very host."""
    found = realm_problem(realm, {"plain", "port:81"})
    assert (problem in found) if problem else (found == "")
