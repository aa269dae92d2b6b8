"""Watching what goes through a `requests.Session`, `httpx.Client` or `httpx.AsyncClient`.

Neither library is imported: a session can only exist where its library is already. Watchers see
every attempt, redirects one by one; what they raise is logged once and never reaches the caller.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from flask_bodytrace.log_once import LogOnce

if TYPE_CHECKING:
    from flask_bodytrace.trace.headers import Header


S = TypeVar("S")
_report = LogOnce("watching failed at '%s'; the call goes on without it")


class Watcher(Protocol):
    """Is notified of every request that a watched session sends."""

    def sending(self, method: str, url: str, headers: MutableMapping[str, str]) -> Any:
        """About to be sent; `headers` may be added to. What is returned identifies the request."""

    def answered(
        self, sent: Any, request: MutableMapping[str, str], status: int, response: Iterable[Header]
    ) -> None:
        """The headers of the response to `sent` are here; `request` is what really was sent."""

    def failed(self, sent: Any, request: MutableMapping[str, str], error: BaseException) -> None:
        """No answer came to `sent`."""


def watch(session: S, watcher: Watcher) -> S:
    """Tell `watcher` of what `session` sends from now on; `session` again.

    :raises TypeError: `session` is none of the three.
    """
    watched = _watched(session)
    if watched is None:
        watched = _install(session)
    if watcher not in watched.watchers:
        watched.watchers = [*watched.watchers, watcher]
    return session


def unwatch(session: object, watcher: Watcher) -> None:
    """Undo `watch`; nothing happens where it was not called."""
    watched = _watched(session)
    if watched is None:
        return
    watched.watchers = [other for other in watched.watchers if other is not watcher]
    if not watched.watchers:
        watched.remove()


class _Request(Protocol):
    """The attributes that prepared requests of both libraries have."""

    method: Any
    url: Any
    headers: Any


class _Attempt:
    """One request on its way; all watchers are told of it."""

    def __init__(self, watchers: list[Watcher], request: _Request) -> None:
        self._request = request
        self._open = True
        self._sent: list[tuple[Watcher, Any]] = []
        for watcher in watchers:
            try:
                sent = watcher.sending(str(request.method), str(request.url), request.headers)
            except Exception:  # noqa: BLE001 - watching must not stop the request
                _report("sending")
            else:
                self._sent.append((watcher, sent))

    def answered(self, response: Any) -> None:
        self._open = False
        for watcher, sent in self._sent:
            try:
                headers = response.headers
                # httpx keeps doubled headers apart, requests joins them.
                pairs = getattr(headers, "multi_items", headers.items)()
                watcher.answered(sent, self._request.headers, response.status_code, pairs)
            except Exception:  # noqa: BLE001 - the caller gets the response
                _report("answered")

    def failed(self, error: BaseException) -> None:
        if not self._open:
            return
        self._open = False
        for watcher, sent in self._sent:
            try:
                watcher.failed(sent, self._request.headers, error)
            except Exception:  # noqa: BLE001 - the caller gets its own error
                _report("failed")


class _WatchedSession:
    """Replaces the method `attribute` on a watched session."""

    attribute: str

    def __init__(self, session: Any) -> None:
        self.watchers: list[Watcher] = []
        self._session = weakref.ref(session)
        self._replaced: Any = vars(session).get(self.attribute)
        setattr(session, self.attribute, self)

    @property
    def _inner(self) -> Callable[..., Any]:
        if self._replaced is not None:
            return self._replaced  # type: ignore[no-any-return]
        session = self._session()
        # Looked up each time: others may patch the class later.
        return getattr(type(session), self.attribute).__get__(session)  # type: ignore[no-any-return]

    def remove(self) -> None:
        session = self._session()
        # Somebody may have put their own in our place, which still calls us: stay, silently.
        if session is None or vars(session).get(self.attribute) is not self:
            return
        if self._replaced is None:
            delattr(session, self.attribute)
        else:
            setattr(session, self.attribute, self._replaced)


class _RequestsSession(_WatchedSession):
    """In place of `get_adapter`: below redirects, hooks and other instrumentation."""

    attribute = "get_adapter"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _Adapter(self._inner(*args, **kwargs), self.watchers)


class _Adapter:
    """An adapter of `requests` with watchers."""

    def __init__(self, adapter: Any, watchers: list[Watcher]) -> None:
        self._adapter = adapter
        self._watchers = watchers

    @property  # type: ignore[misc]  # for `isinstance`, as unittest.mock does
    def __class__(self) -> Any:
        return self._adapter.__class__

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        attempt = _Attempt(self._watchers, request)
        try:
            response = self._adapter.send(request, *args, **kwargs)
        except BaseException as error:
            attempt.failed(error)
            raise
        attempt.answered(response)
        return response


_attempts: ContextVar[list[_Attempt] | None] = ContextVar("flask_bodytrace.sessions", default=None)


@contextmanager
def _attempting() -> Iterator[None]:
    """One call of the session, in one or more attempts; an error belongs to the last."""
    attempts: list[_Attempt] = []
    token = _attempts.set(attempts)
    try:
        yield
    except BaseException as error:
        if attempts:
            attempts[-1].failed(error)
        raise
    finally:
        _attempts.reset(token)


class _HttpxClient(_WatchedSession):
    """In place of `send`, which sees errors, with event hooks, which see every attempt."""

    attribute = "send"

    def __init__(self, client: Any) -> None:
        super().__init__(client)
        self._hooks = self._make_hooks()
        hooks = client.event_hooks
        # Ours are the last to see a request and the first to see its response: other hooks may
        # add headers, and raise.
        client.event_hooks = {
            "request": [*hooks["request"], self._hooks[0]],
            "response": [self._hooks[1], *hooks["response"]],
        }

    def _make_hooks(self) -> tuple[Any, Any]:
        return self._on_request, self._on_response

    def __call__(self, request: Any, **kwargs: Any) -> Any:
        with _attempting():
            return self._inner(request, **kwargs)

    def _on_request(self, request: Any) -> None:
        attempts = _attempts.get()
        if attempts is not None:
            attempts.append(_Attempt(self.watchers, request))

    def _on_response(self, response: Any) -> None:
        attempts = _attempts.get()
        if attempts:
            attempts[-1].answered(response)

    def remove(self) -> None:
        super().remove()
        client: Any = self._session()
        if client is not None:
            client.event_hooks = {
                event: [hook for hook in hooks if hook not in self._hooks]
                for event, hooks in client.event_hooks.items()
            }


class _HttpxAsyncClient(_HttpxClient):
    """The same, awaited."""

    def _make_hooks(self) -> tuple[Any, Any]:
        async def on_request(request: Any) -> None:
            self._on_request(request)

        async def on_response(response: Any) -> None:
            self._on_response(response)

        return on_request, on_response

    async def __call__(self, request: Any, **kwargs: Any) -> Any:
        with _attempting():
            return await self._inner(request, **kwargs)


def _watched(session: object) -> _WatchedSession | None:
    for attribute in (_RequestsSession.attribute, _HttpxClient.attribute):
        watched = getattr(session, "__dict__", {}).get(attribute)
        if isinstance(watched, _WatchedSession):
            return watched
    return None


def _install(session: object) -> _WatchedSession:
    requests, httpx = sys.modules.get("requests"), sys.modules.get("httpx")
    if requests is not None and isinstance(session, requests.Session):
        return _RequestsSession(session)
    if httpx is not None and isinstance(session, httpx.AsyncClient):
        return _HttpxAsyncClient(session)
    if httpx is not None and isinstance(session, httpx.Client):
        return _HttpxClient(session)
    raise TypeError(
        f"{type(session).__name__} cannot be watched: give a requests.Session, an httpx.Client or "
        "an httpx.AsyncClient"
    )
