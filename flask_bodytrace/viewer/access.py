"""Who may look: this machine, or whoever has the token."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

from werkzeug.http import parse_cookie

from .guesses import Guesses

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

COOKIE = "bodytrace_viewer"
# Any of these says that REMOTE_ADDR is, or was, a proxy and not whoever asks.
_FORWARDED = frozenset(
    {"HTTP_ALI_CDN_REAL_IP", "HTTP_CDN_LOOP", "HTTP_CLIENT_IP", "HTTP_DO_CONNECTING_IP"}
    | {"HTTP_FASTLY_CLIENT_IP", "HTTP_FLY_CLIENT_IP", "HTTP_FORWARDED", "HTTP_PROXY_CLIENT_IP"}
    | {"HTTP_TRUE_CLIENT_IP", "HTTP_VIA", "HTTP_WL_PROXY_CLIENT_IP", "HTTP_X_CLIENT_IP"}
    | {"HTTP_X_CLUSTER_CLIENT_IP", "HTTP_X_NF_CLIENT_CONNECTION_IP", "HTTP_X_ORIGINATING_IP"}
    | {"HTTP_X_PROXYUSER_IP", "HTTP_X_REAL_IP", "HTTP_X_REMOTE_ADDR", "HTTP_X_REMOTE_IP"}
    | {"HTTP_X_SCHEME"}
)
_FORWARDED_PREFIXES = (
    *("HTTP_CF_", "HTTP_CLOUDFRONT_", "HTTP_TAILSCALE_", "HTTP_X_APPENGINE_", "HTTP_X_AZURE_"),
    *("HTTP_X_ENVOY_", "HTTP_X_FORWARDED", "HTTP_X_ORIGINAL_", "HTTP_X_VERCEL_"),
)


class Access:
    """Without a token, only this machine; with one, only who has it, wherever they are.

    A proxy makes everybody look like this machine, which is why a token, once set, is asked of
    everybody.

    :param token: the secret; empty for none.
    """

    def __init__(self, token: str = "") -> None:
        self._token = token
        self._guesses = Guesses()

    @property
    def needs_token(self) -> bool:
        """Whether a token is set."""
        return bool(self._token)

    def allows(self, environ: WSGIEnvironment) -> bool:
        """Whether this request may be answered."""
        if not self._token:
            return _is_local(environ)
        scheme, _, given = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() == "bearer" and self.accepts(given.strip(), environ):
            return True
        try:
            cookie = parse_cookie(environ).get(COOKIE, "")
        except ValueError:  # bytes that are no text
            return False
        return hmac.compare_digest(cookie.encode(errors="replace"), self.cookie.encode())

    def accepts(self, token: str, environ: WSGIEnvironment) -> bool:
        """Whether this is the token; takes as long for a near miss as for a far one.

        Whoever has to wait is not told whether it is. A cookie is no guess, and never waits.

        :param environ: of the request that it came with.
        """
        if self.wait(environ):
            return False
        is_right = bool(self._token) and hmac.compare_digest(
            token.encode(errors="replace"), self._token.encode(errors="replace")
        )
        if not is_right:
            self._guesses.note(_address(environ), token)
        return is_right

    def wait(self, environ: WSGIEnvironment) -> int:
        """Seconds until a token from where this comes from is looked at; 0 for none."""
        return self._guesses.wait(_address(environ))

    @property
    def cookie(self) -> str:
        """What a browser keeps after it gave the token: made from it, but not it."""
        return hmac.digest(
            self._token.encode(errors="replace"), b"flask_bodytrace viewer", hashlib.sha256
        ).hex()


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine by definition, without asking a resolver."""
    name = host.lower().removeprefix("[").removesuffix("]")
    if name == "localhost":
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback


def _address(environ: Mapping[str, object]) -> str:
    # What a proxy says of whom it is for, anybody can say.
    return str(environ.get("REMOTE_ADDR", ""))


def _is_local(environ: Mapping[str, object]) -> bool:
    """By address, and by the name it was asked under: a page that had its own name resolved to
    127.0.0.1 (DNS rebinding) still sends that name as Host.
    """  # noqa: D205 - one sentence
    host = str(environ.get("HTTP_HOST", ""))
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    return (
        is_loopback(_address(environ))
        and is_loopback(name)
        and not any(key in _FORWARDED or key.startswith(_FORWARDED_PREFIXES) for key in environ)
    )
