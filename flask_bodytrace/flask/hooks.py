"""Functions of the application, called for every traced request and its response."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from flask import Flask, Request, Response, current_app

from flask_bodytrace.trace.current import RequestTrace

if TYPE_CHECKING:
    from flask_bodytrace.flow.exchange import Exchange

RequestHook = Callable[[RequestTrace, Request], object]
ResponseHook = Callable[[RequestTrace, Response], object]


class Hooks:
    """The hooks of one `BodyTrace`, for all its applications."""

    def __init__(self) -> None:
        self.on_request: list[RequestHook] = []
        self.on_response: list[ResponseHook] = []


def call_hooks(
    kind: str, hooks: Sequence[Callable[..., Any]], exchange: Exchange, subject: Request | Response
) -> None:
    """Call each with the trace and `subject`.

    :param kind: what they are called, for the log.

    What a hook raises is logged once per hook and kind of exception, and changes nothing else.
    """
    app: Flask = current_app
    for hook in hooks:
        try:
            app.ensure_sync(hook)(exchange, subject)
        except Exception as error:  # noqa: BLE001 - no hook may change the answer
            name = getattr(hook, "__qualname__", repr(hook))
            exchange.plan.report(f"{kind} hook {name} ({type(error).__name__})")
