"""What the commands say of odd addresses and answers, and on terminals of few characters."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from threading import Thread

import pytest
from click.testing import CliRunner
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from flask_bodytrace.cli import bodytrace
from flask_bodytrace.viewer import server
from flask_bodytrace.viewer.model import Span
from flask_bodytrace.viewer.store import TraceStore

TRACE = f"{0xAA:032x}"
COMMANDS = (["show", TRACE, "--url"], ["search", "x", "--url"], ["tail"])


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: str(command[0]))
@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "http://",
        "http://:1",
        "http://[::1",
        "http://a..b",
        f"http://{'x' * 300}",
        "ftp://x",
    ],
)
def test_an_address_that_is_none_is_told_in_words(url: str, command: list[str]) -> None:
    done = CliRunner().invoke(bodytrace, [*command, url])
    assert done.exit_code == 1
    assert done.output.startswith(f"Error: {url} ")
    assert isinstance(done.exception, SystemExit)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: str(command[0]))
@pytest.mark.parametrize("token", ["\u5bc6\u7801" * 9, "a b\nc" * 9, "\udcff" * 20])
def test_a_token_that_no_header_holds_is_told_in_words(token: str, command: list[str]) -> None:
    environment = {server.TOKEN_VARIABLE: token}
    done = CliRunner(env=environment).invoke(bodytrace, [*command, "http://127.0.0.1:1"])
    assert done.output == (
        f"Error: {server.TOKEN_VARIABLE} cannot be sent: use printable ASCII characters only\n"
    )


@pytest.mark.parametrize("host", ["a..b", "unix:///nowhere", "x" * 300, "[::1]"])
def test_a_host_that_is_none_is_told_in_words(host: str) -> None:
    with pytest.raises(server.CannotServe, match="cannot listen on"):
        server.make(host, 0, "s3cret-of-length")


def test_a_short_token_is_refused() -> None:
    done = CliRunner(env={server.TOKEN_VARIABLE: "s3cret"}).invoke(
        bodytrace, ["viewer", "--port", "0", "--no-grpc"]
    )
    assert done.exit_code == 1
    assert "fewer than 16 characters" in done.output
    assert "s3cret" not in done.output


@pytest.fixture
def answering() -> Iterator[Callable[[str], str]]:
    """The address of a server that gives one answer to everything."""
    answers = [""]

    @Request.application
    def application(_: Request) -> Response:
        return Response(answers[0], content_type="application/json")

    made = make_server("127.0.0.1", 0, application)
    thread = Thread(target=made.serve_forever)
    thread.start()

    def with_answer(answer: str) -> str:
        answers[0] = answer
        return f"http://127.0.0.1:{made.server_port}"

    yield with_answer
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: str(command[0]))
@pytest.mark.parametrize(
    "answer",
    [
        *("", "<html>", "[]", "{}", "null", "1", '{"version":"x","traces":[]}'),
        *('{"version":1,"traces":[1],"found":1}', '{"version":1,"traces":[{}],"found":1}'),
        "[" * 100_000,
    ],
    ids=lambda answer: repr(answer[:40]),
)
def test_what_is_no_viewer_is_told_in_words(
    answering: Callable[[str], str], answer: str, command: list[str]
) -> None:
    url = answering(answer)
    done = CliRunner().invoke(bodytrace, [*command, url])
    assert done.output == f"Error: {url} is something else than a trace viewer\n"
    assert isinstance(done.exception, SystemExit)


def test_a_terminal_that_cannot_show_a_name_shows_the_rest(
    make_span: Callable[..., Span], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = TraceStore()
    store.add([make_span(0, 30, id=1, trace=0xAA, name="GET /\u8ba2\u5355")])
    for command in (["show", TRACE], ["search", "GET"]):
        out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
        with (
            server.running(server.make(port=0, store=store)) as url,
            monkeypatch.context() as patch,
        ):
            patch.setattr(sys, "stdout", out)
            assert bodytrace.main([*command, "--url", url], standalone_mode=False) is None
            out.flush()
        out.buffer.seek(0)
        shown = out.buffer.read()
        assert b"GET /??" in shown
