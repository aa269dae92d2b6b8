"""A long list, a page at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from werkzeug.datastructures import MultiDict

ON_A_PAGE = 100
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list.

    :param number: from 1.
    :param start: where it begins in the list.
    :param shown: what is on it.
    :param more: whether another one follows.
    """

    number: int
    start: int
    shown: Sequence[T]
    more: bool


def page_of(arguments: MultiDict[str, str], found: Sequence[T]) -> Page[T]:
    """The page that a query string asks for; the first where it names none."""
    number = max(arguments.get("page", 1, type=int), 1)
    start = (number - 1) * ON_A_PAGE
    end = start + ON_A_PAGE
    return Page(number, start, found[start:end], more=end < len(found))
