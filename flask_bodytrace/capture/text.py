"""Secrets in text: by the name before them, and by their form. Pure, linear in the text.

What is found is replaced to its end, or to the end of the text where no end is seen. So a text may
be cut before it comes here, if the last `LOOK_AHEAD` characters are not shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from html import unescape
from urllib.parse import unquote_plus

IsSecret = Callable[[str], bool]
Hidden = tuple[int, int, str]
"""Where in a text something is hidden: from, to, and what is shown instead."""

REDACTED = "REDACTED"
"""What is shown instead of a secret."""
LOOK_AHEAD = 640
"""Characters: the longest secret that shows only by its end, a URL's user and password."""

# Pairs that say in one field what the other holds: {"name": "password", "value": "…"}.
NAMING = frozenset({"name", "key", "field", "id", "label", "property"})
NAMED = frozenset({"value", "val", "values", "content", "data", "text"})

FORMS = (
    "user and password in URLs",
    "private keys",
    "JSON web tokens",
    "keys of well-known services",
    "Bearer and Basic credentials",
)
"""What is hidden by its form, for people; numbers are besides."""

_IN_URL = re.compile(r"(?<=://)[^/\s:@\"]{0,256}:[^/\s@\"]{0,256}(?=@)")
# What looks behind comes second: a pattern that begins with what it takes is found faster. A run of
# digits is tried from its first one only.
_DIGITS = re.compile(r"[0-9](?<![0-9][0-9])(?:[ .\u00a0-]?[0-9]){12,}")
_GROUP = re.compile(r"[0-9]+|[^0-9]+")
_CARD_LENGTHS = range(13, 20)
_DOUBLED = str.maketrans("0123456789", "0246813579")
_SHORTEST_IBAN = 15
_IBAN = re.compile(r"[A-Z]{2}[0-9]{2}(?<![A-Z0-9][A-Z0-9]{4})(?: ?[A-Z0-9]){11,30}(?![A-Z0-9])")
_SHORTEST_NUMBER = 13

_TOKENS = re.compile(
    # What they begin with comes first, since most text has none of it.
    r"""(?<![A-Za-z0-9])(?=[ABSabdeghnprswxy-])(?:
      eyJ[\w-]{5,}(?:\.[\w=-]*){0,4}                                    # JWT (RFC 7519)
    | -----BEGIN[ A-Z0-9]*PRIVATE\ KEY(?:\ BLOCK)?-----
        [\s\S]*?(?:-----END[ A-Z0-9]*PRIVATE\ KEY(?:\ BLOCK)?-----|\Z)    # PEM (RFC 7468)
    | (?:AKIA|ASIA)[A-Z0-9]{12,}                                        # AWS
    | gh[oprsu]_\w{16,} | github_pat_\w{16,} | glpat-[\w-]{16,}
    | [prs]k_(?:live|test)_\w{8,} | whsec_[\w+/=]{8,}                   # Stripe
    | xox[a-z]-[\w-]{8,} | xapp-[\w-]{8,}                               # Slack
    | AIza[\w-]{30,} | ya29\.[\w.-]{8,}                                 # Google
    | SG\.[\w-]{8,}\.[\w-]{8,}                                          # SendGrid
    | npm_\w{16,} | pypi-[\w-]{16,} | sk-[\w-]{16,} | hf_\w{16,}
    | shp(?:at|ca|pa|ss)_\w{16,} | dop_v1_\w{16,}
    | [Bb]earer\ +[\w.~+/=-]{6,}                                        # RFC 6750
    | [Bb]asic\ +(?=[A-Za-z]*[0-9+/=])[A-Za-z0-9+/]{6,}=*               # RFC 7617
    )""",
    re.VERBOSE,
)

