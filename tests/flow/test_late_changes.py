"""What an application does to its answer behind our hook, and servers that do not close it."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, Response, request_finished
from flask.sessions import SecureCookieSessionInterface
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import StatusCode
from werkzeug.test import EnvironBuilder, run_wsgi_app

from tests.tracing import Spans

Work = Callable[[], None]
Change = Callable[[Flask, Work], object]


def chunks(work: Work) -> Iterator[bytes]:
    work()
    yield b"changed"


def streamed(response: Response, work: Work) -> None:
    response.response = chunks(work)
    response.headers.pop("Content-Length", None)


def another_response_of_process_response(app: Flask, work: Work) -> None:
    inner = app.process_response

    def process_response(response: Response) -> Response:
        inner(response)
        return Response(chunks(work))

    app.process_response = process_response  # type: ignore[method-assign]


def another_response_of_finalize_request(app: Flask, work: Work) -> None:
    inner = app.finalize_request

    def finalize_request(*args: Any, **kwargs: Any) -> Response:
        inner(*args, **kwargs)
        return Response(chunks(work))

    app.finalize_request = finalize_request  # type: ignore[method-assign]


def a_stream_made_when_the_session_is_saved(app: Flask, work: Work) -> None:
    class Sessions(SecureCookieSessionInterface):
        def save_session(self, _app: Any, _session: Any, response: Any) -> None:
            streamed(response, work)

    app.session_interface = Sessions()


def a_callback_added_when_the_session_is_saved(app: Flask, work: Work) -> None:
    class Sessions(SecureCookieSessionInterface):
        def save_session(self, _app: Any, _session: Any, response: Any) -> None:
            response.call_on_close(work)

    app.session_interface = Sessions()


def a_stream_made_by_a_signal(app: Flask, work: Work) -> object:
    def receiver(_app: Flask, response: Response, **_: Any) -> None:
        streamed(response, work)

    return request_finished.connect(receiver, app, weak=False)


def a_callback_added_by_a_signal(app: Flask, work: Work) -> object:
    def receiver(_app: Flask, response: Response, **_: Any) -> None:
        response.call_on_close(work)

    return request_finished.connect(receiver, app, weak=False)


def a_response_class_with_its_own_chunks(app: Flask, work: Work) -> None:
    class Own(Response):
        def iter_encoded(self) -> Iterator[bytes]:
            work()
            yield from super().iter_encoded()

    app.response_class = Own


def a_response_class_with_its_own_end(app: Flask, work: Work) -> None:
    class Own(Response):
        def close(self) -> None:
            work()
            super().close()

    app.response_class = Own


@pytest.mark.parametrize(
    "change",
    [
        another_response_of_process_response,
        another_response_of_finalize_request,
        a_stream_made_when_the_session_is_saved,
        a_callback_added_when_the_session_is_saved,
        a_stream_made_by_a_signal,
        a_callback_added_by_a_signal,
        a_response_class_with_its_own_chunks,
        a_response_class_with_its_own_end,
    ],
)
@pytest.mark.parametrize("capture", ["never", "always"])
def test_what_runs_while_the_answer_goes_out_belongs_to_the_request(
    change: Change, capture: str, make_app: Any, provider: TracerProvider, spans: Spans
) -> None:
    app = make_app(capture_response=capture)
    app.secret_key = "a session needs one"
    tracer = provider.get_tracer("work")
    app.add_url_rule("/", view_func=lambda: "complete")
    change(app, lambda: tracer.start_span("work").end())
    # Not by the test client, which makes a response of the application's class on its side, too.
    sent, _, _ = run_wsgi_app(app, EnvironBuilder().get_environ(), buffered=True)
    server: Any = spans.server()
    below = [span for span in spans.all if span.name == "work"]
    assert below
    assert {span.parent and span.parent.span_id for span in below} == {server.context.span_id}
    if capture == "always":
        assert server.attributes["http.response.body.size"] == len(b"".join(sent))


def broken() -> Iterator[bytes]:
    yield b"first"
    raise RuntimeError("in the middle")


def test_a_stream_that_breaks_ends_its_span_though_the_server_does_not_close_it(
    make_app: Any, spans: Spans
) -> None:
    app = make_app()
    app.add_url_rule("/", view_func=lambda: Response(broken()))
    chunks, _, _ = run_wsgi_app(app, EnvironBuilder().get_environ())
    next(iter(chunks))
    with pytest.raises(RuntimeError):
        next(iter(chunks))
    assert spans.server().status.status_code is StatusCode.ERROR
    assert spans.server().events[0].name == "exception"


def test_a_stream_that_broke_is_collected(make_app: Any) -> None:
    """Its traceback refers to it: nothing that lives on may refer to the traceback."""
    app = make_app()
    collected = []

    class Noted:
        def __del__(self) -> None:
            collected.append(True)

    def view() -> Response:
        def broken(_: Noted) -> Iterator[bytes]:
            yield b"first"
            raise RuntimeError

        return Response(broken(Noted()))

    app.add_url_rule("/", view_func=view)

    def request() -> None:
        iterable = app(EnvironBuilder().get_environ(), lambda *_: None)
        with pytest.raises(RuntimeError):
            list(iterable)

    request()
    gc.collect()
    app.test_client().get("/none")
    gc.collect()
    assert collected


def test_an_error_at_the_close_of_a_stream_that_is_out_says_nothing_on_the_log(
    make_app: Any, spans: Spans, caplog: pytest.LogCaptureFixture
) -> None:
    class Stream:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"all"])

        def close(self) -> None:
            raise RuntimeError("at the end")

    caplog.set_level(logging.WARNING)
    app = make_app()
    app.add_url_rule("/", view_func=lambda: Response(Stream()))
    iterable = app(EnvironBuilder().get_environ(), lambda *_: None)
    assert list(iterable) == [b"all"]
    with pytest.raises(RuntimeError):
        iterable.close()
    assert spans.server().name == "GET /"
    assert not caplog.records


@pytest.mark.parametrize("length", ["\xb2", "9" * 5000, "-5", "+5", " 5", "abc", ""])
def test_a_length_of_the_answer_that_is_no_number_costs_it_no_headers(
    make_app: Any, spans: Spans, length: str
) -> None:
    app = make_app()
    app.add_url_rule(
        "/", view_func=lambda: Response(iter([b"a", b"b"]), headers={"Content-Length": length})
    )
    chunks, _, headers = run_wsgi_app(app, EnvironBuilder().get_environ(), buffered=True)
    assert b"".join(chunks) == b"ab"
    assert headers["X-Trace-ID"]
    assert spans.server().name == "GET /"
