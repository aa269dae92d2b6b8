"""The script, the styles and the icon."""

from __future__ import annotations

from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

from .site import FOLDER, Visit

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_FILES = {
    path.name: (path.read_bytes(), _TYPES[path.suffix])
    for path in sorted((FOLDER / "static").iterdir())
    if path.suffix in _TYPES
}


def static(visit: Visit, name: str) -> Response:
    """One of the files that come with the viewer.

    :raises NotFound: there is none of this name.
    """
    if name not in _FILES:
        raise NotFound
    content, kind = _FILES[name]
    response = Response(content, content_type=kind)
    response.headers["Cache-Control"] = "no-cache"
    response.add_etag()
    return response.make_conditional(visit.request)
