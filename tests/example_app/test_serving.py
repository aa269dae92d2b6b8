import socket
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

import pytest
import requests

from example_app.serving import serving

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def hello(_environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    start_response("200 OK", [("Content-Length", "2")])
    return [b"hi"]


def test_it_serves_on_a_free_port_and_leaves_no_thread() -> None:
    before = threading.active_count()
    with serving(hello) as one, serving(hello) as other:
        assert one != other
        for url in (one, other):
            assert requests.get(url, timeout=60).content == b"hi"
    assert threading.active_count() == before


def test_a_request_under_way_is_let_finish() -> None:
    entered, go_on, answers = threading.Event(), threading.Event(), []

    def slow(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        entered.set()
        go_on.wait(60)
        return hello(environ, start_response)

    def get(url: str) -> None:
        answers.append(requests.get(url, timeout=60).content)

    with serving(slow) as url:
        client = threading.Thread(target=get, args=(url,))
        client.start()
        assert entered.wait(60)
        threading.Timer(0.2, go_on.set).start()
    client.join(60)

    assert answers == [b"hi"]


def test_a_taken_port_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"), serving(hello, port=port):
            pass


def test_a_port_held_reserved_is_free_for_it() -> None:
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        for _ in range(2):
            with serving(hello, port=port) as url:
                assert requests.get(url, timeout=60).content == b"hi"
