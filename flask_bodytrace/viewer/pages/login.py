"""The form that asks for the token."""

from __future__ import annotations

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.wrappers import Response

from flask_bodytrace.viewer.access import COOKIE

from .site import Visit


def login(visit: Visit) -> Response:
    """Take the token, and give a cookie for it."""
    request, access = visit.request, visit.site.access
    wrong = False
    if request.method == "POST" and (seconds := access.wait(request.environ)):
        return too_many(seconds)
    if request.method == "POST":
        try:
            token = request.form.get("token", "")
        except RequestEntityTooLarge:
            token = ""
        if access.accepts(token, request.environ):
            response = Response(status=303, headers={"Location": visit.urls.build("traces")})
            response.set_cookie(
                COOKIE,
                access.cookie,
                path=visit.urls.build("traces"),
                secure=request.is_secure,
                httponly=True,
                samesite="Strict",
            )
            return response
        wrong = True
    return visit.page("login.html", 403 if wrong else 200, wrong=wrong)


def too_many(seconds: int) -> Response:
    """The answer to who sent too many wrong tokens; exporters try it again."""
    text = "Too many wrong tokens from this address: wait a minute.\n"
    headers = {"Retry-After": str(seconds)}
    return Response(text, 429, headers, content_type="text/plain; charset=utf-8")
