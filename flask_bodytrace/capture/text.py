"""Secrets in text: by the name before them, and by their form. Pure, linear in the text.

What is found is replaced to its end, or to the end of the text where no end is seen. So a text may
be cut before it comes here, if the last `LOOK_AHEAD` characters are not shown.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from html import unescape
from urllib.parse import unquote, unquote_plus

from .forms import IN_URL, REDACTED, TOKENS
from .numbers import SHORTEST, without_numbers

IsSecret = Callable[[str], bool]
Hidden = tuple[int, int, str]
"""Where in a text something is hidden: from, to, and what is shown instead."""

LOOK_AHEAD = 640
"""Characters: the longest secret that shows only by its end, a URL's user and password."""

# Pairs that say in one field what the other holds: {"name": "password", "value": "…"}.
NAMING = frozenset(
    {"attribute", "field", "header", "id", "k", "key", "label", "name", "param", "parameter"}
    | {"path", "property", "setting", "type", "variable"}
)
NAMED = frozenset(
    {"content", "data", "default", "defaultvalue", "newvalue", "oldvalue", "text", "v", "val"}
    | {"value", "values"}
)

# A name and its value: name=value, "name": "value", name: value, "name", "value".
_SIGN = re.compile(r"(?P<sign>=>|:=|[=:,\uff1a\uff1d])\s{0,64}")
_COLON = re.compile(r"\s{0,8}(?P<sign>[:\uff1a])\s{0,64}")
_LONGEST_NAME = 160
# Also characters that take no room: a name looks the same with them.
_OF_NAMES = r"[\w.$%\]\[\u00ad\u200b-\u200d\u2060\ufeff-]"
_NAME_BACKWARDS = re.compile(
    rf"\s{{0,8}}(?P<quote>[\"']?)\\{{0,15}}(?P<name>{_OF_NAMES}+(?: {_OF_NAMES}+){{0,2}})"
)
_QUOTED = {
    '"': re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)', re.DOTALL),
    "'": re.compile(r"'(?:[^'\\]|\\.)*(?:'|\\?\Z)", re.DOTALL),
}
_QUOTE = re.compile(r"\\{0,15}[\"']|&(?:amp;)?(?:quot|apos|#34|#39);")
_NESTED = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_END_OF_LINE = re.compile(r"[\r\n]")
_LIST = re.compile(r"-[ \t][^\r\n]*(?:[\r\n]+[ \t]*-[ \t][^\r\n]*)*")
_BEFORE_NAME = re.compile(r"[\r\n]([ \t-]*)[\"']?\Z")
_DEEPEST = 40
"""Columns; what stands farther to the right is not looked at as a name of YAML's."""
_END_OF_VALUE = re.compile(r"[\r\n]|[&;,\s]\s{0,4}(?=[\"']?[A-Za-z_][\w.-]{0,63}[\"']?\s{0,2}[=:])")
_TO_END_OF_LINE = ("authorization", "cookie")
"""Parts of names whose unquoted values are the rest of the line, whatever is in it."""

_TAG = re.compile(r"<(?P<tag>[^\W\d][\w.-]*(?::[\w.-]+)?)(?P<attributes>[^<>]*)>")
_ATTRIBUTE = re.compile(
    r"(?<![\w.:-])([\w.:-]{1,128})\s{0,8}=\s{0,8}"
    r"(?:\\{0,15}\"([^\"]*)\"|\\{0,15}'([^']*)'|([^\s\"'\\>]+))"
)
_TITLES = frozenset({"dt", "th"})
"""Elements of HTML whose text names what the next one holds."""

_CDATA = r"<!\[CDATA\[[\s\S]*?(?:\]\]>|\Z)"
_ENTITY = re.compile(r"&(?:amp|quot|apos|lt|gt|#[0-9a-fA-Fx]{1,8});")
_PERCENT = re.compile(r"%[0-9A-Fa-f]{2}")
_ESCAPES = 3
"""How often text within text is taken out of its escapes."""

_NAMING_PAIR = re.compile(
    rf"(?<![A-Za-z])(?:{'|'.join(sorted(NAMING))})\\{{0,4}}[\"']?\s{{0,8}}[:=]\s{{0,8}}"
    r"\\{0,4}[\"']?(?P<named>[\w.$-]{1,128})",
    re.IGNORECASE,
)
_UNPARSED_ESCAPE = re.compile(r"(?:\\u[0-9A-Fa-f]{4})+")
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
    text = _hide(text, is_secret, numbers=numbers)
    return _unescaped(text, is_secret, numbers=numbers) if "&" in text or "%" in text else text


def _unescaped(text: str, is_secret: IsSecret, *, numbers: bool) -> str:
    """`text` out of the escapes of XML, HTML and URLs, if there is a secret in it then."""
    plain = text
    for _ in range(_ESCAPES):
        if "&" in plain and _ENTITY.search(plain):
            plain = unescape(plain)
        elif "%" in plain and _PERCENT.search(plain):
            plain = unquote(plain)
        else:
            break
        hidden = _hide(plain, is_secret, numbers=numbers)
        if hidden != plain:
            text = plain = hidden
    return text


