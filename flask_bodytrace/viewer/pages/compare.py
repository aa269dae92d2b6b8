"""Two traces of one route, side by side."""

from __future__ import annotations

from collections import Counter

from werkzeug.wrappers import Response

from flask_bodytrace.viewer.compare import compare
from flask_bodytrace.viewer.waterfall import waterfall

from .site import Visit

_CHOICE = 100
_SHOWN = 2_000


def side_by_side(visit: Visit) -> Response:
    """The comparison of ``a`` with ``b``; without ``b``, the traces it can be."""
    before = visit.find(visit.request.args.get("a", ""))
    other = visit.request.args.get("b", "")
    if not other:
        mine = before.summary
        choice = [
            summary
            for summary in visit.store.summaries()
            if summary.trace_id != mine.trace_id
            and (summary.name, summary.service) == (mine.name, mine.service)
        ]
        slowest = sorted(choice, key=lambda summary: summary.duration, reverse=True)
        return visit.page(
            "choose.html",
            summary=mine,
            choice=choice[:_CHOICE],
            slowest=slowest[0] if slowest else None,
            typical=slowest[len(slowest) // 2] if slowest else None,
        )
    after = visit.find(other)
    pairs = compare(waterfall(before.spans), waterfall(after.spans))
    only = visit.request.args.get("only") == "changes"
    shown = [pair for pair in pairs if not only or pair.what != "same" or pair.failed]
    return visit.page(
        "compare.html",
        before=before.summary,
        after=after.summary,
        counts=Counter(pair.what for pair in pairs),
        pairs=shown[:_SHOWN],
        left_out=max(len(shown) - _SHOWN, 0),
        only=only,
        longest=max((max(p.row.span.duration, 1) for p in pairs), default=1),
    )
