"""What users ask, and how owners' facts fill the case index."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache, partial
from typing import Any, Protocol, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from kernel.clock import Clock
from kernel.errors import Invalid, NotFound, Unauthenticated, Unavailable
from kernel.events import Fact, SightChanged, UserChanged
from kernel.healing import Kind, Versions
from kernel.ids import BucketId, CaseId, FacilityId, FolderId, MoveId, StudyId, UserId
from kernel.reading import PrivilegeLevel, Side
from services.access import following, patients
from services.access.accessfilter import Historical
from services.access.caseindex import (
    Entry,
    IndexedCase,
    ListedCase,
    Placement,
    Position,
    Reading,
)
from services.access.derived import Derived, derive
from services.access.domain import (
    BEING_DELETED,
    NO_SIGHT,
    Answer,
    CompiledUser,
    ConfirmedStudy,
    Decision,
    Facility,
    Found,
    Permission,
    Sighting,
    acting_login,
    decide,
    must_be_active,
)
from services.access.following import ACTOR
from services.access.patients import Filing
from services.access.received import ReceivedStudy

MAX_CHECKED_CASES = 1000
"""What one CheckMany answers."""

MAX_COMPILED_USERS = 2000
"""Kept compiled; one with 50 facilities takes about 20 kB."""

# Between compiling a user and asking, an administrator may change them; nobody does that so often.
_ATTEMPTS = 5

A = TypeVar("A")


class Transaction(patients.Transaction, following.Transaction, Protocol):
    """What access's store does within one transaction; `store.py` says more."""

    @property
    def now(self) -> datetime: ...
    async def say(self, *facts: Fact) -> None: ...
    async def bump_case(self, case_id: CaseId) -> int: ...
    async def bump_revision(self) -> int: ...
    async def lock_administration(self) -> None: ...

    async def compiled_user(self, login: str) -> CompiledUser | None: ...
    async def bump_users(self, user_ids: Sequence[UserId], *, by: str) -> Sequence[tuple[UserId, int]]: ...
    async def facility(self, facility_id: FacilityId) -> Facility | None: ...
    async def save_facility(self, facility: Facility) -> None: ...
    async def rezone(self, facility_id: FacilityId) -> None: ...
    async def users_at(self, facility_id: FacilityId) -> Sequence[UserId]: ...

    async def check(
        self,
        user: CompiledUser,
        case_id: CaseId,
        *,
        with_studies: bool,
        with_late_images: bool = False,
        session: str = "",
    ) -> Answer[tuple[Found | None, tuple[ConfirmedStudy, ...]]] | None: ...
    async def check_many(
        self, user: CompiledUser, case_ids: Sequence[CaseId], *, session: str = ""
    ) -> Answer[Sequence[Found | None]] | None: ...
    async def sighted(
        self, user: CompiledUser, case_ids: Sequence[CaseId], *, session: str = ""
    ) -> Answer[Sequence[Sighting | None]] | None: ...
    async def list_cases(
        self,
        user: CompiledUser,
        after: Position | None,
        limit: int,
        facility_id: FacilityId | None,
        *,
        session: str = "",
    ) -> Answer[Sequence[tuple[ListedCase, Sighting]]] | None: ...
    async def knows_facility(
        self, user: CompiledUser, facility_id: FacilityId | None
    ) -> Answer[bool] | None: ...

    async def note_images(self, case_id: CaseId) -> bool: ...
    async def end_move(self, case_id: CaseId, move_id: MoveId) -> bool: ...

    async def hold_case(self, case_id: CaseId, study_ids: Sequence[StudyId] = ()) -> bool: ...
    async def lock_case(self, case_id: CaseId) -> IndexedCase | None: ...
    async def save_case(self, entry: Entry, derived: Derived, filing: Filing | None) -> None: ...
    async def forget_case(self, case_id: CaseId) -> bool: ...
    async def end_showings(self, case_id: CaseId) -> tuple[Sequence[UserId], Sequence[FolderId]]: ...
    async def end_shares(self, case_id: CaseId) -> Sequence[BucketId]: ...
    async def count_outdated(self, at_most: int) -> int: ...
    async def outdated(self, after: CaseId | None, limit: int) -> Sequence[CaseId]: ...
    async def mark_rezoned(self, before: datetime, limit: int) -> bool: ...
    async def sees_letters(self) -> bool: ...
    async def expect_studies(self, case_id: CaseId, study_ids: Sequence[StudyId]) -> None: ...
    async def studies_of(self, case_id: CaseId) -> Sequence[StudyId]: ...
    async def cases_of(self, study_id: StudyId) -> Sequence[CaseId]: ...
    async def stale_facilities(self, versions: Mapping[UUID, int]) -> Sequence[FacilityId]: ...
    async def stale_cases(self, versions: Mapping[UUID, int]) -> Sequence[CaseId]: ...
    async def stale_studies(self, versions: Mapping[UUID, int]) -> Sequence[StudyId]: ...
    async def stale_readings(self, versions: Mapping[UUID, int]) -> Sequence[CaseId]: ...


