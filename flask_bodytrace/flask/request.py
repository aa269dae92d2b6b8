"""What Flask hands to a view: the request, its body re-readable in any order."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from functools import partial
from typing import IO, TYPE_CHECKING, Any, ClassVar, cast

from flask import Request as FlaskRequest
from werkzeug.datastructures import FileStorage, iter_multi_items
from werkzeug.wrappers import Request

from flask_bodytrace.body.cached import BODY_KEY, CachedBody
from flask_bodytrace.body.stream import BodyStream

if TYPE_CHECKING:
    from flask_bodytrace.body.state import BodyRules


class ReplayableRequest(Request):
    """Mixed in below an application's own request class by `replayable`.

    What an accessor returns is what Werkzeug's returns when it is the first one used;
    in particular `data` of a form is empty, and `get_data` is always the raw body.
    """

    body_rules: ClassVar[BodyRules]
    limits: ClassVar[Mapping[str, Any] | None] = None
    """The application's config, where `max_content_length` is Flask's and takes it from there."""
    overrides_stream: ClassVar[bool] = False
    """Whether the application's class has a `stream` of its own, which has to stay in front."""
    _max_content_length: int | None = None
    """Set for one request: Flask 3.1 and later."""
    _own_stream: BodyStream | None = None
    _unparsed: IO[bytes] | None = None
    _has_shown_files = False

    def __init_subclass__(cls, **keywords: Any) -> None:
        # Also for a class that an application derives from its `app.request_class`.
        super().__init_subclass__(**keywords)
        cls.overrides_stream = getattr(cls, "stream", None) not in _STREAMS
        if getattr(cls, "max_content_length", None) is not _MAX_CONTENT_LENGTH:
            cls.limits = None

    @property
    def stream(self) -> IO[bytes]:
        """The body from byte 0, or from where the last reader that did not finish it stopped.

        Its position is its own: what reads ``environ["wsgi.input"]`` does not move it.

        :raises RequestEntityTooLarge: (413) larger than `max_content_length`.
        """
        replaced = self.__dict__.get("stream")
        if replaced is not None:
            return cast("IO[bytes]", replaced)
        body = self._body()
        stream = self._own_stream
        if (
            stream is None
            # A `stream` in front of this one may ask at each access, and would never see the end.
            or (stream.has_ended and not self.overrides_stream)
            or stream.closed
            or stream.body is not body
        ):
            if body.is_over_limit:
                # It can be read once, whoever reads it.
                return cast("IO[bytes]", self.environ["wsgi.input"])
            stream = self._own_stream = body.open()
            source = self.environ["wsgi.input"]
            if type(source) is BodyStream and source.position == body.size:
                # Its reader took exactly Content-Length bytes: the next one starts over.
                source.position = 0
        return cast("IO[bytes]", stream)

    @stream.setter
    def stream(self, value: IO[bytes]) -> None:
        self.__dict__["stream"] = value

    @stream.deleter
    def stream(self) -> None:
        self.__dict__.pop("stream", None)

    @property
    def files(self) -> Any:
        """The uploaded files; one that was read to its end starts over."""
        if "files" not in self.__dict__:
            self._load_form_data()
        files = self.__dict__["files"]
        for _, file in iter_multi_items(files):
            stream: Any = file.stream if isinstance(file, FileStorage) else None
            if type(stream) is UploadedStream:
                stream.start_over()
            elif stream is not None and not self._has_shown_files:
                # Later it is one that the application put there, and is left as it is.
                file.stream = UploadedStream(stream)
        self._has_shown_files = True
        return files

    @files.setter
    def files(self, value: Any) -> None:
        self.__dict__["files"] = value
        self._has_shown_files = True

    def _body(self) -> CachedBody:
        """The body, held to this request's `max_content_length`."""
        if self.shallow:
            raise RuntimeError(
                "This request was created with 'shallow=True', reading from the input stream is "
                "disabled."
            )
        stream = self.environ["wsgi.input"]
        body: CachedBody
        if type(stream) is BodyStream:
            body = stream.body
        else:
            body = CachedBody(self.environ, self.body_rules)
            if self.environ[BODY_KEY] is body:
                # Nobody else closes it. Not a method of the class: every request would call that.
                self.__dict__["close"] = partial(_close_both, self, body)
        # Flask's property asks for the current application three times.
        defaults = self.limits
        limit = None
        if (
            defaults is None
            or defaults.get("MAX_CONTENT_LENGTH") is not None
            or self._max_content_length is not None
        ):
            limit = self.max_content_length
        if limit is not None or body.max_length is not None:
            body.check_limit(limit)
        return body

    def get_data(  # type: ignore[override]  # Werkzeug's overloads say the same
        self, cache: bool = True, as_text: bool = False, parse_form_data: bool = False
    ) -> bytes | str:
        """The whole raw body, whatever read it before.

        :raises ClientDisconnected: (400) the client sent less than it declared.
        :raises RequestEntityTooLarge: (413) over a limit.
        :raises BodyNotReplayable: over ``BODYTRACE_BODY_LIMIT`` and read before.
        """
        data: bytes | None = getattr(self, "_cached_data", None)
        if data is None:
            unparsed: Any = None
            if parse_form_data:
                self._load_form_data()
                unparsed = self._unparsed
            if unparsed is not None and (type(unparsed) is not BodyStream or unparsed.position):
                # The form parser had the body: Werkzeug's answer is what it left over.
                data = unparsed.read()
                if cache and data:
                    self._cached_data = data
            elif self.overrides_stream or "stream" in self.__dict__:
                self._start_over()
                return cast("bytes | str", super().get_data(cache, as_text))  # type: ignore[call-overload]
            else:
                data = self._body().getvalue()
                # The next reader of either starts at byte 0.
                if self._own_stream is not None:
                    self._start_over()
                if type(self.environ["wsgi.input"]) is BodyStream:
                    self.environ["wsgi.input"].position = 0
                if cache:
                    self._cached_data = data
        return data.decode(errors="replace") if as_text else data

    def _get_stream_for_parsing(self) -> IO[bytes]:
        if (
            self.overrides_stream
            or getattr(self, "_cached_data", None) is not None
            or "stream" in self.__dict__
        ):
            self._start_over()
            return super()._get_stream_for_parsing()
        body = self._body()
        # Of anything else the parser reads nothing.
        data = body.small() if self.mimetype in _FORMS else None
        stream: Any
        if data is not None:
            stream = io.BytesIO(data)
        else:
            stream = body.open() if body.replayable else self.environ["wsgi.input"]
        self._unparsed = stream
        return cast("IO[bytes]", stream)

    def _load_form_data(self) -> None:
        if "form" in self.__dict__:
            return
        replaced = "stream" in self.__dict__
        super()._load_form_data()
        if not replaced:
            # Werkzeug pins the stream it parsed; ours starts over for the next reader.
            pinned = self.__dict__.pop("stream", None)
            if type(pinned) is not BodyStream or self.overrides_stream:
                self._unparsed = pinned
            self._start_over()

    def _start_over(self) -> None:
        """Let the next reader begin at byte 0, of `stream` and of the environ's input.

        But one that the application keeps, such as one that decompresses, goes on where it is.
        """
        if "stream" in self.__dict__:
            return
        self._own_stream = None
        stream = self.environ["wsgi.input"]
        if type(stream) is BodyStream and stream.body.replayable:
            stream.seek(0)


