"""How a user is reached: their e-mail address, their registered mobile number, their language.

What is typed here ends up in the headers of mails and decides to which telephone a one-time code goes, so
only what is plainly an address or a mobile number is taken.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, fields

import phonenumbers

from kernel.countries import serves
from kernel.errors import Invalid
from kernel.language import Language
from kernel.maildomains import ascii_domain

# The longest path of RFC 5321 (4.5.3.1.3) without its angle brackets.
MAX_EMAIL_CHARACTERS = 254
# E.164 has 15 digits; the rest are the blanks, dots, dashes, slashes and brackets that people write.
_MAX_NUMBER_CHARACTERS = 32

# A dot-atom of RFC 5322 (3.2.3) at host names of RFC 1123: no quotes, comments, lists, blanks or line ends,
# and no local part outside of ASCII, for not every server between takes that.
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EMAIL = re.compile(rf"(?=[^@]{{1,64}}@){_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*")
_NUMBER = re.compile(r"\+[0-9][0-9 ()./-]*")

_MOBILE = (
    phonenumbers.PhoneNumberType.MOBILE,
    phonenumbers.PhoneNumberType.FIXED_LINE_OR_MOBILE,  # all that some countries' plans say
)


@dataclass(frozen=True, slots=True)
class Contact:
    """How a user is reached.

    Attributes:
        email: empty for none.
        mobile_number: registered for one-time codes, in E.164 form; empty for none.
        language: None where none was chosen.
    """

    email: str = ""
    mobile_number: str = ""
    language: Language | None = None


NO_CONTACT = Contact()

REACH_FIELDS = frozenset({"email", "mobile_number"})
"""What decides where a message goes, in whatever language."""


def checked_contact(email: str, mobile_number: str, language: Language | None) -> Contact:
    """The contact as it is stored; raises Invalid, which never repeats what was typed."""
    return Contact(
        _checked_email(email.strip(" ")) if email else "",
        _checked_number(mobile_number.strip(" ")) if mobile_number else "",
        language,
    )


def changed_fields(old: Contact, new: Contact) -> frozenset[str]:
    """The names of what differs: the audit tells that a number changed, and not which it was."""
    names = (each.name for each in fields(Contact))
    return frozenset(name for name in names if getattr(old, name) != getattr(new, name))


def unreachable(contact: Contact, text_countries: Collection[str]) -> list[str]:
    """What cannot be sent to a contact, in sentences that repeat no number."""
    if not contact.mobile_number or serves(text_countries, contact.mobile_number):
        return []
    return [
        "no one-time code can be sent to this mobile number: text messages go only to "
        f"{', '.join(sorted(text_countries))}"
    ]


def _checked_email(text: str) -> str:
    """The address with its domain in ASCII."""
    local, at, domain = text.rpartition("@")
    try:
        email = f"{local}{at}{ascii_domain(domain)}"
    except ValueError:
        email = ""
    if len(email) > MAX_EMAIL_CHARACTERS or not _EMAIL.fullmatch(email):
        raise Invalid(
            f"`email` is not an address like name@example.org of at most {MAX_EMAIL_CHARACTERS} characters",
            field="email",
        )
    return email


def _checked_number(text: str) -> str:
    """The canonical form of a number to which text messages can be sent."""
    try:
        if len(text) > _MAX_NUMBER_CHARACTERS or not _NUMBER.fullmatch(text):
            raise ValueError
        number = phonenumbers.parse(text)
        if not phonenumbers.is_valid_number(number) or phonenumbers.number_type(number) not in _MOBILE:
            raise ValueError
    except (ValueError, phonenumbers.NumberParseException):
        raise Invalid(
            "`mobile_number` is not a mobile number: expected one like +32 470 12 34 56",
            field="mobile_number",
        ) from None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
