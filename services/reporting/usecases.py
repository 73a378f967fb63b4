"""What reporting does: people lock cases, draft and complete reports; read types are switched on and off."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, Protocol
from uuid import UUID

from kernel.database import Database
from kernel.errors import (
    Conflict,
    Exhausted,
    ReadroomError,
    Unauthenticated,
    Unavailable,
    lacks,
)
from kernel.events import CasePurged, ReadingChanged
from kernel.ids import CaseId, FacilityId, NewId, ReportId
from kernel.reading import PrivilegeLevel, ReadType, Side
from services.reporting.completion import Keep, May, Own, Refusal, draft_refusal, may, no_room, refusal
from services.reporting.domain import (
    Act,
    Addendum,
    BrokenLock,
    Draft,
    Lock,
    Reading,
    Report,
    Written,
    check_room,
    checked_text,
    draft_state,
    no_report,
    saved_after,
    visible,
)
from services.reporting.projections import Projection, Signed, project
from services.reporting.readtypes import active_read_types
from services.reporting.sight import NO_SIGHT, SIDES, Permit, Person, Sight, no_case

if TYPE_CHECKING:
    from services.reporting.store import ReportingTransaction

NAME = "reporting"

BREAK_LOCK = "lock.break"

FRESH_S = 1.0
"""How old what access decided may be when a report is committed (A3)."""
DECISIONS = 3
"""How often access is asked again for one report that takes too long; then the caller tries again."""

KEPT_BESIDE = 3
"""Of the refused texts of an author that stay beside their draft, the newest are kept."""

VERSIONS_PAGE = 500
"""What a page of versions holds; a page with fewer is the last."""

Outcome = Literal["done", "refused"]
Versions = Sequence[tuple[UUID, int]]


class Access(Protocol):
    """The service access, asked on behalf of the acting user."""

    async def check(self, case_id: CaseId) -> Sight: ...
    async def check_permission(self, permission: str, facility_id: FacilityId | None) -> Permit:
        """Raises NotFound for a facility that does not exist, as for one where the user holds nothing."""
        ...

    async def holds_at(self, permission: str, facility_id: FacilityId | None) -> bool:
        """Whether they hold it at the facility of a case that they see; they may hold nothing there."""
        ...


class _Stale(Exception):
    """Too much time has passed since access decided: what the transaction wrote shall not stand."""


@dataclass(frozen=True, slots=True)
class Described:
    """The owner's snapshot of a reading, with both projections."""

    case_id: CaseId
    version: int
    group: Projection
    facility: Projection
    drafted: bool


@dataclass(frozen=True, slots=True)
class Listed:
    """What a user may see of what is written about a case, and what they may do."""

    written: Written
    may: May


