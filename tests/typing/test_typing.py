"""Settings given as keywords are typed, and the types are those that the settings accept."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import pytest

from flask_bodytrace import ConfigError, Settings, extension
from flask_bodytrace.capture.rules import RedactCallback
from flask_bodytrace.extension import IdRules, Names, OnOff, SettingKeywords, Size
from flask_bodytrace.settings import load

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
_IGNORE = re.compile(r"  # type: ignore\[([^\]]+)\]")
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)

EXAMPLES: dict[Any, list[object]] = {
    OnOff: [True, False, "on", "off"],
    Size: [5, "64KiB"],
    Names: ["a,b", ["a"], ("a",), {"a"}, frozenset({"a"})],
    IdRules: ["a=b", {"a": "b"}, {"a": ["b", len]}, {"a": len}, ["a=b"], ("a=b",)],
    RedactCallback: [lambda _name, value, _where: value],
    str: ["some text of twenty characters"],
}
"""Values of each type that the keywords have."""


def mypy(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", "--hide-error-context", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def errors(output: str) -> dict[int, set[str]]:
    """The kinds of errors on each line."""
    found: dict[int, set[str]] = {}
    for line, kind in re.findall(r":(\d+): error: .*\[([a-z-]+)\]$", output, re.MULTILINE):
        found.setdefault(int(line), set()).add(kind)
    return found


def test_a_misspelled_or_wrong_keyword_is_an_error_of_mypy(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    source = (HERE / "calls.py").read_text("utf-8")
    expected = {
        number: set(re.split(r",\s*", match[1]))
        for number, line in enumerate(source.splitlines(), 1)
        if (match := _IGNORE.search(line))
    }
    copy = tmp_path / "calls.py"
    copy.write_text(_IGNORE.sub("", source), "utf-8")
    done = mypy("--strict", str(copy))
    assert errors(done.stdout) == expected, done.stdout + done.stderr
    assert 'Unexpected keyword argument "body_limt" for "BodyTrace"' in done.stdout


def test_the_page_on_types_passes_mypy_strict(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    blocks = _BLOCK.findall((ROOT / "docs/howto/types.md").read_text("utf-8"))
    assert blocks
    page = tmp_path / "page.py"
    page.write_text("".join(blocks), "utf-8")
    done = mypy("--strict", str(page))
    assert done.returncode == 0, done.stdout + done.stderr


EXAMPLES_OF: dict[str, list[object]] = {
    name: [text, [text], (text,), {text}, frozenset({text})]
    for name, text in {
        "redact_values": "a.b",
        "response_headers": "x-trace",
        "keep": "errors",
    }.items()
}
"""Values of the keywords whose setting does not accept every name."""


def keywords() -> dict[str, Any]:
    return get_type_hints(SettingKeywords)


def test_every_setting_is_a_keyword_and_no_other() -> None:
    assert list(keywords()) == [each.name for each in fields(Settings) if each.name != "sources"]


@pytest.mark.parametrize("name", [name for name in keywords() if name != "incoming"])
def test_a_keyword_s_type_is_what_its_setting_accepts(name: str) -> None:
    kind = keywords()[name]
    metadata = Settings.__dataclass_fields__[name].metadata
    choices = get_args(kind) if kind.__class__ is Literal["x"].__class__ else None
    examples: list[object] = (
        list(choices)
        if choices
        else next(values for each, values in EXAMPLES.items() if resolved(each) == kind)
    )
    for value in EXAMPLES_OF.get(name, examples):
        metadata["parse"](value)
    if choices:
        with pytest.raises(ConfigError, match=re.escape(", ".join(choices))):
            load({}, {name: "something else"}, {})
    if kind == resolved(Size):
        for wrong in (1.5, None, True):
            with pytest.raises(ConfigError):
                load({}, {name: wrong}, {})


def test_incoming_takes_names_and_callables() -> None:
    for value in ("continue", "link", "ignore", lambda _environ: "link"):
        assert load({}, {"incoming": value}, {}).incoming == value


def resolved(alias: Any) -> Any:
    """The type that one of the extension's aliases stands for."""
    holder = type("Holder", (), {"__annotations__": {"it": alias}})
    return get_type_hints(holder, vars(extension))["it"]
