"""Functions of the application, called for every traced request and its response."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flask import Flask, Request, Response, current_app, request

from flask_bodytrace.flow.exchange import Exchange
from flask_bodytrace.trace.current import TRACE_KEY, RequestTrace

if TYPE_CHECKING:
    from collections.abc import Iterable


RequestHook = Callable[[RequestTrace, Request], object]
ResponseHook = Callable[[RequestTrace, Response], object]


class Hooks:
    """The hooks of one `BodyTrace`, for all its applications.

    Flask is only asked to call where there is something to call. What a hook raises is logged once
    per hook and kind of exception, and changes nothing else.
    """

    def __init__(self) -> None:
        self._request: list[RequestHook] = []
        self._response: list[ResponseHook] = []
        self._apps: weakref.WeakSet[Flask] = weakref.WeakSet()

    def attach(self, app: Flask) -> None:
        """Call the hooks there are, and those still to come, for `app`."""
        self._apps.add(app)
        self._register(app)

    def on_request(self, hook: RequestHook) -> None:
        """Call `hook` once the URL is matched, before all other ``before_request`` functions."""
        self._request.append(hook)
        for app in self._apps:
            self._register(app)

    def on_response(self, hook: ResponseHook) -> None:
        """Call `hook` after all ``after_request`` functions."""
        self._response.append(hook)
        for app in self._apps:
            self._register(app)

    def _register(self, app: Flask) -> None:
        # Not through app.before_request: this goes first, and hooks may come after first requests.
        before = app.before_request_funcs.setdefault(None, [])
        if self._request and self._call_request_hooks not in before:
            before.insert(0, self._call_request_hooks)
        after = app.after_request_funcs.setdefault(None, [])
        if self._response and self._call_response_hooks not in after:
            # Flask calls them last to first.
            after.insert(0, self._call_response_hooks)

    def _call_request_hooks(self) -> None:
        _call("on_request", self._request, request)

    def _call_response_hooks(self, response: Response) -> Response:
        _call("on_response", self._response, response)
        return response


def _call(kind: str, hooks: Iterable[Callable[..., Any]], subject: Request | Response) -> None:
    exchange = request.environ.get(TRACE_KEY)
    if not isinstance(exchange, Exchange):
        return
    for hook in hooks:
        try:
            current_app.ensure_sync(hook)(exchange.trace, subject)
        except Exception as error:  # noqa: BLE001 - no hook may change the answer
            name = getattr(hook, "__qualname__", repr(hook))
            state = current_app.extensions["bodytrace"]
            state.plan.report(f"{kind} hook {name} ({type(error).__name__})")
