"""Pages and clients that are told of changes by server-sent events."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
import requests
from flask import Flask
from opentelemetry.sdk.trace import TracerProvider
from werkzeug.serving import make_server
from werkzeug.test import Client

from flask_bodytrace import BodyTrace
from flask_bodytrace.viewer import server
from flask_bodytrace.viewer.model import Span
from flask_bodytrace.viewer.streams import MAX_STREAMS
from tests.viewer.running import RunningViewer as Viewer

if TYPE_CHECKING:
    from playwright.sync_api import Page


def stream(url: str) -> requests.Response:
    return requests.get(f"{url}/events", stream=True, timeout=20)


def data(answer: requests.Response) -> Iterator[int]:
    """The versions it tells."""
    for line in answer.iter_lines():
        if line.startswith(b"data: "):
            yield int(line.removeprefix(b"data: "))


def test_each_change_is_told(viewer: Viewer, make_span: Callable[..., Span]) -> None:
    viewer.store.add([make_span()])
    with stream(viewer.url) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        told = data(answer)
        assert next(told) == viewer.store.version
        viewer.store.add([make_span()])
        assert next(told) == viewer.store.version


def test_of_one_trace_only_its_own_changes(viewer: Viewer, make_span: Callable[..., Span]) -> None:
    viewer.store.add([make_span(trace=1)])
    with requests.get(f"{viewer.url}/events?trace={1:032x}", stream=True, timeout=20) as answer:
        told = data(answer)
        assert next(told) == 1
        viewer.store.add([make_span(trace=2)])
        viewer.store.add([make_span(trace=1)])
        assert next(told) == 3


def test_beyond_the_bound_it_says_204_and_one_that_left_makes_room(viewer: Viewer) -> None:
    open_ones = [stream(viewer.url) for _ in range(MAX_STREAMS)]
    assert {one.status_code for one in open_ones} == {200}
    assert stream(viewer.url).status_code == 204
    for one in open_ones:
        one.close()
    # That a client left shows when it is written to.
    given_back = threading.Event()
    give_back = viewer.viewer.streams.give_back

    def seen() -> None:
        give_back()
        given_back.set()

    viewer.viewer.streams.give_back = seen  # type: ignore[method-assign]
    viewer.store.add([])
    while stream(viewer.url).status_code != 200:
        viewer.store.add([])
        given_back.wait(0.2)


@pytest.mark.parametrize(
    "environ",
    [{"SERVER_SOFTWARE": "gunicorn/23.0"}, {"wsgi.multithread": False}, {"SERVER_SOFTWARE": ""}],
)
def test_a_server_whose_threads_are_few_keeps_them(viewer: Viewer, environ: dict[str, str]) -> None:
    base = {
        "REMOTE_ADDR": "127.0.0.1",
        "SERVER_SOFTWARE": "Werkzeug/3",
        "wsgi.multithread": True,
        "HTTP_HOST": "localhost",
    }
    answer = Client(viewer.viewer).get("/events", environ_overrides={**base, **environ})
    assert answer.status_code == 204


def test_where_it_cannot_be_told_a_page_asks(
    viewer: Viewer, page: Page, make_span: Callable[..., Span]
) -> None:
    viewer.viewer.streams.closing.set()
    with page.expect_request("**/version"):
        page.goto(viewer.url)
    viewer.store.add([make_span(name="PUT /new")])
    page.wait_for_selector("tr:has-text('PUT /new')")
    assert page.inner_text("[data-live]").strip() == "Live"


def test_a_page_that_is_told_does_not_ask(
    viewer: Viewer, page: Page, make_span: Callable[..., Span]
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(viewer.url)
    for number in range(3):
        viewer.store.add([make_span(trace=number + 1, name=f"PUT /new/{number}")])
        page.wait_for_selector(f"tr:has-text('PUT /new/{number}')")
    assert not [url for url in asked if url.endswith("/version")]


def test_live_says_when_the_viewer_is_gone_and_when_it_is_back(
    browser: object, make_span: Callable[..., Span]
) -> None:
    from playwright.sync_api import Browser

    assert isinstance(browser, Browser)
    page = browser.new_context().new_page()
    page.set_default_timeout(30_000)
    made = server.make(port=0)
    port = made.port
    with server.running(made) as url:
        page.goto(url)
        page.wait_for_selector("[data-live]:has-text('Live')")
        made.app.streams.closing.set()  # type: ignore[attr-defined]
        made.app.store.add([])  # type: ignore[attr-defined]
    page.wait_for_selector("[data-live].lost:has-text('Viewer gone')")
    again = server.make(port=port)
    again.app.store.add([make_span(name="PUT /back")])  # type: ignore[attr-defined]
    with server.running(again):
        page.wait_for_selector("tr:has-text('PUT /back')")
        page.wait_for_selector("[data-live]:not(.lost):has-text('Live')")
        page.context.close()


def test_an_open_page_writes_no_lines_into_the_application_s_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = Flask("shop")
    app.debug = True
    app.add_url_rule("/hello", "hello", lambda: "hello")
    BodyTrace(app, tracer_provider=TracerProvider(), viewer="on")
    made = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=made.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    caplog.set_level(logging.INFO, "werkzeug")
    try:
        base = f"http://127.0.0.1:{made.port}"
        assert requests.get(f"{base}/_bodytrace/version", timeout=10).status_code == 200
        with stream(f"{base}/_bodytrace") as answer:
            assert answer.status_code == 200
        assert requests.get(f"{base}/hello", timeout=10).text == "hello"
    finally:
        made.shutdown()
        thread.join()
    lines = [record.getMessage() for record in caplog.records if record.name == "werkzeug"]
    assert [line for line in lines if "/_bodytrace" in line] == []
    assert [line for line in lines if "GET /hello" in line]


def test_ctrl_c_ends_it_while_a_page_is_open() -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("FLASK_", "OTEL_"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "flask", "bodytrace", "viewer", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env={**environment, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    try:
        found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
        assert found is not None
        with stream(found[0]) as answer:
            assert answer.status_code == 200
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()
