"""OTLP/HTTP over real sockets."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import tracemalloc
import zlib
from typing import Any

import pytest
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from flask_bodytrace.viewer.receiver import MAX_BODY, _varint
from tests.viewer.running import RunningViewer as Viewer

PROTOBUF = {"Content-Type": "application/x-protobuf"}
JSON = {"Content-Type": "application/json"}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def protobuf(spans: int = 1, name: str = "n") -> bytes:
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for number in range(1, spans + 1):
        scope.spans.add(trace_id=bytes.fromhex(TRACE), span_id=number.to_bytes(8, "big"), name=name)
    return request.SerializeToString()


def as_json(**changes: Any) -> bytes:
    span = {"traceId": TRACE, "spanId": "00f067aa0ba902b7", "name": "n", **changes}
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()


def post(
    viewer: Viewer, data: Any, headers: dict[str, str], path: str = "traces"
) -> requests.Response:
    return requests.post(f"{viewer.url}/v1/{path}", data=data, headers=headers, timeout=60)


@pytest.mark.parametrize(
    ("data", "headers"),
    [
        (protobuf(), PROTOBUF),
        (as_json(), JSON),
        (gzip.compress(protobuf()), {**PROTOBUF, "Content-Encoding": "gzip"}),
        (gzip.compress(as_json()), {**JSON, "Content-Encoding": "gzip"}),
        (zlib.compress(protobuf()), {**PROTOBUF, "Content-Encoding": "deflate"}),
        (as_json(), {"Content-Type": "application/json; charset=utf-8"}),
        (iter([protobuf()[:10], protobuf()[10:]]), PROTOBUF),
    ],
    ids=["protobuf", "json", "gzip", "gzip json", "deflate", "charset", "chunked"],
)
def test_every_form_is_taken(viewer: Viewer, data: Any, headers: dict[str, str]) -> None:
    answer = post(viewer, data, headers)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == headers["Content-Type"].partition(";")[0]
    assert answer.content == (b"{}" if "json" in headers["Content-Type"] else b"")
    assert len(viewer.store) == 1


def test_a_large_gzip_arrives_whole(viewer: Viewer) -> None:
    data = protobuf(5000, name="some name of a span")
    assert post(viewer, gzip.compress(data), {**PROTOBUF, "Content-Encoding": "gzip"}).ok
    assert len(viewer.store) == 5000


@pytest.mark.parametrize(
    ("data", "headers", "status"),
    [
        (protobuf()[:-3], PROTOBUF, 400),
        (as_json()[:-3], JSON, 400),
        (as_json(traceId="12"), JSON, 400),
        (as_json(spanId="0" * 16), JSON, 400),
        (gzip.compress(protobuf(), mtime=0)[:-9], {**PROTOBUF, "Content-Encoding": "gzip"}, 400),
        (
            gzip.compress(protobuf(), mtime=0) + b"more",
            {**PROTOBUF, "Content-Encoding": "gzip"},
            400,
        ),
        (protobuf(), {**PROTOBUF, "Content-Encoding": "gzip"}, 400),
        (protobuf(), {**PROTOBUF, "Content-Encoding": "br"}, 415),
        (protobuf(), {"Content-Type": "text/plain"}, 415),
        (as_json(), {"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ],
)
def test_bad_requests_get_4xx_and_change_nothing(
    viewer: Viewer, data: bytes, headers: dict[str, str], status: int
) -> None:
    version = viewer.store.version
    assert post(viewer, data, headers).status_code == status
    assert len(viewer.store) == 0
    assert viewer.store.version == version


def test_one_bad_span_takes_the_good_ones_with_it(viewer: Viewer) -> None:
    request = ExportTraceServiceRequest.FromString(protobuf(3))
    request.resource_spans[0].scope_spans[0].spans[2].span_id = b"short"
    assert post(viewer, request.SerializeToString(), PROTOBUF).status_code == 400
    assert len(viewer.store) == 0


def test_an_error_is_a_status_message_of_google_rpc(viewer: Viewer) -> None:
    status_pb2 = pytest.importorskip("google.rpc.status_pb2")
    answer = post(viewer, protobuf()[:-3], PROTOBUF)
    status = status_pb2.Status.FromString(answer.content)
    assert status.code == 3
    assert "malformed" in status.message
    assert "hex digits" in post(viewer, as_json(traceId="12"), JSON).json()["message"]


@pytest.mark.parametrize("chunked", [False, True])
def test_100_megabytes_get_413_not_a_reset_connection(viewer: Viewer, chunked: bool) -> None:
    connection = http.client.HTTPConnection(viewer.url.removeprefix("http://"), timeout=60)
    connection.putrequest("POST", "/v1/traces")
    connection.putheader("Content-Type", "application/x-protobuf")
    step = b"\x00" * (1 << 20)
    if chunked:
        connection.putheader("Transfer-Encoding", "chunked")
        step = b"100000\r\n" + step + b"\r\n"
    else:
        connection.putheader("Content-Length", str(100 << 20))
    connection.endheaders()
    for _ in range(100):
        connection.send(step)
    connection.send(b"0\r\n\r\n" if chunked else b"")
    assert connection.getresponse().status == 413
    connection.close()
    assert len(viewer.store) == 0


def test_a_gzip_bomb_is_not_inflated(viewer: Viewer) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(b"\x00" * (1 << 20)) for _ in range(256)) + packer.flush()
    assert len(bomb) < 2 << 20
    tracemalloc.start()
    try:
        answer = post(viewer, bomb, {**PROTOBUF, "Content-Encoding": "gzip"})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert answer.status_code == 413
    assert peak < 2 * MAX_BODY
    assert len(viewer.store) == 0


def test_a_bomb_of_empty_spans_below_the_limit_is_none_either(viewer: Viewer) -> None:
    spans = b"\x12\x00" * ((MAX_BODY - 64) // 2)
    scope = b"\x12" + _varint(len(spans)) + spans
    body = gzip.compress(b"\x0a" + _varint(len(scope)) + scope)
    assert len(body) < MAX_BODY // 500
    assert post(viewer, body, {**PROTOBUF, "Content-Encoding": "gzip"}).status_code == 413
    assert len(viewer.store) == 0


def test_a_body_cut_short_is_400(viewer: Viewer) -> None:
    host, port = viewer.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        head = f"POST /v1/traces HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        connection.sendall(head.encode() + b"Content-Length: 5000\r\n\r\n" + as_json())
        connection.shutdown(socket.SHUT_WR)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 400
    assert len(viewer.store) == 0


@pytest.mark.parametrize("path", ["logs", "metrics"])
@pytest.mark.parametrize(
    ("data", "headers", "status"),
    [
        (b"", PROTOBUF, 200),
        (b"{}", JSON, 200),
        (gzip.compress(b"{}"), {**JSON, "Content-Encoding": "gzip"}, 200),
        (b"whatever", PROTOBUF, 400),
        (b"{", JSON, 400),
        (b"{}", {**JSON, "Content-Encoding": "gzip"}, 400),
        (b"{}", {"Content-Type": "text/plain"}, 415),
        (gzip.compress(b"{" * (9 << 20)), {**JSON, "Content-Encoding": "gzip"}, 413),
        (b" " * (MAX_BODY + 1), JSON, 413),
        (b"{" * 400_001, JSON, 413),
    ],
    ids=["protobuf", "json", "gzip", "noise", "cut", "no gzip", "text", "bomb", "large", "many"],
)
def test_logs_and_metrics_are_bounded_as_spans_are(
    viewer: Viewer, path: str, data: bytes, headers: dict[str, str], status: int
) -> None:
    assert post(viewer, data, headers, path).status_code == status


def test_only_post(viewer: Viewer) -> None:
    answer = requests.get(f"{viewer.url}/v1/traces", timeout=10)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")


def test_no_answer_lets_another_origin_read_it(viewer: Viewer) -> None:
    answer = requests.options(
        f"{viewer.url}/v1/traces",
        headers={"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"},
        timeout=10,
    )
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]
