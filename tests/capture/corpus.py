"""Kinds of secrets, and every kind of body that they may be in."""

from __future__ import annotations

import json
from html import escape
from urllib.parse import quote_plus, urlencode

SECRET = "hunter2-Zx81"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAKC\n-----END RSA PRIVATE KEY-----"
CARD = "4111111111111111"

# Names whose value is secret, and a harmless-looking value.
NAMED = [
    *("password", "passwd", "passWord1", "user_password", "new-password", "pwd", "passphrase"),
    *(
        "passcode",
        "pin",
        "otp",
        "totp",
        "mfa",
        "secret",
        "client_secret",
        "clientSecret",
        "api_key",
    ),
    *("apiKey", "X-Api-Key", "access_key", "AWSSecretAccessKey", "private_key", "signing-key"),
    *("sshKey", "token", "access_token", "refreshToken", "id_token", "csrf_token", "XSRF-TOKEN"),
    *("jwt", "bearer", "auth", "Authorization", "Proxy-Authorization", "cookie", "Set-Cookie"),
    *("session", "sessionid", "PHPSESSID", "sid", "signature", "sig", "X-Hub-Signature-256"),
    *("credentials", "card", "cardNumber", "credit_card", "cvc", "cvv2", "securityCode", "pan"),
    *("iban", "accountNumber", "bank_account", "ssn", "socialSecurityNumber", ":password"),
]
# Values that are secret under any name, with the part that must not show.
FORMED = {
    "card": (CARD, CARD),
    "card in groups": ("4111 1111 1111 1111", "1111 1111"),
    "card with dashes": ("5500-0000-0000-0004", "0000-0004"),
    "card beside numbers": ("12 4111 1111 1111 1111 12", "1111 1111"),
    "amex": ("378282246310005", "378282246310005"),
    "iban": ("DE89 3704 0044 0532 0130 00", "0532 0130"),
    "iban, compact": ("GB82WEST12345698765432", "12345698765432"),
    "jwt": (JWT, "eyJzdWIi"),
    "pem": (PEM, "MIIEow"),
    "aws": ("AKIAIOSFODNN7EXAMPLE", "IOSFODNN7"),
    "github": ("ghp_16C7e42F292c6912E7710c838347Ae178B4a", "16C7e42F"),
    "github, fine": ("github_pat_11ABCDEFG0abcdefghijkl", "11ABCDEFG0"),
    "gitlab": ("glpat-abcdefghij1234567890", "abcdefghij"),
    "stripe": ("sk_" + "live_4eC39HqLyjWDarjtT1zdp7dc", "4eC39HqL"),
    "stripe webhook": ("whsec_abcdefghijklmnop1234", "abcdefghij"),
    "slack": ("xox" + "b-123456789012-abcdefABCDEF", "abcdefABCDEF"),
    "google": ("AIzaSyD-9tSrke72PouQMnMX-a7eZSW0jkFMBWY", "9tSrke72"),
    "google oauth": ("ya29.a0AfH6SMBx1234567890", "a0AfH6SM"),
    "sendgrid": ("SG.ngeVfQFYQlKU0ufo8x5d1A.TwL2iGABf9DHoTf09kqe", "TwL2iGAB"),
    "npm": ("npm_abcdefghijklmnopqrstuvwxyz0123456789", "abcdefghij"),
    "openai": ("sk-abcdefghijklmnopqrstuvwxyz123456", "abcdefghij"),
    "url": ("postgresql://shop:hunter2-Zx81@db/orders", SECRET),
    "url, long": (f"https://u:{'x' * 100}{SECRET}@host/", SECRET),
    "query": (f"https://shop/?a=1&access_token={SECRET}&b=2", SECRET),
    "bearer": (f"Bearer {SECRET}", SECRET),
    "basic": ("Basic dXNlcjpodW50ZXIyLVp4ODE=", "dXNlcjpodW"),
    "header": (f"Authorization: Basic {SECRET}", SECRET),
    "cookies": (f"Cookie: a=b; theme={SECRET}", SECRET),
    "pair": (f"password={SECRET}", SECRET),
    "pair, spaced": (f"api key : {SECRET}", SECRET),
    "json": (json.dumps({"pin": SECRET}), SECRET),
    "json, broken": (json.dumps({"pin": SECRET})[:-1], SECRET),
    "json, twice": (json.dumps(json.dumps({"pin": SECRET})), SECRET),
    "graphql": (f'mutation {{ login(user: "ann", password: "{SECRET}") {{ ok }} }}', SECRET),
    "xml": (f"<login><user>ann</user><password>{SECRET}</password></login>", SECRET),
    "xml attribute": (f'<user name="ann" password="{SECRET}"/>', SECRET),
    "xml-rpc": (f"<name>password</name><value><string>{SECRET}</string></value>", SECRET),
    "yaml": (f"db:\n  password: {SECRET}\n  user: ann", SECRET),
    "yaml block": (f"key: 1\nsecret: |\n  line\n  {SECRET}\nuser: ann", SECRET),
    "ini": (f"[db]\npassword = correct {SECRET}\nuser = ann", SECRET),
    "several lines": (f"one\ntoken: {SECRET}\nthree", SECRET),
}


def bodies(name: str, value: str) -> dict[str, tuple[bytes, str]]:
    """A field in every kind of body, whole and cut off: its bytes and content type."""
    document = {"orderId": "ORD1", "lines": [{name: value, "note": "x"}], "last": 1}
    in_json = json.dumps(document)
    part = f'--b\r\nContent-Disposition: form-data; name="{escape(name)}"\r\n\r\n{value}\r\n'
    parts = part.encode()
    tag = name.strip(":")
    xml = f"<order><id>ORD1</id><{tag}>{escape(value)}</{tag}><last>1</last></order>"
    return {
        "json": (in_json.encode(), "application/json"),
        "json, pretty": (json.dumps(document, indent=2).encode(), "application/vnd.api+json"),
        "json, utf-16": (in_json.encode("utf-16"), "application/json"),
        "json, escaped": (
            json.dumps({"".join(f"\\u{ord(c):04x}" for c in name): value})
            .replace("\\\\u", "\\u")
            .encode(),
            "application/json",
        ),
        "json, broken": (in_json[:-1].encode(), "application/json"),
        "json, as text": (in_json.encode(), "text/plain"),
        "json in json": (json.dumps({"a": in_json}).encode(), "application/json"),
        "json in json in json": (
            json.dumps({"a": json.dumps({"b": in_json})}).encode(),
            "application/json",
        ),
        "json in a form": (urlencode({"a": in_json}).encode(), "application/x-www-form-urlencoded"),
        "lines": (f"{in_json}\n{in_json[:-1]}\n".encode(), "application/x-ndjson"),
        "form": (
            urlencode({"a": "b", name: value, "c": "d"}).encode(),
            "application/x-www-form-urlencoded",
        ),
        "form, broken": (
            f"a=b c&{quote_plus(name)}={value}&d=e".encode(),
            "application/x-www-form-urlencoded",
        ),
        "multipart": (parts + b"--b--\r\n", "multipart/form-data; boundary=b"),
        "multipart, broken": (parts + part[:20].encode(), "multipart/form-data; boundary=b"),
        "xml": (xml.encode(), "application/soap+xml"),
        "xml, broken": (xml[:-9].encode(), "text/xml"),
        "events": (f"event: x\ndata: {in_json}\n\n".encode(), "text/event-stream"),
        "yaml": (f"order:\n  {tag}: {json.dumps(value)}\n  last: 1\n".encode(), "application/yaml"),
    }
