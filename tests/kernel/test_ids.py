from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import Invalid
from kernel.ids import UUID7, parse_id

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class AtNoon:
    def now(self) -> datetime:
        return NOON


@given(st.binary(min_size=10, max_size=10))
def test_an_id_is_a_uuid_of_version_7_with_the_time_in_front(random: bytes) -> None:
    minted = UUID7(AtNoon(), lambda _: random)()

    assert (minted.version, minted.variant) == (7, "specified in RFC 4122")
    assert int(NOON.timestamp() * 1000) == minted.int >> 80


def test_an_id_is_read_back_from_its_canonical_form() -> None:
    text = "0190f7a4-8c3e-7c55-9d6e-0d4b1d1c2a3b"

    assert UUID(text) == parse_id(text, "case_id")


@pytest.mark.parametrize(
    "text", ["", "0190f7a4", "0190f7a48c3e7c559d6e0d4b1d1c2a3b", "{0190f7a4-8c3e-7c55-9d6e-0d4b1d1c2a3}"]
)
def test_anything_else_is_refused_with_the_fields_name(text: str) -> None:
    with pytest.raises(Invalid, match="case_id") as refusal:
        parse_id(text, "case_id")

    assert refusal.value.field == "case_id"
