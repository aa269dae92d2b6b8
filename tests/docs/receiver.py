"""Something that spans are exported to: OTLP over HTTP, and Zipkin's JSON."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_WAIT_S = 60


class Receiver:
    """What arrived: (service, span's name, attributes), and where it listens."""

    def __init__(self) -> None:
        self.url = ""
        self._spans: list[tuple[str, str, dict[str, str]]] = []
        self._more = threading.Condition()

    def add(self, service: str, name: str, attributes: dict[str, str]) -> None:
        """Note a span."""
        with self._more:
            self._spans.append((service, name, attributes))
            self._more.notify_all()

    def wait_for(self, name: str, **attributes: str) -> tuple[str, dict[str, str]]:
        """Wait for a span; its service and attributes.

        :param attributes: that it must have, with ``_`` for the dots.
        """
        wanted = {key.replace("_", "."): value for key, value in attributes.items()}

        def found() -> list[tuple[str, str, dict[str, str]]]:
            named = [span for span in self._spans if span[1] == name]
            return [span for span in named if wanted.items() <= span[2].items()]

        with self._more:
            assert self._more.wait_for(found, _WAIT_S), self._spans
            return found()[0][0], found()[0][2]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Listen on a free port until the block ends."""

    def take(path: str, body: bytes) -> None:
        if path == "/v1/traces":
            _take_otlp(receiver, body)
        elif path == "/api/v2/spans":
            for span in json.loads(body):
                service = span["localEndpoint"]["serviceName"]
                receiver.add(service, span["name"], span.get("tags", {}))

    receiver = Receiver()
    with listening(take) as receiver.url:
        yield receiver


@contextmanager
def listening(take: Callable[[str, bytes], None]) -> Iterator[str]:
    """Take what is posted to a free port, until the block ends; the port's address.

    :param take: called with each request's path, and its body, inflated.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            take(self.path, body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def _take_otlp(receiver: Receiver, body: bytes) -> None:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        names = {each.key: each.value.string_value for each in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                attributes = {each.key: each.value.string_value for each in span.attributes}
                receiver.add(names["service.name"], span.name, attributes)
