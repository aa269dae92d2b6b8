"""The page of metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from werkzeug.wrappers import Response

from flask_bodytrace.viewer.metric_charts import HEIGHT, charts_of
from flask_bodytrace.viewer.metrics import Series

from .site import Visit

_MOST = 60
_MAX_TEXT = 256
_WINDOWS = {"5m": 5, "15m": 15, "1h": 60, "4h": 240}
"""Minutes."""
_BY_DEFAULT = "1h"


@dataclass(frozen=True, slots=True)
class _Filter:
    """What to show; empty means everything.

    :param text: a part of a metric's name.
    :param window: one of `_WINDOWS`.
    """

    text: str
    service: str
    window: str

    @classmethod
    def read(cls, arguments: Mapping[str, str]) -> _Filter:
        window = arguments.get("window", "")
        return cls(
            text=arguments.get("q", "").strip()[:_MAX_TEXT],
            service=arguments.get("service", "")[:_MAX_TEXT],
            window=window if window in _WINDOWS else _BY_DEFAULT,
        )

    def __bool__(self) -> bool:
        return bool(self.text or self.service)

    def of(self, series: list[Series]) -> list[Series]:
        return [
            one
            for one in series
            if self.text.lower() in one.origin.name.lower()
            and (not self.service or one.origin.service == self.service)
        ]


def metrics(visit: Visit) -> Response:
    """A chart of each metric, by service."""
    store = visit.store
    version = store.version
    everything = store.series()
    wanted = _Filter.read(visit.request.args)
    charts = charts_of(wanted.of(everything), _WINDOWS[wanted.window] * 60 * 10**9)
    services: dict[str, list[object]] = {}
    for chart in charts[:_MOST]:
        services.setdefault(chart.service, []).append(chart)
    return visit.page(
        "metrics.html",
        version=version,
        filter=wanted,
        windows=[(name, "" if name == _BY_DEFAULT else name) for name in _WINDOWS],
        total=len(everything),
        shown=services,
        left_out=max(len(charts) - _MOST, 0),
        height=HEIGHT,
        services=sorted({one.origin.service for one in everything}),
    )
