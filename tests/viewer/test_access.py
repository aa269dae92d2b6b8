from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pytest
from werkzeug.test import Client, create_environ

from flask_bodytrace.viewer import server
from flask_bodytrace.viewer.access import COOKIE, Access, is_loopback
from flask_bodytrace.viewer.pages import Viewer
from flask_bodytrace.viewer.store import TraceStore

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

TOKEN = "a token of some length"
LOCAL = {"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "localhost:5000"}


@pytest.mark.parametrize(
    ("changes", "allowed"),
    [
        ({}, True),
        ({"HTTP_HOST": "127.0.0.1"}, True),
        ({"HTTP_HOST": "[::1]:4318", "REMOTE_ADDR": "::1"}, True),
        ({"REMOTE_ADDR": "::ffff:127.0.0.1"}, True),
        ({"REMOTE_ADDR": "192.168.1.7"}, False),
        ({"REMOTE_ADDR": ""}, False),
        ({"REMOTE_ADDR": "::ffff:10.0.0.1"}, False),
        ({"HTTP_HOST": "evil.example"}, False),
        ({"HTTP_HOST": "localhost.evil.example:80"}, False),
        ({"HTTP_HOST": "127.0.0.1.evil.example"}, False),
        ({"HTTP_HOST": ""}, False),
        ({"HTTP_X_FORWARDED_FOR": "127.0.0.1"}, False),
        ({"HTTP_FORWARDED": "for=127.0.0.1"}, False),
        ({"HTTP_X_REAL_IP": "127.0.0.1"}, False),
        ({"HTTP_AUTHORIZATION": "Bearer "}, True),
    ],
)
def test_without_a_token_only_this_machine_under_its_own_name(
    changes: dict[str, str], allowed: bool
) -> None:
    assert Access().allows({**LOCAL, **changes}) is allowed


@pytest.mark.parametrize(
    ("changes", "allowed"),
    [
        ({}, False),
        ({"HTTP_AUTHORIZATION": f"Bearer {TOKEN}"}, True),
        ({"HTTP_AUTHORIZATION": f"bearer {TOKEN}", "REMOTE_ADDR": "10.0.0.9"}, True),
        ({"HTTP_AUTHORIZATION": f"Bearer {TOKEN}x"}, False),
        ({"HTTP_AUTHORIZATION": "Bearer "}, False),
        ({"HTTP_AUTHORIZATION": f"Basic {TOKEN}"}, False),
        ({"HTTP_AUTHORIZATION": "Bearer \u00e4"}, False),
        ({"HTTP_COOKIE": f"{COOKIE}={Access(TOKEN).cookie}"}, True),
        ({"HTTP_COOKIE": f"{COOKIE}={TOKEN}"}, False),
        ({"HTTP_COOKIE": f"{COOKIE}="}, False),
        ({"QUERY_STRING": f"token={TOKEN}"}, False),
    ],
)
def test_with_a_token_everybody_needs_it(changes: dict[str, str], allowed: bool) -> None:
    assert Access(TOKEN).allows({**LOCAL, **changes}) is allowed


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "LOCALHOST"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.1", "my-host", "127.1"])  # noqa: S104 - not listened on
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)


