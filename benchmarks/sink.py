"""Something that takes spans in a process of its own: OTLP over HTTP, and over gRPC."""

from __future__ import annotations

import socketserver
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any


class _Http(socketserver.StreamRequestHandler):
    """Reads requests and answers 200, no more than a client needs to go on."""

    def handle(self) -> None:
        while line := self.rfile.readline():
            length = 0
            while line := self.rfile.readline().strip().lower():
                name, _, value = line.partition(b":")
                if name == b"content-length":
                    length = int(value)
            self.rfile.read(length)
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def _grpc() -> int:
    import grpc
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service

    def export(_request: Any, _context: Any) -> Any:
        return service.ExportTraceServiceResponse()

    handler = grpc.unary_unary_rpc_method_handler(
        export, response_serializer=service.ExportTraceServiceResponse.SerializeToString
    )
    name = "opentelemetry.proto.collector.trace.v1.TraceService"
    server = grpc.server(ThreadPoolExecutor(2))
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
        print(server.server_address[1], _grpc(), flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
