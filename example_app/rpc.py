"""gRPC with JSON messages: client and server, with the trace in the metadata."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import grpc
import msgspec
from opentelemetry import context, metrics, propagate
from opentelemetry.trace import SpanKind, StatusCode

from example_app import labels
from example_app.discovery.instances import NotReached, on_any
from example_app.failures import CallFailed
from example_app.metrics.pool import MeteredPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from opentelemetry.trace import Span, Tracer

    from example_app.discovery.directory import Directory

Q = TypeVar("Q")
R = TypeVar("R")
_THREADS = 8
_STOP_S = 5.0
_CLIENT_OPTIONS = (
    # A proxy set in the environment is for elsewhere.
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
)


class Method(Generic[Q, R]):
    """One method of a service: its name, what it takes and what it returns."""

    def __init__(self, service: str, name: str, takes: type[Q], returns: type[R]) -> None:
        self.service = service
        self.name = name
        self.path = f"/{service}/{name}"
        self.takes = takes
        self.returns = returns

    @property
    def attributes(self) -> dict[str, Any]:
        """As in the semantic conventions."""
        return {"rpc.system": "grpc", "rpc.service": self.service, "rpc.method": self.name}


class GrpcService:
    """One other service.

    :param name: its name in the directory.
    :param timeout_s: how long a call may take.
    """

    def __init__(self, name: str, directory: Directory, tracer: Tracer, timeout_s: float) -> None:
        self._name = name
        self._directory = directory
        self._tracer = tracer
        self._timeout_s = timeout_s
        self._channels: dict[str, grpc.Channel] = {}

    def call(self, method: Method[Q, R], request: Q) -> R:
        """Call a method; of another instance where one is not there. It may be called twice then.

        :raises CallFailed: whatever went wrong.
        """
        return on_any(
            self._directory, self._name, lambda tried: self._attempt(method, request, tried)
        )

    def _attempt(self, method: Method[Q, R], request: Q, tried: list[str]) -> R:
        attributes = {**method.attributes, "peer.service": self._name}
        with self._tracer.start_as_current_span(
            method.path[1:], kind=SpanKind.CLIENT, attributes=attributes
        ) as span:
            address = self._directory.locate(self._name, avoid=tried)
            tried.append(address)
            function = self._channel(address).unary_unary(
                method.path,
                request_serializer=msgspec.json.encode,
                response_deserializer=lambda data: msgspec.json.decode(data, type=method.returns),
            )
            carrier: dict[str, str] = {}
            propagate.inject(carrier)
            if label := labels.current():
                carrier[labels.HEADER.lower()] = label
            try:
                reply: R = function(
                    request, timeout=self._timeout_s, metadata=tuple(carrier.items())
                )
            except grpc.RpcError as error:
                code: grpc.StatusCode = error.code()
                _set_code(span, code)
                kind = NotReached if code is grpc.StatusCode.UNAVAILABLE else CallFailed
                raise kind(f"{self._name}: {code.name}") from error
            _set_code(span, grpc.StatusCode.OK)
            return reply

    def close(self) -> None:
        """Close the connections."""
        for channel in self._channels.values():
            channel.close()

    def _channel(self, address: str) -> grpc.Channel:
        channel = self._channels.get(address)
        if channel is None:
            # Of two threads that make one, one loses its own, unused.
            made = grpc.insecure_channel(address, options=_CLIENT_OPTIONS)
            channel = self._channels.setdefault(address, made)
        return channel


@contextmanager
def serving_grpc(
    methods: Mapping[Method[Any, Any], Callable[[Any], Any]], address: str, tracer: Tracer
) -> Iterator[int]:
    """Serve the methods for as long as the block lasts; calls under way are let finish.

    :param address: ``host:port``, port 0 for any free one.
    :yields: the port.
    :raises RuntimeError: the address cannot be listened on.
    """
    pool = MeteredPool(_THREADS, "grpc")
    server = grpc.server(pool, options=(("grpc.so_reuseport", 1),))
    for method, function in methods.items():
        handlers = {method.name: _handler(method, function, tracer)}
        server.add_registered_method_handlers(method.service, handlers)
    port = server.add_insecure_port(address)
    server.start()
    try:
        yield port
    finally:
        server.stop(_STOP_S).wait()
        pool.shutdown()


def _handler(
    method: Method[Q, R], function: Callable[[Q], R], tracer: Tracer
) -> grpc.RpcMethodHandler[Any, Any]:
    duration = metrics.get_meter("example_app.rpc").create_histogram(
        "rpc.server.call.duration", unit="s", description="Calls of gRPC methods that were served"
    )

    def handle(request: Q, call: grpc.ServicerContext) -> R:
        # gRPC's own names are in lower case, as the propagators ask for them.
        carrier = dict(call.invocation_metadata() or ())
        origin = propagate.extract(carrier)
        token = context.attach(origin)
        began, code = time.perf_counter(), grpc.StatusCode.UNKNOWN
        try:
            with tracer.start_as_current_span(
                method.path[1:], kind=SpanKind.SERVER, attributes=_described(method, request)
            ) as span:
                if label := labels.current():
                    span.set_attribute(labels.ATTRIBUTE, label)
                reply = function(request)
                code = grpc.StatusCode.OK
                _set_code(span, code)
                return reply
        finally:
            context.detach(token)
            attributes = {"rpc.method": method.path[1:], "rpc.response.status_code": code.name}
            duration.record(time.perf_counter() - began, attributes)

    return grpc.unary_unary_rpc_method_handler(
        handle,
        request_deserializer=lambda data: msgspec.json.decode(data, type=method.takes),
        response_serializer=msgspec.json.encode,
    )


def _described(method: Method[Any, Any], request: Any) -> dict[str, Any]:
    ids = {"order.id": "order_id", "user.id": "user_id"}
    found = {name: getattr(request, field, None) for name, field in ids.items()}
    return {**method.attributes, **{name: value for name, value in found.items() if value}}


def _set_code(span: Span, code: grpc.StatusCode) -> None:
    span.set_attribute("rpc.grpc.status_code", code.value[0])
    if code is not grpc.StatusCode.OK:
        span.set_attribute("error.type", code.name)
        span.set_status(StatusCode.ERROR)
