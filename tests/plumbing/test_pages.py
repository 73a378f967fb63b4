"""Page tokens: what is none of ours is Invalid, whatever it is."""

import base64
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from kernel.errors import Invalid
from plumbing import pages

ID = UUID("0199c0de-0000-7000-8000-000000000001")


@dataclass(frozen=True, slots=True)
class Position:
    at: datetime
    id: UUID


def token(json: str) -> str:
    return base64.urlsafe_b64encode(json.encode()).decode()


@pytest.mark.parametrize(
    ("kind", "position"),
    [
        (UUID, ID),
        (str, "ada"),
        (tuple[str, UUID], ("straße", ID)),
        (Position, Position(datetime(2026, 11, 1, 12, 0, 0, 123456, tzinfo=UTC), ID)),
    ],
)
def test_a_token_of_ours_is_where_the_page_ended(kind: Any, position: object) -> None:
    page, made = pages.cut([position, position], 1, lambda last: last)
    assert list(page) == [position]
    assert pages.after(made, kind) == position


@pytest.mark.parametrize(
    ("kind", "json"),
    [
        (str, r'"\u0000"'),
        (str, r'"a\u0000b"'),
        (str, '"\x00"'),
        (str, "[" * 1000),
        (tuple[str, UUID], f'["\\u0000","{ID}"]'),
        (Position, f'{{"at":"2026-11-01T12:00:00","id":"{ID}"}}'),
        (Position, f'{{"at":"0001-01-01T00:00:00+14:00","id":"{ID}"}}'),
        (Position, f'{{"at":"9999-12-31T23:59:59-14:00","id":"{ID}"}}'),
        (Position, f'{{"at":"2026-11-01T12:00:00Z","id":"{ID}x"}}'),
        (Position, '{"at":"2026-11-01T12:00:00Z"}'),
        (UUID, '"ada"'),
        (UUID, "null"),
        (UUID, "1e999"),
    ],
)
def test_what_is_not_ours_is_invalid(kind: Any, json: str) -> None:
    with pytest.raises(Invalid) as refusal:
        pages.after(token(json), kind)
    assert refusal.value.field == "page_token"
