"""Keep: requests that nobody sampled are exported if they turn out to be wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from time import time_ns
from typing import TYPE_CHECKING, Any

from flask_bodytrace.otel.keeping import HELD_KEY, keeping
from flask_bodytrace.trace.keep import KeepRules

if TYPE_CHECKING:
    from opentelemetry.trace import Span, TracerProvider

    from flask_bodytrace.otel.keeping import Held


class Keeping:
    """What ``BODYTRACE_KEEP`` makes of one application's requests.

    :param rules: the setting.
    :param provider: holds the spans.
    :param hashers: as for `KeepRules.parse`.
    :raises ConfigError: the provider cannot hold spans.
    """

    def __init__(
        self,
        rules: Iterable[str],
        provider: TracerProvider,
        hashers: Mapping[str, Callable[[str], str]],
    ) -> None:
        self._rules = KeepRules.parse(rules, hashers)
        self._keeper = keeping(provider)

    def hold(self, values: Mapping[str, Any]) -> tuple[Held | None, Mapping[str, Any]]:
        """For a request that begins: what holds its spans, and what its context holds then.

        A request within another one that is held has none of its own: the outer one decides.
        """
        if HELD_KEY in values:
            return None, values
        held = self._keeper.held()
        return held, {**values, HELD_KEY: held}

    def begun(self, span_id: int, values: Mapping[str, Any]) -> None:
        """The server span has started, in this context, and no processor was told."""
        self._keeper.begun(span_id, values[HELD_KEY])

    def judge(self, span: Span, outcome: int, ids: Mapping[str, str]) -> bool:
        """Whether a request that is over is kept; its span says why, and is to end next.

        :param outcome: the answer's status; 500 if there was an exception or no answer.
        """
        now = time_ns()
        reason = self._rules.reason(outcome, now - getattr(span, "start_time", now), ids)
        if reason is not None:
            span.set_attribute("bodytrace.kept", reason)
        return reason is not None
