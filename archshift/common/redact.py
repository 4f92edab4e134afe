"""Removes secrets from text that others will read: pull requests, artifacts."""

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
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

# Text that looks like a credential. The first group stays; the text after it is hidden.
_SHAPES: Final = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?s)()-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
        r"(?i)(\bauthorization[\"']?\s*[:=]\s*[\"']?(?:(?:bearer|basic|token)\s+)?)[^\s\"',;]+",
        r"(?i)(\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}",
        r"(://)[^/\s@]+(?=@)",
        r"()\beyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]+){1,4}",
        r"()\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
        r"()\b(?:gh[pousr]_|github_pat_|glpat-|pul-|xox[a-z]-|k8s-aws-v1\.)[A-Za-z0-9_-]{8,}",
        r"(?i)(X-Amz-(?:Signature|Credential|Security-Token)=)[^&\s\"']+",
        # No repetition before the word: the matcher would try it from every letter of a long text.
        r"(?i)((?:password|passwd|passphrase|secret|token|api[_-]?key|access[_-]?key)[\"']?\s*=\s*[\"']?)"
        r"[^\s\"',;&]+",
        r"(?i)((?:password|passwd|passphrase|access[_-]?key)[\"']?:\s*[\"']?)[^\s\"',;&]+",
    )
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
        for shape in _SHAPES:
            text = shape.sub(rf"\g<1>{HIDDEN}", text)
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
