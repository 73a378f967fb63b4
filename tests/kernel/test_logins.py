"""A login has one spelling, and is what an identity provider calls people."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.logins import MAX_CHARACTERS, canonical


@pytest.mark.parametrize(
    ("text", "login"),
    [
        ("jane+rad@clinic.example", "jane+rad@clinic.example"),
        ("Jane+Rad@Clinic.Example", "jane+rad@clinic.example"),
        ("jane_hospital.example#EXT#@group.example", "jane_hospital.example#ext#@group.example"),
        ("a" * MAX_CHARACTERS, "a" * 128),
        ("a" * (MAX_CHARACTERS + 1), None),
        ("", None),
    ],
)
def test_a_login_is_what_an_identity_provider_calls_people(text: str, login: str | None) -> None:
    assert canonical(text) == login


@given(st.text(max_size=8))
def test_a_login_is_ascii_and_stands_in_no_ones_way(text: str) -> None:
    login = canonical(text)
    if login is not None:
        assert login.isascii()
        assert login == canonical(login) == login.lower()
        assert not set(login) & set("$'\"`\\/ ,;:()<>\r\n\t\0")
