"""The processor time of processes, from Linux' /proc."""

from __future__ import annotations

import os
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_TIMES = slice(11, 15)
"""Of the fields of ``stat`` after the name, its own times and those of children it waited for."""


def seconds_of(pid: int) -> float:
    """Return the processor time so far of a process and of those that it has started.

    Also of those that have ended, if it has waited for them; nan where there is no /proc.
    """
    try:
        # The name before may have anything in it, parentheses too.
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return float("nan")
    own = sum(map(int, fields[_TIMES])) * _TICK_S
    return own + sum(seconds_of(int(child)) for child in children)
