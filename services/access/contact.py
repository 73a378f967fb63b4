"""How a user is reached: their e-mail address, their registered mobile number, their language.

What is typed here ends up in the headers of mails and decides to which telephone a one-time code goes, so
only what is plainly an address or a mobile number is taken.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, fields

from kernel.countries import mobile_number as canonical
from kernel.countries import serves
from kernel.errors import Invalid
from kernel.language import Language
from kernel.mailboxes import MAX_ADDRESS_CHARACTERS, mailbox

# E.164 has 15 digits; the rest are the blanks, dots, dashes, slashes and brackets that people write.
_MAX_NUMBER_CHARACTERS = 32

_NUMBER = re.compile(r"\+[0-9][0-9 ()./-]*")


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
    try:
        mail = mailbox(text)
        if not mail.is_plain:
            raise ValueError
    except ValueError:
        raise Invalid(
            f"`email` is not an address like name@example.org of at most {MAX_ADDRESS_CHARACTERS} characters",
            field="email",
        ) from None
    return str(mail)


def _checked_number(text: str) -> str:
    """The canonical form of a number to which text messages can be sent."""
    try:
        if len(text) > _MAX_NUMBER_CHARACTERS or not _NUMBER.fullmatch(text):
            raise ValueError
        return canonical(text)
    except ValueError:
        raise Invalid(
            "`mobile_number` is not a mobile number: write it like +32 470 12 34 56",
            field="mobile_number",
        ) from None
