"""Numbers of payment cards and bank accounts in text. Pure, linear in the text."""

from __future__ import annotations

import re

from .forms import REDACTED

SHORTEST = 13
"""Digits; shorter text holds no number that is hidden."""
# Spaces, hyphens and dots of every kind, as people and forms put them between groups.
_BETWEEN = r"[ ._+\u00a0\u2000-\u200a\u202f\u2010-\u2015-]"
# What looks behind comes second: a pattern that begins with what it takes is found faster. A run of
# digits is tried from its first one only.
_DIGITS = re.compile(rf"[0-9](?<![0-9][0-9])(?:{_BETWEEN}{{0,2}}[0-9]){{12,}}")
_DIGITS_OF_ANY_SCRIPT = re.compile(rf"\d(?<!\d\d)(?:{_BETWEEN}{{0,2}}\d){{12,}}")
_GROUP = re.compile(r"\d+|\D+")
_CARD_LENGTHS = range(13, 20)
# ISO/IEC 7812-1: numbers of these lengths belong to any issuer; of others, to those of cards.
_ANY_ISSUERS = (15, 16)
_CARD_ISSUERS = "3456"
_TIME = re.compile(
    r"1[5-9](?:\d{11}|\d{14})"  # since 1970, in milliseconds or microseconds: 2017 to 2033
    r"|(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d*"  # a date, and what follows
)
# UUIDs and hashes have such numbers in them by chance.
_HEX_ID = re.compile(
    r"(?<![0-9A-Za-z])(?:[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
    r"|(?=[0-9]*[A-Fa-f])[0-9A-Fa-f]{24,128})(?![0-9A-Za-z])"
)
_LONGEST_ID = 128
_DOUBLED = str.maketrans("0123456789", "0246813579")
_SHORTEST_IBAN = 15
# From its first digit, behind the two letters of the country: few texts have one there.
_IBAN = re.compile(
    r"[0-9](?<=[A-Za-z]{2}[0-9])(?<![A-Za-z0-9][A-Za-z0-9]{3})[0-9]"
    rf"(?:{_BETWEEN}?[A-Za-z0-9]){{11,30}}(?![A-Za-z0-9])"
)
_BETWEEN_IN_IBAN = re.compile(rf"({_BETWEEN})")


def without_numbers(text: str) -> str:
    """`text` without numbers of cards and bank accounts."""
    text = (_DIGITS if text.isascii() else _DIGITS_OF_ANY_SCRIPT).sub(_hide_cards, text)
    return text if _IBAN.search(text) is None else _without_ibans(text)


def _without_ibans(text: str) -> str:
    done, shown = 0, ""
    for match in _IBAN.finditer(text):
        start = match.start() - len("DE")
        end = _end_of_iban(text, start, match.end())
        if end and not _is_in_id(match):
            shown += text[done:start] + REDACTED
            done = end
    return shown + text[done:]


def _hide_cards(match: re.Match[str]) -> str:
    # A card may stand beside other numbers, so each run of groups of digits is tried.
    groups = _GROUP.findall(match[0])
    shown: list[str] = []
    start = 0
    while start < len(groups):
        end = _end_of_card(groups, start)
        shown.append(REDACTED if end else groups[start])
        start = end or start + 1
    hidden = "".join(shown)
    return match[0] if hidden != match[0] and _is_in_id(match) else hidden


def _end_of_card(groups: list[str], start: int) -> int:
    """Where the longest card number ends that begins with a group of digits; 0 if none does."""
    digits, found = "", 0
    for end in range(start, len(groups), 2):
        digits += groups[end]
        if len(digits) >= _CARD_LENGTHS.stop or not groups[end].isdecimal():
            break
        if len(digits) in _CARD_LENGTHS and _is_card(digits):
            found = end + 1
    return found


def _is_card(digits: str) -> bool:
    if not digits.isascii():
        digits = "".join(str(int(each)) for each in digits)
    if len(digits) not in _ANY_ISSUERS and digits[0] not in _CARD_ISSUERS:
        return False
    # The Luhn check: every second digit counts twice, and of what has two digits then their sum.
    doubled = digits[-2::-2].translate(_DOUBLED)
    return sum(map(int, digits[-1::-2] + doubled)) % 10 == 0 and not _TIME.fullmatch(digits)


def _is_in_id(match: re.Match[str]) -> bool:
    first, end = match.span()
    near = match.string[max(first - _LONGEST_ID, 0) : end + _LONGEST_ID]
    before = min(first, _LONGEST_ID)
    return any(
        found.start() <= before and before + len(match[0]) <= found.end()
        for found in _HEX_ID.finditer(near)
    )


def _end_of_iban(text: str, start: int, end: int) -> int:
    """Where an account number ends within these characters; 0 if there is none."""
    # Words may follow it. What has other signs than spaces between groups has groups of four.
    words = _BETWEEN_IN_IBAN.split(text[start:end])
    for count in range(len(words), 0, -2):
        groups, signs = words[:count:2], words[1:count:2]
        is_grouped = all(sign.isspace() for sign in signs) or {*map(len, groups[:-1])} == {4}
        if is_grouped and _is_iban("".join(groups)):
            return start + sum(map(len, words[:count]))
    return 0


def _is_iban(number: str) -> bool:
    if len(number) < _SHORTEST_IBAN:
        return False
    # ISO 13616: the first four characters go to the end, letters count from 10, modulo 97 is 1.
    return int("".join(str(int(each, 36)) for each in number[4:] + number[:4])) % 97 == 1
