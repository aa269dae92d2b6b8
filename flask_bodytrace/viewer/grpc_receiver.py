"""OTLP over gRPC into the store, beside HTTP: under the same bounds, for the same people.

Imported only where it is on: it needs grpcio. No generated services: the three methods have one
form, and their bytes are read as those that come over HTTP.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import grpc
from werkzeug.serving import select_address_family

from . import otlp
from .otlp import BadRequest
from .pages import Viewer
from .receiver import MAX_BODY, Refused, keep
from .server import CannotServe

_METHODS = {
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export": "traces",
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export": "logs",
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export": "metrics",
}
_THREADS = 8
_AT_ONCE = 32
"""Requests; each holds as much memory as its message."""


class _Services(grpc.GenericRpcHandler):
    """The three services of OTLP."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        signal = _METHODS.get(handler_call_details.method)
        if signal is None:
            return None
        return grpc.unary_unary_rpc_method_handler(partial(self._export, signal))

    def _export(self, signal: str, body: bytes, context: grpc.ServicerContext) -> bytes:
        access = self._viewer.access
        environ = _environ(context)
        if not access.allows(environ):
            if access.wait(environ):
                # What exporters try again.
                context.abort(
                    grpc.StatusCode.UNAVAILABLE,
                    "too many wrong tokens from this address: wait a minute",
                )
            if access.needs_token:
                context.abort(
                    grpc.StatusCode.UNAUTHENTICATED,
                    "send the viewer's token: authorization: Bearer ...",
                )
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "this machine only, and no proxy")
        try:
            keep(self._viewer.store, signal, "protobuf", body)
        except BadRequest as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except Refused as refused:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(refused))
        # Every response message of OTLP is empty when everything was accepted.
        return b""


def _environ(context: grpc.ServicerContext) -> dict[str, Any]:
    """A call as `Access` takes it.

    There is no name that it was asked under to look at: browsers, which may be led here by a name
    of someone else's, do not speak gRPC.
    """
    address = context.peer().partition(":")[2].rpartition(":")[0].replace("%5B", "[")
    address = address.replace("%5D", "]").strip("[]")
    environ = {
        f"HTTP_{name.upper().replace('-', '_')}": str(value)
        for name, value in context.invocation_metadata()
    }
    return {**environ, "REMOTE_ADDR": address, "HTTP_HOST": f"[{address}]"}


@contextmanager
def receiving(host: str, port: int, viewer: Viewer) -> Iterator[str]:
    """Take OTLP over gRPC for `viewer`; gives the address, with the port.

    :param port: 0 for any.
    :raises CannotServe: the port is taken.
    :raises ProtobufMissing: opentelemetry-proto is not installed.
    """
    otlp.spans_from_protobuf(b"")
    server = grpc.server(
        ThreadPoolExecutor(_THREADS, thread_name_prefix="bodytrace-grpc"),
        handlers=[_Services(viewer)],
        options=[
            ("grpc.max_receive_message_length", MAX_BODY),
            # Two viewers on one port would each get half of what is sent.
            ("grpc.so_reuseport", 0),
        ],
        maximum_concurrent_rpcs=_AT_ONCE,
    )
    name = f"[{host}]" if ":" in host else host
    try:
        # gRPC would say on stderr, at length, that a port is taken.
        socket.create_server((host, port), family=select_address_family(host, port)).close()
        port = server.add_insecure_port(f"{name}:{port}")
    except (OSError, RuntimeError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
        raise CannotServe(f"cannot listen on {name}:{port}: {reason}") from None
    server.start()
    try:
        yield f"{name}:{port}"
    finally:
        server.stop(None).wait()