def client(token: str = "") -> Client:
    viewer = Viewer(TraceStore(), Access(token), receives=True)

    def local(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return viewer({"REMOTE_ADDR": "127.0.0.1", **environ}, start_response)

    return Client(local)


def test_strangers_are_refused_every_page_and_the_receiver() -> None:
    for path in (
        "/",
        "/map",
        "/trace/1",
        "/version",
        "/changed.json",
        "/static/viewer.js",
        "/login",
    ):
        answer = client().get(path, environ_overrides={"REMOTE_ADDR": "10.0.0.9"})
        assert answer.status_code == 403, path
        assert "BODYTRACE_VIEWER_TOKEN" in answer.text
    answer = client().post("/v1/traces", environ_overrides={"REMOTE_ADDR": "10.0.0.9"})
    assert answer.status_code == 403


def test_dns_rebinding_is_refused() -> None:
    assert client().get("/", headers={"Host": "localhost:4318"}).status_code == 200
    assert client().get("/", headers={"Host": "evil.example:4318"}).status_code == 403


def test_the_token_is_given_once_and_never_in_a_url() -> None:
    browser = client(TOKEN)
    sent_away = browser.get("/", headers={"Accept": "text/html"})
    assert (sent_away.status_code, sent_away.location) == (303, "/login")
    assert browser.get(f"/?token={TOKEN}", headers={"Accept": "text/html"}).status_code == 303
    wrong = browser.post("/login", data={"token": "guess"})
    assert wrong.status_code == 403
    assert "Set-Cookie" not in wrong.headers
    assert browser.post("/login", data={"token": "x" * 100_000}).status_code == 403
    right = browser.post("/login", data={"token": TOKEN})
    assert (right.status_code, right.location) == (303, "/")
    cookie = right.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie
    assert browser.get("/").status_code == 200


def test_programs_without_the_token_are_told_how() -> None:
    answer = client(TOKEN).post("/v1/traces", data=b"", content_type="application/json")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    with_it = client(TOKEN).post(
        "/v1/traces",
        data=b"{}",
        content_type="application/json",
        headers={"Authorization": f"Bearer {TOKEN}"},
    )
    assert with_it.status_code == 200


def test_a_server_others_can_reach_needs_a_token() -> None:
    with pytest.raises(server.CannotServe, match=server.TOKEN_VARIABLE):
        server.make("0.0.0.0", 0)  # noqa: S104 - refused, which is the point
    made = server.make("0.0.0.0", 0, TOKEN)  # noqa: S104 - for this moment
    made.server_close()


def test_a_port_that_is_taken_is_said_in_one_line() -> None:
    with server.running(server.make(port=0)) as url:
        port = int(url.rpartition(":")[2])
        with pytest.raises(server.CannotServe, match=str(port)):
            server.make(port=port)


def test_every_answer_carries_the_policy() -> None:
    browser = client()
    for path in ("/", "/map", "/trace/none", "/nowhere", "/static/viewer.css", "/version"):
        answer = browser.get(path)
        assert answer.status_code in {200, 404}
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'"), path
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "header",
    [
        *("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Anything"),
        *("X-Real-IP", "X-Envoy-External-Address", "X-Envoy-Peer-Metadata", "True-Client-IP"),
        *("CF-Connecting-IP", "X-Client-IP", "Fastly-Client-IP", "X-Cluster-Client-IP"),
        *("Fly-Client-IP", "X-Original-Host", "X-Original-For", "X-Azure-ClientIP", "CDN-Loop"),
        *("DO-Connecting-IP", "X-AppEngine-User-IP", "CF-Ray", "CloudFront-Viewer-Address"),
        *("X-Remote-IP", "Wl-Proxy-Client-IP", "Tailscale-User-Login", "X-Vercel-IP-City"),
    ],
)
def test_any_trace_of_a_proxy_makes_a_request_remote(header: str) -> None:
    environ = create_environ(headers={header: ""}, environ_overrides={"REMOTE_ADDR": "127.0.0.1"})
    assert not Access().allows(environ)


def from_(address: str) -> dict[str, str]:
    return {"REMOTE_ADDR": address}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("by_form", [True, False], ids=["form", "bearer"])
def test_many_wrong_tokens_have_their_address_wait(by_form: bool) -> None:
    browser = client(TOKEN)

    def send(token: str, address: str = "10.0.0.1") -> int:
        if by_form:
            data = {"token": token}
            answer = browser.post("/login", data=data, environ_overrides=from_(address))
        else:
            answer = browser.get("/", headers=bearer(token), environ_overrides=from_(address))
        if answer.status_code == 429:
            assert 0 < int(answer.headers["Retry-After"]) <= 60
        return answer.status_code

    refused = 403 if by_form else 401
    assert [send(f"guess {number}") for number in range(9)] == [refused] * 9
    send("guess 9")
    # Whatever it sends, it is not told whether that is the token, either way.
    answer = browser.get("/", headers=bearer(TOKEN), environ_overrides=from_("10.0.0.1"))
    assert answer.status_code == 429
    assert send(TOKEN) == send("guess 11") == 429
    # A stranger keeps nobody else out.
    assert send(TOKEN, "10.0.0.2") == (303 if by_form else 200)


def test_a_cookie_is_no_guess_and_holds() -> None:
    browser = client(TOKEN)
    assert browser.post("/login", data={"token": TOKEN}).status_code == 303
    cookie = browser.get_cookie(COOKIE)
    assert cookie is not None
    for number in range(12):
        browser.get("/version", headers=bearer(f"guess {number}"))
    assert browser.get("/version", headers=bearer("guess")).status_code == 200
    browser.delete_cookie(COOKIE)
    assert browser.get("/version", headers=bearer(TOKEN)).status_code == 429
    browser.set_cookie(COOKIE, cookie.value)
    assert browser.get("/version").status_code == 200


def test_a_service_with_an_old_token_keeps_out_nobody_at_its_address() -> None:
    sender = client(TOKEN)
    for _ in range(50):
        answer = sender.post("/v1/traces", json={}, headers=bearer("the token of last year"))
        assert answer.status_code == 401
    assert sender.post("/v1/traces", json={}, headers=bearer(TOKEN)).status_code == 200


def test_an_ipv6_subscriber_is_one_address() -> None:
    access = Access(TOKEN)
    for number in range(10):
        assert not access.accepts(f"guess {number}", from_(f"2001:db8::{number:x}"))
    assert access.wait(from_("2001:db8::ffff"))
    assert not access.wait(from_("2001:db8:0:1::1"))


def test_addresses_are_kept_within_bounds() -> None:
    access = Access(TOKEN)
    for number in range(3000):
        access.accepts("guess", from_(f"10.0.{number // 256}.{number % 256}"))
    assert len(access._guesses._tried) <= 1000


def test_a_cookie_outside_ascii_is_no_error() -> None:
    environ = create_environ(environ_overrides={"REMOTE_ADDR": "127.0.0.1"})
    environ["HTTP_COOKIE"] = "bodytrace_viewer=\xe9"
    assert not Access("s3cret-of-length").allows(environ)
