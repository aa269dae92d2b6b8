"""Traces survive Flask's reloader: each process leaves them to the one that follows it.

Werkzeug's reloader is a process that starts another, which serves, and ends when a file changed;
then it starts the next. The first one loads the application as well, before it starts any other:
there it is decided, in an environment variable, in which folder traces will be left. A process that
serves writes them there when it ends, and the next reads and removes them: so there is no file
while the application runs, and none at all without a reloader. What nobody took, the first process
removes when it ends.

The folder is the user's alone, and its name cannot be guessed. What is in it is as large as a store
may be.
"""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import shutil
import stat
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from .model import Attributes
from .packing import NOT_PACKED, SPAN, packed, packed_log, unpacked
from .store import Saved, TraceStore

_VARIABLE = "_BODYTRACE_HANDOVER"
"""Set to the reloader's process id and the folder."""
_FORMAT = 1
_log = logging.getLogger("flask_bodytrace")
_numbers = count()
"""Applications are made in the same order each time: a store is known by its number."""


def keep(store: TraceStore) -> None:
    """Have a new store take over what the process before left, and leave what it has in the end.

    Without a reloader, nothing happens.
    """
    number = next(_numbers)
    if os.environ.get("WERKZEUG_RUN_MAIN") != "true":
        _choose_folder()
        return
    folder = _folder()
    if folder is None:
        return
    path = folder / str(number)
    try:
        _take(path, store)
    except (OSError, *NOT_PACKED) as error:
        # Perhaps this package is what was changed.
        _log.warning("the viewer's traces did not survive the reload: %s", error)
    reference, process = weakref.ref(store), os.getpid()

    def leave() -> None:
        left = reference()
        # Not in a forked child, nor where the reloader has gone and nobody would tidy up.
        if left is not None and os.getpid() == process and _folder() == folder:
            try:
                _leave(path, left)
            except OSError as error:
                _log.warning("the viewer's traces could not be left for the next: %s", error)

    atexit.register(leave)


def _choose_folder() -> None:
    """In what may become the reloader: name a folder, which is not made yet."""
    process = os.getpid()
    if os.name != "posix" or os.environ.get(_VARIABLE, "").startswith(f"{process}:"):
        return
    folder = Path(tempfile.gettempdir(), f"bodytrace-{secrets.token_hex(16)}")
    os.environ[_VARIABLE] = f"{process}:{folder}"

    def remove() -> None:
        if os.getpid() == process:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)


def _folder() -> Path | None:
    """In what a reloader started: the folder it named; None if that was another process."""
    process, _, folder = os.environ.get(_VARIABLE, "").partition(":")
    return Path(folder) if process == str(os.getppid()) and folder else None


def _take(path: Path, store: TraceStore) -> None:
    """Read what is left there, if anything is, and remove it."""
    if not path.exists():
        return
    _check(path.parent)
    data = path.read_bytes()
    path.unlink()
    if not any(path.parent.iterdir()):
        path.parent.rmdir()
    found = msgspec.msgpack.decode(data)
    if found["format"] == _FORMAT:
        store.restore(found["version"], _saved(found["resources"], found["traces"]))


def _leave(path: Path, store: TraceStore) -> None:
    version, traces = store.saved()
    if not traces:
        return
    resources: dict[bytes, int] = {}
    encoded: dict[int, int] = {}

    def resource(attributes: Attributes) -> int:
        number = encoded.get(id(attributes))
        if number is None:
            data = msgspec.msgpack.encode(attributes)
            number = encoded[id(attributes)] = resources.setdefault(data, len(resources))
        return number

    packed_traces = []
    for trace in traces:
        rows: list[tuple[str, bytes, int]] = []
        for span in trace.spans:
            form, data = packed(span)
            rows.append((form, data, resource(span.resource) if form == SPAN else -1))
        rows += [(*packed_log(log), -1) for log in trace.logs]
        packed_traces.append((trace.version, trace.left_out, rows))
    found = {
        "format": _FORMAT,
        "version": version,
        "resources": list(resources),
        "traces": packed_traces,
    }
    try:
        path.parent.mkdir(0o700)
    except FileExistsError:
        # The process before this one could not load the application, and took nothing.
        _check(path.parent)
    path.write_bytes(msgspec.msgpack.encode(found))


def _saved(resources: Sequence[bytes], traces: Sequence[Any]) -> Iterator[Saved]:
    decoded = [msgspec.msgpack.decode(data) for data in resources]
    for version, left_out, rows in traces:
        items = [unpacked(form, data, decoded[at] if at >= 0 else {}) for form, data, at in rows]
        spans = [span for found, _ in items for span in found]
        yield Saved(version, left_out, spans, [log for _, found in items for log in found])


def _check(folder: Path) -> None:
    """Make sure that nobody else can have put anything there.

    :raises OSError: somebody can.
    """
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{folder} is not this user's alone")