class Readings:
    """What is written about cases, and who is about to write.

    `seconds` measures how long something takes, whatever becomes of the clock.
    """

    def __init__(
        self,
        database: Database[ReportingTransaction],
        access: Access,
        new_id: NewId,
        lease: timedelta,
        seconds: Callable[[], float],
    ) -> None:
        self._database = database
        self._access = access
        self._new_id = new_id
        self._lease = lease
        self._seconds = seconds

    @asynccontextmanager
    async def _on_case(
        self, actor: str, action: str, case_id: CaseId
    ) -> AsyncIterator[tuple[ReportingTransaction, Sight]]:
        """A transaction for an act on a case that the actor sees, and what they may do, asked before."""
        async with self._database.audited(actor, action, f"case:{case_id}"):
            sight = await self._seen(case_id)
            async with self._database.transaction() as transaction:
                yield transaction, sight

    async def _seen(self, case_id: CaseId) -> Sight:
        """What the actor may do with a case; one that they do not see is the same as an absent one."""
        sight = await self._access.check(case_id)
        if not sight.allowed or sight.being_deleted:
            raise no_case()
        return sight

    # The lock

    async def lock(self, actor: str, case_id: CaseId, session: str, *, take_over: bool = False) -> Lock:
        """Takes the exclusive right to report a case; `take_over`: also from another session of the actor."""
        return await self._take(
            actor, "case.locked", Act.TAKE_OVER if take_over else Act.LOCK, case_id, session
        )

    async def renew_lock(self, actor: str, case_id: CaseId, session: str) -> Lock:
        """Prolongs the actor's lock."""
        return await self._take(actor, "lock.renewed", Act.RENEW, case_id, session)

    async def _take(self, actor: str, action: str, act: Act, case_id: CaseId, session: str) -> Lock:
        async with self._on_case(actor, action, case_id) as (transaction, sight):
            sight.need(PrivilegeLevel.DRAFT)
            before, after = await self._touch(transaction, act, _person(actor, sight), case_id, session)
            await self._save(transaction, before, after)
            if act is not Act.RENEW:
                await transaction.forget_broken_lock(case_id, actor)
            await transaction.record(actor, action, f"case:{case_id}", "done")
            assert after.lock is not None
            return after.lock

    async def unlock(self, actor: str, case_id: CaseId, session: str) -> None:
        """Gives the actor's lock back."""
        async with self._on_case(actor, "case.unlocked", case_id) as (transaction, sight):
            person = _person(actor, sight)
            before, after = await self._touch(transaction, Act.UNLOCK, person, case_id, session)
            await self._save(transaction, before, after)
            await transaction.record(actor, "case.unlocked", f"case:{case_id}", "done")

    async def break_lock(self, actor: str, case_id: CaseId, session: str) -> None:
        """Ends somebody's lock; they are told by whom and when at their next call (A37)."""
        async with self._database.audited(actor, "lock.broken", f"case:{case_id}"):
            sight = await self._seen(case_id)
            if not await self._access.holds_at(BREAK_LOCK, sight.facility_id):
                raise lacks(BREAK_LOCK, at="the facility of the case")
            sight.need_breaking()
            person = _person(actor, sight)
            async with self._database.transaction() as transaction:
                before, after = await self._touch(transaction, Act.BREAK, person, case_id, session)
                assert before.lock is not None
                holder = before.lock.holder.login
                await self._save(transaction, before, after)
                if holder != actor:
                    broken = BrokenLock(person.name, transaction.now)
                    await transaction.save_broken_lock(case_id, holder, broken)
                await transaction.record(actor, "lock.broken", f"case:{case_id}", "done", holder=holder)

    async def _touch(
        self, transaction: ReportingTransaction, act: Act, actor: Person, case_id: CaseId, session: str
    ) -> tuple[Reading, Reading]:
        """The reading, which this transaction may change, and what the act makes of its lock."""
        reading = await transaction.lock_reading(case_id)
        if act in (Act.LOCK, Act.TAKE_OVER):
            reading = await _known(transaction, reading)
        broken = await transaction.broken_lock(case_id, actor.login)
        return reading, reading.after(act, actor, session, transaction.now, self._lease, broken)

    async def _save(self, transaction: ReportingTransaction, before: Reading, after: Reading) -> None:
        """Saves and tells, if what is described of the reading changed: an autosave says nothing again."""
        if (_projected(after), after.drafted) != (_projected(before), before.drafted):
            after = replace(after, version=before.version + 1)
            await transaction.save_reading(after)
            await transaction.say(ReadingChanged(after.case_id, after.version))

    # Drafts and reports

    async def save_draft(
        self, actor: str, case_id: CaseId, text: str, session: str, made_from: int | None = None
    ) -> Draft:
        """Keeps the actor's unsigned text, in place of the one before.

        A text that is refused for want of the lock, or because their draft was saved elsewhere since, is kept
        beside that draft, and the refusal says so.

        Args:
            made_from: the version of their draft that they had before them; 0: none; None: not told.
        """
        text = checked_text(text)
        async with self._database.audited(actor, "draft.saved", f"case:{case_id}"):
            gone: Unauthenticated | None = None
            try:
                sight = await self._access.check(case_id)
            except Unauthenticated as deactivated:
                sight, gone = NO_SIGHT, deactivated
            async with self._database.transaction() as transaction:
                reading = await transaction.lock_reading(case_id)
                author = _person(actor, sight)
                after, not_locked = await self._held(transaction, Act.SAVE_DRAFT, reading, author, session)
                own = await self._own(transaction, case_id, actor, text, made_from)
                refused = draft_refusal(own, not_locked, sight)
                if refused and refused.keep is None and gone:
                    raise gone
                if refused:
                    saved: Draft | ReadroomError = await self._keep(
                        transaction, reading, refused, author, own, sight, slot=session
                    )
                else:
                    saved = await self._save_draft(transaction, reading, after, author, own, sight)
            if isinstance(saved, ReadroomError):
                raise saved
            return saved

    async def _save_draft(
        self,
        transaction: ReportingTransaction,
        before: Reading,
        after: Reading,
        author: Person,
        own: Own,
        sight: Sight,
    ) -> Draft:
        case_id = before.case_id
        check_room(own.text, await transaction.bytes_written(case_id))
        saved_at = saved_after(own.draft, transaction.now)
        draft = Draft(case_id, author, own.text, saved_at, transcribed=sight.transcribes)
        await transaction.save_draft(draft)
        await transaction.forget_beside(case_id, author.login, own.text)
        await self._save(transaction, before, await _drafted(transaction, after))
        await transaction.record(author.login, "draft.saved", f"case:{case_id}", "done")
        return draft

    async def _own(
        self,
        transaction: ReportingTransaction,
        case_id: CaseId,
        login: str,
        text: str,
        made_from: int | None,
    ) -> Own:
        """The text that they send, and what of theirs is kept already."""
        theirs = await transaction.drafts(case_id, login, of_others=False)
        draft = next((each for each in theirs if not each.author_only), None)
        kept = next((each for each in theirs if each.author_only and not each.beside), None)
        return Own(text, made_from, draft, kept)

    async def _keep(
        self,
        transaction: ReportingTransaction,
        reading: Reading,
        refused: Refusal,
        author: Person,
        own: Own,
        sight: Sight,
        slot: str,
    ) -> ReadroomError:
        """Keeps a refused text, and answers the refusal; raises one that keeps nothing."""
        if refused.keep is None:
            raise refused.error
        case_id, now = reading.case_id, transaction.now
        draft = Draft(case_id, author, own.text, now, transcribed=sight.transcribes)
        await transaction.forget_beside(case_id, author.login, own.text)
        match refused.keep:
            case Keep.DRAFT:
                await transaction.save_draft(replace(draft, saved_at=saved_after(own.draft, now)))
            case Keep.FOR_AUTHOR:
                kept = replace(draft, saved_at=saved_after(own.kept, now), author_only=True)
                await transaction.save_draft(kept)
            case Keep.BESIDE:
                await transaction.save_beside(draft, slot, KEPT_BESIDE)
        after = replace(reading, lock=None) if refused.ends_lock else reading
        await self._save(transaction, reading, await _drafted(transaction, after))
        await transaction.record(author.login, "draft.kept", f"case:{case_id}", "done")
        return refused.error

    async def complete(
        self,
        actor: str,
        case_id: CaseId,
        read_type: ReadType,
        text: str,
        session: str,
        made_from: int | None = None,
    ) -> Report:
        """Signs a report and ends the lock. A text that is refused is kept, and the refusal says how (A3).

        What the actor may do is asked when the call comes, and again before the transaction opens: no
        connection is held meanwhile. In the transaction nobody else can have the lock. If it took longer than
        FRESH_S since access was asked, nothing of it stands, and access is asked again: what the actor lost
        until then counts.

        Args:
            made_from: the version of their draft that they had before them; 0: none; None: not told.
        """
        text = checked_text(text)
        async with self._database.audited(actor, "report.completed", f"case:{case_id}"):
            before = await self._check(case_id)
            for _ in range(DECISIONS):
                asked_at = self._seconds()
                sight = await self._check(case_id)
                author = _person(actor, sight, before)
                with suppress(_Stale):
                    async with self._database.transaction() as transaction:
                        decided = await self._decide(
                            transaction, case_id, read_type, author, text, session, made_from, before, sight
                        )
                        if self._seconds() - asked_at > FRESH_S:
                            raise _Stale
                    if isinstance(decided, ReadroomError):
                        raise decided
                    return decided
            raise Unavailable(
                "the report is not completed, and your text is kept as a draft: the system is too slow "
                "just now; try again"
            )

    async def _decide(
        self,
        transaction: ReportingTransaction,
        case_id: CaseId,
        read_type: ReadType,
        author: Person,
        text: str,
        session: str,
        made_from: int | None,
        before: Sight,
        sight: Sight,
    ) -> Report | ReadroomError:
        """Signs the report, or keeps the text and answers why it is refused; raises what keeps nothing."""
        reading = await transaction.lock_reading(case_id)
        unlocked, not_locked = await self._held(transaction, Act.COMPLETE, reading, author, session)
        own = await self._own(transaction, case_id, author.login, text, made_from)
        refused = refusal(
            reading,
            read_type,
            own,
            not_locked,
            before=before,
            sight=sight,
            active=await self._active_at(transaction, sight.facility_id or before.facility_id),
        )
        if refused is None and (full := await self._full(transaction, case_id, author.login, text)):
            refused = no_room(own, full)
        if refused is None:
            return await self._sign(transaction, reading, unlocked, read_type, author, text, sight)
        return await self._keep(transaction, reading, refused, author, own, sight, slot=str(self._new_id()))

    async def _check(self, case_id: CaseId) -> Sight:
        """What access says now; a user who was deactivated while they read sees nothing."""
        try:
            return await self._access.check(case_id)
        except Unauthenticated:
            return NO_SIGHT

    async def _held(
        self,
        transaction: ReportingTransaction,
        act: Act,
        reading: Reading,
        author: Person,
        session: str,
    ) -> tuple[Reading, Conflict | None]:
        """The reading after an act of its holder, or unchanged with why the author does not hold it."""
        broken = await transaction.broken_lock(reading.case_id, author.login)
        try:
            return reading.after(act, author, session, transaction.now, self._lease, broken), None
        except Conflict as not_locked:
            return reading, not_locked

    async def _full(
        self, transaction: ReportingTransaction, case_id: CaseId, login: str, text: str
    ) -> Exhausted | None:
        """Why the case has no room for a report, once the drafts of its author are gone."""
        others = await transaction.bytes_written(case_id, without=login)
        try:
            check_room(text, others, await transaction.reports_written(case_id))
        except Exhausted as full:
            return full
        return None

    async def _sign(
        self,
        transaction: ReportingTransaction,
        reading: Reading,
        unlocked: Reading,
        read_type: ReadType,
        author: Person,
        text: str,
        sight: Sight,
    ) -> Report:
        case_id = reading.case_id
        await transaction.delete_drafts(case_id, author.login)
        report = Report(
            ReportId(self._new_id()),
            case_id,
            read_type,
            author,
            text,
            transaction.now,
            sight.revision,
            instance_count=sight.instance_count,
            author_id=sight.user_id,
        )
        await transaction.insert_report(report)
        issued = unlocked.issue(read_type, transaction.now, sight.instance_count)
        await self._save(transaction, reading, await _drafted(transaction, issued))
        await transaction.record(
            author.login,
            "report.completed",
            f"case:{case_id}",
            "done",
            report_id=str(report.id),
            read_type=read_type.value,
        )
        return report

    async def _active_at(
        self, transaction: ReportingTransaction, facility_id: FacilityId | None
    ) -> frozenset[ReadType]:
        if facility_id is None:
            return frozenset()
        return active_read_types(
            await transaction.switches(facility_id), pre_read_enabled=await transaction.pre_read_enabled()
        )

    async def add_addendum(self, actor: str, case_id: CaseId, report_id: ReportId, text: str) -> Report:
        """Adds a signed addition to a report of which the actor could complete another.

        Write access by a share is enough for their own reports only (A45).
        """
        text = checked_text(text)
        async with self._on_case(actor, "addendum.added", case_id) as (transaction, sight):
            reading = await transaction.lock_reading(case_id)
            report = await transaction.report(case_id, report_id, sight.shown)
            if report is None:
                raise no_report()
            active = await self._active_at(transaction, sight.facility_id)
            sight.need_completing(report.read_type, active, of_their_own=report.author.login == actor)
            check_room(text, await transaction.bytes_written(case_id))
            addendum = Addendum(_person(actor, sight), text, transaction.now, sight.revision)
            await transaction.insert_addendum(report_id, addendum, sight.instance_count)
            await self._save(transaction, reading, reading.add(report.read_type, sight.instance_count))
            await transaction.record(
                actor, "addendum.added", f"case:{case_id}", "done", report_id=str(report_id)
            )
            return replace(report, addenda=(*report.addenda, addendum))

    async def reopen(self, actor: str, case_id: CaseId) -> None:
        """Lets a case with a final report be read again; a share does not include this (A45)."""
        async with self._on_case(actor, "case.reopened", case_id) as (transaction, sight):
            sight.need_completing(ReadType.FINAL, await self._active_at(transaction, sight.facility_id))
            reading = await transaction.lock_reading(case_id)
            await self._save(transaction, reading, reading.reopen(transaction.now))
            await transaction.record(actor, "case.reopened", f"case:{case_id}", "done")

    async def list_reports(self, actor: str, case_id: CaseId, session: str) -> Listed:
        """What the actor may see of reports, drafts and the lock, and what they may do."""
        async with self._database.audited(actor, "reports.listed", f"case:{case_id}"):
            sight = await self._access.check(case_id)
            async with self._database.transaction() as transaction:
                reading = await transaction.reading(case_id)
                written = visible(
                    reading,
                    await transaction.reports(case_id, sight.shown),
                    await transaction.drafts(case_id, actor, of_others=sight.shows_drafts),
                    reading.hold(actor, session, transaction.now),
                    sight,
                )
                active = await self._active_at(transaction, sight.facility_id)
                await transaction.record(actor, "reports.listed", f"case:{case_id}", "done")
                return Listed(written, may(reading, written.reports, actor, sight, active))

    # For other services

    async def describe_reading(self, case_id: CaseId) -> Described:
        """The snapshot for another service."""
        async with self._database.transaction() as transaction:
            reading = await _known(transaction, await transaction.reading(case_id))
            signed = await transaction.signed(case_id)
        if reading.version == 0:
            raise no_case()
        return Described(case_id, reading.version, *_projected(reading, signed), reading.drafted)

    async def list_versions(self, after: UUID) -> Versions:
        """The versions of all readings, by CaseId."""
        async with self._database.transaction() as transaction:
            return await transaction.reading_versions(after, VERSIONS_PAGE)

    async def purge(self, transaction: ReportingTransaction, case_id: CaseId, version: int) -> None:
        """Removes all that was written about a deleted case, and says so, also when it was nothing (A60)."""
        await transaction.purge_case(case_id)
        await transaction.record(f"service:{NAME}", "case.purged", f"case:{case_id}", "done")
        await transaction.say(CasePurged(case_id, version, NAME))


def _projected(reading: Reading, signed: Sequence[Signed] = ()) -> tuple[Projection, Projection]:
    """What the group sees of a reading, and what the facility sees."""
    return project(reading, SIDES[Side.GROUP], signed), project(reading, SIDES[Side.FACILITY], signed)


async def _known(transaction: ReportingTransaction, reading: Reading) -> Reading:
    """The reading with whose unsigned text waits, also where the version before has written it."""
    return reading if reading.draft is not None else await _drafted(transaction, reading)


async def _drafted(transaction: ReportingTransaction, reading: Reading) -> Reading:
    """The reading with what its drafts come to now."""
    return replace(
        reading,
        drafted=await transaction.is_drafted(reading.case_id),
        draft=draft_state(await transaction.drafts_that_wait(reading.case_id, reading.public_at)),
    )


def _person(actor: str, *sights: Sight) -> Person:
    """Who acts, under the name that access tells, else their login."""
    return Person(actor, next((sight.name for sight in sights if sight.name), actor))
