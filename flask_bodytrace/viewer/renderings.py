"""The templates of a trace: each with how often one request rendered it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .model import Event, Span
from .requests_of import requests_of
from .template_notes import FILE, NAME, TAKEN, TEMPLATE, VARIABLES


@dataclass(slots=True)
class Rendered:
    """One template, as often as one request rendered it.

    :param name: empty for one that was made from a string.
    :param span: the span that was current first.
    :param variables: names of variables in any of its contexts.
    :param total: ns, of those that did not fail.
    """

    name: str
    file: str
    request: Span | None
    span: Span
    variables: dict[str, None] = field(default_factory=dict)
    times: int = 0
    failed: int = 0
    total: int = 0

    def add(self, event: Event) -> None:
        """Count one."""
        self.times += 1
        variables = event.attributes.get(VARIABLES)
        if isinstance(variables, list | tuple):
            self.variables.update((str(name), None) for name in variables)
        taken = event.attributes.get(TAKEN)
        if isinstance(taken, int | float):
            self.total += round(taken * 1e9)
        else:
            self.failed += 1


def templates_of(spans: Sequence[Span]) -> list[Rendered]:
    """The templates of a trace, as they were rendered first.

    :param spans: of one trace, by their start.
    """
    seen = [
        (event, span) for span in spans for event in span.events if event.name == TEMPLATE
    ]  # fmt: skip
    if not seen:
        return []
    seen.sort(key=lambda one: one[0].time)
    requests = requests_of(spans)
    found: dict[tuple[str, str, str], Rendered] = {}
    for event, span in seen:
        name, file = (str(event.attributes.get(key) or "") for key in (NAME, FILE))
        request = requests[span.span_id]
        key = (request.span_id if request is not None else "", name, file)
        rendered = found.get(key)
        if rendered is None:
            rendered = found[key] = Rendered(name, file, request, span)
        rendered.add(event)
    return list(found.values())
