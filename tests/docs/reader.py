"""Does what a page tells its reader to do: saves files, types commands, looks at what comes.

Of the blocks of a page, in order:

- ``python title="app.py"`` is saved under its name; if it replaces a file while the application
  runs under ``--debug``, Flask's reloader is waited for;
- ``sh title="first terminal"`` (or third) is left running, and ends what ran there before;
- ``sh title="second terminal"`` is run to its end;
- ``text`` after it is what was printed, but for ids, times and durations; with the title of a
  terminal it is what comes there in time.

``python -m tests.docs.reader PAGE`` does so with the Python environment that is active
(``.ci/smoke``: the wheel's, outside of the checkout).
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_HERE = str(Path(__file__).parents[2])
if __name__ == "__main__":
    sys.path.insert(0, _HERE)

from tests.docs.pages import Block, blocks  # noqa: E402 - found by the line above, as a program

# Long enough for a machine that does ten other things; nothing here takes a tenth of it.
_WAIT_S = 180
_BASH = shutil.which("bash") or "/bin/bash"
_VARIES = (
    (re.compile(r"\b[0-9a-f]{32}\b"), "<id>"),
    (re.compile(r"\b\d+(\.\d+)? ?(ms|[uµ]?s)\b"), "<time>"),
)
_STARTED = "Debugger is active!"


def comparable(text: str) -> list[str]:
    """Its lines, with what differs from run to run replaced."""
    for pattern, name in _VARIES:
        text = pattern.sub(name, text)
    return [line.rstrip() for line in text.splitlines() if line.strip()]


class Terminal:
    """A command that is left running."""

    def __init__(self, command: str, folder: Path, environ: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [_BASH, "-ec", command],
            cwd=folder,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        self._lines: list[str] = []
        self._more = threading.Condition()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._more:
                self._lines.append(line)
                self._more.notify_all()

    @property
    def text(self) -> str:
        """What it printed so far."""
        with self._more:
            return "".join(self._lines)

    def wait_for(self, wanted: list[str], times: int = 1) -> None:
        """Wait until these lines, or parts of them, came one after the other.

        :param times: how often the first of them must have come.
        """

        def there() -> bool:
            printed = comparable("".join(self._lines))
            starts = [number for number, line in enumerate(printed) if wanted[0] in line]
            return len(starts) >= times and any(
                all(part in line for part, line in zip(wanted, printed[start:], strict=False))
                and len(printed) >= start + len(wanted)
                for start in starts
            )

        with self._more:
            assert self._more.wait_for(there, _WAIT_S), "".join(self._lines)

    def count(self, part: str) -> int:
        """How many lines have it in them."""
        return sum(part in line for line in self.text.splitlines())

    def stop(self) -> None:
        """Ctrl-C, as its reader does."""
        os.killpg(self._process.pid, signal.SIGINT)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._thread.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


class Reader:
    """One reader at work in one folder.

    :param folder: an empty one.
    :param environ: the environment of every terminal.
    """

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self._folder = folder
        self._port = _free_port()
        self._environ = {**environ, "FLASK_RUN_PORT": str(self._port), "PYTHONUNBUFFERED": "1"}
        self._terminals: dict[str, Terminal] = {}
        self._printed = ""
        # What was exported in the second terminal stays so.
        self._exports = ""

    def read(self, page: list[Block]) -> None:
        """Do all of it."""
        for block in page:
            self._do(block)

    def close(self) -> None:
        """Close all terminals."""
        for terminal in self._terminals.values():
            terminal.stop()

    def _do(self, block: Block) -> None:
        code = block.code.replace("127.0.0.1:5000", f"127.0.0.1:{self._port}")
        if block.language == "python":
            self._save(block.title, code)
        elif block.title in {"first terminal", "third terminal"} and block.language == "sh":
            self._start(block.title, code)
        elif block.title == "second terminal":
            self._run(code)
        elif block.language == "text" and block.title:
            self._terminals[block.title].wait_for(comparable(code))
        elif block.language == "text":
            assert comparable(self._printed) == comparable(code), self._printed

    def _save(self, name: str, code: str) -> None:
        path = self._folder / name
        running = self._terminals.get("first terminal") if path.exists() else None
        before = running.count(_STARTED) if running else 0
        path.write_text(code, "utf-8")
        if running:
            running.wait_for([_STARTED], before + 1)

    def _start(self, where: str, command: str) -> None:
        if where in self._terminals:
            self._terminals.pop(where).stop()
        self._terminals[where] = Terminal(command, self._folder, self._environ)
        if "flask --debug run" in command:
            self._terminals[where].wait_for([_STARTED])

    def _run(self, command: str) -> None:
        done = subprocess.run(
            [_BASH, "-ec", self._exports + command],
            cwd=self._folder,
            env=self._environ,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
            timeout=_WAIT_S,
        )
        server = self._terminals.get("first terminal")
        assert done.returncode == 0, done.stdout + done.stderr + (server.text if server else "")
        self._printed = done.stdout
        self._exports += "".join(
            line + "\n" for line in command.splitlines() if line.startswith("export ")
        )


@contextmanager
def reading(folder: Path, environ: Mapping[str, str]) -> Iterator[Reader]:
    """A reader who closes the terminals in the end."""
    reader = Reader(folder, environ)
    try:
        yield reader
    finally:
        reader.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    return port


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as empty, reading(Path(empty), os.environ) as someone:
        someone.read(blocks(Path(sys.argv[1]))[1:])
