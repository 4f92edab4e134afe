"""The login that the registries of the tests know."""

import base64
import json
from dataclasses import replace

from archshift.images.registry.credentials import AuthFile, read_pull_secret

LOGIN = ("user", "secret")

# bcrypt of "secret", cost 5.
HTPASSWD = "user:$2b$05$Lc6js0OM/Gz7wkQfDzQHtuFWxGwY6k170hqpP.0/gJ3sfLfvZsO06\n"


def secret(
    host: str,
    username: str = LOGIN[0],
    password: str = LOGIN[1],
    *,
    namespace: str = "shop",
    images: frozenset[str] | None = None,
) -> AuthFile:
    """Return a pull secret as the API server would hand it out, of pods with these images; None for all."""
    auth = base64.b64encode(f"{username}:{password}".encode()).decode()
    config = json.dumps({"auths": {host: {"auth": auth}}}).encode()
    read = read_pull_secret(
        {
            "metadata": {"namespace": namespace, "name": "pull"},
            "type": "kubernetes.io/dockerconfigjson",
            "data": {".dockerconfigjson": base64.b64encode(config).decode()},
        }
    )
    return replace(read, namespace=namespace, images=images)
