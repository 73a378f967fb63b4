"""What a share must say, and in which language its recipients are told."""

import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from kernel import logins
from kernel.errors import Invalid
from kernel.ids import CaseId
from kernel.language import Language
from services.sharing.domain import Rights, User
from services.sharing.validity import THE_DEFAULT, Validity

MAX_CASES = 100
MAX_REASON_CHARACTERS = 500
MAX_MESSAGE_CHARACTERS = 2_000


@dataclass(frozen=True, slots=True)
class Recipient:
    """Whom to share with, and how."""

    login: str
    two_factor: bool = False
    send_mail: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """A share as it is asked for."""

    case_ids: Sequence[CaseId]
    recipients: Sequence[Recipient]
    rights: Rights | None
    reason: str
    patient_agreed: bool
    validity: Validity = THE_DEFAULT
    urgent: bool = False
    anonymize: bool = False
    message: str = ""
    language: Language | None = None
    allow_further_sharing: bool = False


@dataclass(frozen=True, slots=True)
class Preferences:
    """What a sender chose in their last share (SHR-26)."""

    two_factor: bool = False
    send_mail: bool = False


def check(wanted: Wanted, max_recipients: int) -> None:
    """Refuses what a share must not be, whatever it is about; the refusal names the field."""
    check_cases(wanted.case_ids)
    check_logins([recipient.login for recipient in wanted.recipients], max_recipients)
    if wanted.rights is None:
        raise Invalid(
            "`rights` must be read-report or write-report: a share always includes the report",
            field="rights",
        )
    if not wanted.patient_agreed:
        raise Invalid("the patient must have agreed: say so with `patient_agreed`", field="patient_agreed")
    if wanted.anonymize:
        raise Invalid(
            "anonymised shares do not exist yet: leave `anonymize` out; nothing was shared", field="anonymize"
        )
    if not wanted.reason.strip():
        raise Invalid("say why you share: `reason` is empty", field="reason")
    check_text(wanted.reason, "reason", MAX_REASON_CHARACTERS)
    check_text(wanted.message, "message", MAX_MESSAGE_CHARACTERS, more="\n")


def check_cases(case_ids: Sequence[CaseId]) -> None:
    if not 1 <= len(case_ids) <= MAX_CASES:
        raise Invalid(f"name 1 to {MAX_CASES} cases (`case_ids`)", field="case_ids")
    if len(set(case_ids)) < len(case_ids):
        raise Invalid("a case is named twice (`case_ids`)", field="case_ids")


def check_logins(named: Sequence[str], max_recipients: int, at_least: int = 1) -> None:
    if not at_least <= len(named) <= max_recipients:
        raise Invalid(f"name {at_least} to {max_recipients} people (`recipients`)", field="recipients")
    canonical = list(map(logins.canonical, named))
    if None in canonical:
        raise Invalid(
            f"one of the `recipients` is not a login: a login is {logins.EXPECTED}", field="recipients"
        )
    if len(set(canonical)) < len(canonical):
        raise Invalid("somebody is named twice (`recipients`)", field="recipients")


def check_text(text: str, field: str, limit: int, more: str = "") -> None:
    """Refuses a text that is too long or has control characters, but for those in `more` (SEC-12)."""
    if len(text) > limit:
        raise Invalid(f"`{field}` must have at most {limit} characters", field=field)
    if any(unicodedata.category(each) == "Cc" and each not in more for each in text):
        raise Invalid(f"`{field}` contains a control character: remove it", field=field)


def check_recipient(recipient: Recipient, user: User | None, sender_login: str) -> User:
    """The user to share with; refuses whom nothing can be shared with, or not in this way."""
    if user is None or not user.active:
        raise Invalid(f"there is no active user `{recipient.login}` (`recipients`)", field="recipients")
    if user.login == sender_login:
        raise Invalid("you cannot share with yourself (`recipients`)", field="recipients")
    if recipient.two_factor and not user.mobile_number:
        raise Invalid(
            f"`{user.login}` has no registered mobile number, so no code can be sent: "
            "share without one (`two_factor`)",
            field="two_factor",
        )
    if recipient.send_mail and not user.email:
        raise Invalid(
            f"`{user.login}` has no e-mail address: share without a mail (`send_mail`)",
            field="send_mail",
        )
    return user


def check_numbers(users: Sequence[User], served: Sequence[bool], countries: Collection[str]) -> None:
    """Refuses a code for who has a number to which no text message is sent."""
    for user, is_served in zip(users, served, strict=True):
        if not is_served:
            raise Invalid(
                f"we send no text messages to the country of the mobile number of `{user.login}`, only to "
                f"{', '.join(countries)}: share without a code (`two_factor`)",
                field="two_factor",
            )


def language_of(languages: Sequence[Language]) -> Language:
    """What more than half of the recipients speak, else what the first one does (A48)."""
    if not languages:
        return Language.EN
    language, count = Counter(languages).most_common(1)[0]
    return language if 2 * count > len(languages) else languages[0]


def preferences_of(recipients: Collection[Recipient]) -> Preferences:
    """What the next share begins with: what was chosen for any of them (SHR-26)."""
    return Preferences(
        any(each.two_factor for each in recipients), any(each.send_mail for each in recipients)
    )
