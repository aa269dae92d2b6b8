"""An application's own rules for what is shown of documents: by path, and by a function. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .forms import REDACTED

RedactCallback = Callable[[str, Any, str], Any]
"""(name, value, where) -> what to show. `name` is the path of a field, such as ``customer.email``
or ``items.0.sku``, and empty for text; `value` is a string, number, boolean or None; `where` is
``request`` or ``response``."""

_ANY = "*"
_OF_JSON = (bool, str, int, float)
_Tree = dict[str, Any]
_HERE = ""
"""The key that ends a path in a tree of paths; no path has an empty step."""


class Rules:
    """Applied to a document before anything else is hidden.

    :param hidden: paths whose values are hidden, such as ``customer.address`` or ``items.*.note``.
    :param only: paths to show; everything else is hidden. Empty: everything is shown.
    :param callback: what it returns is shown instead of a value. Where it raises, the value is
        hidden.
    :param report: called with the name of what raised, while it is handled.
    """

    def __init__(
        self,
        hidden: Iterable[str] = (),
        only: Iterable[str] = (),
        callback: RedactCallback | None = None,
        report: Callable[[str], object] = lambda _place: None,
    ) -> None:
        self._hidden = _tree(hidden)
        self._only = _tree(only)
        self._callback = callback
        self._report = report

    def __bool__(self) -> bool:
        return bool(self._hidden or self._only or self._callback)

    def apply(self, document: Any, where: str) -> Any:
        """A copy of `document` as far as the rules show it."""
        only = [self._only] if self._only else None
        return self._copy(document, [self._hidden], only, "", where)

    def text(self, text: str, where: str) -> str | None:
        """What is shown of text, which has no paths; None if only some paths are to be shown."""
        if self._only:
            return None
        return text if self._callback is None else str(self._called("", text, where))

    def _copy(
        self, value: Any, hidden: list[_Tree], only: list[_Tree] | None, path: str, where: str
    ) -> Any:
        if any(_HERE in tree for tree in hidden):
            return REDACTED
        if only is not None and any(_HERE in tree for tree in only):
            # All below is to be shown.
            only = None
        if isinstance(value, dict):
            steps: Iterable[tuple[str, Any]] = value.items()
        elif isinstance(value, list):
            steps = ((str(index), inner) for index, inner in enumerate(value))
        elif only is not None:
            return REDACTED
        else:
            return value if self._callback is None else self._called(path, value, where)
        copied = {
            step: self._copy(
                inner,
                _below(hidden, step),
                None if only is None else _below(only, step),
                f"{path}.{step}" if path else step,
                where,
            )
            for step, inner in steps
        }
        return copied if isinstance(value, dict) else list(copied.values())

    def _called(self, path: str, value: Any, where: str) -> Any:
        assert self._callback is not None
        try:
            return _plain(self._callback(path, value, where))
        except Exception:  # noqa: BLE001 - the application's function may raise anything
            self._report("BODYTRACE_REDACT_CALLBACK")
            return REDACTED


def _plain(shown: Any) -> Any:
    """What a function returned, as JSON has it; what JSON has not, as text.

    Subclasses, such as Markup and enumerations, would not be looked through for secrets.
    """
    if shown is None or type(shown) in _OF_JSON:
        return shown
    for kind in _OF_JSON:
        if isinstance(shown, kind):
            return kind.__str__(shown) if kind is str else kind(shown)
    return str(shown)


def _tree(paths: Iterable[str]) -> _Tree:
    """Paths as nested mappings of their steps."""
    tree: _Tree = {}
    for path in paths:
        below = tree
        for step in filter(None, path.split(".")):
            below = below.setdefault(step, {})
        below[_HERE] = {}
    return tree


def _below(trees: list[_Tree], step: str) -> list[_Tree]:
    return [tree[key] for tree in trees for key in (step, _ANY) if key in tree]
