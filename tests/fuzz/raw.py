"""Random requests, as bytes, with every kind of framing. Pure; a seed names a request."""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random

SIZES = (0, 1, 7, 100, 1000, 8191, 8192, 8193, 65_535, 65_536, 65_537, 300_000)
WAYS = ("get_data", "nocache", "stream", "loop", "lines", "input")
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class RawRequest:
    """One request on the wire.

    :param path: below the application's mount.
    :param body: what a receiver that reads it right sees.
    :param framing: how its end is told; one of the names in `_FRAMINGS`.
    :param ends: whether the client says after it that nothing more will come.
    """

    seed: int
    method: str
    path: str
    headers: tuple[str, ...]
    body: bytes
    sent: bytes
    framing: str
    ends: bool

    def on(self, mount: str) -> bytes:
        """The bytes to send, to the application at `mount`."""
        lines = [f"{self.method} {mount}{self.path} HTTP/1.1", "Host: localhost", *self.headers]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.sent

    def __str__(self) -> str:
        headers = "; ".join(self.headers)
        return f"seed {self.seed}: {self.method} {self.path} [{self.framing}, {headers}]"


def raw_request(seed: int) -> RawRequest:
    """The request of this seed, the same every time."""
    random = Random(seed)  # noqa: S311 - repeatable, not secret
    method = random.choices(("POST", "PUT", "GET", "HEAD", "OPTIONS"), (80, 5, 5, 5, 5))[0]
    kind, body = _body(random)
    framing = random.choices(list(_FRAMINGS), [weight for weight, _ in _FRAMINGS.values()])[0]
    headers, sent, ends = _FRAMINGS[framing][1](random, body)
    if kind:
        headers.append(f"Content-Type: {kind}")
    if random.random() < 0.05:
        headers.append("Expect: 100-continue")
    if random.random() < 0.3:
        headers.append(random.choice(("Connection: close", "Connection: keep-alive")))
    random.shuffle(headers)
    path = _path(random, kind)
    return RawRequest(seed, method, path, tuple(headers), body, sent, framing, ends)


def _path(random: Random, kind: str) -> str:
    if kind == FORM and random.random() < 0.5:
        return "/form"
    if "json" in kind and random.random() < 0.5:
        return "/json"
    if random.random() < 0.1:
        return random.choice(("/unread", "/nowhere", "/first/10"))
    return f"/read?ways={random.choice(WAYS)}"


def _body(random: Random) -> tuple[str, bytes]:
    size = random.choice(SIZES)
    roll = random.random()
    if roll < 0.35:
        ids = {"orderId": f"ORD{random.randrange(1000)}", "userId": random.randrange(1000)}
        text = json.dumps({**ids, "note": "x" * size}).encode()
        if random.random() < 0.1:
            text = random.choice(
                (text[:-1], b"\xef\xbb\xbf" + text, text.decode().encode("utf-16"))
            )
        return random.choice(("application/json", "application/vnd.shop+json; charset=utf-8")), text
    if roll < 0.5:
        return FORM, b"orderId=ORD1&note=" + b"y" * size
    if roll < 0.6:
        return "", random.randbytes(size)
    return "application/octet-stream", random.randbytes(size)


Framed = tuple[list[str], bytes, bool]


def _length(_random: Random, body: bytes) -> Framed:
    return [f"Content-Length: {len(body)}"], body, False


def _spaced_length(random: Random, body: bytes) -> Framed:
    before, after = random.choice((("", " "), ("  ", ""), ("\t", "\t"), (" ", "  ")))
    return [f"Content-Length:{before}{len(body)}{after}"], body, False


def _odd_length(random: Random, body: bytes) -> Framed:
    size = len(body)
    odd = (
        f"+{size}",
        f"-{size}",
        f"{size}a",
        f"0x{size:x}",
        f"{size}, {size}",
        f"{size}.0",
        "9" * 40,
    )
    return [f"Content-Length: {random.choice(odd)}"], body, True


def _two_lengths(random: Random, body: bytes) -> Framed:
    other = random.choice((len(body), len(body) + 1))
    return [f"Content-Length: {len(body)}", f"Content-Length: {other}"], body, True


def _short(random: Random, body: bytes) -> Framed:
    return [f"Content-Length: {len(body) + random.randrange(1, 1000)}"], body, True


def _no_length(_random: Random, _body: bytes) -> Framed:
    return [], b"", False


def _chunks(random: Random, body: bytes) -> bytes:
    parts = []
    at = 0
    while at < len(body):
        piece = body[at : at + random.choice((1 + len(body) // 3, 4096, 70_000, 1 + len(body)))]
        at += len(piece)
        extension = random.choice(("", "", "", ";name=value", ";q"))
        size = random.choice((f"{len(piece):x}", f"{len(piece):X}", f"00{len(piece):x}"))
        parts.append(f"{size}{extension}\r\n".encode() + piece + b"\r\n")
    return b"".join(parts)


def _chunked(random: Random, body: bytes) -> Framed:
    coding = random.choice(("chunked", "chunked", "Chunked", " chunked"))
    trailer = random.choice((b"", b"", b"X-Trailer: 1\r\n"))
    return (
        [f"Transfer-Encoding: {coding}"],
        _chunks(random, body) + b"0\r\n" + trailer + b"\r\n",
        False,
    )


def _cut_chunks(random: Random, body: bytes) -> Framed:
    whole = _chunks(random, body)
    return ["Transfer-Encoding: chunked"], whole[: random.randrange(len(whole) + 1)], True


def _broken_chunks(random: Random, body: bytes) -> Framed:
    broken = random.choice((b"x\r\n", b"-1\r\n", b"\r\n", b"1" * 30 + b"\r\n", b"5\r\nab\r\n"))
    return ["Transfer-Encoding: chunked"], _chunks(random, body) + broken + b"0\r\n\r\n", True


def _both(random: Random, body: bytes) -> Framed:
    length = random.choice((len(body), 0, 3))
    return (
        [
            f"Content-Length: {length}",
            "Transfer-Encoding: chunked",
        ],
        _chunks(random, body) + b"0\r\n\r\n",
        True,
    )


def _other_coding(random: Random, body: bytes) -> Framed:
    coding = random.choice(
        ("xchunked", "chunked, gzip", "identity", "gzip, chunked", "chunkedx", "")
    )
    return [f"Transfer-Encoding: {coding}"], _chunks(random, body) + b"0\r\n\r\n", True


_FRAMINGS = {
    "length": (40, _length),
    "spaced length": (4, _spaced_length),
    "odd length": (6, _odd_length),
    "two lengths": (3, _two_lengths),
    "short": (8, _short),
    "no length": (4, _no_length),
    "chunked": (20, _chunked),
    "cut chunks": (5, _cut_chunks),
    "broken chunks": (4, _broken_chunks),
    "both": (3, _both),
    "other coding": (3, _other_coding),
}
"""(how often, of a hundred; what makes headers, bytes, and whether the client ends there)."""
