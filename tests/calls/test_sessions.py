"""Watching changes nothing for whoever uses the session."""

from __future__ import annotations

import asyncio
import logging
import pickle
from collections.abc import Callable, MutableMapping
from typing import Any

import httpx
import pytest
import requests
from requests.adapters import HTTPAdapter

from flask_bodytrace.calls import sessions
from flask_bodytrace.client import CallTree
from flask_bodytrace.log_once import LogOnce

LIBRARIES = [requests.Session, httpx.Client]


class Broken:
    """A watcher with a bug wherever it can have one."""

    def sending(self, _method: str, url: str, _headers: MutableMapping[str, str]) -> Any:
        if url.endswith("/go/1"):
            raise ValueError("sending")

    def answered(self, *_: Any) -> None:
        raise ValueError("answered")

    def failed(self, *_: Any) -> None:
        raise ValueError("failed")


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_session_itself_comes_back_and_can_be_left(
    system: Any, library: Callable[[], Any]
) -> None:
    url = system.service("orders")
    one, two = CallTree(), CallTree()
    with library() as session:
        before, hooks = dict(vars(session)), getattr(session, "event_hooks", None)
        assert one.watch(session) is session
        assert one.watch(two.watch(session)) is session
        session.get(f"{url}/go/1")
        one.unwatch(session)
        session.get(f"{url}/go/2")
        two.unwatch(session)
        session.get(f"{url}/go/3")
        two.unwatch(session)
        assert getattr(session, "event_hooks", None) == hooks
        assert vars(session).keys() == before.keys()
    assert [len(one.roots), len(two.roots)] == [1, 2]


def test_anything_else_is_refused() -> None:
    with pytest.raises(TypeError, match=r"requests\.Session"):
        CallTree().watch(object())


@pytest.mark.parametrize("library", LIBRARIES)
# T01
def test_a_watcher_that_raises_reaches_nobody(
    system: Any,
    library: Callable[[], Any],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sessions, "_report", LogOnce("watching failed at '%s'; go on"))
    url = system.service("orders")
    with caplog.at_level(logging.ERROR), library() as session:
        sessions.watch(session, Broken())
        for n in (1, 2, 1, 2):
            assert session.get(f"{url}/go/{n}").text == "orders"
        with pytest.raises((requests.ConnectionError, httpx.ConnectError)):
            session.get("http://127.0.0.1:1/")
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == [
        "watching failed at 'sending'",
        "watching failed at 'answered'",
        "watching failed at 'failed'",
    ]


@pytest.mark.parametrize("library", LIBRARIES)
def test_redirects_are_calls_of_their_own(system: Any, library: Callable[[], Any]) -> None:
    url = system.service("orders")
    tree = CallTree()
    options = {} if library is requests.Session else {"follow_redirects": True}
    with tree.watch(library()) as session:
        response = session.get(f"{url}/moved", **options)
    assert (response.status_code, len(response.history)) == (200, 1)
    assert [(root.name, root.status) for root in tree.roots] == [
        (f"GET {url}/moved", "302"),
        (f"GET {url}/go/7", "200"),
    ]
    first, second = tree.roots
    assert first.span_id != second.span_id
    below = [root.children[0] for root in tree.roots]
    exported = system.edges(tree.trace_id)
    assert {(root.span_id, call.span_id) for root, call in zip(tree.roots, below, strict=True)} < (
        exported
    )


def test_the_hooks_and_adapters_of_requests_keep_working(system: Any) -> None:
    url = system.service("orders")
    tree, seen = CallTree(), []

    class Own(HTTPAdapter):
        def send(self, request: Any, **kwargs: Any) -> Any:  # type: ignore[override]
            seen.append("adapter")
            return super().send(request, **kwargs)

    def hook(_response: Any, **_: Any) -> None:
        seen.append("hook")

    with tree.watch(requests.Session()) as session:
        own = Own(max_retries=3)
        session.mount(url, own)
        adapter: Any = session.get_adapter(url)
        assert adapter.max_retries is own.max_retries
        assert isinstance(adapter, Own)
        response = session.get(f"{url}/go/1", hooks={"response": hook}, stream=True)
        assert not response.raw.closed
        assert response.text == "orders"
    assert seen == ["adapter", "hook"]
    assert len(tree.roots) == 1


def test_a_watched_session_can_be_pickled() -> None:
    with CallTree().watch(requests.Session()) as session:
        session.headers["X-Mine"] = "1"
        again = pickle.loads(pickle.dumps(session))  # noqa: S301 - what we pickled ourselves
    assert again.headers["X-Mine"] == "1"
    again.close()


def test_the_hooks_of_httpx_keep_working(system: Any) -> None:
    url = system.service("orders")
    tree = CallTree()
    seen: list[str] = []

    def refuse(response: httpx.Response) -> None:
        seen.append("response")
        response.raise_for_status()

    def prepare(request: httpx.Request) -> None:
        seen.append("request")
        request.headers["traceparent"] = f"00-{'1' * 32}-{'2' * 16}-01"

    hooks: dict[str, list[Callable[..., Any]]] = {"request": [prepare], "response": [refuse]}
    with tree.watch(httpx.Client(event_hooks=hooks)) as client:
        with pytest.raises(httpx.HTTPStatusError):
            client.get(f"{url}/fail")
        with client.stream("GET", f"{url}/go/1") as response:
            assert not response.is_stream_consumed
            assert response.read() == b"orders"
    assert seen == ["request", "response"] * 2
    # Answered is not failed, whatever a hook makes of the answer.
    assert [root.status for root in tree.roots] == ["503", "200"]
    assert {root.trace_id for root in tree.roots} == {"1" * 32}
    assert len(system.edges("1" * 32)) == 3


def test_an_async_client_is_left_as_it_was(system: Any) -> None:
    url = system.service("orders")
    tree = CallTree()

    async def ask() -> None:
        async with httpx.AsyncClient() as client:
            keys, hooks = set(vars(client)), client.event_hooks
            tree.watch(client)
            async with client.stream("GET", f"{url}/go/1") as response:
                assert await response.aread() == b"orders"
            with pytest.raises(httpx.ConnectError):
                await client.get("http://127.0.0.1:1/")
            tree.unwatch(client)
            await client.get(f"{url}/go/2")
            assert (set(vars(client)), client.event_hooks) == (keys, hooks)

    asyncio.run(ask())
    assert [root.status for root in tree.roots] == ["200", "ConnectError"]


def test_what_others_hang_on_a_session_stays(system: Any) -> None:
    url = system.service("orders")
    tree, seen = CallTree(), []
    with requests.Session() as session:

        def get_adapter(url: str) -> Any:
            seen.append(url)
            return requests.Session.get_adapter(session, url)

        session.get_adapter = get_adapter  # type: ignore[method-assign]
        tree.watch(session).get(f"{url}/go/1")
        tree.unwatch(session)
        assert vars(session)["get_adapter"] is get_adapter
        tree.watch(session)
        ours = session.get_adapter

        def on_top(url: str) -> Any:
            return ours(url)

        session.get_adapter = on_top  # type: ignore[method-assign]
        tree.unwatch(session)
        session.get(f"{url}/go/2")
    assert seen == [f"{url}/go/1", f"{url}/go/2"]
