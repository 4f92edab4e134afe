"""Removes secrets from text that others will read: pull requests, artifacts."""

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

HIDDEN: Final = "[secret]"
"""Replaces a secret; the engine writes the same."""

_SHORTEST: Final = 4
"""A shorter value may be an ordinary word."""

_SECRET_NAME: Final = re.compile(
    r"TOKEN|SECRET|PASSWORD|PASSPHRASE|PASSWD|CREDENTIAL|PRIVATE_KEY|ACCESS_KEY|API_?KEY|AUTHORIZATION",
    re.IGNORECASE,
)

_PREFIXES: Final = (
    "gh[pousr]_", "github_pat_", "glpat-", "pul-", "xox[a-z]-", "xapp-[0-9]-", r"k8s-aws-v1\.",
    "dckr_[a-z]+_", "npm_", r"hv[sbr]\.", "AIza", "[rs]k_(?:live|test)_", "pypi-AgE", r"SG\.",
    r"ya29\.", "ATATT", "dop_v1_",
)  # fmt: skip
"""How tokens of well-known services begin."""

_KEYS: Final = (
    r"(?:password|passwd|passphrase|secret|token|(?<![a-z])auth|api[_-]?key|access[_-]?key|private[_-]?key"
    r"|credentials?)"
)


def _url(match: re.Match[str]) -> str:
    """Hide the login in a URL: all up to the last at sign, because passwords may have one, or a slash."""
    rest = match[2]
    login, at, _ = _DIGEST.split(rest, 1)[0].rpartition("@")
    before_path = login.partition("/")[0]
    if not at or ("/" in login and ":" not in before_path):
        return match[0]
    return f"{match[1]}{HIDDEN}{rest[len(login) :]}"


def _web_token(match: re.Match[str]) -> str:
    """Hide a JSON web token, which is three texts in base64 with dots; the first begins with ``{"``."""
    text, at = match[0], 0
    for part in text.split("."):
        start = part.find("eyJ")
        while start > 0 and (part[start - 1].isalnum() or part[start - 1] == "_"):
            start = part.find("eyJ", start + 3)
        # The rest is looked at last: a text of a million parts has a million rests.
        if start >= 0 and len(part) - start >= 11 and text[at + len(part) + 1 :].strip("."):
            dots = len(text) - len(text.rstrip("."))
            return f"{text[: at + start]}{HIDDEN}{'.' * dots}"
        at += len(part) + 1
    return text


def _value(match: re.Match[str]) -> str:
    """Hide the value of a key, unless it is a word of a sentence, or the key is the name of a workload."""
    name, opening, plain = match[1], match[2] or match[4] or match[6] or "", match[8]
    if plain and ":" in name and name[-1].isspace():
        before = match.string[max(0, match.start() - 80) : match.start()]
        if _IN_PATH.search(before) or _IN_SENTENCE.match(match.string, match.start(8)):
            return match[0]
    return f"{name}{opening}{HIDDEN}"


_DIGEST: Final = re.compile(r"@sha(?:256|512):")
_IN_PATH: Final = re.compile(r"/[\w.-]*\Z")
_IN_SENTENCE: Final = re.compile(r"[a-z]{1,3} [a-z]")

# Text that looks like a credential, and what stands in its place. No pattern may try the rest of a text again
# from each of its letters: others choose the text, and it may be long.
_SHAPES: Final[tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...]] = (
    *(
        (re.compile(pattern), rf"\g<1>{HIDDEN}")
        for pattern in (
            r"(?s)()-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
            r"(?i)(\bauthorization[\"']?\s*[:=]\s*[\"']?(?:(?:bearer|basic|token)\s+)?)[^\s\"',;]+",
            r"(?i)(\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}",
            r"()\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
            rf"()\b(?:{'|'.join(_PREFIXES)})[A-Za-z0-9_-]{{8,}}(?:\.[A-Za-z0-9_-]{{8,}})*",
            r"(?i)(X-Amz-(?:Signature|Credential|Security-Token)=)[^&\s\"']+",
            r"(?i)([?&](?:sig|signature)=)[^&\s\"']+",
        )
    ),
    (re.compile(r"(:(?:\\?/){2})([^\s\"'<>]+)"), _url),
    (re.compile(r"[A-Za-z0-9_.-]{12,}"), _web_token),
    # No repetition before the word: the matcher would try it from every letter of a long text.
    (
        re.compile(
            rf"(?i)({_KEYS}(?:\\*[\"'])?\s*[:=]\s*)"
            r"(?:(\\+[\"'])([^\"'\\]+)|(\")((?:[^\"\\]|\\.)+)|(')((?:[^'\\]|\\.)+)|([^\s\"',;&]+))"
        ),
        _value,
    ),
)

# The API server quotes a part of the object that it refuses.
_REFUSED_VALUE: Final = re.compile(r'((?:Invalid|Unsupported|Duplicate) value: )(?:"(?:[^"\\]|\\.)*"?|\S+)')


class Redactor:
    """Hides known secrets in any encoding, and all text that looks like a credential."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        written = {form for value in values for form in _forms(value)}
        longest_first = sorted(written, key=lambda form: (-len(form), form))
        self._known = re.compile("|".join(map(re.escape, longest_first))) if written else None

    def text(self, text: str) -> str:
        """Return a text without its secrets."""
        if self._known:
            text = self._known.sub(HIDDEN, text)
        for shape, instead in _SHAPES:
            text = shape.sub(instead, text)
        return _REFUSED_VALUE.sub(r"\g<1>[not shown]", text)

    def json(self, value: Any) -> Any:
        """Return JSON values without secrets, in keys and in values."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(key): self.json(entry) for key, entry in value.items()}
        if isinstance(value, list | tuple):
            return [self.json(entry) for entry in value]
        return value


def secrets_of_environment(environment: Mapping[str, str]) -> list[str]:
    """Return the values of variables with names such as TOKEN or PASSWORD."""
    return [value for name, value in environment.items() if _SECRET_NAME.search(name)]


def secrets_of_config(entries: Mapping[str, Any]) -> list[str]:
    """Return the secrets among the entries of ``pulumi config --json --show-secrets``.

    The engine marks a map with one secret as secret as a whole, so all its values are.
    """
    secrets: list[str] = []
    for entry in entries.values():
        if isinstance(entry, Mapping) and entry.get("secret"):
            secrets.append(str(entry.get("value", "")))
            secrets += _texts(entry.get("objectValue"))
    return secrets


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for entry in value.values():
            yield from _texts(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _texts(entry)
    elif value is not None:
        yield str(value)


def _forms(value: str) -> Iterator[str]:
    whole = value.strip()
    # Also each line, and all lines joined: one_line folds white space.
    for form in {value, whole, " ".join(whole.split()), *(line.strip() for line in whole.splitlines())}:
        if len(form.strip()) < _SHORTEST or form.strip().lower() in ("true", "false", "null", "none"):
            continue
        yield from (form, quote(form, safe=""), json.dumps(form)[1:-1], repr(form)[1:-1])
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            encoded = encode(form.encode()).decode()
            yield from (encoded, encoded.rstrip("="))
