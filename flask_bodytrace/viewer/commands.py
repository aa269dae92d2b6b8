"""What repeats a request: as a command of curl's or HTTPie's, or as Python.

Nothing that a span says can become an option, another command, or a file that is read. What a
terminal would obey, and what is no text, is written as escapes.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping

from flask_bodytrace.capture.redactor import REDACTED

from . import display
from .replay import Replay

_LITERAL = frozenset(b' !"#$&()*+,-./:;<=>?@[]^_`{|}~').union(
    range(ord("0"), ord("9") + 1), range(ord("A"), ord("Z") + 1), range(ord("a"), ord("z") + 1)
)
"""Bytes that printf prints as they are, and that mean nothing between single quotes."""
# HTTPie unescapes these after a backslash, and takes two backslashes for two.
_LOST_BY_HTTPIE = re.compile(r"(?<!\\)(?:\\\\)*\\[:;=@]")


def curl(replay: Replay) -> str:
    """The command for curl, which prints the answer with its headers."""
    is_head = replay.method == "HEAD" and replay.body is None
    method = "" if replay.method == "GET" and replay.body is None else f"-X {replay.method} "
    lines = [f"curl -i -g {'--head ' if is_head else method}{shlex.quote(replay.url)}"]
    lines += [f"  -H {shlex.quote(_curl_header(*header))}" for header in replay.headers]
    if replay.body is not None and not replay.has_type:
        # Otherwise it says that it is a form.
        lines.append("  -H 'content-type:'")
    source = ""
    if replay.missing:
        lines.append("  --data-binary @body")
    elif replay.body is not None:
        text = _plain_text(replay.body)
        if text is None:
            source = f"{_printf(replay.body)} | "
            lines.append("  --data-binary @-")
        else:
            # Other than --data, it never takes an "@" in front for a file to read.
            lines.append(f"  --data-raw {shlex.quote(text)}")
    return _comments(replay) + source + " \\\n".join(lines) + "\n"


def _curl_header(name: str, value: str) -> str:
    # With a colon and nothing after it, curl would leave the header out.
    return f"{name}: {value}" if value else f"{name};"


def httpie(replay: Replay) -> str:
    """The command for HTTPie, which prints the answer with its headers."""
    options, source, file = " --ignore-stdin", "", ""
    if replay.missing:
        options, file = "", " < body"
    elif replay.body is not None:
        text = _plain_text(replay.body)
        if text is None:
            options, source = "", f"{_printf(replay.body)} | "
        else:
            # In one word: what begins with a "-" is no option then.
            options += f" {shlex.quote(f'--raw={text}')}"
    lines = [f"http{options} {replay.method} {shlex.quote(replay.url)}"]
    lost = []
    for name, value in replay.headers:
        if _LOST_BY_HTTPIE.search(value):
            lost.append(name)
        else:
            # The space keeps a value that begins with "@" or "=" from meaning a file or JSON.
            lines.append(f"  {shlex.quote(f'{name}: {value}' if value else f'{name};')}")
    if replay.body is not None and not replay.has_type:
        # Otherwise it says that it is JSON.
        lines.append("  content-type:")
    left_out = "".join(f"# HTTPie has no way to write the value of {name}.\n" for name in lost)
    return _comments(replay) + left_out + source + " \\\n".join(lines) + file + "\n"


def python(replay: Replay) -> str:
    """A script for Python with requests, which prints the answer with its headers."""
    headers: dict[str, str] = {}
    for name, value in replay.headers:
        # Several of one name mean the same as one with commas (RFC 9110, 5.3).
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    lines = [f"    {replay.method!r},", f"    {replay.url!r},"]
    if headers:
        lines += ["    headers={"]
        lines += [f"        {name!r}: {value!r}," for name, value in headers.items()]
        lines += ["    },"]
    if replay.missing:
        lines.append("    data=Path('body').read_bytes(),")
    elif replay.body is not None:
        lines.append(f"    data={_python_bytes(replay.body)},")
    lines.append("    allow_redirects=False,")
    imports = ["from pathlib import Path", ""] if replay.missing else []
    imports += ["import requests", "", "response = requests.request("]
    ends = [")", "print(response.status_code, response.reason)"]
    ends += ["for name, value in response.headers.items():", "    print(f'{name}: {value}')"]
    ends += ["print()", "print(response.text)"]
    return _comments(replay) + "\n".join([*imports, *lines, *ends]) + "\n"


FORMS: Mapping[str, Callable[[Replay], str]] = {"curl": curl, "httpie": httpie, "python": python}
"""By the names they have in addresses and on the command line."""


def _comments(replay: Replay) -> str:
    """What is left to do, in front: a `#` begins a comment in the shell and in Python."""
    lines = []
    if replay.has_secrets:
        lines.append(f"# Fill in what is {REDACTED}.\n")
    if replay.missing:
        lines.append(f"# {replay.missing} Put it into a file named body.\n")
    return "".join(lines)


def _plain_text(body: bytes) -> str | None:
    """A body as text that can be pasted into a terminal; None if it cannot."""
    try:
        text = body.decode()
    except UnicodeError:
        return None
    return text if display.plain(text) == text else None


def _printf(body: bytes) -> str:
    """The command that prints these bytes, in any shell that POSIX describes."""
    escaped = "".join(
        # What begins with a "-" would be an option.
        chr(byte) if byte in _LITERAL and (place or byte != ord("-")) else f"\\{byte:03o}"
        for place, byte in enumerate(body)
    )
    return f"printf '{escaped}'"


def _python_bytes(body: bytes) -> str:
    """As an expression; text that is not ASCII stays readable."""
    if body.isascii():
        return repr(body)
    try:
        return f"{body.decode()!r}.encode()"
    except UnicodeError:
        return repr(body)
