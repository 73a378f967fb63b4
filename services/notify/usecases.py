"""What notify does: asks the owners at each attempt, hands mails over once, sends codes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Literal, Protocol
from uuid import UUID

from kernel.clock import Clock
from kernel.countries import serves
from kernel.database import Database
from kernel.delivery import AFTER, Event, NotDue, State
from kernel.errors import Conflict, Invalid, NotFound, lacks
from kernel.events import CasePurged
from kernel.healing import Said
from kernel.ids import BucketId, CaseId, FacilityId, NoticeId, UserId
from kernel.language import Language
from kernel.reach import Reach
from services.notify.domain import (
    FORGOTTEN_AT_ONCE,
    KEPT_FOR,
    AboutBucket,
    AboutPrivilege,
    Bucket,
    Exam,
    Letter,
    Message,
    Notice,
    Person,
    Users,
    checked_code,
    lines,
    one_line,
    why_not_again,
)

if TYPE_CHECKING:
    from services.notify.store import NotifyTransaction

NAME = "notify"
OPERATOR = "operator"
SHARE_ADMIN = "share.admin"

NUMBERS_AT_ONCE = 100
"""More than a share has recipients."""

Outcome = Literal["done", "refused"]


class Sharing(Protocol):
    """The service sharing, asked by notify for itself."""

    async def describe_bucket(self, bucket_id: BucketId) -> Bucket | None: ...


@dataclass(frozen=True, slots=True)
class Seen:
    """Which notices somebody may look at.

    Attributes:
        reminders: whether those about privileges.
        shares_of: those about shares of which facilities; None: of all.
    """

    reminders: bool
    shares_of: frozenset[FacilityId] | None


EVERYTHING = Seen(reminders=True, shares_of=None)


class Access(Protocol):
    """The service access: about permissions on behalf of the acting user, else by notify for itself."""

    async def describe_users(self, user_ids: Collection[UserId]) -> Users: ...
    async def describe_cases(self, case_ids: Collection[CaseId]) -> Sequence[Exam]: ...
    async def users_said(self, since: datetime | None, token: str) -> Said: ...
    async def user_versions(self, after: UUID | None) -> Sequence[tuple[UUID, int]]: ...
    async def reach(self, permission: str) -> Reach: ...


class Texts(Protocol):
    """Text messages.

    Attributes:
        countries: ISO 3166 codes of the countries that they are sent to.
    """

    @property
    def countries(self) -> Collection[str]: ...

    async def send(self, number: str, text: str) -> None:
        """Raises Conflict where the gateway has surely not taken it, Unavailable where nobody knows; Invalid
        and Denied for the number."""
        ...


class Press(Protocol):
    """Templates."""

    def letter(
        self, message: Message, language: Language, to: str, reference: str, values: Mapping[str, object]
    ) -> Letter: ...

    def code(self, language: Language, code: str) -> str: ...


class Notices:
    """What is to be told, and how far it has come."""

    def __init__(self, database: Database[NotifyTransaction], sharing: Sharing, access: Access) -> None:
        self._database = database
        self._sharing = sharing
        self._access = access

    # Heard

    async def fetch_bucket(self, bucket_id: BucketId) -> Bucket | None:
        return await self._sharing.describe_bucket(bucket_id)

    async def bucket_created(self, transaction: NotifyTransaction, bucket: Bucket | None) -> None:
        """One notice for a bucket, however often that is heard (NTF-2)."""
        if bucket is not None and bucket.mail_due:
            await transaction.ask(Message.SHARE_CREATED, AboutBucket(bucket.id, bucket.facility_id))

    async def bucket_ended(
        self, transaction: NotifyTransaction, bucket_id: BucketId, bucket: Bucket | None
    ) -> None:
        """Cancels the mail, unless sharing says that it is still due."""
        if bucket is None or not bucket.mail_due:
            await transaction.cancel_bucket(bucket_id, "the share has ended")

    async def case_deleted(self, transaction: NotifyTransaction, case_id: CaseId, version: int) -> None:
        """Notices name no case and hold nothing of any, so all is purged as soon as it is heard (A60)."""
        await transaction.say(CasePurged(case_id, version, by=NAME))

    # Sent

    async def settled(self, transaction: NotifyTransaction, notice: Notice, event: Event) -> None:
        """Audits what the mail server said, or that it said nothing."""
        outcome: Outcome = "done" if event is Event.TAKEN else "refused"
        await transaction.record(
            f"service:{NAME}", "notice.sent", notice.about.intent, outcome, notice_id=str(notice.id)
        )

    # Asked

    async def list_deliveries(self, actor: str, after: NoticeId | None, limit: int) -> Sequence[Notice]:
        """An operator is answered all, a share administrator the mails about shares of their facilities."""
        async with self._database.audited(actor, "deliveries.listed", "deliveries"):
            if (await self._access.reach(OPERATOR)).everywhere:
                seen = EVERYTHING
            else:
                reach = await self._access.reach(SHARE_ADMIN)
                if not (reach.everywhere or reach.facilities):
                    raise lacks(OPERATOR, SHARE_ADMIN, at="a facility")
                seen = Seen(reminders=False, shares_of=None if reach.everywhere else reach.facilities)
            async with self._database.transaction() as transaction:
                await transaction.record(actor, "deliveries.listed", "deliveries", "done")
                return await transaction.list_notices(after, limit, seen)

    async def resend(self, actor: str, notice_id: NoticeId) -> Notice:
        """Tries a dead notice again, or one of which nobody knows whether it was taken."""
        async with self._database.audited(actor, "notice.resent", f"notice:{notice_id}"):
            if not (await self._access.reach(OPERATOR)).everywhere:
                raise lacks(OPERATOR, at="every facility")
            async with self._database.transaction() as transaction:
                notice = await transaction.lock_notice(notice_id)
                if notice is None:
                    raise NotFound(f"there is no notice `{notice_id}`")
                if (notice.state, Event.RESEND) not in AFTER:
                    raise Conflict(why_not_again(notice))
                if notice.state is State.UNKNOWN and transaction.now < notice.held_until:
                    raise Conflict("the mail is being handed over just now: look again in five minutes")
                again = notice.resent(transaction.now)
                await transaction.advance(again, [notice.state])
                await transaction.record(actor, "notice.resent", f"notice:{notice_id}", "done")
                return again

    async def count_open(self) -> Mapping[State, int]:
        async with self._database.transaction() as transaction:
            return await transaction.count_open()

    async def forget(self) -> int:
        """Removes what was settled long ago; how many notices."""
        forgotten = 0
        while True:
            async with self._database.transaction() as transaction:
                count = await transaction.forget(transaction.now - KEPT_FOR, FORGOTTEN_AT_ONCE)
            forgotten += count
            if count < FORGOTTEN_AT_ONCE:
                return forgotten


class Letters:
    """Writes mails from what the owners say now; nothing of it is kept."""

    def __init__(self, sharing: Sharing, access: Access, press: Press, clock: Clock, office: Office) -> None:
        self._sharing = sharing
        self._access = access
        self._press = press
        self._clock = clock
        self._office = office

    async def write(self, notice: Notice) -> Letter:
        """Raises NotDue if there is nothing to tell any more, Unavailable if an owner does not answer."""
        if isinstance(notice.about, AboutBucket):
            return await self._share_created(notice, notice.about)
        return await self._privilege_expiring(notice, notice.about)

    async def _share_created(self, notice: Notice, about: AboutBucket) -> Letter:
        """The mail about a share: who, which exams, link and message, in the share's language (SHR-11)."""
        bucket = await self._sharing.describe_bucket(about.bucket_id)
        if bucket is None or not bucket.mail_due:
            raise NotDue("the share has ended")
        if bucket.ends_at is not None and bucket.ends_at <= self._clock.now():
            raise NotDue("the share has ended")
        people = (await self._access.describe_users([bucket.sender_id, bucket.recipient_id])).people
        recipient, sender = people.get(bucket.recipient_id), people.get(bucket.sender_id)
        if sender is None:
            raise NotDue("the sender is unknown")
        to = _address(recipient)
        if recipient is None or recipient.is_operator:
            raise NotDue("the recipient sees no studies any more")
        exams = await self._access.describe_cases(bucket.case_ids)
        if not exams:
            raise NotDue("its studies were deleted")
        return self._press.letter(
            notice.message,
            bucket.language,
            to,
            str(notice.id),
            {
                "urgent": bucket.urgent,
                "sender": one_line(sender.name),
                "exams": [
                    replace(each, initials=one_line(each.initials), description=one_line(each.description))
                    for each in exams
                ],
                "message": lines(bucket.message) if bucket.message.strip() else [],
                "link": bucket.link,
            },
        )

    async def _privilege_expiring(self, notice: Notice, about: AboutPrivilege) -> Letter:
        """The reminder, to the user in their language or to the office in its own (NTF-1)."""
        users = await self._access.describe_users([about.user_id])
        person = users.people.get(about.user_id)
        if person is None or not person.active:
            raise NotDue("the user is no longer active")
        for privilege in users.privileges:
            if privilege.facility_id == about.facility_id and privilege.expires_at == about.expires_at:
                break
        else:
            raise NotDue("the privilege was renewed or taken away")
        if about.expires_at <= self._clock.now():
            raise NotDue("the privilege has expired")
        if notice.message is Message.PRIVILEGE_EXPIRING_OFFICE:
            if not self._office.address:
                raise NotDue("no address is set for reminders")
            to, language = self._office.address, self._office.language
        else:
            to, language = _address(person), person.language
        return self._press.letter(
            notice.message,
            language,
            to,
            str(notice.id),
            {
                "urgent": False,
                "holder": one_line(person.name),
                "facility": one_line(privilege.facility_name),
                "expires_on": privilege.expires_on,
            },
        )


def _address(person: Person | None) -> str:
    if person is None or not person.active:
        raise NotDue("the recipient is no longer an active user")
    if not person.email:
        raise NotDue("the recipient has no e-mail address")
    return person.email


@dataclass(frozen=True, slots=True)
class Office:
    """Who is reminded of privileges beside their holders; without address nobody."""

    address: str
    language: Language


class Codes:
    """One-time codes by text message: now or not at all, and kept nowhere (NTF-3)."""

    def __init__(self, texts: Texts, press: Press) -> None:
        self._texts = texts
        self._press = press

    async def send_text(self, number: str, code: str, language: Language) -> None:
        await self._texts.send(number, self._press.code(language, checked_code(code)))

    def check_numbers(self, numbers: Sequence[str]) -> tuple[Sequence[bool], Sequence[str]]:
        """To which of these numbers text messages are sent, and to which countries at all."""
        if len(numbers) > NUMBERS_AT_ONCE:
            raise Invalid(f"`mobile_numbers` must be at most {NUMBERS_AT_ONCE}", field="mobile_numbers")
        countries = self._texts.countries
        return [serves(countries, each) for each in numbers], sorted(countries)
