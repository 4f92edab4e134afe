"""A stand-in for the AWS Price List API, over HTTP: it answers GetProducts as the real one does.

It keeps prices by (region, type) and notes what it was asked. It checks that a request is signed, but not
the signature, and of the filters looks at the instance type and the region; it knows no pages.
"""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class PriceList:
    """The prices, and the requests that came: each a map of its filters."""

    def __init__(self, prices: Mapping[tuple[str, str], tuple[str, ...]]) -> None:
        """Hold the prices; several of one type make several products."""
        self.prices = dict(prices)
        self.asked: list[dict[str, str]] = []
        self.endpoint = ""
        self.refusal = ""
        self.currency = "USD"
        self.signed_for: list[str] = []


def product(price: str, currency: str) -> str:
    """One product as the API returns it: JSON in a text, its terms under made-up codes."""
    dimension = {"unit": "Hrs", "pricePerUnit": {currency: price}, "description": "on demand"}
    terms = {"OnDemand": {"ABC.JRT": {"priceDimensions": {"ABC.JRT.6YS": dimension}}}}
    return json.dumps({"product": {"productFamily": "Compute Instance"}, "terms": terms})


@contextmanager
def serve(prices: Mapping[tuple[str, str], tuple[str, ...]]) -> Iterator[PriceList]:
    """Serve the prices on a free port of this machine."""
    held = PriceList(prices)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.headers["X-Amz-Target"] == "AWSPriceListService.GetProducts"
            assert self.headers["Authorization"].startswith("AWS4-HMAC-SHA256 ")
            # Credential=KEY/DATE/REGION/pricing/aws4_request
            held.signed_for.append(self.headers["Authorization"].split("/")[2])
            filters = {one["Field"]: one["Value"] for one in body["Filters"]}
            held.asked.append({"ServiceCode": body["ServiceCode"], **filters})
            if held.refusal:
                self._answer(400, {"__type": "AccessDeniedException", "Message": held.refusal})
                return
            found = held.prices.get((filters["regionCode"], filters["instanceType"]), ())
            self._answer(
                200,
                {"FormatVersion": "aws_v1", "PriceList": [product(price, held.currency) for price in found]},
            )

        def _answer(self, code: int, value: Any) -> None:
            content = json.dumps(value).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    held.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield held
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
