"""What users ask."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from kernel.clock import Clock
from kernel.database import Database
from kernel.errors import Invalid, NotFound, Unauthenticated, Unavailable
from kernel.ids import CaseId, FacilityId
from kernel.reading import Side
from services.access.accessfilter import Historical
from services.access.caseindex import ListedCase
from services.access.domain import (
    BEING_DELETED,
    NO_SIGHT,
    Answer,
    CompiledUser,
    ConfirmedStudy,
    Decision,
    Found,
    Permission,
    Sighting,
    decide,
    must_be_active,
    no_case,
)
from services.access.names import acting_login
from services.access.search import NEWEST_FIRST, Listing, Place, as_filter, fields_of, search_of
from services.access.shown import ALL_COLUMNS, Column, Columns, ShownCase, all_shown
from services.access.walking import NOT_COUNTED, NOTHING_FOUND, PATIENT, Pace, Walk, Walked

if TYPE_CHECKING:
    from services.access.store import AccessTransaction

MAX_CHECKED_CASES = 1000
"""What one CheckMany answers."""

MAX_COMPILED_USERS = 2000
"""Kept compiled; one with 50 facilities takes about 20 kB."""

# Between compiling a user and asking, an administrator may change them; nobody does that so often.
_ATTEMPTS = 5

_WAITS, _WAIT_S = 10, 0.1
"""A read that names a revision waits a second for it: a database that took over may come later to it."""

_SHARES_LAST = timedelta(minutes=10)
"""How long it is taken for true which share of all cases a facility has. Only speed depends on it."""

MAX_COUNTED = 10_000
"""A longer list is not counted to its end."""

A = TypeVar("A")


class Page(list[ShownCase]):
    """The rows of a page, and where its list goes on.

    Attributes:
        more: behind (of a page back, before) which place; None: the list ends here.
        is_cut: whether the page ended because its time did, wherever it was.
    """

    more: Place | None = None
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class Count:
    """How many cases a list has: so many, or more than MAX_COUNTED, or at least so many as its time ended."""

    count: int
    is_more: bool
    is_cut: bool


class Questions:
    """What users ask.

    A user is kept compiled, and the statement that reads the cases reads their version too. If it is
    another, its answer does not count: they are compiled again and the statement repeated. So correctness
    rests on that statement alone, never on what is kept and never on a fact.

    `session` is the login session in which they ask (A57).
    """

    def __init__(
        self,
        database: Database[AccessTransaction],
        clock: Clock,
        *,
        kept: Database[AccessTransaction] | None = None,
        lists: Database[AccessTransaction] | None = None,
        pace: Pace = PATIENT,
        max_counted: int = MAX_COUNTED,
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        """Lists may have connections of their own, and are walked at a pace of theirs.

        `kept`: connections on which a statement is planned once, for statements that look up cases by their
        ids: planning each anew would take longer than its answer.
        """
        self._database = database
        self._kept = kept or database
        self._lists = lists or database
        self._clock = clock
        self._pace = pace
        self._max_counted = max_counted
        self._stopwatch = stopwatch
        self._compiled: dict[str, CompiledUser] = {}
        self._shares = NOT_COUNTED
        self._shares_until = datetime.min.replace(tzinfo=UTC)

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
        since the report if those are; and the revision of sight that this was decided on.

        All of it is decided for one instant, at which the statement began."""

        async def ask(statements: AccessTransaction, user: CompiledUser) -> Answer[_Looked] | None:
            answer = await statements.check(
                user, case_id, with_studies=images, with_late_images=late_images, session=session
            )
            if answer is None:
                return None
            found, studies = answer.found
            seen = await _through(statements, user, answer.carrying([found]), [case_id], session)
            return seen.carrying((seen.found[0], studies, statements.now)) if seen else None

        user, answer = await self._ask(login, ask, at_least, self._kept)
        sighting, studies, now = answer.found
        if sighting is None:
            return NO_SIGHT, answer.revision
        if sighting.being_deleted:
            return BEING_DELETED, answer.revision
        decision = decide(
            user,
            sighting.facility_id,
            sighting.paths,
            now,
            may_write=sighting.may_write,
            studies=studies,
            instance_count=sighting.instance_count,
            late=sighting.late,
        )
        if studies and decision.images and sighting.untouched and not await self._note_images(case_id):
            return NO_SIGHT, answer.revision  # it is being moved since it was looked at
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
        self, login: str, case_ids: Sequence[CaseId], *, at_least: int = 0, session: str = ""
    ) -> list[Decision]:
        """What the user may do with each case now, in the order asked."""
        if not 1 <= len(case_ids) <= MAX_CHECKED_CASES:
            raise Invalid(f"`case_ids` must name 1 to {MAX_CHECKED_CASES} cases", field="case_ids")

        async def ask(
            statements: AccessTransaction, user: CompiledUser
        ) -> Answer[Sequence[Sighting | None]] | None:
            answer = await statements.check_many(user, case_ids, session=session)
            return await _through(statements, user, answer, case_ids, session) if answer else None

        user, answer = await self._ask(login, ask, at_least, self._kept)
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
        self,
        login: str,
        permission: Permission,
        facility_id: FacilityId | None,
        *,
        at_least: int = 0,
    ) -> tuple[bool, frozenset[FacilityId], Side, bool]:
        """Whether the user holds a permission there; without a facility also where they hold it singly.

        And their side, for whoever serves acts that concern no case; and whether they see the cases there by
        privilege, for whoever serves acts on what is no case yet. A facility that does not exist answers
        like one where the user holds nothing: NotFound.
        """
        user, answer = await self._ask(login, lambda t, user: t.knows_facility(user, facility_id), at_least)
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
        place: Place | None,
        limit: int,
        asked: Listing = NEWEST_FIRST,
        columns: Columns = ALL_COLUMNS,
        *,
        skip: int = 0,
        at_least: int = 0,
        session: str = "",
    ) -> Page:
        """The cases that the user sees of what is asked for, as they are shown them.

        Those next to a place are told, after it or before it, in the order of the list; `skip` of them are
        passed over. Raises Invalid for a search that cannot be read.
        """

        async def walk(statements: AccessTransaction, user: CompiledUser) -> Answer[Walked] | None:
            return await self._walked(statements, user, asked, session, place, skip + limit + 1)

        async def tell(statements: AccessTransaction, user: CompiledUser) -> Answer[_WithPriors] | None:
            told = await statements.told(user, walked.places[skip : skip + limit], columns, session=session)
            return await _with_priors(statements, user, told, columns, session)

        for _ in range(_ATTEMPTS):
            walker, found = await self._ask(login, walk, at_least, self._lists)
            walked = found.found
            user, answer = await self._ask(login, tell, at_least, self._kept)
            if user.version == walker.version:
                break
        else:
            raise _being_changed()
        rows, priors = answer.found
        shown = all_shown(user, rows, self._clock.now(), priors)
        page = Page(shown[::-1] if place and place.backward else shown)
        page.is_cut = walked.is_cut
        if walked.is_cut:
            page.more = walked.on
        elif len(walked.places) > skip + limit:
            page.more = walked.places[skip + limit - 1]
        return page

    async def count_cases(
        self, login: str, asked: Listing = NEWEST_FIRST, *, at_least: int = 0, session: str = ""
    ) -> Count:
        """How many cases the user sees of what is asked for; raises Invalid for an unreadable search."""

        async def ask(statements: AccessTransaction, user: CompiledUser) -> Answer[Walked] | None:
            return await self._walked(
                statements, user, asked, session, None, self._max_counted + 1, only_count=True
            )

        _, answer = await self._ask(login, ask, at_least, self._lists)
        walked = answer.found
        most = self._max_counted
        return Count(min(walked.count, most), walked.count > most, walked.is_cut)

    async def _walked(
        self,
        statements: AccessTransaction,
        user: CompiledUser,
        asked: Listing,
        session: str,
        place: Place | None,
        wanted: int,
        *,
        only_count: bool = False,
    ) -> Answer[Walked] | None:
        """What is found next to a place of a list, in the order in which it is walked."""
        try:
            search = await search_of(statements, user, asked)
        except Invalid:
            # What they may name is theirs to know only if they still are as they were compiled.
            current = await statements.knows_facility(user, None)
            if current and current.user_version == user.version:
                raise
            return current.carrying(NOTHING_FOUND) if current else None
        if self._clock.now() >= self._shares_until:
            self._shares_until = self._clock.now() + _SHARES_LAST
            self._shares = await statements.shares()
        walk = Walk(statements, user, asked, search, session, self._shares, self._pace, self._stopwatch)
        return await walk.take(place, wanted, only_count=only_count)

    async def describe_case(
        self,
        login: str,
        case_id: CaseId,
        columns: Columns = ALL_COLUMNS,
        *,
        at_least: int = 0,
        session: str = "",
    ) -> ShownCase:
        """One case as a list shows it to the user; raises NotFound for one that is absent or not seen."""

        async def ask(statements: AccessTransaction, user: CompiledUser) -> Answer[_WithPriors] | None:
            found = await statements.describe_case(user, case_id, columns, session=session)
            return await _with_priors(statements, user, found, columns, session)

        described = await self._shown(login, ask, at_least)
        if not described:
            raise no_case(case_id)
        return described[0]

    async def list_related_cases(
        self,
        login: str,
        case_id: CaseId,
        place: Place | None,
        limit: int,
        columns: Columns = ALL_COLUMNS,
        *,
        at_least: int = 0,
        session: str = "",
    ) -> list[ShownCase]:
        """The other cases of the patient of a case that the user sees, the latest study first, after a place.

        Raises NotFound for a case that is absent or not seen.
        """

        async def ask(statements: AccessTransaction, user: CompiledUser) -> Answer[_WithPriors] | None:
            seen = await statements.describe_case(user, case_id, frozenset(), session=session)
            if seen is None or seen.user_version != user.version:
                return _nothing(seen)
            if not seen.found:
                raise no_case(case_id)
            found = await statements.list_related(user, case_id, place, limit, columns, session=session)
            listed = await _with_priors(statements, user, found, columns, session)
            return msgspec.structs.replace(listed, revision=seen.revision) if listed else None

        return await self._shown(login, ask, at_least)

    async def _shown(
        self,
        login: str,
        ask: Callable[[AccessTransaction, CompiledUser], Awaitable[Answer[_WithPriors] | None]],
        at_least: int = 0,
    ) -> list[ShownCase]:
        user, answer = await self._ask(login, ask, at_least)
        rows, priors = answer.found
        return all_shown(user, rows, self._clock.now(), priors)

    async def searched_fields(self, login: str, asked: Listing) -> list[str]:
        """The keywords of the fields that a search asks for. Raises Invalid for one that cannot be read."""

        async def ask(statements: AccessTransaction, user: CompiledUser) -> Answer[list[str]] | None:
            answer = await statements.knows_facility(user, None)
            if answer is None:
                return None
            is_known = answer.user_version == user.version
            return answer.carrying(fields_of(await search_of(statements, user, asked)) if is_known else [])

        _, answer = await self._ask(login, ask)
        return answer.found

    async def read_search(self, login: str, line: str) -> str:
        """What a line of the search box asks for, as a filter; empty if nothing. Raises Invalid."""

        async def ask(statements: AccessTransaction, user: CompiledUser) -> Answer[str] | None:
            answer = await statements.knows_facility(user, None)
            return answer.carrying(await as_filter(statements, user, line)) if answer else None

        _, answer = await self._ask(login, ask)
        return answer.found

    async def asked(
        self,
        login: str,
        ask: Callable[[AccessTransaction, CompiledUser], Awaitable[Answer[A] | None]],
        at_least: int = 0,
    ) -> tuple[CompiledUser, Answer[A]]:
        """What a statement answers a user, and who they were in that very statement."""
        return await self._ask(login, ask, at_least)

    async def _ask(
        self,
        login: str,
        ask: Callable[[AccessTransaction, CompiledUser], Awaitable[Answer[A] | None]],
        at_least: int = 0,
        database: Database[AccessTransaction] | None = None,
    ) -> tuple[CompiledUser, Answer[A]]:
        """Asks until the answer is as new as it must be (BEY-17); Unavailable if it does not come soon."""
        for _ in range(_WAITS):
            user, answer = await self._ask_now(login, ask, database)
            if answer.revision >= at_least:
                return user, answer
            await asyncio.sleep(_WAIT_S)
        raise Unavailable("what was just changed has not arrived here yet: try again in a second")

    async def _ask_now(
        self,
        login: str,
        ask: Callable[[AccessTransaction, CompiledUser], Awaitable[Answer[A] | None]],
        database: Database[AccessTransaction] | None,
    ) -> tuple[CompiledUser, Answer[A]]:
        """Asks with the user compiled at the very version that the statement read."""
        async with (database or self._database).statements() as statements:
            for _ in range(_ATTEMPTS):
                user = self._compiled.get(login) or await self._compile(statements, login)
                answer = await ask(statements, user)
                if answer is not None and answer.user_version == user.version:
                    return user, answer
                self._compiled.pop(login, None)
        raise _being_changed()

    async def _compile(self, statements: AccessTransaction, login: str) -> CompiledUser:
        user = must_be_active(await statements.compiled_user(acting_login(login)))
        if len(self._compiled) >= MAX_COMPILED_USERS:
            del self._compiled[next(iter(self._compiled))]
        self._compiled[login] = user
        return user