class UploadedStream:
    """An uploaded file's stream, which knows whether its reader has seen the end.

    To `isinstance`, and to whoever copies it, it is the stream within.
    """

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.has_ended = False

    def start_over(self) -> None:
        """Back to the first byte, if its last reader has seen the end and left it open."""
        # A file of the application's own (`Request._get_file_stream`) may not say `closed`.
        if self.has_ended and not getattr(self._inner, "closed", False):
            self.seek(0)

    @property  # type: ignore[misc]  # for `isinstance`, as unittest.mock does
    def __class__(self) -> Any:
        return self._inner.__class__

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __repr__(self) -> str:
        return repr(self._inner)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._inner.__reduce_ex__(protocol)

    def read(self, size: int | None = -1, /) -> Any:
        """As the file's own."""
        data = self._inner.read(-1 if size is None else size)
        self.has_ended = size is None or size < 0 or (not data and size > 0)
        return data

    def readline(self, *size: int) -> Any:
        """As the file's own."""
        line = self._inner.readline(*size)
        self.has_ended = not line
        return line

    def readlines(self, *hint: int) -> Any:
        """As the file's own."""
        lines = self._inner.readlines(*hint)
        self.has_ended = not (hint and lines)
        return lines

    def seek(self, *position: int) -> Any:
        """As the file's own."""
        self.has_ended = False
        return self._inner.seek(*position)

    def __iter__(self) -> Iterator[Any]:
        yield from self._inner
        self.has_ended = True

    def __next__(self) -> Any:
        try:
            return next(self._inner)
        except StopIteration:
            self.has_ended = True
            raise

    def __enter__(self) -> UploadedStream:  # noqa: PYI034 - Self is Python 3.11
        self._inner.__enter__()
        return self

    def __exit__(self, *raised: object) -> Any:
        return self._inner.__exit__(*raised)


def _close_both(request: Request, body: CachedBody) -> None:
    """Close `request`, its uploaded files, and the body it made for itself."""
    del request.__dict__["close"]
    request.close()
    body.close()


def replayable(
    request_class: Any, rules: BodyRules, config: Mapping[str, Any] | None = None
) -> Any:
    """`request_class` with re-readable bodies; its own overrides stay in front.

    Flask calls it to make a request, so it may be any function, which is left as it is.

    :param rules: for requests that did not come through the WSGI wrapper, such as those of
        ``app.test_request_context``.
    :param config: the application's.
    """
    if not isinstance(request_class, type):
        return request_class
    bases: tuple[type, ...] = (request_class, ReplayableRequest)
    if issubclass(request_class, ReplayableRequest):
        if config is None or request_class.limits is None or request_class.limits is config:
            return request_class
        # Another application's.
        bases = (request_class,)
    elif request_class is Request:
        bases = (ReplayableRequest,)
    return type(
        request_class.__name__,
        bases,
        {
            "__module__": request_class.__module__,
            "__qualname__": request_class.__qualname__,
            "__doc__": request_class.__doc__,
            "body_rules": rules,
            "limits": config,
        },
    )


_FORMS = frozenset({"application/x-www-form-urlencoded", "multipart/form-data"})
_STREAMS = (vars(Request)["stream"], vars(ReplayableRequest)["stream"])
_MAX_CONTENT_LENGTH = vars(FlaskRequest).get("max_content_length")
