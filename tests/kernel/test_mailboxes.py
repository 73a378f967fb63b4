"""International domains become what mail servers know, by IDNA 2008."""

import pytest

from kernel.mailboxes import ascii_domain


@pytest.mark.parametrize(
    ("domain", "in_ascii"),
    [
        ("clinic.example", "clinic.example"),
        ("xn--mnchen-3ya.example", "xn--mnchen-3ya.example"),
        ("münchen.example", "xn--mnchen-3ya.example"),
        ("MÜNCHEN.example", "xn--mnchen-3ya.example"),
        ("mu\u0308nchen.example", "xn--mnchen-3ya.example"),  # u and a combining diaeresis
        ("straße.example", "xn--strae-oqa.example"),  # IDNA 2003 made it another domain: strasse.example
        ("клиника.example", "xn--80apagcdp.example"),
        ("病院。example", "xn--0rys90e.example"),
    ],
)
def test_a_domain_becomes_its_a_labels(domain: str, in_ascii: str) -> None:
    assert ascii_domain(domain) == in_ascii


@pytest.mark.parametrize(
    "domain", ["☃.example", "mün chen.example", "ü\n.example", "ü..example", "ü" * 70, "a\u202eü.example"]
)
def test_what_is_no_domain_is_none(domain: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  each library error is one
        ascii_domain(domain)