class Database(Protocol):
    """Opens transactions, and connections on which each statement commits by itself."""

    def transaction(self) -> AbstractAsyncContextManager[Transaction]: ...
    def statements(self) -> AbstractAsyncContextManager[Transaction]: ...


class Routing(Protocol):
    """The service routing, asked by access itself; None means gone."""

    async def describe_placement(self, case_id: CaseId) -> Placement | None: ...
    async def describe_facility(self, facility_id: FacilityId) -> Facility | None: ...
    async def facility_versions(self, after: UUID | None) -> Versions: ...
    async def placement_versions(self, after: UUID | None) -> Versions: ...


class Ingest(Protocol):
    """The service ingest, asked by access itself; None means gone."""

    async def describe_study(self, study_id: StudyId) -> ReceivedStudy | None: ...
    async def study_versions(self, after: UUID | None) -> Versions: ...


class Reporting(Protocol):
    """The service reporting, asked by access itself; None means that nothing was written, or gone."""

    async def describe_reading(self, case_id: CaseId) -> Reading | None: ...
    async def reading_versions(self, after: UUID | None) -> Versions: ...


class Questions:
    """What users ask.

    A user is kept compiled, and the statement that reads the cases reads their version too. If it is
    another, its answer does not count: they are compiled again and the statement repeated. So correctness
    rests on that statement alone, never on what is kept and never on a fact.

    `session` is the login session in which they ask (A57).
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._compiled: dict[str, CompiledUser] = {}

    async def check(
        self,
        login: str,
        case_id: CaseId,
        *,
        images: bool,
        at_least: int,
        session: str = "",
        late_images: bool = False,
    ) -> tuple[Decision, int]:
        """What the user may do with a case now, its studies if images are asked for and allowed, its images
        since the report if those are; and the revision of sight that this was decided on."""

        async def ask(statements: Transaction, user: CompiledUser) -> Answer[_Looked] | None:
            answer = await statements.check(
                user, case_id, with_studies=images, with_late_images=late_images, session=session
            )
            if answer is None:
                return None
            found, studies = answer.found
            seen = await _through(statements, user, answer.carrying([found]), [case_id], session)
            return seen.carrying((seen.found[0], studies)) if seen else None

        user, answer = await self._ask(login, ask, at_least)
        sighting, studies = answer.found
        if sighting is None:
            return NO_SIGHT, answer.revision
        if sighting.being_deleted:
            return BEING_DELETED, answer.revision
        decision = decide(
            user, sighting.facility_id, sighting.paths, self._clock.now(), may_write=sighting.may_write
        )
        if studies and decision.images and sighting.untouched and not await self._note_images(case_id):
            return NO_SIGHT, answer.revision  # it is being moved since it was looked at
        decision = replace(
            decision,
            studies=studies if decision.images else (),
            instance_count=sighting.instance_count,
            late=sighting.late,
        )
        return decision, answer.revision

    async def _note_images(self, case_id: CaseId) -> bool:
        """Notes that images are shown, so that the case moves by hand only; once for each case."""
        async with self._database.statements() as statements:
            return await statements.note_images(case_id)

    async def check_again(self, login: str, session: str, case_id: CaseId) -> Decision:
        """What the user of an open stream of images may do with its case now; nothing if they are gone."""
        try:
            decision, _ = await self.check(login, case_id, images=True, at_least=0, session=session)
        except Unauthenticated:
            return NO_SIGHT
        return decision

    async def check_many(
        self, login: str, case_ids: Sequence[CaseId], *, session: str = ""
    ) -> list[Decision]:
        """What the user may do with each case now, in the order asked."""
        if not 1 <= len(case_ids) <= MAX_CHECKED_CASES:
            raise Invalid(f"`case_ids` must name 1 to {MAX_CHECKED_CASES} cases", field="case_ids")

        async def ask(
            statements: Transaction, user: CompiledUser
        ) -> Answer[Sequence[Sighting | None]] | None:
            answer = await statements.check_many(user, case_ids, session=session)
            return await _through(statements, user, answer, case_ids, session) if answer else None

        user, answer = await self._ask(login, ask)
        # Cases of one facility seen by the same paths share one decision.
        decide_alike = cache(partial(decide, user, now=self._clock.now()))
        return [
            NO_SIGHT
            if s is None
            else BEING_DELETED
            if s.being_deleted
            else decide_alike(s.facility_id, s.paths, may_write=s.may_write)
            for s in answer.found
        ]

    async def check_permission(
        self, login: str, permission: Permission, facility_id: FacilityId | None
    ) -> tuple[bool, frozenset[FacilityId], Side, bool]:
        """Whether the user holds a permission there; without a facility also where they hold it singly.

        And their side, for whoever serves acts that concern no case; and whether they see the cases there by
        privilege, for whoever serves acts on what is no case yet. A facility that does not exist answers
        like one where the user holds nothing: NotFound.
        """
        user, answer = await self._ask(login, lambda t, user: t.knows_facility(user, facility_id))
        if facility_id is not None and not (answer.found and user.knows(facility_id)):
            raise NotFound(
                f"there is no facility `{facility_id}` at which you hold anything", field="facility_id"
            )
        singly = user.holds_singly(permission) if facility_id is None else frozenset()
        # What is no case yet cannot pass a filter: then it is hidden.
        sees_cases = facility_id in user.facilities and user.filter is None
        return user.holds(permission, facility_id), singly, user.side, sees_cases

    async def list_cases(
        self,
        login: str,
        after: Position | None,
        limit: int,
        *,
        facility_id: FacilityId | None,
        at_least: int,
        session: str = "",
    ) -> list[tuple[ListedCase, PrivilegeLevel]]:
        """The cases that the user sees and what they may do with them, newest first."""
        user, answer = await self._ask(
            login, lambda t, user: t.list_cases(user, after, limit, facility_id, session=session), at_least
        )
        now = self._clock.now()
        decide_alike = cache(partial(decide, user, now=now))
        return [
            (case.at(now), decide_alike(found.facility_id, found.paths, may_write=found.may_write).level)
            for case, found in answer.found
        ]

    async def _ask(
        self,
        login: str,
        ask: Callable[[Transaction, CompiledUser], Awaitable[Answer[A] | None]],
        at_least: int = 0,
    ) -> tuple[CompiledUser, Answer[A]]:
        """Asks with the user compiled at the very version that the statement read."""
        async with self._database.statements() as statements:
            for _ in range(_ATTEMPTS):
                user = self._compiled.get(login) or await self._compile(statements, login)
                answer = await ask(statements, user)
                if answer is not None and answer.user_version == user.version:
                    if answer.revision < at_least:
                        raise Unavailable(
                            "what was just changed has not arrived here yet: try again in a second"
                        )
                    return user, answer
                self._compiled.pop(login, None)
        raise Unavailable("an administrator is changing your account: try again in a second")

    async def _compile(self, statements: Transaction, login: str) -> CompiledUser:
        user = must_be_active(await statements.compiled_user(acting_login(login)))
        if len(self._compiled) >= MAX_COMPILED_USERS:
            del self._compiled[next(iter(self._compiled))]
        self._compiled[login] = user
        return user


_Looked = tuple[Sighting | None, tuple[ConfirmedStudy, ...]]


async def _through(
    statements: Transaction,
    user: CompiledUser,
    answer: Answer[Sequence[Found | None]],
    case_ids: Sequence[CaseId],
    session: str,
) -> Answer[Sequence[Sighting | None]] | None:
    """What was found as it is seen through the user's filter.

    Whether something historical opens what the filter hides is asked only then, by a statement of its own.
    If the user is another by then, its answer counts for nothing and says so.
    """
    now, access_filter = statements.now, user.filter
    seen = [each.through(access_filter, now) if each else None for each in answer.found]
    if access_filter is None or access_filter.historical is Historical.OFF:
        return answer.carrying(seen)
    hidden = [number for number, each in enumerate(seen) if each is None and answer.found[number]]
    if not hidden:
        return answer.carrying(seen)
    again = await statements.sighted(user, [case_ids[number] for number in hidden], session=session)
    if again is None or again.user_version != user.version:
        return again
    for number, sighting in zip(hidden, again.found, strict=True):
        seen[number] = sighting
    return answer.carrying(seen)


@dataclass(frozen=True, slots=True)
class Snapshots:
    """What the owners said of a case: its placement (None: gone) and its studies."""

    placement: Placement | None
    studies: tuple[ReceivedStudy, ...]


class CaseIndex:
    """Keeps the index of cases, and what access knows of facilities, as their owners tell.

    Each `fetch_…` asks the owner and comes before the transaction; each verb writes only what is newer.
    """

    def __init__(self, database: Database, routing: Routing, ingest: Ingest, reporting: Reporting) -> None:
        self._database = database
        self._routing = routing
        self._ingest = ingest
        self._reporting = reporting

    async def fetch_case(self, case_id: CaseId) -> Snapshots:
        """What the owners say; of a case that we know both are asked at once.

        The studies are noted before ingest is asked: a change of theirs that is told after the answer
        finds the note and waits for the entry, instead of passing for one of a study that is not ours.
        """
        async with self._database.statements() as statements:
            known = await statements.studies_of(case_id)
        placement, studies = await asyncio.gather(
            self._routing.describe_placement(case_id), self._describe_studies(known)
        )
        if placement is not None:
            unknown = [study.study_id for study in placement.studies if study.study_id not in known]
            if unknown:
                async with self._database.transaction() as transaction:
                    if await transaction.hold_case(case_id, unknown):
                        await transaction.expect_studies(case_id, unknown)
                studies += await self._describe_studies(unknown)
        return Snapshots(placement, tuple(studies))

    async def _describe_studies(self, study_ids: Sequence[StudyId]) -> list[ReceivedStudy]:
        told = await asyncio.gather(*map(self._ingest.describe_study, study_ids))
        return [study for study in told if study is not None]

    async def index_case(self, transaction: Transaction, case_id: CaseId, snapshots: Snapshots) -> None:
        """Adds or changes the entry of a case. A move changes sight; an arrival does not count as that."""
        known = await transaction.lock_case(case_id)
        if snapshots.placement is None:
            record = await patients.hold_record_of(transaction, case_id)
            if await transaction.forget_case(case_id):
                await patients.leave(transaction, record)
                await transaction.bump_revision()
            return
        if known is None:
            studies = [study.study_id for study in snapshots.placement.studies]
            if await transaction.hold_case(case_id, studies):
                await self._save(transaction, IndexedCase.first(snapshots.placement, snapshots.studies))
            return
        heard = known.hear(snapshots.placement, snapshots.studies)
        if heard == known:
            await following.follow(transaction, case_id)
            return
        await self._save(transaction, heard)
        if heard.placement.last_move_id:
            await transaction.end_move(case_id, heard.placement.last_move_id)
        if heard.placement.facility_id != known.placement.facility_id:
            await self._moved(transaction, case_id)
            if heard.placement.last_move_id:
                await self._end_shares(transaction, case_id)

    async def _save(self, transaction: Transaction, *cases: IndexedCase) -> None:
        """Writes the entries of locked cases, what is derived of them, and whose they are."""
        entries = [case.entry() for case in cases]
        to_file = {each.case_id: each.patient for each in entries if not each.is_filed}
        filings = await patients.file(transaction, to_file)
        for entry in entries:
            facility = await transaction.facility(entry.case.placement.facility_id)
            zone = ZoneInfo(facility.time_zone) if facility else None
            filing = filings.get(entry.case_id)
            await transaction.save_case(entry, derive(entry.columns(), zone), filing)
            if filing:
                await patients.leave(transaction, filing.left)
            await following.mark_late_images(transaction, entry.case_id)
            await following.follow(transaction, entry.case_id)

    async def _moved(self, transaction: Transaction, case_id: CaseId) -> None:
        """Ends what the old owner has shown of a case to others: it is not theirs to show any more."""
        users, folders = await transaction.end_showings(case_id)
        for user_id in users:
            await transaction.record(
                ACTOR, "case.grant_ended", f"case:{case_id}", "done", user=str(user_id), reason="moved"
            )
        for folder_id in folders:
            await transaction.record(
                ACTOR, "folder.case_ended", f"case:{case_id}", "done", folder=str(folder_id), reason="moved"
            )
        await following.end_assignment(transaction, case_id, "moved")
        await transaction.say(SightChanged(case_id, await transaction.bump_case(case_id)))
        await transaction.bump_revision()

    async def _end_shares(self, transaction: Transaction, case_id: CaseId) -> None:
        """Takes a case out of every share: none was open at the move, and a blocked one may be again."""
        for bucket_id in await transaction.end_shares(case_id):
            await transaction.record(
                ACTOR, "bucket.case_ended", f"case:{case_id}", "done", bucket=str(bucket_id), reason="moved"
            )

    async def fetch_study(self, study_id: StudyId) -> ReceivedStudy | None:
        """What ingest says of a study; None if it is gone or belongs to no known case."""
        async with self._database.statements() as statements:
            if not await statements.cases_of(study_id):
                return None
        return await self._ingest.describe_study(study_id)

    async def index_study(self, transaction: Transaction, study: ReceivedStudy | None) -> None:
        """Changes the entries of the cases that a study belongs to."""
        if study is None:
            return
        grown = []
        for case_id in await transaction.cases_of(study.id):
            known = await transaction.lock_case(case_id)
            if known is None:
                raise Unavailable("the case of this study is being indexed")
            if (heard := known.hear(None, [study])) != known:
                grown.append(heard)
        await self._save(transaction, *grown)

    async def describe_again(self, case_id: CaseId) -> None:
        """Asks ingest for the studies of a case again, and writes its entry as it is derived now."""
        async with self._database.statements() as statements:
            studies = await statements.studies_of(case_id)
        told = await self._describe_studies(studies)
        async with self._database.transaction() as transaction:
            known = await transaction.lock_case(case_id)
            if known is not None:
                await self._save(transaction, known.hear(None, told))

    async def fetch_reading(self, case_id: CaseId) -> Reading | None:
        """What reporting says of the reading of a case."""
        return await self._reporting.describe_reading(case_id)

    async def index_reading(self, transaction: Transaction, reading: Reading | None) -> None:
        """Keeps how far a case was read, also before the case is known."""
        if reading is not None and await transaction.hold_case(reading.case_id):
            await following.keep(transaction, reading)

    async def fetch_facility(self, facility_id: FacilityId) -> Facility | None:
        """What routing says of a facility."""
        return await self._routing.describe_facility(facility_id)

    async def index_facility(self, transaction: Transaction, facility: Facility | None) -> None:
        """Keeps a facility. Another time zone moves the instants at which privileges there expire, and those
        at which its studies were made."""
        if facility is None:
            return  # routing removes no facility
        await transaction.lock_administration()
        known = await transaction.facility(facility.id)
        if known is not None and known.version >= facility.version:
            return
        await transaction.save_facility(facility)
        if known is None or known.time_zone != facility.time_zone:
            await transaction.rezone(facility.id)
        if known is not None and known.time_zone != facility.time_zone:
            users = await transaction.bump_users(
                await transaction.users_at(facility.id), by="service:routing"
            )
            await transaction.say(*(UserChanged(user_id, version) for user_id, version in users))
            await transaction.bump_revision()

    def kinds(self) -> Sequence[Kind]:
        """What is kept of its owners, to be compared with what they have."""
        routing, ingest, reporting = self._routing, self._ingest, self._reporting
        return [
            Kind(
                "facilities",
                routing.facility_versions,
                self._stale(lambda t, told: t.stale_facilities(told)),
                self._caught_up(self.fetch_facility, self.index_facility),
            ),
            Kind(
                "cases",
                routing.placement_versions,
                self._stale(lambda t, told: t.stale_cases(told)),
                self._catch_up_case,
            ),
            Kind(
                "studies",
                ingest.study_versions,
                self._stale(lambda t, told: t.stale_studies(told)),
                self._caught_up(self.fetch_study, self.index_study),
            ),
            Kind(
                "readings",
                reporting.reading_versions,
                self._stale(lambda t, told: t.stale_readings(told)),
                self._caught_up(self.fetch_reading, self.index_reading),
            ),
        ]

    def _stale(
        self, compare: Callable[[Transaction, Mapping[UUID, int]], Awaitable[Collection[UUID]]]
    ) -> Callable[[Mapping[UUID, int]], Awaitable[Collection[UUID]]]:
        """The ids of which an owner has a newer version than we have."""

        async def stale(told: Mapping[UUID, int]) -> Collection[UUID]:
            async with self._database.statements() as statements:
                return await compare(statements, told)

        return stale

    def _caught_up(
        self,
        fetch: Callable[[Any], Awaitable[A]],
        index: Callable[[Transaction, A], Awaitable[None]],
    ) -> Callable[[Any], Awaitable[bool]]:
        async def catch_up(id_: Any) -> bool:
            snapshot = await fetch(id_)
            async with self._database.transaction() as transaction:
                await index(transaction, snapshot)
            return True

        return catch_up

    async def _catch_up_case(self, case_id: CaseId) -> bool:
        snapshots = await self.fetch_case(case_id)
        async with self._database.transaction() as transaction:
            await self.index_case(transaction, case_id, snapshots)
        return True
