"""The login that the registries of the tests know."""

import base64
import json

from archshift.images.registry.credentials import AuthFile, read_pull_secret

LOGIN = ("user", "secret")

# bcrypt of "secret", cost 5.
HTPASSWD = "user:$2b$05$Lc6js0OM/Gz7wkQfDzQHtuFWxGwY6k170hqpP.0/gJ3sfLfvZsO06\n"


def secret(host: str, username: str = LOGIN[0], password: str = LOGIN[1]) -> AuthFile:
    """Return a pull secret as the API server would hand it out."""
    auth = base64.b64encode(f"{username}:{password}".encode()).decode()
    config = json.dumps({"auths": {host: {"auth": auth}}}).encode()
    return read_pull_secret(
        {
            "metadata": {"namespace": "shop", "name": "pull"},
            "type": "kubernetes.io/dockerconfigjson",
            "data": {".dockerconfigjson": base64.b64encode(config).decode()},
        }
    )
