"""docs/howto/webhooks.md: signatures as their senders publish them."""

from __future__ import annotations

import hmac
import json
import time
from pathlib import Path
from typing import Any

import pytest
import stripe
from flask.testing import FlaskClient
from slack_sdk.signature import SignatureVerifier

from flask_bodytrace.testing import SpanRecorder
from tests.docs.pages import DOCS, load

PAGE = DOCS / "howto/webhooks.md"

# https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
GITHUB_SECRET = "It's a Secret to Everybody"
GITHUB_SIGNATURE = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"

# https://docs.slack.dev/authentication/verifying-requests-from-slack
SLACK_SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
SLACK_TIME = 1531420618
SLACK_SIGNATURE = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
SLACK_BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow"
    b"&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner"
    b"&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands"
    b"%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
    b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)

STRIPE_SECRET = "whsec_from_the_dashboard"


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder: Path = tmp_path_factory.mktemp("webhooks")
    titles = ("github_webhook", "stripe_webhook", "slack_webhook", "webhooks_app")
    secrets = {"GITHUB": GITHUB_SECRET, "SLACK": SLACK_SECRET, "STRIPE": STRIPE_SECRET}
    with pytest.MonkeyPatch.context() as environment:
        for name, secret in secrets.items():
            environment.setenv(f"FLASK_{name}_SECRET", secret)
        return {title: load(PAGE, f"{title}.py", folder) for title in titles}


@pytest.fixture
def client(modules: dict[str, Any]) -> FlaskClient:
    client: FlaskClient = modules["webhooks_app"].app.test_client()
    return client


def test_githubs_published_example(modules: dict[str, Any]) -> None:
    is_signed = modules["github_webhook"].is_signed
    assert is_signed(GITHUB_SECRET, b"Hello, World!", GITHUB_SIGNATURE)
    assert not is_signed(GITHUB_SECRET, b"Hello, World?", GITHUB_SIGNATURE)
    assert not is_signed("another", b"Hello, World!", GITHUB_SIGNATURE)


def test_slacks_published_example(modules: dict[str, Any]) -> None:
    is_signed = modules["slack_webhook"].is_signed
    then = str(SLACK_TIME)
    assert is_signed(SLACK_SECRET, SLACK_BODY, then, SLACK_SIGNATURE, SLACK_TIME + 299)
    assert not is_signed(SLACK_SECRET, SLACK_BODY, then, SLACK_SIGNATURE, SLACK_TIME + 301)
    assert not is_signed(SLACK_SECRET, SLACK_BODY + b" ", then, SLACK_SIGNATURE, SLACK_TIME)


@pytest.mark.parametrize("form", [False, True])
def test_github_delivers_json_or_a_form(
    client: FlaskClient, spans: SpanRecorder, form: bool
) -> None:
    body = b"payload=%7B%22zen%22%3A1%7D" if form else b'{"zen":  1}'
    kind = "application/x-www-form-urlencoded" if form else "application/json"
    signature = "sha256=" + hmac.new(GITHUB_SECRET.encode(), body, "sha256").hexdigest()
    headers = {"X-Hub-Signature-256": signature, "X-GitHub-Event": "ping"}
    headers["X-GitHub-Delivery"] = "72d3162e-cc78-11e3-81ab-4c9367dc0958"
    answer = client.post("/github", data=body, content_type=kind, headers=headers)
    assert answer.json == {"event": "ping", **({"form": '{"zen":1}'} if form else {"zen": 1})}
    spans.assert_ids(spans.one("POST /github"), {"event.id": headers["X-GitHub-Delivery"]})
    answer = client.post("/github", data=body + b" ", content_type=kind, headers=headers)
    assert answer.status_code == 401


def test_stripes_package_signs_and_both_agree(client: FlaskClient) -> None:
    body = json.dumps({"id": "evt_1", "object": "event", "type": "charge.succeeded"}, indent=2)
    sign = stripe.WebhookSignature.generate_signature_header
    headers = {"Stripe-Signature": sign(body, STRIPE_SECRET)}
    answer = client.post("/stripe", data=body, content_type="application/json", headers=headers)
    assert answer.json == {"type": "charge.succeeded", "id": "evt_1"}
    assert stripe.Webhook.construct_event(body, headers["Stripe-Signature"], STRIPE_SECRET).id

    rolled = f"{sign(body, 'whsec_new')},{sign(body, STRIPE_SECRET).partition(',')[2]}"
    old = sign(body, STRIPE_SECRET, int(time.time()) - 301)
    wrong = [sign(body, "whsec_new"), sign(body + " ", STRIPE_SECRET), old, "", "t=é,v1=é", "t=1"]
    for header, status in [(rolled, 200), *((each, 401) for each in wrong)]:
        answer = client.post(
            "/stripe",
            data=body,
            content_type="application/json",
            headers={"Stripe-Signature": header},
        )
        assert answer.status_code == status, header


def test_slacks_package_signs_forms_and_json(client: FlaskClient) -> None:
    slack = SignatureVerifier(SLACK_SECRET)
    now = str(int(time.time()))
    event = b'{"type": "url_verification", "challenge": "3eZbrw1aB"}'
    for path, body, kind, said in (
        (
            "/slack/command",
            SLACK_BODY,
            "application/x-www-form-urlencoded",
            {"text": "/webhook-collect of roadrunner"},
        ),
        ("/slack/event", event, "application/json", {"challenge": "3eZbrw1aB"}),
    ):
        headers = {
            "X-Slack-Request-Timestamp": now,
            "X-Slack-Signature": slack.generate_signature(timestamp=now, body=body) or "",
        }
        answer = client.post(path, data=body, content_type=kind, headers=headers)
        assert answer.json == said
        for name, value in (
            ("X-Slack-Signature", "v0=é"),
            ("X-Slack-Request-Timestamp", str(int(now) - 400)),
            ("X-Slack-Request-Timestamp", "²"),
        ):
            refused = client.post(
                path, data=body, content_type=kind, headers={**headers, name: value}
            )
            assert refused.status_code == 401
