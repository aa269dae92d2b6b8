"""Which names hold secrets; what is shown instead of their values."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeVar
from urllib.parse import unquote_plus

from . import text as in_text

REDACTED = in_text.REDACTED
DecidedT = TypeVar("DecidedT")

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

HARMLESS, SECRET, NAMING, NAMED = range(4)
"""Kinds of names: values are shown; are hidden; name the value beside them; are named so."""

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_NOT_LETTERS = re.compile(r"[^a-z]+")
_MAX_NAME = 128
"""Characters; a longer name is not looked through, and its value is hidden."""
_MAX_KEPT = 1024
OPENING = ("{", "[", '"')
"""What JSON within a string begins with."""


class Redactor:
    """Knows which names hold secrets, and which texts are secrets whatever their name.

    :param extra: names besides `SECRET_PARTS` and `SECRET_WORDS`.
    :param cards: whether bank account numbers (ISO 13616) and numbers of a payment card's length
        that pass the Luhn check (ISO/IEC 7812-1) are hidden.
    :param patterns: regular expressions of further texts to hide.
    """

    def __init__(
        self, extra: Iterable[str] = (), *, cards: bool = True, patterns: Iterable[str] = ()
    ) -> None:
        given = {_letters(name) for name in extra} - {""}
        self._parts = (*SECRET_PARTS, *sorted(name for name in given if len(name) > _SHORT))
        self._words = frozenset(SECRET_WORDS) | {name for name in given if len(name) <= _SHORT}
        self.cards = cards
        self.patterns = tuple(map(re.compile, patterns))
        self._kinds: dict[str, int] = {}
        self._secret_in_queries: dict[str, bool] = {}
        self._harmless: set[str] = set()

    def described(self) -> list[tuple[str, str]]:
        """(what, which) of everything that is hidden, for people."""
        by_form = [*in_text.FORMS, *(["payment cards", "bank accounts"] if self.cards else [])]
        rows = [
            ("names that contain", ", ".join(self._parts)),
            ("names with the word", ", ".join(sorted(self._words))),
            ("text that looks like", ", ".join(by_form)),
            ("text that matches", " ".join(pattern.pattern for pattern in self.patterns)),
        ]
        return [(what, which) for what, which in rows if which]

    def kind(self, name: str) -> int:
        """What a field's name says of its value: one of the kinds above."""
        kind = self._kinds.get(name)
        if kind is None:
            kind = self._kind(name)
            _keep(self._kinds, name[: _MAX_NAME + 1], kind)
        return kind

    def _kind(self, name: str) -> int:
        letters = _letters(name)
        if (
            len(name) > _MAX_NAME
            or letters in self._words
            or any(part in letters for part in self._parts)
            or any(word.lower() in self._words for word in _WORDS.findall(name))
        ):
            return SECRET
        if letters in in_text.NAMING:
            return NAMING
        return NAMED if letters in in_text.NAMED else HARMLESS

    def is_secret(self, name: str) -> bool:
        """Whether a value under this name is to be hidden."""
        return self.kind(name) == SECRET

    def are_harmless(self, names: set[str]) -> bool:
        """Whether nothing is to be hidden in fields of these names, nor of the names themselves.

        :returns: False also where it takes the values to know.
        """
        new = names - self._harmless
        if not new:
            return True
        kinds = {name: self.kind(name) for name in names}
        if SECRET in kinds.values() or any(
            name.lstrip().startswith(OPENING) or self.text(name) != name for name in new
        ):
            return False
        if NAMED in kinds.values():
            return NAMING not in kinds.values()
        if len(self._harmless) + len(new) > _MAX_KEPT:
            self._harmless = set()
        if len(new) <= _MAX_KEPT:
            self._harmless |= new
        return True

    def text(self, text: str) -> str:
        """`text` without what is secret by its form, or by the name before it."""
        shown = in_text.without_secrets(text, self.is_secret, numbers=self.cards)
        return self._without_patterns(shown) if self.patterns else shown

    def unparsed(self, text: str) -> str:
        """The same for the text of a body that no parser vouches for: in doubt it is hidden."""
        return self._without_patterns(
            in_text.without_any_secrets(text, self.is_secret, numbers=self.cards)
        )

    def _without_patterns(self, text: str) -> str:
        for pattern in self.patterns:
            text = pattern.sub(REDACTED, text)
        return text

    def query(self, query: str) -> str:
        """A query string with the values of secret names replaced."""
        if not query or "=" not in query:
            return query
        pairs = query.split("&")
        for number, pair in enumerate(pairs):
            name, equals, _ = pair.partition("=")
            if not equals:
                continue
            decided = self._secret_in_queries.get(name)
            if decided is None:
                decided = self._decide_in_query(name[: 3 * _MAX_NAME])
            if decided:
                pairs[number] = f"{name}={REDACTED}"
        return "&".join(pairs)

    def _decide_in_query(self, name: str) -> bool:
        plain = unquote_plus(name)
        decided = plain.lower() in _SECRET_IN_QUERIES or self.is_secret(plain)
        _keep(self._secret_in_queries, name, decided)
        return decided


def _keep(decided: dict[str, DecidedT], name: str, decision: DecidedT) -> None:
    # Bounded in number and, by the callers, in length: a client may send any name.
    if len(decided) >= _MAX_KEPT:
        decided.clear()
    decided[name] = decision


def _letters(name: str) -> str:
    return _NOT_LETTERS.sub("", name.lower())
