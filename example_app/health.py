"""How a service is doing, for whoever watches it.

======== ============================================== ====================================
route    answers 200 if                                 for whom
======== ============================================== ====================================
/health  no loop has stopped                            who starts a service again
/ready   databases answer, loops run and have their bus who sends a service requests
======== ============================================== ====================================
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from flask import Blueprint

from example_app.events.state import Doing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flask.typing import ResponseReturnValue

    from example_app.duty import Report

    Check = Callable[[], object]

_HANDLING = "handling "
_log = logging.getLogger(__name__)


def health_routes(
    *,
    loops: Callable[[], Report] | None = None,
    checks: Mapping[str, Check] | None = None,
    needs_bus: bool = True,
) -> Blueprint:
    """Return the routes `/health` and `/ready`.

    :param loops: how the service's loops are doing; None if it has none.
    :param checks: what must answer, by name; one that does not raises.
    :param needs_bus: whether it is of no use without the bus. The order service is: events wait in
        its outboxes.
    """
    routes = Blueprint("health", __name__)

    @routes.get("/health")
    def health() -> ResponseReturnValue:
        # A loop that backs off mends itself: to restart the service would help nobody.
        report = loops() if loops else None
        status = _status(report)
        return _shown(status, report), 503 if status == "stopped" else 200

    @routes.get("/ready")
    def ready() -> ResponseReturnValue:
        missing = _missing(checks or {})
        if loops:
            missing += _missing_loops(loops(), needs_bus=needs_bus)
        if missing:
            return {"status": "not ready", "missing": missing}, 503
        return {"status": "ready", "missing": []}

    return routes


def _status(report: Report | None) -> str:
    doing = {it["state"] for it in report.loops.values()} if report else set()
    if Doing.STOPPED.value in doing:
        return "stopped"
    return "degraded" if doing - {Doing.RUNNING.value} else "ok"


def _shown(status: str, report: Report | None) -> dict[str, Any]:
    if report is None:
        return {"status": status, "loops": {}}
    return {"status": status, "loops": report.loops, "loopsRunIn": report.pid}


def _missing(checks: Mapping[str, Check]) -> list[str]:
    missing = []
    for name, check in checks.items():
        try:
            check()
        except Exception as error:  # noqa: BLE001 - whatever a database raises, it does not answer
            # The text names files and addresses, which are for the log.
            _log.warning("not ready: %s: %s: %s", name, type(error).__name__, error)
            missing.append(name)
    return missing


def _missing_loops(report: Report, *, needs_bus: bool) -> list[str]:
    if not report.loops:
        return ["loops"]
    missing = [name for name, it in report.loops.items() if it["state"] == Doing.STOPPED.value]
    if needs_bus and all(_has_no_bus(it) for it in report.loops.values()):
        missing.append("bus")
    return missing


def _has_no_bus(loop: Mapping[str, Any]) -> bool:
    """Whether a loop waits for the bus, and not because a handler has failed."""
    if loop["state"] != Doing.BACKING_OFF.value:
        return False
    return not (loop["lastError"] or {}).get("what", "").startswith(_HANDLING)