# A name and its value: name=value, "name": "value", name: value, "name", "value".
_SIGN = re.compile(r"(?P<quote>\\{0,4}[\"']?)\s{0,8}(?P<sign>=>|:=|=|:|,)\s{0,64}")
_LONGEST_NAME = 160
_NAME_BACKWARDS = re.compile(r"[\w.$%\]\[-]+(?: [\w.$%\]\[-]+){0,2}")
_QUOTED = {
    '"': re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)', re.DOTALL),
    "'": re.compile(r"'(?:[^'\\]|\\.)*(?:'|\\?\Z)", re.DOTALL),
}
_ESCAPED_QUOTE = re.compile(r"\\{1,8}[\"']")
_NESTED = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_END_OF_LINE = re.compile(r"[\r\n]")
_END_OF_BLOCK = re.compile(r"[\r\n]+(?=\S)")
_END_OF_VALUE = re.compile(r"[\r\n]|[&;,\s]\s{0,4}(?=[\"']?[A-Za-z_][\w.-]{0,63}[\"']?\s{0,2}[=:])")
_TO_END_OF_LINE = ("authorization", "cookie")
"""Parts of names whose unquoted values are the rest of the line, whatever is in it."""

_TAG = re.compile(r"<(?P<tag>[A-Za-z_][\w.-]*(?::[\w.-]+)?)(?P<attributes>[^<>]*)>")
_ATTRIBUTE = re.compile(r"(?<![\w.:-])([\w.:-]{1,128})\s{0,8}=\s{0,8}(?:\"([^\"]*)\"|'([^']*)')")

_ENTITY = re.compile(r"&(?:quot|apos|lt|gt|#[0-9a-fA-Fx]{1,8});")

_NAMING_PAIR = re.compile(
    rf"(?<![A-Za-z])(?:{'|'.join(sorted(NAMING))})\\{{0,4}}[\"']?\s{{0,8}}[:=]\s{{0,8}}"
    r"\\{0,4}[\"']?(?P<named>[\w.$-]{1,128})",
    re.IGNORECASE,
)
_UNPARSED_ESCAPE = re.compile(r"\\u00([2-7][0-9A-Fa-f])")
_SPOKEN_NAME = re.compile(r"(?<![A-Za-z0-9-])(?:--?)?[A-Za-z][\w-]{1,40}(?=\s)")
_SPOKEN_VALUE = re.compile(r"\s{1,4}(?:(?:is|was|of|to)\s{1,4})?([^\s\"'<>]+)")
_LONG = re.compile(r"(?<![\w+=-])(?=[\w+=-]*[0-9])(?=[\w+=-]*[A-Za-z])[\w+=-]{32,}")
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_SSN = re.compile(r"(?<![\w-])[0-9]{3}-[0-9]{2}-[0-9]{4}(?![\w-])")
_LONE_WORD = re.compile(r"\s*(?:(?=\S*[0-9])|(?=\S{16}))[^\s<>{}\[\]\"'=:&]{6,}\s*")


def without_secrets(text: str, is_secret: IsSecret, *, numbers: bool) -> str:
    """`text` without credentials in URLs, tokens, values of secret names, and card numbers.

    :param is_secret: whether a name's value is to be hidden.
    :param numbers: whether card and account numbers are hidden.
    """
    if "&" in text and _ENTITY.search(text):
        # XML and HTML may hold other text escaped.
        plain = unescape(text)
        hidden = _hide(plain, is_secret, numbers=numbers)
        if hidden != plain:
            return hidden
    return _hide(text, is_secret, numbers=numbers)


def _hide(text: str, is_secret: IsSecret, *, numbers: bool) -> str:
    if "://" in text and "@" in text:
        text = _IN_URL.sub(REDACTED, text)
    if "<" in text and ">" in text:
        text = _without(text, _secret_elements(text, is_secret))
    if ":" in text or "=" in text or '"' in text:
        text = _without(text, _secret_values(text, is_secret))
    text = _TOKENS.sub(REDACTED, text)
    if numbers and len(text) >= _SHORTEST_NUMBER:
        text = without_numbers(text)
    return text


