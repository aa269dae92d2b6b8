"""OTLP over gRPC, by the services' official stubs."""

from __future__ import annotations

import errno
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
import requests
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2_grpc import LogsServiceStub
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import MetricsServiceStub
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub

from flask_bodytrace.viewer import grpc_receiver, server
from flask_bodytrace.viewer.access import Access
from flask_bodytrace.viewer.pages import Viewer
from flask_bodytrace.viewer.receiver import MAX_BODY
from flask_bodytrace.viewer.store import TraceStore

TRACE = bytes.fromhex("4bf92f3577b34da6a3ce929d0e0e4736")
TOKEN = "s3cret-of-length"
SECONDS = 30


def spans(number: int = 1, name: str = "POST /orders") -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for one in range(1, number + 1):
        scope.spans.add(trace_id=TRACE, span_id=one.to_bytes(8, "big"), name=name)
    return request


def logs() -> ExportLogsServiceRequest:
    request = ExportLogsServiceRequest()
    request.resource_logs.add().scope_logs.add().log_records.add(severity_text="WARN")
    return request


def metrics() -> ExportMetricsServiceRequest:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="n")
    metric.gauge.data_points.add(time_unix_nano=1, as_int=1)
    return request


@contextmanager
def receiver(token: str = "", host: str = "127.0.0.1") -> Iterator[tuple[grpc.Channel, TraceStore]]:
    viewer = Viewer(TraceStore(), Access(token), receives=True)
    with (
        grpc_receiver.receiving(host, 0, viewer) as address,
        grpc.insecure_channel(address, options=[("grpc.max_send_message_length", -1)]) as channel,
    ):
        yield channel, viewer.store


@pytest.fixture
def listening() -> Iterator[tuple[grpc.Channel, TraceStore]]:
    with receiver() as found:
        yield found


def refused(call: Any, request: Any, **keywords: Any) -> tuple[grpc.StatusCode, str]:
    """How a call is refused."""
    with pytest.raises(grpc.RpcError) as raised:
        call(request, timeout=SECONDS, **keywords)
    error: Any = raised.value
    return error.code(), error.details()


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_every_signal_is_taken(host: str, compression: grpc.Compression) -> None:
    with receiver(host=host) as (channel, store):
        sent = {"timeout": SECONDS, "compression": compression}
        TraceServiceStub(channel).Export(spans(3), **sent)  # type: ignore[no-untyped-call]
        LogsServiceStub(channel).Export(logs(), **sent)  # type: ignore[no-untyped-call]
        MetricsServiceStub(channel).Export(metrics(), **sent)  # type: ignore[no-untyped-call]
        (summary,) = store.summaries()
        assert (summary.spans, summary.name) == (3, "POST /orders")
        assert [entry.record.severity for entry in store.logs()] == ["WARN"]
        assert [series.origin.name for series in store.series()] == ["n"]


def test_many_wrong_tokens_have_to_wait() -> None:
    with receiver(TOKEN) as (channel, store):
        export: Any = TraceServiceStub(channel).Export  # type: ignore[no-untyped-call]
        for token in [f"guess {number}" for number in range(10)]:
            refused(export, spans(), metadata=(("authorization", f"Bearer {token}"),))
        metadata = (("authorization", f"Bearer {TOKEN}"),)
        code, told = refused(export, spans(), metadata=metadata)
        # Exporters try again what is unavailable.
        assert (code, "wait a minute" in told) == (grpc.StatusCode.UNAVAILABLE, True)
        assert store.version == 0


def test_the_token_is_asked_of_every_call() -> None:
    with receiver(TOKEN) as (channel, store):
        stubs: list[tuple[Any, Any]] = [
            (TraceServiceStub, spans()), (LogsServiceStub, logs()), (MetricsServiceStub, metrics()),
        ]  # fmt: skip
        for stub, request in stubs:
            export = stub(channel).Export
            for given in ((), (("authorization", "Bearer wrong"),), (("authorization", TOKEN),)):
                code, told = refused(export, request, metadata=given)
                assert code == grpc.StatusCode.UNAUTHENTICATED
                assert "Bearer" in told
            assert store.version == 0
        for stub, request in stubs:
            metadata = (("authorization", f"Bearer {TOKEN}"),)
            stub(channel).Export(request, timeout=SECONDS, metadata=metadata)
        assert store.version == 3


