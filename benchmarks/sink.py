"""Something that takes spans in a process of its own: OTLP over HTTP, and over gRPC."""

from __future__ import annotations

import socketserver
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any


def answer(request_line: str) -> bytes:
    """What a service says.

    Moesif's has rules and a configuration, none of them set; ddtrace's agent has sampling rates.
    """
    method, path, _ = request_line.split(" ", 2)
    if method == "GET":
        return b"[]" if path.endswith("/rules") else b"{}"
    return b'{"rate_by_service":{}}' if path in {"/v0.4/traces", "/v0.5/traces"} else b""


class _Http(socketserver.StreamRequestHandler):
    """Reads requests and answers 200, no more than a client needs to go on."""

    def handle(self) -> None:
        while first := self.rfile.readline():
            length = 0
            while line := self.rfile.readline().strip().lower():
                name, _, value = line.partition(b":")
                if name == b"content-length":
                    length = int(value)
            self.rfile.read(length)
            body = answer(first.decode())
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    # ReadMe's agent connects anew for each request.
    request_queue_size = 1024


def grpc_server(take: Callable[[bytes], object]) -> int:
    """The port of a gRPC server that gives each request with spans to `take`."""
    import grpc

    def export(request: bytes, _context: Any) -> bytes:
        take(request)
        return b""  # an ExportTraceServiceResponse without fields

    handler = grpc.unary_unary_rpc_method_handler(export)
    name = "opentelemetry.proto.collector.trace.v1.TraceService"
    # Batches of long bodies are larger than gRPC takes by default, 4 MiB.
    server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(name, {"Export": handler}),)
    )
    port: int = server.add_insecure_port("127.0.0.1:0")
    server.start()
    _kept.append(server)
    return port


_kept: list[Any] = []


@contextmanager
def running(*before: str) -> Iterator[dict[str, str]]:
    """The sink while it runs; the variables that send spans there.

    :param before: what its command begins with, such as ``taskset``.
    """
    process = subprocess.Popen(
        [*before, sys.executable, "-m", __spec__.name], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    http, grpc = process.stdout.readline().split()
    try:
        yield {"BENCH_HTTP": f"http://127.0.0.1:{http}", "BENCH_GRPC": f"http://127.0.0.1:{grpc}"}
    finally:
        process.kill()
        process.communicate()


def main() -> None:
    """Listen on two free ports, print them, and take what comes."""
    with _Server(("127.0.0.1", 0), _Http) as server:
        print(server.server_address[1], grpc_server(len), flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