def without_any_secrets(text: str, is_secret: IsSecret, *, numbers: bool) -> str:
    """The same for text of unknown form: also hides what looks random or may be said in prose."""
    if "\\u00" in text:
        text = _UNPARSED_ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)
    if any(is_secret(match["named"]) for match in _NAMING_PAIR.finditer(text)):
        # Some pair names a secret, which may stand before it: no value is shown.
        names_secret = is_secret

        def is_secret(name: str) -> bool:
            return name.lower() in NAMED or names_secret(name)

    text = without_secrets(text, is_secret, numbers=numbers)
    if _LONE_WORD.fullmatch(text) and text.strip() != REDACTED:
        return REDACTED
    text = _without(text, _spoken_secrets(text, is_secret))
    text = _SSN.sub(REDACTED, text)
    return _LONG.sub(_hide_long, text)


def without_numbers(text: str) -> str:
    """`text` without numbers of cards and bank accounts."""
    return _IBAN.sub(_hide_iban, _DIGITS.sub(_hide_cards, text))


def _hide_cards(match: re.Match[str]) -> str:
    # A card may stand beside other numbers, so each run of groups of digits is tried.
    groups = _GROUP.findall(match[0])
    shown: list[str] = []
    start = 0
    while start < len(groups):
        end = _end_of_card(groups, start)
        shown.append(REDACTED if end else groups[start])
        start = end or start + 1
    return "".join(shown)


def _end_of_card(groups: list[str], start: int) -> int:
    """Where the longest card number ends that begins with a group of digits; 0 if none does."""
    digits, found = "", 0
    for end in range(start, len(groups), 2):
        digits += groups[end]
        if len(digits) >= _CARD_LENGTHS.stop or not groups[end].isdigit():
            break
        if len(digits) in _CARD_LENGTHS and _passes_luhn(digits):
            found = end + 1
    return found


def _passes_luhn(digits: str) -> bool:
    # Every second digit counts twice, and of what has two digits then their sum.
    doubled = digits[-2::-2].translate(_DOUBLED)
    return sum(map(int, digits[-1::-2] + doubled)) % 10 == 0


def _hide_iban(match: re.Match[str]) -> str:
    # Words in capitals may follow it.
    words = match[0].split(" ")
    for end in range(len(words), 0, -1):
        if _is_iban("".join(words[:end])):
            return " ".join([REDACTED, *words[end:]])
    return match[0]


def _is_iban(number: str) -> bool:
    if len(number) < _SHORTEST_IBAN:
        return False
    # ISO 13616: the first four characters go to the end, letters count from 10, modulo 97 is 1.
    return int("".join(str(int(each, 36)) for each in number[4:] + number[:4])) % 97 == 1


def _without(text: str, hidden: Iterable[Hidden]) -> str:
    """`text` with each of these places replaced; they come in order and do not overlap."""
    shown: list[str] = []
    done = 0
    for start, end, instead in hidden:
        shown += (text[done:start], instead)
        done = end
    return "".join([*shown, text[done:]])


def _spoken_secrets(text: str, is_secret: IsSecret) -> Iterator[Hidden]:
    """The values in ``--password x`` and "the password is x1"."""
    done = 0
    for match in _SPOKEN_NAME.finditer(text):
        name = match[0]
        if match.start() < done or not is_secret(name):
            continue
        said = _SPOKEN_VALUE.match(text, match.end())
        if said is None or said[1].startswith(REDACTED):
            continue
        if name.startswith("-") or not said[1].rstrip(".,;:!?)").isalpha():
            done = said.end()
            yield said.start(1), done, REDACTED


def _hide_long(match: re.Match[str]) -> str:
    return match[0] if _UUID.fullmatch(match[0]) else REDACTED


