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
    *("USERPWD", "dbpass", "PINs", "jwts", "creds", "sessid", "encryptionKey", "MASTER_KEY"),
    *("AccountKey", "consumer_key", "Ocp-Apim-Subscription-Key", "privkey", "rsa_key", "hmac"),
    *("ccNumber", "csc", "CARDNO", "acct_number", "passkey", "backup_codes", "seed_phrase"),
    *("Kennwort", "contraseña", "mot_de_passe", "密码", "p4ssw0rd"),
    # Full width, Cyrillic letters, one that is not printed.
    *("\uff50\uff41\uff53\uff53\uff57\uff4f\uff52\uff44", "p\u0430ssw\u043erd", "pass\u200bword"),
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
    "github, server": ("ghs_16C7e42F292c6912E7710c838347Ae178B4a", "16C7e42F"),
    "gitlab, runner": ("glrt-abcdefghij1234567890", "abcdefghij"),
    "aws, other": ("ABIAIOSFODNN7EXAMPLE", "IOSFODNN7"),
    "slack, rotated": ("xoxe.xo" + "xp-1-Mi0yLTEyMzQ1Njc4OTA", "Mi0yLTEy"),
    "slack, hook": ("https://hooks.slack.com/services/T0000/B0000/abcdefghij", "abcdefghij"),
    "discord": ("MTk4NjIyNDgzNDcxOTI1MjQ4.Cl2FMQ.ZnCjm1XVW7vRze4b7Cq4se7kKWs", "ZnCjm1XV"),
    "telegram": ("110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsawQ", "CH1vGWJx"),
    "twilio": ("SK0123456789abcdef0123456789abcdef", "0123456789abcdef"),
    "mailgun": ("key-0123456789abcdef0123456789abcdef", "0123456789abcdef"),
    "databricks": ("dapi0123456789abcdef0123456789abcdef", "0123456789abcdef"),
    "groq": ("gsk_abcdefghijklmnopqrstuvwxyz0123456789", "abcdefghij"),
    "vault": ("hvs.CAESIabcdefghijklmnop", "abcdefghij"),
    "terraform": ("Zq3xTnFyBrkpwu.atlasv1.0123456789abcdefgh", "0123456789abcdefgh"),
    "google, client": ("GOCSPX-abcdefghijklmnopqrst", "abcdefghij"),
    "bearer, loud": (f"BEARER {SECRET}", SECRET),
    "pem, ssh2": ("---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nP2/56wAAA", "P2/56w"),
    "putty": ("PuTTY-User-Key-File-3: ssh-rsa\nPrivate-Lines: 1\nAAAAkey", "AAAAkey"),
    "url, at sign": (f"https://ann:x@{SECRET}@host/", SECRET),
    "url, key only": (f"https://{'x' * 20}{SECRET}@host/", SECRET),
    "url, escaped": (f"https%3A%2F%2Fann%3A{SECRET}%40host%2F", SECRET),
    "query, escaped": (f"next=https%3A%2F%2Fshop%2F%3Faccess_token%3D{SECRET}", SECRET),
    "query, escaped twice": (f"https%253A%252F%252Fshop%252F%253Fpassword%253D{SECRET}", SECRET),
    "card, two spaces": ("4111  1111  1111  1111", "1111  1111"),
    "card, underscores": ("4111_1111_1111_1111", "1111_1111"),
    "card, hyphens": ("4111\u20111111\u20111111\u20111111", "1111\u20111111"),
    "card, full width": ("".join(chr(ord(digit) + 0xFEE0) for digit in CARD), "\uff11\uff11"),
    "iban, small": ("de89370400440532013000", "05320130"),
    "iban with dashes": ("DE89-3704-0044-0532-0130-00", "0532-0130"),
    "iban, no-break": ("DE89\u00a03704\u00a00044\u00a00532\u00a00130\u00a000", "0532"),
    "tuple": (f"('password', '{SECRET}')", SECRET),
    "full-width colon": (f"密码\uff1a{SECRET}", SECRET),
    "graphql, block": (f'mutation {{ login(password: """{SECRET}""") {{ ok }} }}', SECRET),
    "toml, block": (f'password = """\nline\n{SECRET}"""\n', SECRET),
    "yaml list": (f"passwords:\n- one\n- {SECRET}\nuser: ann", SECRET),
    "yaml lines": (f"db:\n  password: one\n    {SECRET}\n  user: ann", SECRET),
    "html": (f"<input type=password value='{SECRET}'>", SECRET),
    "html, no quotes": (f"<input name=password value={SECRET}>", SECRET),
    "html table": (f"<tr><th>Password</th><td>{SECRET}</td></tr>", SECRET),
    "xml, escaped twice": (
        f"&amp;lt;password&amp;gt;{SECRET}&amp;lt;/password&amp;gt;",
        SECRET,
    ),
    "xml, cdata": (f"<password><![CDATA[</password>{SECRET}]]></password>", SECRET),
    "xml, type between": (
        f"<name>password</name><type>text</type><value>{SECRET}</value>",
        SECRET,
    ),
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
