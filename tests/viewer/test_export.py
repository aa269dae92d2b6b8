from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from flask_bodytrace.viewer import export
from flask_bodytrace.viewer.model import Span

NASTY = "a'; rm -rf / #\n\"$(id)`id`<script>%%end\x1b[2J\u202e"


def request(make_span: Callable[..., Span], **attributes: Any) -> Span:
    base = {
        "http.request.method": "POST",
        "url.scheme": "http",
        "server.address": "localhost",
        "server.port": 8000,
        "url.path": "/orders",
    }
    return make_span(attributes={**base, **attributes})


def arguments_of(command: str) -> list[str]:
    """What a real shell makes of it."""
    script = f'curl() {{ printf "%s\\0" "$@"; }}\n{command}'
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, check=True, text=True)
    assert done.stderr == ""
    return done.stdout.split("\0")[:-1]


def test_curl_repeats_the_request(make_span: Callable[..., Span]) -> None:
    headers = {"http.request.header.x_tenant": ["acme"], "http.request.header.authorization": "s3"}
    command = export.curl(request(make_span, **{"url.query": "a=1"}, **headers))
    assert command is not None
    assert arguments_of(command) == [
        "-i", "-g", "-X", "POST", "http://localhost:8000/orders?a=1",
        "-H", "x-tenant: acme", "-H", "authorization: REDACTED", "--data-binary", "@body",
    ]  # fmt: skip
    assert "s3" not in command


@pytest.mark.parametrize(
    "attributes",
    [
        {"url.path": f"/{NASTY}"},
        {"url.query": NASTY},
        {"server.address": NASTY},
        {"url.full": f"http://x/{NASTY}"},
        {"http.request.header.x": NASTY},
        {f"http.request.header.{NASTY}": "x"},
        {"http.request.header.@/etc/passwd": "x"},
    ],
)
def test_nothing_in_a_span_becomes_a_command_or_an_option(
    make_span: Callable[..., Span], attributes: dict[str, str]
) -> None:
    command = export.curl(request(make_span, **attributes))
    assert command is not None
    words = arguments_of(command)
    assert words[:4] == ["-i", "-g", "-X", "POST"]
    assert words[4].startswith("http://")
    assert words[-2:] == ["--data-binary", "@body"]
    assert all(flag == "-H" for flag in words[5:-2:2])
    assert not any(value.startswith(("@", "-")) for value in words[6:-2:2])
    assert "\x1b" not in command


def with_body(make_span: Callable[..., Span], content: str, **more: Any) -> Span:
    kind = more.pop("kind", "application/json")
    captured = {
        "http.request.body.content": content,
        "http.request.header.content-type": [kind],
        **more,
    }
    return make_span(attributes={**request(make_span).attributes, **captured})


@pytest.mark.parametrize(
    "content", ['{"a":"b"}', "@/etc/passwd", "-o/tmp/x", "it's $(id) `id` \\", '{\n "é": "订单"}']
)
def test_curl_sends_the_captured_body_as_it_is(
    make_span: Callable[..., Span], content: str
) -> None:
    command = export.curl(with_body(make_span, content))
    assert command is not None
    assert arguments_of(command)[5:] == [
        "-H", "content-type: application/json", "--data-raw", content,
    ]  # fmt: skip
    assert "#" not in command


@pytest.mark.parametrize(
    ("content", "more"),
    [
        ('{"a":', {"bodytrace.request.body.truncated": True}),
        ("\x1b[2J", {}),
        ("\u202e", {}),
        ("\ud800", {}),
        ('{"file":{"filename":"x"}}', {"kind": "multipart/form-data"}),
        ("{}", {"kind": "text/x\nX-Other: 1", "bodytrace.request.body.truncated": True}),
    ],
)
def test_curl_leaves_a_body_to_fill_in_that_cannot_be_sent_as_it_was(
    make_span: Callable[..., Span], content: str, more: dict[str, Any]
) -> None:
    command = export.curl(with_body(make_span, content, **more))
    assert command is not None
    assert command.startswith("# The body is not on the span")
    assert arguments_of(command)[-2:] == ["--data-binary", "@body"]
    assert "\nX-Other" not in command
    assert "multipart" not in command


@pytest.mark.parametrize(
    "attributes",
    [{"url.full": "file:///etc/passwd"}, {"url.full": "-o/tmp/x"}, {"http.request.method": "; id"}],
)
def test_what_is_no_http_request_has_no_curl(
    make_span: Callable[..., Span], attributes: dict[str, str]
) -> None:
    assert export.curl(request(make_span, **attributes)) is None


def test_mermaid_shows_the_calls_between_services(make_span: Callable[..., Span]) -> None:
    spans = [
        make_span(0, 30, id=1, name="POST /orders", service="orders", kind=2),
        make_span(1, 2, id=2, parent=1, name="validate", service="orders"),
        make_span(5, 20, id=3, parent=1, name="POST /pay", service="pay", status=2),
    ]
    assert export.mermaid(spans).splitlines() == [
        "sequenceDiagram",
        "    participant caller",
        "    participant s0 as orders",
        "    participant s1 as pay",
        "    caller->>s0: POST /orders",
        "    s0->>s1: POST /pay",
        "    s1--xs0: error in 15 ms",
        "    s0-->>caller: ok in 30 ms",
    ]


def test_mermaid_takes_no_orders_from_names(make_span: Callable[..., Span]) -> None:
    text = export.mermaid([make_span(name=NASTY, service=f"x\nNote over a: {NASTY}")])
    assert len(text.splitlines()) == 5
    for line in text.splitlines()[1:]:
        label = re.split(r"caller: |s0: | as ", line)[-1]
        assert re.fullmatch(r"(?:[A-Za-z0-9 _./{}\-]|#(?:\d+|lt|gt);)+| +participant caller", label)
