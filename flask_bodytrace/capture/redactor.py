"""Which names hold secrets; what is shown instead of their values."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import TypeVar
from urllib.parse import unquote_plus

from . import forms
from . import text as in_text

REDACTED = forms.REDACTED
DecidedT = TypeVar("DecidedT")

# Sentry's default denylist and OpenTelemetry's, and what payment forms call their fields. Compared
# without case and separators, and without digits at the end.
SECRET_PARTS = (
    *("accesskey", "accountkey", "accountnumber", "aiohttpsession", "apikey", "apitoken"),
    *("applicationkey", "gpgkey", "otpauth", "pgpkey", "servicekey", "twofactor"),
    *("authorization", "backupcode", "bankaccount", "bearer", "cardnumber", "ccnum", "cipherkey"),
    *("clientsecret", "connectsid", "consumerkey", "contrasena", "cookie", "credential"),
    *("creditcard", "csrf", "debitcard", "decryptionkey", "deploykey", "encryptionkey", "hmac"),
    *("iban", "kennwort", "licencekey", "licensekey", "masterkey", "motdepasse", "passcode"),
    *("passkey", "passphrase", "passwd", "password", "passwort", "phpsessid", "privatekey"),
    *("privkey", "recoverycode", "recoveryphrase", "rsakey", "samlresponse", "secret"),
    *("securitycode", "seedphrase", "session", "sessid", "sharedkey", "signature", "signingkey"),
    *("socialsecurity", "sshkey", "storagekey", "subscriptionkey", "token", "wachtwoord", "xsrf"),
    *("令牌", "口令", "密码", "密钥"),
)
"""Parts of names whose values are hidden."""
SECRET_WORDS = frozenset(
    {"accountno", "acctno", "acctnum", "acctnumber", "appkey", "auth", "authentication", "authz"}
    | {"card", "cardno", "cardnum", "ccv", "code", "cred", "creds", "csc", "cvc", "cvn", "cvv"}
    | {"jwt", "jwts", "mfa", "nonce", "oauth", "otp", "otps", "pan", "pass", "pin", "pins", "psw"}
    | {"pswd", "pwd", "senha", "sess", "sid", "sig", "ssn", "ssns", "tfa", "totp"}
)
"""Whole words of names whose values are hidden: "sig" is one, "design" holds none."""
_ENDS = re.compile(r"pwd\Z|(?<!by)(?<!com)(?<!im)(?<!over)(?<!sur)(?<!tres)(?<!under)pass\Z")
"""What names without separators end with: "dbpass", but not "bypass"."""
_ORDINARY = re.compile(r"obsession|possession|secretar(?:y|iat|ies)|tokeni[sz]|[ct]aliban")
"""Words that have a secret's name in them by chance."""
_OF_CODES = frozenset(
    {"area", "city", "color", "colour", "country", "currency", "error", "exit", "http", "lang"}
    | {"language", "post", "postal", "product", "reason", "region", "response", "result"}
    | {"return", "state", "status", "unit", "zip"}
)
"""What a code is of that is no secret."""
_OF_TOKENS = frozenset({"cached", "completion", "input", "max", "output", "prompt", "total"})
"""What says that tokens are a language model's, of which there is a number."""
_ABOUT = frozenset(
    {"at", "brand", "count", "enabled", "expires", "in", "length", "limit", "rate", "required"}
    | {"type", "used"}
)
"""What names end with that tell something of a secret, and not the secret."""
_LOOK_ALIKE = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0455\u0501\u051d\u043a\u0442"
    "\u03b1\u03bf\u03c1\u03b9\u03ba\u03c4",
    "aeopcyxisdwktaopikt",
)
"""Letters of other scripts, Cyrillic and Greek, that look like Latin ones."""
_INSTEAD = str.maketrans("0134578$@", "oieastbsa")
"""Digits and signs written for letters, as in "p4$$w0rd"."""
_HAS_INSTEAD = re.compile(r"[a-z][013457$@8]+[a-z]")
_SECRET_IN_QUERIES = frozenset({"key"})
_ESCAPES = 2
_SHORT = 4
"""Letters of a name given by a setting up to which it counts as a whole word only."""

HARMLESS, SECRET, NAMING, NAMED = range(4)
"""Kinds of names: values are shown; are hidden; name the value beside them; are named so."""

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_STEPS = re.compile(r"[.\[\]]+")
_NOT_LETTERS = re.compile(r"[\W\d_]+")
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
        given = {_letters(_plain(name)) for name in extra} - {""}
        self._given_parts = tuple(sorted(name for name in given if len(name) > _SHORT))
        self._given_words = frozenset(name for name in given if len(name) <= _SHORT)
        self.cards = cards
        self.patterns = tuple(map(re.compile, patterns))
        self._kinds: dict[str, int] = {}
        self._secret_in_queries: dict[str, bool] = {}
        self._harmless: set[str] = set()

    def described(self) -> list[tuple[str, str]]:
        """(what, which) of everything that is hidden, for people."""
        by_form = [*forms.FORMS, *(["payment cards", "bank accounts"] if self.cards else [])]
        rows = [
            ("names that contain", ", ".join((*SECRET_PARTS, *self._given_parts))),
            ("names with the word", ", ".join(sorted({*SECRET_WORDS, *self._given_words}))),
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
        if len(name) > _MAX_NAME:
            return SECRET
        plain = _plain(name)
        letters = _letters(plain)
        words = [word.lower() for word in _WORDS.findall(plain)]
        if (
            letters in self._given_words
            or not self._given_words.isdisjoint(words)
            or any(part in letters for part in self._given_parts)
            or _is_usual(plain, letters, words)
        ):
            return SECRET
        step = _letters(next(filter(None, reversed(_STEPS.split(plain))), ""))
        if step in in_text.NAMING:
            return NAMING
        return NAMED if step in in_text.NAMED else HARMLESS

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


def _plain(name: str) -> str:
    """A name out of its escapes, in Latin letters where it looks like it."""
    for _ in range(_ESCAPES):
        if "%" not in name:
            break
        name = unquote_plus(name)
    if name.isascii():
        return name
    parts = unicodedata.normalize("NFKD", name).translate(_LOOK_ALIKE)
    return "".join(each for each in parts if not unicodedata.combining(each))


def _letters(name: str) -> str:
    return _NOT_LETTERS.sub("", name.lower())


def _is_usual(name: str, letters: str, words: list[str]) -> bool:
    """Whether it is one of the names that usually hold secrets."""
    if len(words) > 1 and (
        words[-1] in _ABOUT or (words[-1] == "tokens" and words[-2] in _OF_TOKENS)
    ):
        return False
    letters = _ORDINARY.sub("", letters)
    if letters in SECRET_WORDS or _ENDS.search(letters) or _has_part(letters):
        return True
    before = ""
    for word in words:
        if word in SECRET_WORDS and not (word == "code" and before in _OF_CODES):
            return True
        before = word
    lower = name.lower()
    return bool(_HAS_INSTEAD.search(lower)) and _has_part(_letters(lower.translate(_INSTEAD)))


def _has_part(letters: str) -> bool:
    return any(part in letters for part in SECRET_PARTS)
