"""The gateway's routes: each hands its request on."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from flask import Blueprint, Response, abort, g, request
from opentelemetry import baggage, context

from example_app import labels
from example_app.breaker.breaker import BreakerOpen
from example_app.failures import CallFailed
from example_app.gateway import nonces

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

    from example_app.cache.store import Cache
    from example_app.outbound import HttpService

_log = logging.getLogger(__name__)


def gateway_routes(orders: HttpService, inventory: HttpService, cache: Cache) -> Blueprint:
    """Return the gateway's routes.

    :param cache: keeps nonces; shared by all gateways.
    """
    routes = Blueprint("gateway", __name__)

    @routes.post("/orders")
    def create() -> ResponseReturnValue:
        # Read before, so that 413 and a lost client are not taken for a cache that fails.
        body = request.get_data()
        try:
            nonces.use(cache, request.headers.get(nonces.HEADER), body)
        except nonces.BadNonce as error:
            abort(400, str(error))
        except nonces.Replayed as error:
            abort(409, str(error))
        except Exception as error:  # noqa: BLE001 - whatever a cache raises
            # Not let through: the request may have been sent before.
            _log.warning("the nonce cannot be looked up: %s", error)
            abort(503, "Nobody can say now whether this was sent before. Send it again later.")
        return _hand_on(orders, "/orders")

    @routes.get("/orders/<order_id>")
    def show(order_id: str) -> ResponseReturnValue:
        return _hand_on(orders, f"/orders/{quote(order_id, safe='')}", "/orders/{order_id}")

    @routes.get("/users/<user_id>/orders")
    def of_user(user_id: str) -> ResponseReturnValue:
        path = f"/users/{quote(user_id, safe='')}/orders"
        return _hand_on(orders, path, "/users/{user_id}/orders")

    @routes.get("/stock/<sku>")
    def stock(sku: str) -> ResponseReturnValue:
        return _hand_on(inventory, f"/stock/{quote(sku, safe='')}", "/stock/{sku}")

    return routes


def _hand_on(service: HttpService, path: str, route: str | None = None) -> Response:
    """Send the same request to `service`, and answer what it answers."""
    here = context.get_current()
    label = labels.accepted(request.headers.get(labels.HEADER))
    if label is not None:
        here = baggage.set_baggage(labels.ATTRIBUTE, label, here)
        g.trace.span.set_attribute(labels.ATTRIBUTE, label)
    query = f"?{urlencode(list(request.args.items(multi=True)))}" if request.args else ""
    headers = {"Content-Type": request.content_type} if request.content_type else {}
    token = context.attach(here)
    try:
        answer = service.send(
            request.method,
            path + query,
            content=request.get_data(),
            headers=headers,
            route=route or path,
        )
    except BreakerOpen as error:
        abort(503, f"{error}. Send it again later, with a new nonce.")
    except CallFailed as error:
        abort(503, f"{error}. It may have happened all the same: send it again, with a new nonce.")
    finally:
        context.detach(token)
    kept = {
        name: answer.headers[name] for name in ("Location", "Retry-After") if name in answer.headers
    }
    return Response(
        answer.content,
        answer.status_code,
        kept,
        content_type=answer.headers.get("Content-Type"),
    )
