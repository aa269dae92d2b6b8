"""Which requests are kept although nobody sampled them: rules as text, and what they decide.

The rules::

    errors             an answer of 4xx or 5xx, or an exception on the way
    server-errors      an answer of 5xx, or an exception on the way
    slow:500ms         one that took so long, or longer; also slow:2s
    id:order.id=ORD1   one with that business id; id:order.id for any value
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

_OUTCOMES = {"errors": 400, "server-errors": 500}
_NEVER = 1000
_SLOW = re.compile(r"slow:(\d{1,9}(?:\.\d{1,9})?)\s*(ms|s)")
_ID = re.compile(r"id:([^=\s]+)(?:=(.+))?")
_UNITS_NS = {"ms": 10**6, "s": 10**9}

ACCEPTED = "errors, server-errors, slow:500ms, id:order.id or id:order.id=ORD1"
"""What a rule may be, for error messages."""


@dataclass(frozen=True, slots=True)
class KeepRules:
    """When a request is kept.

    :param outcome: the lowest status that is; above 999 none is.
    :param slow_ns: the shortest duration that is, in nanoseconds; None if none is.
    :param ids: for each business id the values that are; None for any value.
    """

    outcome: int
    slow_ns: int | None
    ids: Mapping[str, set[str] | None]

    @classmethod
    def parse(cls, rules: Iterable[str], hashers: Mapping[str, Callable[[str], str]]) -> KeepRules:
        """Read rules.

        :param hashers: for each id that is stored as a hash, what makes that of its value.
        :raises ValueError: one of them is no rule; says which.
        """
        outcome, slow_ns = _NEVER, None
        ids: dict[str, set[str] | None] = {}
        for rule in rules:
            if rule in _OUTCOMES:
                outcome = min(outcome, _OUTCOMES[rule])
            elif slow := _SLOW.fullmatch(rule):
                limit = round(float(slow[1]) * _UNITS_NS[slow[2]])
                slow_ns = limit if slow_ns is None else min(slow_ns, limit)
            elif found := _ID.fullmatch(rule):
                name, value = found.groups()
                values = ids.setdefault(name, set())
                if value is None:
                    ids[name] = None
                elif values is not None:
                    values.add(hashers[name](value) if name in hashers else value)
            else:
                raise ValueError(rule)
        return cls(outcome, slow_ns, ids)

    def reason(self, outcome: int, duration_ns: int, ids: Mapping[str, str]) -> str | None:
        """Why a request that is over is kept: ``error``, ``slow`` or ``id``; None if it is not.

        :param outcome: the answer's status; 500 if there was an exception or no answer.
        :param ids: its business ids.
        """
        if outcome >= self.outcome:
            return "error"
        if self.slow_ns is not None and duration_ns >= self.slow_ns:
            return "slow"
        for name, values in self.ids.items():
            if name in ids and (values is None or ids[name] in values):
                return "id"
        return None
