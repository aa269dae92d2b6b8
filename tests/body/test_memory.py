"""Memory and descriptors of a server under load (cases B16-B19).

``BODYTRACE_SOAK=1`` (``make soak``) runs the full numbers: 64 uploads at once, 100,000 requests.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import threading
import time
from pathlib import Path
from typing import Any

from tests.body.figures import resident_bytes
from tests.body.servers import Server, request, serving

SOAK = bool(os.environ.get("BODYTRACE_SOAK"))
UPLOADS = 64 if SOAK else 32
REQUESTS = 100_000 if SOAK else 2_500
UPLOAD = 10_000_000
MEMORY_LIMIT = 1 << 20


def _state(server: Server) -> Any:
    """The server's state once the last request is over, which is after its answer is here."""
    deadline = time.monotonic() + 10
    while True:
        state = json.loads(server.ask("/state", None, method="GET").body)
        spilled = any(re.search(r"/#\d+ \(deleted\)$", file) for file in state["files"])
        if not spilled or time.monotonic() > deadline:
            assert not spilled, state["files"]
            return state


def _peak(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def _uploads_at_once(
    directory: Path, prefix: str, messages: list[tuple[str, bytes]]
) -> tuple[int, list[dict[str, str]]]:
    """How far the peak resident set grew, bytes, and what was answered."""
    with serving(
        "gunicorn-gthread",
        directory,
        threads=UPLOADS,
        FLASK_BODYTRACE_BODY_LIMIT="16MiB",
        FLASK_BODYTRACE_MEMORY_LIMIT=str(MEMORY_LIMIT),
    ) as server:
        ready = [
            request(prefix + "/hash", body, headers=headers, chunk=50_000 * (number % 2))
            for number, (headers, body) in enumerate(messages)
        ]
        for message in ready:
            # What the first requests import and set up is no body.
            with server.connect() as connection:
                connection.send(message)
                assert connection.answer().status == 200
        before = _state(server)
        Path(f"/proc/{before['pid']}/clear_refs").write_text("5", encoding="ascii")
        base = _peak(before["pid"])
        # Each waits with its last bytes until all are on their way.
        all_there = threading.Barrier(UPLOADS)
        answers: list[dict[str, str]] = []

        def upload(message: bytes) -> None:
            with server.connect() as connection:
                connection.socket.settimeout(120)
                connection.send(message[:-100])
                all_there.wait(120)
                connection.send(message[-100:])
                answer = connection.answer()
                assert answer.status == 200
                answers.append(json.loads(answer.body))

        threads = [
            threading.Thread(target=upload, args=(ready[number % len(ready)],))
            for number in range(UPLOADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        _state(server)
        return _peak(before["pid"]) - base, answers


# B18
def test_uploads_at_once_stay_within_their_limit(tmp_path: Path) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
    content = random.Random(3).randbytes(UPLOAD)  # noqa: S311 - the same every time
    form = part + content + b"\r\n--x--\r\n"
    multipart = "Content-Type: multipart/form-data; boundary=x\r\n"
    messages = [("", content), ("", content), (multipart, form), (multipart, form)]
    # What the server needs by itself (gunicorn: some MiB a connection) is the base.
    base, _ = _uploads_at_once(tmp_path, "/stock", messages)
    grown, answers = _uploads_at_once(tmp_path, "", messages)
    print(  # noqa: T201 - the figure
        f"{UPLOADS} uploads at once: peak grew by {grown / 1e6:.1f} MB, stock {base / 1e6:.1f} MB"
    )
    assert grown <= base + UPLOADS * MEMORY_LIMIT
    assert len(answers) == UPLOADS
    digest, whole = hashlib.sha256(content).hexdigest(), hashlib.sha256(form).hexdigest()
    for answer in answers:
        if "file" in answer:
            assert answer == {"file": digest, "first": whole, "second": whole}
        else:
            assert answer == {"first": digest, "second": digest}
    assert list(tmp_path.glob("bodytrace-*")) == []


def _mixed(server: Server, count: int, seed: int) -> None:
    choose = random.Random(seed)  # noqa: S311 - not for secrets
    sizes = [0, 10, 1000, 20_000, 100_000, 300_000]
    for _ in range(count):
        size = choose.choice(sizes)
        body = bytes([seed]) * size
        path = choose.choice(
            ["/read", "/read?ways=loop,get_data", "/hash", "/unread", "/first/9", "/reject/read"]
        )
        if path in {"/unread", "/first/9"}:
            # gunicorn may reset a connection with more than that unread, before its answer is read.
            body = body[:10_000]
        message = request(path, body, chunk=choose.choice([0, 0, 5000]))
        with server.connect() as connection:
            if choose.random() < 0.05:
                connection.send(message[: len(message) // 2])
                connection.reset()
                continue
            connection.send(message)
            assert connection.answer().status == 200


# B19
def test_memory_is_flat_after_many_requests(tmp_path: Path) -> None:
    with serving("gunicorn-gthread", tmp_path) as server:
        _mixed(server, REQUESTS // 4, 1)
        before = _state(server)
        _mixed(server, REQUESTS, 2)
        after = _state(server)
        grown = resident_bytes(after["pid"]) - before["resident"]
        print(f"{REQUESTS} requests: resident set grew by {grown / 1e6:.1f} MB")  # noqa: T201
        assert grown < 6_000_000
        assert len(after["files"]) == len(before["files"])
    assert list(tmp_path.glob("bodytrace-*")) == []
