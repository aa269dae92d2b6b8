"""Every setting: its key, default, unit and one line each; read once, by ``init_app``.

A key is ``BODYTRACE_`` and the field's name in capitals. What counts, first to last: the
environment (``FLASK_BODYTRACE_KEY`` or ``FLASK_BODYTRACE__KEY``), ``app.config``, the keyword
argument, the default.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from .capture.record import WHEN
from .exceptions import ConfigError
from .ids.rules import Rules, Source, check_rules, parse_rules
from .trace.headers import FORMS
from .trace.keep import ACCEPTED as KEEP_RULES
from .trace.keep import KeepRules
from .version import docs_page

if TYPE_CHECKING:
    from .capture.rules import RedactCallback

PREFIX = "BODYTRACE_"
_UNITS = {"": 1, "b": 1, "k": 1000, "m": 1000**2, "g": 1000**3}
_UNITS |= {"kib": 1024, "mib": 1024**2, "gib": 1024**3}
_UNITS |= {"kb": 1000, "mb": 1000**2, "gb": 1000**3}
# No disk has as many bytes as longer numbers say, and int() refuses some thousands of digits.
_SIZE = re.compile(r"([0-9]{1,18})\s*([a-z]*)")
_SHOWN = 60
SHORTEST_TOKEN = 16
"""Characters of a viewer's token."""


class _Unacceptable(Exception):
    """A parser's refusal; says what it accepts."""


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in {"1", "true", "yes", "on"}:
        return True
    if text in {"0", "false", "no", "off", ""}:
        return False
    raise _Unacceptable("true or false (also 1/0, yes/no, on/off)")


