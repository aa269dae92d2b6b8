"""SQL with its literals hidden: what each database takes for a string, a number, a comment."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_bodytrace.viewer.statements import LONGEST, about, hidden

PG, MY, MS = "postgresql", "mysql", "microsoft.sql_server"


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT a.id, a.name_2 FROM a WHERE a.id = ?",
        "SELECT * FROM t1 WHERE a = $1 AND b = :name AND c = :1 AND d = @p1 AND e = ?2",
        "INSERT INTO t (a, b) VALUES (%(a_1)s, %s)",
        'SELECT "its 1 name" FROM "a""b"',
        "SELECT x::int, y::numeric FROM a$1b",
        "SELECT `a``1` FROM `t'1`",
        "SELECT a FROM t WHERE b IS NULL AND c = TRUE",
        "select größe_1 from t",
    ],
)  # fmt: skip
def test_without_literals_it_stays_as_it_is(statement: str) -> None:
    assert hidden(statement) == statement


@pytest.mark.parametrize(
    ("statement", "system", "expected"),
    [
        # Strings.
        ("SELECT 'a', 'it''s', ''", "", "SELECT ?, ?, ?"),
        ("SELECT '\"', \"a'b\", 'x'", "", "SELECT ?, \"a'b\", ?"),
        (r"SELECT 'C:\', 'x'", PG, "SELECT ?, ?"),
        (r"SELECT 'it\'s', 'x\\', 'y'", MY, "SELECT ?, ?, ?"),
        (r"SELECT E'it\'s', e'\\', 'x'", PG, "SELECT ?, ?, ?"),
        ("SELECT \"a 'b\", \"it\"\"s\" FROM `t`", MY, "SELECT ?, ? FROM `t`"),
        ("SELECT N'a', x'AB', B'01', U&'d', n'b'", "", "SELECT ?, ?, ?, ?, ?"),
        ("SELECT 'two\nlines' FROM t", "", "SELECT ? FROM t"),
        ("SELECT date '2020-01-01'", "", "SELECT date ?"),
        ("SELECT q'[it's]', Q'{a}', nq'(b)', q'<c>', q'!d'e!'", "oracle.db",
         "SELECT ?, ?, ?, ?, ?"),
        # Dollar quotes, and what only looks like them.
        ("SELECT $$it's$$, $a$ $$ $a$, $1", PG, "SELECT ?, ?, $1"),
        ("SELECT a$b$c, 'x'", PG, "SELECT a$b$c, ?"),
        # Numbers.
        ("SELECT 1, -2, 3.5, .5, 1e5, 1.5E-3, 0xFF, 1_000, 7.", "",
         "SELECT ?, -?, ?, ?, ?, ?, ?, ?, ?"),
        ("SELECT a1, b_2.c3 FROM t4 LIMIT 10", "", "SELECT a1, b_2.c3 FROM t4 LIMIT ?"),
        ("SELECT a+1,b-2,c=3", "", "SELECT a+?,b-?,c=?"),
        ("SELECT ARRAY[1, 'x'], a[2]", PG, "SELECT ARRAY[?, ?], a[?]"),
        ("SELECT [a 1], [it's] FROM [t]", MS, "SELECT [a 1], [it's] FROM [t]"),
        # Comments: a quote in one opens nothing, and what looks like one in a string is none.
        ("SELECT a -- don't\nFROM t -- 'x", "", "SELECT a\nFROM t"),
        ("SELECT/* don't 5 */a /*traceparent='00-1'*/", "", "SELECT a"),
        ("SELECT '-- no', '/* no', 'x'", "", "SELECT ?, ?, ?"),
        ("/* a /* b */ it's 'c' */ SELECT 1", PG, "SELECT ?"),
        ("/* a /* b */ SELECT 'c'", MY, "SELECT ?"),
        ("SELECT 5--3 # it's\nFROM t", MY, "SELECT ?--?\nFROM t"),
        ("SELECT a#>'{b}' FROM t", PG, "SELECT a#>? FROM t"),
        # What was cut off.
        ("SELECT 'secr", "", "SELECT ?"),
        (r"SELECT 'secr\'", MY, "SELECT ?"),
        (r"SELECT 'secr" + "\\", MY, "SELECT ?"),
        ("SELECT $a$ secr", PG, "SELECT ?"),
        ("SELECT q'[secr", "oracle.db", "SELECT ?"),
        ("SELECT a /* secr", "", "SELECT a"),
        # White space.
        ("\n  SELECT  a,\n         b \n\n  FROM t\n", "", "SELECT a,\nb\nFROM t"),
        ("", "", ""),
    ],
)  # fmt: skip
def test_literals_are_hidden(statement: str, system: str, expected: str) -> None:
    assert hidden(statement, system) == expected


@given(st.text(), st.sampled_from(["", PG, "sqlite", MS]), st.text("'\"-/*$\\ ab1?;`[]:#"))
def test_no_string_gets_out(value: str, system: str, around: str) -> None:
    """Whatever is in it, as every driver that follows the standard quotes it."""
    secret = f"secret{value}".replace("\0", "")
    quoted = secret.replace("'", "''")
    statement = f"SELECT a FROM t WHERE b = '{quoted}' AND c = 1"  # noqa: S608
    assert hidden(statement, system) == "SELECT a FROM t WHERE b = ? AND c = ?"
    # Whatever is around it: no error, and nothing but what was there.
    hidden(around + quoted, system)


@given(st.text("'\"\\sx\n"))
def test_no_string_of_mysql_gets_out(value: str) -> None:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    assert hidden(f"SELECT 'secret{escaped}', 1", MY) == "SELECT ?, ?"


def test_a_long_one_is_cut() -> None:
    found = hidden("SELECT a, " + "'secret', " * LONGEST)
    assert found.endswith("…")
    assert "secret" not in found
    assert len(hidden("x" * LONGEST * 3)) == LONGEST + 1


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("SELECT a\nFROM orders\nWHERE b = ?", "SELECT orders"),
        ("insert into shop.orders (a) values (?)", "INSERT shop.orders"),
        ('UPDATE "order lines" SET a = ?', 'UPDATE "order lines"'),
        ("DELETE FROM ONLY [a b].[c]", "DELETE [a b].[c]"),
        ("CREATE TABLE IF NOT EXISTS `t` (a int)", "CREATE `t`"),
        ("(SELECT a FROM t) UNION (SELECT b FROM u)", "SELECT t"),
        ("PRAGMA main.table_info(x)", "PRAGMA"),
        ("SELECT ?", "SELECT"),
        ("BEGIN", "BEGIN"),
        ("", "SQL"),
    ],
)
def test_what_it_is_about(statement: str, expected: str) -> None:
    assert about(statement) == expected
