"""A stand-in for the APIs of EKS and EC2, over HTTP: boto3 asks it for node groups and launch templates.

The account is that of the plugin's stand-in (``aws``), so both see the same groups.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.standins import launch_templates
from tests.standins.aws import CLUSTER, NODE_GROUP, TEMPLATE, Account
from tests.standins.node_groups import describe

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "nobody's",
    "AWS_DEFAULT_REGION": "eu-west-1",
}
"""Whoever asks has credentials and a region, but those of nobody."""


def answer(account: Account, path: str) -> tuple[int, str, Any]:
    """Return the status, the code of the error and the body for one request."""
    content = account.read()
    if refusal := content.get("refusal"):
        code, _, message = refusal.rpartition("api error ")[2].partition(": ")
        return 400, code, {"message": message}
    parts = [unquote(part) for part in urlsplit(path).path.strip("/").split("/")]
    cluster, name = parts[1], "/".join(parts[3:])
    if cluster not in content["objects"].get(CLUSTER, {}):
        return 404, "ResourceNotFoundException", {"message": f"No cluster found for name: {cluster}."}
    if len(parts) == 2:
        # The resource has other shapes for the rest.
        names = ("arn", "endpoint", "certificateAuthority", "status", "deletionProtection", "tags")
        there = content["objects"][CLUSTER][cluster]
        return 200, "", {"cluster": {"name": cluster, **{one: there[one] for one in names if one in there}}}
    groups = {
        group["nodeGroupName"]: group
        for group in content["objects"].get(NODE_GROUP, {}).values()
        if group["clusterName"] == cluster
    }
    if not name:
        return 200, "", {"nodegroups": sorted(groups)}
    if name not in groups:
        return 404, "ResourceNotFoundException", {"message": f"No node group found for name: {name}."}
    return 200, "", {"nodegroup": describe(groups[name])}


@contextmanager
def serve(account: Account) -> Iterator[dict[str, str]]:
    """Serve an account on a free port of this machine; yields the environment with which boto3 finds it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.headers["Authorization"].startswith("AWS4-HMAC-SHA256 ")
            status, code, value = answer(account, self.path)
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            if code:
                self.send_header("x-amzn-ErrorType", code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            """EC2's API, whose requests are forms."""
            assert self.headers["Authorization"].startswith("AWS4-HMAC-SHA256 ")
            form = self.rfile.read(int(self.headers["Content-Length"])).decode()
            status, text = launch_templates.describe(account.read(), TEMPLATE, form)
            self.send_response(status)
            self.send_header("Content-Type", "text/xml")
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        yield {**ENVIRONMENT, "AWS_ENDPOINT_URL_EKS": url, "AWS_ENDPOINT_URL_EC2": url}
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
