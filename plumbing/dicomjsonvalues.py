"""One value of a data set as JSON (PS3.18 F.2.3)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import partial
from struct import Struct

_ONE_VALUE = frozenset({"LT", "ST", "UT", "UR"})
_LEADING_BLANKS_MATTER = frozenset({"LO", "SH", "UC", "PN", "LT", "ST", "UT", "UR"})
_MAX_SAFE = 2**53 - 1

quote = partial(json.dumps, ensure_ascii=False)


def unpacked(value: memoryview, code: str) -> tuple[int, ...] | tuple[float, ...]:
    one = Struct(code)
    whole = len(value) // one.size
    return Struct(f"{code[0]}{whole}{code[1]}").unpack_from(value)


def number(value: float) -> str:
    if isinstance(value, int):
        return str(value) if -_MAX_SAFE <= value <= _MAX_SAFE else f'"{value}"'
    if math.isnan(value):
        return '"NaN"'
    if math.isinf(value):
        return '"Infinity"' if value > 0 else '"-Infinity"'
    return repr(value)


def parts(text: str, vr: str) -> list[str]:
    found = [text] if vr in _ONE_VALUE else text.split("\\")
    found = [each.rstrip(" \0") for each in found]
    return found if vr in _LEADING_BLANKS_MATTER else [each.lstrip(" ") for each in found]


def string(text: str) -> str:
    return quote(text) if text else "null"


def decimal(text: str) -> str:
    """A number of F.2.3, or the string that is none."""
    if not text:
        return "null"
    try:
        value = float(text)
    except ValueError:
        return quote(text)
    if not math.isfinite(value) or "_" in text:
        return quote(text)
    return str(int(value)) if value.is_integer() and abs(value) <= _MAX_SAFE else repr(value)


def integer(text: str) -> str:
    if not text:
        return "null"
    try:
        value = int(text)
    except ValueError:
        return quote(text)
    return quote(text) if "_" in text else number(value)


def name(text: str) -> str:
    groups = [each.strip(" ").rstrip("^ ") for each in text.split("=")][:3]
    named = [
        f'"{kind}":{quote(group)}'
        for kind, group in zip(("Alphabetic", "Ideographic", "Phonetic"), groups, strict=False)
        if group
    ]
    return "{" + ",".join(named) + "}" if named else "null"


TEXTS: dict[str, Callable[[str], str]] = {"DS": decimal, "IS": integer, "PN": name}
"""Of value representations whose text is no string."""
