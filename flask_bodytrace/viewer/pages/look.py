"""How pages look, and in which language: kept in cookies, so that it works without a script."""

from __future__ import annotations

from werkzeug.wrappers import Response

from flask_bodytrace.viewer.texts import LANGUAGES

from .site import LANGUAGE_COOKIE, THEME_COOKIE, THEMES, Visit

_YEAR = 365 * 24 * 3600


def look(visit: Visit) -> Response:
    """Take a theme or a language, and go back to the page it was chosen on."""
    arguments = visit.request.args
    home = visit.urls.build("traces")
    back = arguments.get("back", "")
    # A path of the viewer, never an address elsewhere: "//host" and "/\\host" are such.
    if not back.startswith(home) or back[1:2] in {"/", "\\"} or not back.isprintable():
        back = home
    response = Response(status=303, headers={"Location": back})
    for name, cookie, known in (
        ("theme", THEME_COOKIE, {*THEMES, "auto"}),
        ("language", LANGUAGE_COOKIE, set(LANGUAGES)),
    ):
        value = arguments.get(name, "")
        if value in known:
            response.set_cookie(
                cookie,
                value,
                max_age=_YEAR,
                path=home,
                secure=visit.request.is_secure,
                httponly=True,
                samesite="Strict",
            )
    return response