def _hide(text: str, is_secret: IsSecret, *, numbers: bool) -> str:
    if "://" in text and "@" in text:
        text = IN_URL.sub(REDACTED, text)
    if "<" in text and ">" in text:
        text = _without(text, _secret_elements(text, is_secret))
    # Without one of these, no name has a value; there are wide ones besides.
    if ":" in text or "=" in text or '",' in text or "'," in text or not text.isascii():
        text = _without(text, _secret_values(text, is_secret))
    text = TOKENS.sub(REDACTED, text)
    if numbers and len(text) >= SHORTEST:
        text = without_numbers(text)
    return text


def _unescape_characters(match: re.Match[str]) -> str:
    """A run of JSON's escapes as characters, but for control characters and half pairs."""
    units = bytes.fromhex(match[0].replace("\\u", ""))
    return "".join(
        character if unicodedata.category(character) not in {"Cc", "Cs"} else ascii(character)[1:-1]
        for character in units.decode("utf-16-be", errors="surrogatepass")
    )


def without_any_secrets(text: str, is_secret: IsSecret, *, numbers: bool) -> str:
    """The same for text of unknown form: also hides what looks random or may be said in prose."""
    if "\\u" in text:
        text = _UNPARSED_ESCAPE.sub(_unescape_characters, text)
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
        is_listed = match["sign"] == ","
        if is_listed and not _is_quoted(text, position):
            continue
        found = _name_before(text, match.start())
        if found is None or (is_listed and not found["quote"]):
            continue
        name = found["name"][::-1]
        plain = name.lstrip("0123456789.-")
        if not plain or not is_secret(unquote_plus(plain) if "%" in plain else plain):
            continue
        end = _end_of_value(text, match, plain)
        if not is_listed:
            end = _end_of_indented(text, match.start() - found.end(), position, end)
        if end > position:
            yield position, end, REDACTED
            position = end


def _name_before(text: str, end: int) -> re.Match[str] | None:
    # Backwards, so that a long run of letters is looked at once and not from each of them.
    return _NAME_BACKWARDS.match(text[max(0, end - _LONGEST_NAME) : end][::-1])


def _is_quoted(text: str, position: int) -> bool:
    return _QUOTE.match(text, position) is not None


def _end_of_value(text: str, match: re.Match[str], name: str) -> int:
    """Where the value ends that begins behind a sign."""
    start = match.end()
    first = text[start : start + 1]
    quote = _QUOTE.match(text, start)
    if quote is not None and (first not in _QUOTED or text.startswith(2 * quote[0], quote.end())):
        # Escaped, or three of them.
        closing = quote[0] * (3 if text.startswith(2 * quote[0], quote.end()) else 1)
        end = text.find(closing, start + len(closing))
        return len(text) if end < 0 else end + len(closing)
    if quote is not None:
        quoted = _QUOTED[first].match(text, start)
        end = len(text) if quoted is None else quoted.end()
        after = _COLON.match(text, end) if match["sign"] == "," else None
        # "name": "password", "value": "…"
        return end if after is None else _end_of_value(text, after, name)
    if first in ("{", "["):
        return _end_of_nested(text, start)
    if any(part in name.lower() for part in _TO_END_OF_LINE):
        return _next(_END_OF_LINE, text, start)
    return _next(_END_OF_VALUE, text, start)


def _end_of_indented(text: str, name: int, value: int, end: int) -> int:
    """Where the lines end that go on with a value: in YAML and headers, those further to the right.

    :param name: where the name before it begins.
    :param value: where the value begins.
    :param end: where it ends in its first line.
    """
    if text[end : end + 1] not in ("\r", "\n"):
        return end
    if (listed := _LIST.match(text, value)) is not None:
        return listed.end()
    indented = _BEFORE_NAME.search("\n" + text[max(0, name - _DEEPEST) : name])
    if indented is None:
        return end
    column = len(indented[1])
    following = re.compile(
        rf"(?:[\r\n]+(?:[ \t]{{{column + 1},}}(?=\S)|[ \t]{{{column}}}-(?=[ \t]))[^\r\n]*)*"
    )
    found = following.match(text, end)
    return end if found is None else found.end()


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
            name.rpartition(":")[2].lower() in NAMING and is_secret("".join(values))
            for name, *values in _ATTRIBUTE.findall(attributes)
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
            kind = local.lower()
            names_next = kind in NAMING | _TITLES and bool(says) and is_secret(says)
            continue
        # <type>string</type> may come before <value>.
        names_next = names_next and local.lower() in NAMING
        end = _end_of_element(text, tag, position)
        yield position, end, REDACTED
        position = end


def _end_of_element(text: str, tag: str, start: int) -> int:
    depth = 1
    tags = rf"<(?P<closing>/?){re.escape(tag)}(?![\w.:-])|{_CDATA}"
    for match in re.compile(tags, re.IGNORECASE).finditer(text, start):
        if match["closing"] is None:
            continue
        depth += -1 if match["closing"] else 1
        if depth == 0:
            return match.start()
    return len(text)