def _size(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _SIZE.fullmatch(value.strip().lower()) if isinstance(value, str) else None
    if match is None or match[2] not in _UNITS:
        raise _Unacceptable("a number of bytes, such as 1048576, '64KiB' or '16MiB'")
    return int(match[1]) * _UNITS[match[2]]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value.strip()
    raise _Unacceptable("a string")


def _names(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(filter(None, (name.strip() for name in value.split(","))))
    if isinstance(value, list | tuple | set | frozenset) and all(
        isinstance(name, str) for name in value
    ):
        return tuple(value)
    raise _Unacceptable("names separated by commas, or a list of them")


def _choice(*choices: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        text = str(value).strip().lower()
        if text not in choices:
            raise _Unacceptable(f"one of {', '.join(choices)}")
        return text

    return parse


def _choices(*choices: str) -> Callable[[Any], tuple[str, ...]]:
    def parse(value: Any) -> tuple[str, ...]:
        names = tuple(name.lower() for name in _names(value))
        if any(name not in choices for name in names):
            raise _Unacceptable(f"any of {', '.join(choices)}, separated by commas")
        return names

    return parse


def _incoming(value: Any) -> Any:
    if callable(value):
        return value
    try:
        return _choice("continue", "link", "ignore")(value)
    except _Unacceptable as error:
        raise _Unacceptable(f"{error}, or a callable(environ) returning one of them") from None


def _rules(value: Any) -> Rules:
    accepted = (
        "'orderId,user.id=customer.id', or a mapping of attribute names to sources "
        "(orderId, path:name, query:name, header:Name, session:key, g:name, or a function)"
    )
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value)
        except ValueError:
            raise _Unacceptable(accepted) from None
    try:
        if isinstance(value, str):
            rules: Rules = parse_rules(value)
        elif isinstance(value, Mapping):
            rules = {str(name): _sources(sources) for name, sources in value.items()}
        elif isinstance(value, list | tuple):
            rules = parse_rules(",".join(_names(value)))
        else:
            raise _Unacceptable(accepted)
        check_rules(rules)
    except ConfigError as error:
        raise _Unacceptable(f"{accepted}; {error}") from None
    return rules


def _sources(value: Any) -> list[Source]:
    if callable(value):
        return [value]
    if isinstance(value, list | tuple):
        return [source for each in value for source in _sources(each)]
    return list(_names(value))


def _setting(
    default: Any, parse: Callable[[Any], Any], doc: str, *, unit: str = "", secret: bool = False
) -> Any:
    return field(
        default_factory=lambda: default,
        repr=not secret,
        metadata={"default": default, "parse": parse, "doc": doc, "unit": unit, "secret": secret},
    )


def _patterns(value: Any) -> tuple[str, ...]:
    patterns = _names(value)
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise _Unacceptable(
                f"regular expressions; {_shorten(pattern)} is none: {error}"
            ) from None
    return patterns


def _callback(value: Any) -> Any:
    if callable(value):
        return value
    raise _Unacceptable("a function of name, value and where, in Python")


def _keep(value: Any) -> tuple[str, ...]:
    rules = _names(value)
    try:
        KeepRules.parse(rules, {})
    except ValueError as error:
        raise _Unacceptable(f"any of {KEEP_RULES}; {_shorten(str(error))} is none") from None
    return rules


Incoming = Literal["continue", "link", "ignore"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one application.

    Lines read: default, parser, what it does, unit.
    """

    enabled: bool = _setting(True, _boolean, "kill switch: off leaves the application untouched")

    memory_limit: int = _setting(1 << 20, _size, "larger bodies go to a temporary file", unit="B")
    body_limit: int = _setting(16 << 20, _size, "larger bodies are not kept", unit="B")
    over_limit: str = _setting(
        "pass", _choice("pass", "reject"), "over the limit: pass the stream on once, or 413"
    )
    spill_limit: int = _setting(
        1 << 30, _size, "bytes that all temporary files together may take", unit="B"
    )
    pool_limit: int = _setting(
        8 << 20, _size, "bytes of buffers kept for reuse; 0 is no pool", unit="B"
    )

    ids: Rules = _setting({}, _rules, "business ids: attribute=source, separated by commas")
    id_scan_limit: int = _setting(1 << 20, _size, "larger bodies are not read for ids", unit="B")
    id_hash: tuple[str, ...] = _setting((), _names, "ids stored as a keyed hash only")
    hash_key: str = _setting(
        "", _text, "key of BODYTRACE_ID_HASH and BODYTRACE_TRACE_KEY", secret=True
    )
    baggage: bool = _setting(False, _boolean, "send the ids on as W3C baggage")
    trace_key: str = _setting("", _text, "the id that trace ids are derived from")

    incoming: Incoming | Callable[[Mapping[str, Any]], Incoming] = _setting(
        "continue", _incoming, "callers' trace context: continue, link or ignore it"
    )
    excluded_urls: tuple[str, ...] = _setting(
        (), _patterns, "regular expressions of URLs without spans"
    )
    keep: tuple[str, ...] = _setting(
        (), _keep, "which requests are exported although they were not sampled"
    )
    response_headers: tuple[str, ...] = _setting(
        ("x-trace",), _choices(*FORMS), "trace headers written on responses"
    )
    metrics: bool = _setting(True, _boolean, "record the http.server metrics")
    otlp_encoder: bool = _setting(
        True, _boolean, "encode spans for OTLP over HTTP ourselves, where we set the exporter up"
    )
    logs: bool = _setting(False, _boolean, "put trace and ids on log records")

    capture_body: str = _setting(
        "never", _choice(*WHEN), "when request bodies, without secrets, go on the span"
    )
    capture_response: str = _setting(
        "never", _choice(*WHEN), "when the first bytes of answers, without secrets, go on the span"
    )
    capture_limit: int = _setting(8 << 10, _size, "longer captured bodies are cut", unit="B")
    capture_only: tuple[str, ...] = _setting(
        (), _names, "paths to show of captured bodies; everything else is hidden"
    )
    redact: tuple[str, ...] = _setting(
        (), _names, "names and paths hidden in captured bodies and queries, besides the usual ones"
    )
    redact_values: tuple[str, ...] = _setting(
        (), _patterns, "regular expressions of texts hidden in captured bodies"
    )
    redact_callback: RedactCallback | None = _setting(
        None, _callback, "what it returns is shown instead of a captured value"
    )

    relay_calls: bool = _setting(False, _boolean, "pass the subtree of calls on to the caller")
    viewer: str = _setting("auto", _choice("auto", "on", "off"), "trace viewer at /_bodytrace/")
    viewer_token: str = _setting(
        "", _text, "what the viewer asks for; none: loopback only", secret=True
    )

    sources: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Where each value came from, by field name."""


_FIELDS = {f.name: f for f in fields(Settings) if f.name != "sources"}


def keys() -> dict[str, Mapping[str, Any]]:
    """Every setting's key with its default, doc and unit."""
    return {PREFIX + name.upper(): f.metadata for name, f in _FIELDS.items()}


def load(
    config: Mapping[str, Any],
    keywords: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Read the settings of one application.

    :param config: ``app.config``.
    :param keywords: what was given to `BodyTrace`, by lower-case name.
    :param environ: environment variables.
    :raises ConfigError: an unknown key (with the nearest valid one), a malformed value (with what
        is accepted) or two settings that contradict each other.
    """
    given: dict[str, tuple[str, Any]] = {}
    for name, source, value in _given(config, keywords or {}, environ):
        given[name] = (source, value)
    values: dict[str, Any] = {}
    for name, (source, value) in given.items():
        metadata = _FIELDS[name].metadata
        try:
            values[name] = metadata["parse"](value)
        except _Unacceptable as error:
            shown = "(a secret)" if metadata["secret"] else _shorten(value)
            raise ConfigError(
                f"{_key(name)}={shown} (from {source}) is not accepted: use {error}"
            ) from None
    settings = Settings(**values, sources={name: source for name, (source, _) in given.items()})
    _check(settings)
    return settings


def _given(  # noqa: C901 - one loop for each place
    config: Mapping[str, Any], keywords: Mapping[str, Any], environ: Mapping[str, str]
) -> Iterator[tuple[str, str, Any]]:
    """(name, where from, value) of all that is set; what counts more comes later."""
    for name, value in keywords.items():
        yield _known(name, name, str), f"keyword {name}", value
    for key, value in config.items():
        if key.startswith(PREFIX):
            name = key.removeprefix(PREFIX).lower()
            yield _known(key, name, _key), f"app.config[{key!r}]", value
    nested = config.get("BODYTRACE")
    if isinstance(nested, Mapping):
        for key, value in nested.items():
            label = f"app.config['BODYTRACE'][{key!r}]"
            yield _known(label, str(key).lower(), _key), label, value
    for prefix in ("FLASK_BODYTRACE__", "FLASK_BODYTRACE_"):
        for variable, text in environ.items():
            name = variable.removeprefix(prefix).lower()
            # The shorter prefix also begins what has the longer one.
            if not variable.startswith(prefix) or name.startswith("_"):
                continue
            if not text:
                # Compose files pass unset variables on as empty ones.
                continue

            def spell(name: str, prefix: str = prefix) -> str:
                return prefix + name.upper()

            yield _known(variable, name, spell), f"environment variable {variable}", text


def _check(settings: Settings) -> None:
    for name in settings.id_hash:
        if name not in settings.ids:
            raise ConfigError(
                f"BODYTRACE_ID_HASH names {name!r}, which BODYTRACE_IDS does not "
                f"(it has {', '.join(settings.ids) or 'none'}): add it there or take it out here"
            )
    if settings.id_hash and not settings.hash_key:
        raise ConfigError(
            "BODYTRACE_ID_HASH needs BODYTRACE_HASH_KEY, a secret string: without a key, hashes "
            "of short ids can be looked up"
        )
    if settings.trace_key and settings.trace_key not in settings.ids:
        raise ConfigError(
            f"BODYTRACE_TRACE_KEY={settings.trace_key!r} is none of BODYTRACE_IDS "
            f"({', '.join(settings.ids) or 'none'}): use an attribute name from there"
        )
    if settings.viewer_token and len(settings.viewer_token) < SHORTEST_TOKEN:
        raise ConfigError(
            f"BODYTRACE_VIEWER_TOKEN has fewer than {SHORTEST_TOKEN} characters: use a longer "
            "one, "
            "such as python -c 'import secrets; print(secrets.token_urlsafe())' prints"
        )
    if settings.relay_calls and not settings.response_headers:
        raise ConfigError(
            "BODYTRACE_RELAY_CALLS needs BODYTRACE_RESPONSE_HEADERS, which is empty: relayed calls "
            f"are no use without the trace they belong to; set any of {', '.join(FORMS)}"
        )


def _known(given: str, name: str, spell: Callable[[str], str]) -> str:
    """`name`, if it is a setting.

    :param given: how the caller spelled it.
    :param spell: a setting's name -> how the caller would have to spell it.
    """
    if name in _FIELDS:
        return name
    hint = ""
    # The value is not shown: under an unknown name it may be a secret, ours or somebody else's.
    if near := difflib.get_close_matches(name, _FIELDS, n=1):
        metadata = _FIELDS[near[0]].metadata
        hint = f"; did you mean {spell(near[0])}, {_accepted(metadata['parse'])}?"
    where = docs_page("Settings", "settings.md")
    raise ConfigError(f"unknown setting {given}{hint} ({where} has them all)")


def _accepted(parse: Callable[[Any], Any]) -> str:
    """What a parser says it accepts when it gets something else."""
    try:
        parse(object())
    except _Unacceptable as error:
        return str(error)
    return "anything"


def _key(name: str) -> str:
    return PREFIX + name.upper()


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
