"""What Flask hands to a view: the request, its body re-readable in any order, and ``g.trace``."""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import partial
from typing import IO, TYPE_CHECKING, Any, ClassVar, cast

from flask import Request as FlaskRequest
from werkzeug.wrappers import Request

from flask_bodytrace.body.cached import BODY_KEY, CachedBody
from flask_bodytrace.body.stream import BodyStream

if TYPE_CHECKING:
    from flask_bodytrace.body.cached import BodyRules


class ReplayableRequest(Request):
    """Mixed in below an application's own request class by `replayable`.

    What an accessor returns is what Werkzeug's returns when it is the first one used;
    in particular `data` of a form is empty, and `get_data` is always the raw body.
    """

    body_rules: ClassVar[BodyRules]
    limits: ClassVar[Mapping[str, Any] | None] = None
    """The application's config, where `max_content_length` is Flask's and takes it from there."""
    _max_content_length: int | None
    _unparsed: IO[bytes] | None = None

    @property
    def stream(self) -> IO[bytes]:
        """The body from byte 0, or from where the last reader that did not finish it stopped.

        :raises RequestEntityTooLarge: (413) larger than `max_content_length`.
        """
        replaced = self.__dict__.get("stream")
        if replaced is not None:
            return cast("IO[bytes]", replaced)
        self._body()
        return cast("IO[bytes]", self.environ["wsgi.input"])

    @stream.setter
    def stream(self, value: IO[bytes]) -> None:
        self.__dict__["stream"] = value

    def _body(self) -> CachedBody:
        """The body, held to this request's `max_content_length`."""
        if self.shallow:
            raise RuntimeError(
                "This request was created with 'shallow=True', reading from the input stream is "
                "disabled."
            )
        stream = self.environ["wsgi.input"]
        if type(stream) is BodyStream:
            body = stream.body
        else:
            body = CachedBody(self.environ, self.body_rules)
            if self.environ[BODY_KEY] is body:
                # Nobody else closes it. Not a method of the class: every request would call that.
                self.__dict__["close"] = partial(_close_both, self, body)
        # Flask's property asks for the current application three times: 1.5 us.
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
            if "stream" in self.__dict__:
                return cast(
                    "bytes | str",
                    super().get_data(cache, as_text, parse_form_data),  # type: ignore[call-overload]
                )
            unparsed = None
            if parse_form_data:
                self._load_form_data()
                unparsed = self._unparsed
            if unparsed is not None and unparsed.tell():
                # The form parser took the body: Werkzeug's answer is what it left over.
                data = unparsed.read()
            else:
                body = self._body()
                data = body.getvalue()
                if body.replayable:
                    # Still the one `_body` found, and nobody else can have put another.
                    self.environ["wsgi.input"].position = 0
                if cache:
                    self._cached_data = data
        return data.decode(errors="replace") if as_text else data

    def _get_stream_for_parsing(self) -> IO[bytes]:
        if getattr(self, "_cached_data", None) is not None or "stream" in self.__dict__:
            return super()._get_stream_for_parsing()
        body = self._body()
        data = body.small()
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
            self.__dict__.pop("stream", None)
            self._rewind()

    def _rewind(self) -> None:
        stream = self.environ["wsgi.input"]
        if type(stream) is BodyStream and stream.body.replayable:
            stream.position = 0


def _close_both(request: Request, body: CachedBody) -> None:
    """Close `request`, its uploaded files, and the body it made for itself."""
    del request.__dict__["close"]
    request.close()
    body.close()


def replayable(
    request_class: type[Request], rules: BodyRules, config: Mapping[str, Any] | None = None
) -> type[Request]:
    """`request_class` with re-readable bodies; its own overrides stay in front.

    :param rules: for requests that did not come through the WSGI wrapper, such as those of
        ``app.test_request_context``.
    :param config: the application's.
    """
    bases: tuple[type, ...] = (request_class, ReplayableRequest)
    if issubclass(request_class, ReplayableRequest):
        if config is None or request_class.limits is None or request_class.limits is config:
            return request_class
        # Another application's.
        bases = (request_class,)
    elif request_class is Request:
        bases = (ReplayableRequest,)
    is_flasks = getattr(request_class, "max_content_length", None) is _MAX_CONTENT_LENGTH
    return type(
        request_class.__name__,
        bases,
        {
            "__module__": request_class.__module__,
            "__qualname__": request_class.__qualname__,
            "__doc__": request_class.__doc__,
            "body_rules": rules,
            "limits": config if is_flasks else None,
        },
    )


_MAX_CONTENT_LENGTH = vars(FlaskRequest).get("max_content_length")
