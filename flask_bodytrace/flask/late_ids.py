"""Business ids that are known at the end: in the session, on ``g``, from a function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flask import g
from flask.globals import request_ctx

if TYPE_CHECKING:
    from flask_bodytrace.flow.exchange import Exchange
    from flask_bodytrace.ids.rules import Source


def find_late_ids(exchange: Exchange) -> None:
    """Set the ids whose sources have a value by now, where none was found before."""
    for attribute, sources in exchange.plan.ids.late:
        if attribute in exchange.find_ids():
            continue
        for source in sources:
            try:
                if exchange.set_id(attribute, _value(source)):
                    break
            except Exception:  # noqa: BLE001 - the application's own code may raise anything
                exchange.plan.report(f"ids, source {source!r}")


def _value(source: Source) -> object:
    if callable(source):
        return source()
    kind, _, path = source.partition(":")
    value: Any = g if kind == "g" else _session()
    for step in path.split("."):
        value = value.get(step) if isinstance(value, Mapping) else getattr(value, step, None)
    return value


def _session() -> Any:
    """The session, without Flask noticing: an answer that looked at it says ``Vary: Cookie``."""
    session = getattr(request_ctx, "_session", None)
    if session is None:
        session = request_ctx.session
    return {} if session is None else dict(session)
