"""How a service is doing, for whoever watches it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Blueprint

from example_app.events.state import Doing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flask.typing import ResponseReturnValue

    from example_app.events.state import LoopState


def health_routes(loops: Mapping[str, LoopState]) -> Blueprint:
    """Return the health route.

    :param loops: the service's loops, by name.
    """
    routes = Blueprint("health", __name__)

    @routes.get("/health")
    def health() -> ResponseReturnValue:
        # A loop that backs off mends itself: to restart the service would help nobody.
        return _shown(loops), 503 if _have_stopped(loops) else 200

    return routes


def _have_stopped(loops: Mapping[str, LoopState]) -> bool:
    return any(state.doing is Doing.STOPPED for state in loops.values())


def _shown(loops: Mapping[str, LoopState]) -> dict[str, Any]:
    if _have_stopped(loops):
        status = "stopped"
    elif any(state.doing is not Doing.RUNNING for state in loops.values()):
        status = "degraded"
    else:
        status = "ok"
    return {"status": status, "loops": {name: state.shown() for name, state in loops.items()}}
