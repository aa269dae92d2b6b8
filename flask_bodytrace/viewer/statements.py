"""SQL as text: its literal values hidden, and what it is about in a few words.

A scanner, not a parser: it only has to know where literals, comments and quoted names begin and
end. Where databases disagree on that, the span says which one it is. What is cut off in the middle
of a string is hidden to its end.
"""

from __future__ import annotations

import re
from functools import cache

LONGEST = 8_192
"""Characters of a statement that are looked at, and shown."""

_MYSQL = frozenset({"mysql", "mariadb"})
# Here a backslash escapes within strings.
_BACKSLASH = _MYSQL | {"clickhouse", "hive", "gcp.spanner"}
# Here "[" begins a quoted name; elsewhere, an array.
_BRACKETS = frozenset({"mssql", "microsoft.sql_server", "sqlite"})
_NESTED_COMMENTS = frozenset({"postgresql", "mssql", "microsoft.sql_server"})

_STANDARD = r"'[^']*(?:''[^']*)*(?:'|\Z)"
_ESCAPED = r"'[^'\\]*(?:(?:\\.|'')[^'\\]*)*(?:'|\\?\Z)"
_NAME = r'"[^"]*(?:""[^"]*)*(?:"|\Z)'
_PIECES = r"""
    (?P<space>\s+)
    | (?P<comment>/\*)
    | (?P<line>{line})
    # Oracle's q'[…]', and PostgreSQL's E'…' and $tag$…$tag$.
    | (?P<literal>
        (?<![\w$])[nN]?[qQ]'(?:\[.*?(?:\]'|\Z)|\{{.*?(?:\}}'|\Z)|\(.*?(?:\)'|\Z)|<.*?(?:>'|\Z)
            |(?P<q>[^\s\w'])(?:.*?(?:(?P=q)'|\Z)))
        | (?<![\w$])[eE]{escaped}
        | (?<![\w$])(?:[nNxXbB]|[uU]&)?{string}
        | (?<![\w$])\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z)
        | {text}
        | (?<![\w$@\#])(?:\d[\w.]*|\.\d\w*)(?:(?<=[eE])[+-]\d+)?
      )
    # Names in quotes, and placeholders: $1, :name, @name, ?1, %(name)s; and the cast, "::".
    | (?P<kept>{name} | `[^`]*(?:``[^`]*)*(?:`|\Z) | :: | [$:@?]\w+ | %\(\w+\)\w | [^\W\d][\w$\#]*)
"""
_COMMENT_ENDS = re.compile(r"/\*|\*/")
_SUBJECT = re.compile(
    r"""\b(?:from|into|update|join|table|view|index)\s+
        (?:if\s+(?:not\s+)?exists\s+|only\s+)?((?:[\w.$]|"[^"]*"|`[^`]*`|\[[^\]]*\])+)""",
    re.IGNORECASE | re.VERBOSE,
)


@cache
def _scanner(*, is_mysql: bool, has_backslash: bool, has_brackets: bool) -> re.Pattern[str]:
    name = _NAME
    if has_brackets:
        name += r"|\[[^\]]*(?:\]|\Z)"
    source = _PIECES.format(
        # MySQL: "5--3" is 5 minus minus 3, and "#" begins a comment.
        line=r"(?:--(?=\s|\Z)|\#)[^\n]*" if is_mysql else r"--[^\n]*",
        string=_ESCAPED if has_backslash else _STANDARD,
        escaped=_ESCAPED,
        # MySQL: a string in double quotes is a string. Elsewhere it is a name.
        text=_ESCAPED.replace("'", '"') if is_mysql else r"(?!)",
        name=r"(?!)" if is_mysql else name,
    )
    return re.compile(source, re.VERBOSE | re.DOTALL)


def hidden(statement: str, system: str = "") -> str:
    """A statement with ``?`` in place of each literal, and without comments.

    What has placeholders only is the same, but for white space: runs of it become one space or one
    line break. At most the first `LONGEST` characters are looked at; then it ends with ``…``.

    :param system: the database, as OpenTelemetry names it (``db.system.name``).
    """
    text = statement[:LONGEST]
    scanner = _scanner(
        is_mysql=system in _MYSQL,
        has_backslash=system in _BACKSLASH,
        has_brackets=system in _BRACKETS,
    )
    found: list[str] = []
    at = 0
    while (match := scanner.search(text, at)) is not None:
        found.append(text[at : match.start()])
        at = match.end()
        kind = match.lastgroup
        if kind == "literal":
            found.append("?")
        elif kind == "kept":
            found.append(match[0])
        else:
            if kind == "comment":
                at = _comment_end(text, at, nests=system in _NESTED_COMMENTS)
            # What a comment stood between stays apart.
            found.append("\n" if "\n" in match[0] else " ")
    found.append(text[at:])
    plain = re.sub(r" *\n\s*", "\n", re.sub(r"  +", " ", "".join(found))).strip()
    return plain + "…" if len(statement) > LONGEST else plain


def _comment_end(text: str, at: int, *, nests: bool) -> int:
    depth = 1
    while depth and (match := _COMMENT_ENDS.search(text, at)) is not None:
        at = match.end()
        if match[0] == "*/":
            depth -= 1
        elif nests:
            depth += 1
    return len(text) if depth else at


def about(statement: str) -> str:
    """What a statement does to what, for a span's name: ``SELECT orders``.

    :param statement: as `hidden` gives it.
    """
    first = re.match(r"\W*(\w{1,40})", statement)
    operation = first[1].upper() if first else "SQL"
    subject = _SUBJECT.search(statement)
    return f"{operation} {subject[1][:100]}" if subject else operation