_Listed = list[tuple[ListedCase, Sighting]]
_WithPriors = tuple[_Listed, Mapping[CaseId, int] | None]


_Looked = tuple[Sighting | None, tuple[ConfirmedStudy, ...], datetime]


async def _through(
    statements: AccessTransaction,
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


async def _with_priors(
    statements: AccessTransaction,
    user: CompiledUser,
    answer: Answer[_Listed] | None,
    columns: Columns,
    session: str,
) -> Answer[_WithPriors] | None:
    """What was listed, and how many priors each case has, if that is asked for: one more statement.

    If the user is another by then, its answer counts for nothing and says so.
    """
    if answer is None or answer.user_version != user.version:
        return _nothing(answer)
    if Column.PRIOR_COUNT not in columns or not answer.found:
        return answer.carrying((answer.found, None))
    case_ids = [case.case_id for case, _ in answer.found]
    counted = await statements.count_priors(user, case_ids, session=session)
    if counted is None or counted.user_version != user.version:
        return _nothing(counted)
    return answer.carrying((answer.found, counted.found))


def _being_changed() -> Unavailable:
    return Unavailable("an administrator is changing your account: try again in a second")


def _nothing(answer: Answer[Any] | None) -> Answer[_WithPriors] | None:
    """The answer to a user who is another by now."""
    return answer.carrying(([], None)) if answer else None