def _secret_values(text: str, is_secret: IsSecret) -> Iterator[Hidden]:
    """The values behind secret names."""
    position = 0
    while (match := _SIGN.search(text, position)) is not None:
        position = match.end()
        if match["sign"] == "," and not (match["quote"] and _is_quoted(text, position)):
            continue
        name = _name_before(text, match.start())
        if not name or not is_secret(name):
            continue
        end = _end_of_value(text, match, name)
        if end > position:
            yield position, end, REDACTED
            position = end


def _name_before(text: str, end: int) -> str:
    # Backwards, so that a long run of letters is looked at once and not from each of them.
    found = _NAME_BACKWARDS.match(text[max(0, end - _LONGEST_NAME) : end][::-1])
    if found is None:
        return ""
    name = found[0][::-1].lstrip("0123456789.-")
    return unquote_plus(name) if "%" in name else name


def _is_quoted(text: str, position: int) -> bool:
    return text[position : position + 1] in _QUOTED or bool(_ESCAPED_QUOTE.match(text, position))


def _end_of_value(  # noqa: PLR0911 - one line for each way to write a value
    text: str, match: re.Match[str], name: str
) -> int:
    """Where the value ends that begins behind a sign."""
    start = match.end()
    first = text[start : start + 1]
    if first in _QUOTED and first:
        quoted = _QUOTED[first].match(text, start)
        end = len(text) if quoted is None else quoted.end()
        after = _SIGN.match(text, end) if match["sign"] == "," else None
        if after is not None and after["sign"] == ":":
            # "name": "password", "value": "…"
            return _end_of_value(text, after, name)
        return end
    if escaped := _ESCAPED_QUOTE.match(text, start):
        closing = text.find(escaped[0], escaped.end())
        return len(text) if closing < 0 else closing + len(escaped[0])
    if first in ("{", "["):
        return _end_of_nested(text, start)
    if any(part in name.lower() for part in _TO_END_OF_LINE):
        return _next(_END_OF_LINE, text, start)
    if first in ("|", ">") and match["sign"] == ":":
        # A block of YAML: the lines that are indented.
        return _next(_END_OF_BLOCK, text, start)
    return _next(_END_OF_VALUE, text, start)


def _end_of_nested(text: str, start: int) -> int:
    depth = 0
    for match in _NESTED.finditer(text, start):
        if match[0] in ("{", "["):
            depth += 1
        elif match[0] in ("}", "]"):
            depth -= 1
            if depth == 0:
                return match.end()
    return len(text)


def _next(pattern: re.Pattern[str], text: str, start: int) -> int:
    """Where `pattern` is found next, or the end of the text."""
    found = pattern.search(text, start)
    return len(text) if found is None else found.start()


def _secret_elements(text: str, is_secret: IsSecret) -> Iterator[Hidden]:
    """The contents of XML elements with secret names, and the attributes that say such a name."""
    position = 0
    names_next = False
    while (match := _TAG.search(text, position)) is not None:
        tag = match["tag"]
        local = tag.rpartition(":")[2]
        position = match.end()
        attributes = match["attributes"]
        named = any(
            name.rpartition(":")[2].lower() in NAMING and is_secret(first or second)
            for name, first, second in _ATTRIBUTE.findall(attributes)
        )
        if named:
            yield *match.span("attributes"), f' {REDACTED}=""'
        if attributes.endswith("/"):
            names_next = names_next and not named
            continue
        if not (named or names_next or is_secret(local)):
            # <name>password</name><value>…</value>
            closing = text.find("<", position)
            says = text[position : len(text) if closing < 0 else closing].strip()
            names_next = local.lower() in NAMING and bool(says) and is_secret(says)
            continue
        names_next = False
        end = _end_of_element(text, tag, position)
        yield position, end, REDACTED
        position = end


def _end_of_element(text: str, tag: str, start: int) -> int:
    depth = 1
    for match in re.compile(rf"<(/?){re.escape(tag)}(?![\w.:-])").finditer(text, start):
        depth += -1 if match[1] else 1
        if depth == 0:
            return match.start()
    return len(text)
