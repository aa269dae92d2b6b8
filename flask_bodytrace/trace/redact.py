"""What is secret, by name and by form; what is shown of it instead."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote_plus

REDACTED = "REDACTED"

# Sentry's default denylist and OpenTelemetry's, and what payment forms call their fields. Compared
# without case and separators, and without digits at the end.
SECRET_PARTS = (
    *("accesskey", "accountnumber", "aiohttpsession", "apikey", "apitoken", "authorization"),
    *("bankaccount", "bearer", "cardnumber", "clientsecret", "connectsid", "cookie", "credential"),
    *("creditcard", "csrf", "debitcard", "iban", "passcode", "passphrase", "passwd", "password"),
    *("phpsessid", "privatekey", "secret", "securitycode", "session", "signature", "signingkey"),
    *("socialsecurity", "sshkey", "token", "xsrf"),
)
"""Parts of names whose values are hidden."""
SECRET_WORDS = (
    *("auth", "authentication", "card", "code", "cvc", "cvn", "cvv", "jwt", "mfa", "nonce", "otp"),
    *("pan", "pass", "pin", "pwd", "sid", "sig", "ssn", "totp"),
)
"""Whole words of names whose values are hidden: "sig" is one, "design" holds none."""
_SECRET_IN_QUERIES = frozenset({"key"})
_SHORT = 4
"""Letters of a name given by a setting up to which it counts as a whole word only."""

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_NOT_LETTERS = re.compile(r"[^a-z]+")
_MAX_NAME = 128
_MAX_KEPT = 1024
_CARD = re.compile(r"(?<![0-9])(?:[0-9][ -]?){12,18}[0-9](?![0-9])")
_IN_URL = re.compile(r"(?<=://)[^/\s:@\"]{0,256}:[^/\s@\"]{0,256}(?=@)")
# Names under which a pair says what its value is: {"name": "password", "value": "…"}.
_NAMING = ("name", "key", "field", "id")


class Redactor:
    """Knows which names hold secrets, and which texts are secrets whatever their name.

    :param extra: names besides `SECRET_PARTS` and `SECRET_WORDS`.
    :param cards: whether numbers of a payment card's length that pass the Luhn check (ISO/IEC
        7812-1) are hidden.
    """

    def __init__(self, extra: Iterable[str] = (), *, cards: bool = True) -> None:
        given = {_letters(name) for name in extra} - {""}
        self._parts = (*SECRET_PARTS, *(name for name in given if len(name) > _SHORT))
        self._words = frozenset(SECRET_WORDS) | {name for name in given if len(name) <= _SHORT}
        self._cards = cards
        self._decided: dict[str, bool] = {}
        self._decided_in_queries: dict[str, bool] = {}

    def is_secret(self, name: str) -> bool:
        """Whether a value under this name is to be hidden."""
        decided = self._decided.get(name)
        if decided is None:
            # Not kept as it is: a client may send any name.
            cut = name[:_MAX_NAME]
            letters = _letters(cut)
            decided = (
                any(part in letters for part in self._parts)
                or letters in self._words
                or any(word.lower() in self._words for word in _WORDS.findall(cut))
            )
            _keep(self._decided, cut, decided)
        return decided

    def names_secret(self, pair: Mapping[str, Any]) -> bool:
        """Whether an object says that its ``value`` is a secret's."""
        return "value" in pair and any(
            isinstance(pair.get(naming), str) and self.is_secret(pair[naming]) for naming in _NAMING
        )

    def text(self, text: str) -> str:
        """`text` without card numbers, and without credentials in URLs."""
        if "://" in text and "@" in text:
            text = _IN_URL.sub(REDACTED, text)
        if self._cards and len(text) >= 13:
            text = _CARD.sub(_hide_card, text)
        return text

    def query(self, query: str) -> str:
        """A query string with the values of secret names replaced."""
        if not query or "=" not in query:
            return query
        return "&".join(map(self._pair, query.split("&")))

    def _pair(self, pair: str) -> str:
        name, equals, _ = pair.partition("=")
        if not equals:
            return pair
        decided = self._decided_in_queries.get(name)
        if decided is None:
            plain = unquote_plus(name[:_MAX_NAME])
            decided = plain.lower() in _SECRET_IN_QUERIES or self.is_secret(plain)
            _keep(self._decided_in_queries, name[:_MAX_NAME], decided)
        return f"{name}={REDACTED}" if decided else pair


def _letters(name: str) -> str:
    return _NOT_LETTERS.sub("", name.lower())


def _keep(decided: dict[str, bool], name: str, is_secret: bool) -> None:
    if len(decided) >= _MAX_KEPT:
        decided.clear()
    decided[name] = is_secret


def _hide_card(match: re.Match[str]) -> str:
    digits = [int(character) for character in match[0] if character.isdigit()]
    doubled = [sum(divmod(digit * 2, 10)) for digit in digits[-2::-2]]
    return REDACTED if (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0 else match[0]