def test_without_one_what_came_through_a_proxy_is_refused(
    listening: tuple[grpc.Channel, TraceStore],
) -> None:
    channel, store = listening
    export = TraceServiceStub(channel).Export  # type: ignore[no-untyped-call]
    code, _ = refused(export, spans(), metadata=(("x-forwarded-for", "192.0.2.7"),))
    assert code == grpc.StatusCode.PERMISSION_DENIED
    assert store.version == 0


def test_what_is_malformed_or_too_large_changes_nothing(
    listening: tuple[grpc.Channel, TraceStore],
) -> None:
    channel, store = listening
    export = TraceServiceStub(channel).Export  # type: ignore[no-untyped-call]
    bad = spans(3)
    bad.resource_spans[0].scope_spans[0].spans[2].span_id = b"short"
    code, told = refused(export, bad)
    assert (code, "an id of 5 bytes" in told) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    large = spans(1, "x" * MAX_BODY)
    for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
        code, _ = refused(export, large, compression=compression)
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    raw: Any = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
    code, told = refused(raw, b"\x12\x00" * 400_001)
    assert (code, "messages" in told) == (grpc.StatusCode.RESOURCE_EXHAUSTED, True)
    assert refused(raw, b"\xff")[0] == grpc.StatusCode.INVALID_ARGUMENT
    assert store.version == 0


def test_no_other_method_is_there(listening: tuple[grpc.Channel, TraceStore]) -> None:
    channel, _ = listening
    raw: Any = channel.unary_unary(
        "/opentelemetry.proto.collector.profiles.v1.ProfilesService/Export"
    )
    assert refused(raw, b"")[0] == grpc.StatusCode.UNIMPLEMENTED


RUN = "import sys; {before}from flask.cli import main; sys.argv[0] = 'flask'; main()"


@contextmanager
def command(*arguments: str, before: str = "") -> Iterator[list[str]]:
    """The first two lines that the command says, while it runs."""
    process = subprocess.Popen(
        [
            sys.executable, "-u", "-c", RUN.format(before=before),
            "bodytrace", "viewer", "--port", "0", *arguments,
        ],
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield [process.stdout.readline() for _ in range(2)]
    finally:
        process.kill()
        process.communicate()


def test_the_command_listens_for_grpc_too() -> None:
    with command("--grpc-port", "0") as (http, told):
        found = re.fullmatch(r"OTLP/gRPC: (127\.0\.0\.1:\d+)\n", told)
        assert found is not None
        with grpc.insecure_channel(found[1]) as channel:
            export = TraceServiceStub(channel).Export  # type: ignore[no-untyped-call]
            export(spans(), timeout=SECONDS, wait_for_ready=True)
        url = http.split()[1]
        assert "POST /orders" in requests.get(url, timeout=10).text


def test_a_port_that_is_taken_is_said_and_nothing_fails() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with command("--grpc-port", str(port)) as (http, told):
            reason = os.strerror(errno.EADDRINUSE)
            assert told == f"No OTLP/gRPC: cannot listen on 127.0.0.1:{port}: {reason}.\n"
            assert requests.get(http.split()[1], timeout=10).status_code == 200


def test_two_do_not_share_a_port() -> None:
    viewer = Viewer(TraceStore(), Access())
    with grpc_receiver.receiving("127.0.0.1", 0, viewer) as address:
        port = int(address.rpartition(":")[2])
        with (
            pytest.raises(server.CannotServe, match=str(port)),
            grpc_receiver.receiving("127.0.0.1", port, viewer),
        ):
            pass


@pytest.mark.parametrize(
    ("module", "words"),
    [("grpc", "flask-bodytrace[grpc]"), ("opentelemetry.proto", "flask-bodytrace[viewer]")],
)
def test_what_is_not_installed_is_said_and_nothing_fails(module: str, words: str) -> None:
    before = f"sys.modules[{module!r}] = None; "
    with command("--grpc-port", "0", before=before) as (http, told):
        assert told.startswith("No OTLP/gRPC: ")
        assert words in told
        assert requests.get(http.split()[1], timeout=10).status_code == 200


def test_grpc_is_imported_where_it_is_on_and_nowhere_else() -> None:
    code = (
        "import sys; from flask_bodytrace.viewer import pages, server; print('grpc' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
