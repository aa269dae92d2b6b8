"""Random sequences of accesses against a model: bytes and a position (case B1)."""

# ruff: noqa: BLE001, PT017 - any error is caught, and then has to be one that is allowed

from __future__ import annotations

import io
from typing import Any

import pytest
from flask import Flask
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge
from werkzeug.wrappers import Request

from flask_bodytrace.body.cached import BodyRules, CachedBody
from flask_bodytrace.body.pool import BufferPool
from flask_bodytrace.exceptions import BodyNotReplayable
from flask_bodytrace.flask.request import replayable

MEMORY, LIMIT = 300_000, 600_000
POOL = BufferPool(largest=MEMORY, limit=1 << 20)
SIZES = st.sampled_from([0, 1, 10, 5000, 65_536, 65_537, 200_000, MEMORY, MEMORY + 1, LIMIT])
READS = st.sampled_from([0, 1, 3, 1000, 70_000, 400_000])
PATTERN = bytes(range(251)) + b"\n"


class _Input(io.RawIOBase):
    """A server's input that gives at most `step` bytes a read, and fails after `fails_at`."""

    def __init__(self, body: bytes, step: int, fails_at: int) -> None:
        self._body = io.BytesIO(body)
        self._step = step
        self._fails_at = fails_at

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        left = self._fails_at - self._body.tell()
        if left <= 0:
            raise OSError("gone")
        data = self._body.read(min(len(buffer), self._step, left))
        buffer[: len(data)] = data
        return len(data)


class Body(RuleBasedStateMachine):
    """The real body and what should come out of it."""

    @initialize(
        size=SIZES,
        chunked=st.booleans(),
        over=st.booleans(),
        reject=st.booleans(),
        step=st.sampled_from([1000, 8192, 1 << 20]),
        fails=st.sampled_from([0.3, 0.9, 9.0, 9.0, 9.0]),
        lies=st.sampled_from([0, 0, 0, 5]),
    )
    def begin(  # noqa: PLR0913, PLR0917 - what a request may be
        self,
        size: int,
        chunked: bool,
        over: bool,
        reject: bool,
        step: int,
        fails: float,
        lies: int,
    ) -> None:
        size += LIMIT if over else 0
        self.body = (PATTERN * (size // len(PATTERN) + 1))[:size]
        environ: dict[str, Any] = {
            "REQUEST_METHOD": "POST",
            "CONTENT_TYPE": "application/octet-stream",
            "wsgi.url_scheme": "http",
            "SERVER_NAME": "x",
            "SERVER_PORT": "80",
            "wsgi.input": _Input(self.body, step, int(fails * size) + 1),
        }
        if chunked:
            environ |= {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
            lies = 0
        else:
            environ["CONTENT_LENGTH"] = str(size + lies)
        rules = BodyRules(POOL, MEMORY, LIMIT, reject)
        self.cached = CachedBody(environ, rules)
        self.environ = environ
        self.request = replayable(Request, rules)(environ)
        self.whole = fails > 1 and not lies
        self.fits = size + lies <= LIMIT
        self.once = not self.fits and not reject
        self.stream: Any = environ["wsgi.input"]
        self.position = 0

    def allowed(self, error: Exception) -> bool:
        """Whether this body may end like that. Never: bytes that are not the body's."""
        if isinstance(error, BodyNotReplayable):
            return self.once
        if isinstance(error, RequestEntityTooLarge):
            return not self.fits and not self.once
        return isinstance(error, BadRequest) and not self.whole

    def check(self, got: bytes, start: int, size: int | None) -> None:
        end = len(self.body) if size is None else start + size
        expected = self.body[start:end]
        assert got == expected

    @rule()
    def get_data(self) -> None:
        try:
            data = self.request.get_data(cache=False)
        except Exception as error:
            assert self.allowed(error), error
        else:
            assert data == self.body
            self.stream = self.environ["wsgi.input"]
            self.position = self.stream.tell()

    @rule(size=st.one_of(READS, st.none()))
    def read(self, size: int | None) -> None:
        try:
            got = self.stream.read(size)
        except Exception as error:
            assert self.allowed(error), error
        else:
            self.check(got, self.position, size)
            self.position += len(got)

    @rule(size=st.one_of(READS, st.none()))
    def readline(self, size: int | None) -> None:
        try:
            got = self.stream.readline(-1 if size is None else size)
        except Exception as error:
            assert self.allowed(error), error
            self.position = self.stream.tell()
        else:
            model = io.BytesIO(self.body)
            model.seek(self.position)
            assert got == model.readline(-1 if size is None else size)
            self.position += len(got)

    @rule(size=READS)
    def readinto(self, size: int) -> None:
        buffer = bytearray(size)
        try:
            count = self.stream.readinto(buffer)
        except Exception as error:
            assert self.allowed(error), error
        else:
            self.check(bytes(buffer[:count]), self.position, size)
            self.position += count

    @precondition(lambda self: not self.once)
    @rule(share=st.floats(0, 1.2))
    def seek(self, share: float) -> None:
        self.position = self.stream.seek(int(len(self.body) * share))

    @precondition(lambda self: not self.once)
    @rule(back=st.integers(0, 100))
    def seek_from_end(self, back: int) -> None:
        back = min(back, len(self.body))
        try:
            position = self.stream.seek(-back, io.SEEK_END)
        except Exception as error:
            assert self.allowed(error), error
        else:
            if self.whole:
                assert position == len(self.body) - back
            self.position = position

    @rule()
    def take_the_environs_stream(self) -> None:
        self.stream = self.environ["wsgi.input"]
        self.position = self.stream.tell()

    @precondition(lambda self: not self.once)
    @rule()
    def open_another(self) -> None:
        self.stream = self.cached.open()
        self.position = 0

    @invariant()
    def knows_its_position(self) -> None:
        if hasattr(self, "stream"):
            assert self.stream.tell() == self.position

    def teardown(self) -> None:
        if not hasattr(self, "position"):
            return
        self.cached.close()
        with pytest.raises(ValueError, match="over"):
            self.stream.read(1)


TestBody = Body.TestCase
TestBody.settings = settings(max_examples=300, stateful_step_count=12, deadline=None)


def test_model_notices_a_wrong_byte() -> None:
    app = Flask("x")
    with app.test_request_context("/", data=b"abc"):
        machine = Body()
        machine.begin(10, False, False, False, 1000, 9.0, 0)
        machine.body = machine.body[:-1] + b"?"
        with pytest.raises(AssertionError):
            machine.get_data()
        machine.cached.close()
