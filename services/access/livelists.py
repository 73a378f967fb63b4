"""Live lists: somebody who watches one, and a list as all watch it who see the same cases."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from kernel.errors import ReadroomError
from kernel.ids import CaseId, UserId
from services.access.accessfilter import Historical
from services.access.acts import Rights, Sight, rights
from services.access.domain import CompiledUser
from services.access.filter.fields import Function
from services.access.filter.reader import Reader
from services.access.filter.tree import Expression, Me, predicates
from services.access.live import Account, Change, Digests, Event, Rendered, Row, Window, difference
from services.access.search import Listing, Search
from services.access.shown import ShownCase, shown

ASK_ANEW = timedelta(seconds=5)
"""Each list is looked for anew this often, whatever was heard (A69)."""

ASK_ANEW_BY_AGE = timedelta(seconds=1)
"""A list that asks for ages: cases come and go by the clock alone."""

SURE_FOR = timedelta(seconds=30)
"""What was heard is believed for so long while a list waits for its turn to be looked for anew."""

Render = Callable[[ShownCase], bytes]


@dataclass(frozen=True, slots=True)
class Watched:
    """Which list is watched, by whom.

    Attributes:
        session: their login session.
        rows: how many of its first rows.
    """

    login: str
    session: str
    asked: Listing
    rows: int


@dataclass(eq=False, slots=True)
class Watcher:
    """Somebody who watches a list.

    Attributes:
        user: they, as compiled for the list.
        told: the digests of the rows that they were told; None: nothing yet.
        event: what is ready to be told.
        waits_since: since when it is.
        looked_at: how many answers of the list were looked at.
        rights: what they may do with a case by how they see it, in the round `rights_of` of the list.
        unsure_since: since when their sight may be another, and nobody knows how: they are told nothing then.
    """

    watched: Watched
    render: Render
    user: CompiledUser
    list: "LiveList"
    told: Digests | None
    account: Account
    event: Event | None = None
    waits_since: datetime | None = None
    looked_at: int | None = None
    unsure_since: datetime | None = None
    rights_of: int | None = None
    rights: dict[Sight, Rights] = field(default_factory=dict)
    error: ReadroomError | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def fail(self, error: ReadroomError) -> None:
        self.error, self.event = error, None
        self.wake.set()

    @property
    def doubted_since(self) -> datetime | None:
        """Since when what they have may be another: by their own sight, or by the list."""
        return min(filter(None, (self.unsure_since, self.list.doubted_since)), default=None)

    @property
    def has_answers(self) -> bool:
        """Whether their list has answered since it was looked at for them."""
        return self.list.answers > 0 and self.looked_at != self.list.answers

    @property
    def has_news(self) -> bool:
        """Whether there may be something to tell them."""
        return self.has_answers or self.event is not None

    def look(self, now: datetime) -> "Looked":
        """What they would have to be told now."""
        if self.rights_of != self.list.rounds:  # what ends by the clock has the list looked for anew
            self.rights_of, self.rights = self.list.rounds, {}
        rows = [(row.case.case_id, self._rendered(row, now)) for row in self.list.window.shown]
        return Looked(difference(self.told, rows), self.told, self.list, self.list.answers)

    def tell(self, looked: "Looked", now: datetime) -> None:
        """Has this ready for them; what was ready and not taken counts no more."""
        if looked.list is not self.list or looked.told is not self.told:
            return
        self.looked_at = looked.answers
        if not looked.event:
            self.event = self.waits_since = None
            return
        self.event, self.waits_since = looked.event, self.waits_since or now
        self.wake.set()

    def take(self) -> Event | None:
        """What is ready; then it is told."""
        event, self.event, self.waits_since = self.event, None, None
        if event is not None:
            self.told = event.now
        self.wake.clear()
        return event

    def _rendered(self, row: Row, now: datetime) -> Rendered:
        its = self.rights.get(row.sight)
        if its is None:
            its = self.rights[row.sight] = rights(self.user, row.sight, now)
        if its not in row.rendered:
            row.rendered[its] = Rendered.of(self.render(shown(row.case, its, now)), row)
        return row.rendered[its]

    def next_instant(self, now: datetime) -> datetime | None:
        """When a privilege of theirs ends, or a share."""
        ends = [each.expires_at for each in self.user.effective.values()]
        if self.list.is_shown_singly:
            ends.append(self.account.next_end)
        return min((end for end in ends if end is not None and end > now), default=None)


@dataclass(frozen=True, slots=True)
class Looked:
    """What somebody would have to be told who was told this, after so many answers of a list."""

    event: Event
    told: Digests | None
    list: "LiveList"
    answers: int


@dataclass(eq=False, slots=True)
class LiveList:
    """A list as all see it who see the same cases.

    Attributes:
        user: the first of them; `asker` is one who is still there.
        answers: how many there were.
        rounds: how often it was looked for anew.
        ask_at: when it is to be looked for anew; None: at once.
        sure_until: when something in it ends by the clock.
        changed: the cases to ask about, which changed since it was last asked about them.
        forgotten: whether nothing is known of it since it was last begun to be looked for.
        doubted_since: since when it may be another than is known.
        trouble: why it could not be asked for.
    """

    key: Any
    user: CompiledUser
    session: str
    asked: Listing
    search: Search | None
    window: Window
    watchers: set[Watcher] = field(default_factory=set)
    ask_at: datetime | None = None
    sure_until: datetime | None = None
    changed: set[CaseId] = field(default_factory=set)
    forgotten: bool = False
    doubted_since: datetime | None = None
    trouble: ReadroomError | None = None
    answers: int = 0
    rounds: int = 0
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def asker(self) -> CompiledUser:
        """As whom the list is asked for: what the others see is the same."""
        users = (each.user for each in self.watchers if not each.unsure_since)
        return replace(next(users, self.user), grantee=self.user.grantee)

    @property
    def is_shown_singly(self) -> bool:
        return self.user.grantee is not None

    @property
    def is_historical(self) -> bool:
        return self.user.filter is not None and self.user.filter.historical is not Historical.OFF

    def may_concern(self, changes: Mapping[CaseId, Change]) -> set[CaseId]:
        """The changed cases that are in the list, or may be. It decides nothing: they are asked about."""
        facilities = self.user.facilities
        shown_singly = self.is_shown_singly or bool(self.user.folders)
        return self.window.concerned(changes) | {
            case_id
            for case_id, change in changes.items()
            if change.facility_id is not None
            and (change.facility_id in facilities or (change.shown_singly and shown_singly))
        }

    def is_due(self, now: datetime) -> bool:
        """Whether it is to be looked for anew."""
        return self.ask_at is None or self.ask_at <= now

    def doubt(self, now: datetime) -> None:
        """Notes that it may be another by now than is known."""
        self.doubted_since = self.doubted_since or now

    def hear(self, changes: Mapping[CaseId, Change], now: datetime) -> None:
        """Notes what changed, and what has ended by the clock."""
        if changes:
            self.changed |= self.may_concern(changes)
        if self.changed or self.ask_at is None or self.sure_until is None or self.sure_until <= now:
            self.doubt(now)

    def forget(self) -> None:
        """Notes that nothing is known of it any more, nor by an answer that is on its way."""
        self.forgotten = True
        self.ask_at = self.sure_until = None

    def begin_anew(self) -> None:
        """Notes that it is looked for: the answer knows of all that was heard so far."""
        self.forgotten, self.changed = False, set()

    @asynccontextmanager
    async def asked_for(self) -> AsyncIterator[None]:
        """While it is asked for: by one at a time; nothing is known of it after a failure."""
        async with self.asking:
            try:
                yield
            except BaseException:
                self.forget()
                raise

    def failed(self, error: ReadroomError, now: datetime, again_at: datetime) -> None:
        """Notes that it could not be asked for."""
        self.doubt(now)
        self.trouble, self.ask_at = error, again_at

    def answered(self, now: datetime) -> None:
        """Notes that the rows are as they were then, and when a lock of one ends.

        What changed while it was asked for is asked about next; a list that was forgotten is looked for.
        """
        self.answers += 1
        self.doubted_since, self.trouble = (now if self.changed or self.forgotten else None), None
        self._ends_at(self.window.next_instant(now))

    def asked_anew(self, now: datetime) -> None:
        """Notes that it was looked for, and when it must be looked for again."""
        self.rounds += 1
        by_age = _asks_for_age(self.user, self.search)
        self.ask_at = now + (ASK_ANEW_BY_AGE if by_age else ASK_ANEW)
        self.sure_until = now + (ASK_ANEW_BY_AGE if by_age else SURE_FOR)
        for each in self.watchers:
            self._ends_at(each.next_instant(now))
        self.answered(now)
        if self.forgotten:
            self.forget()

    def _ends_at(self, instant: datetime | None) -> None:
        if instant and self.ask_at and self.sure_until:
            self.ask_at, self.sure_until = min(self.ask_at, instant), min(self.sure_until, instant)


def key_of(user: CompiledUser, session: str, watched: Watched, search: Search | None) -> Any:
    """What the cases of a list depend on: who agrees in it has the same list."""
    narrows = user.filter and (
        user.filter.expression,
        _reader(user.filter.expression, user.filter.reader),
        user.filter.historical,
    )
    asks = search and (search.expression, _reader(search.expression, search.reader))
    asked = watched.asked
    return (
        frozenset(user.facilities),
        frozenset(user.folders),
        user.grantee,
        session,
        user.reading_side,
        narrows,
        asks,
        (asked.order, asked.descending, asked.facility_id, watched.rows),
    )


_NOBODY = UserId(UUID(int=0))


def _reader(expression: Expression, reader: Reader) -> Reader:
    """The reader as far as the expression depends on who they are."""
    asked = list(predicates(expression))
    is_personal = any(Me.USER in each.literals or (each.field.reads and reader.as_of_lock) for each in asked)
    return reader if is_personal else replace(reader, user_id=_NOBODY, login="")


def _asks_for_age(user: CompiledUser, search: Search | None) -> bool:
    asked = [each.expression for each in (user.filter, search) if each]
    return any(one.function is Function.AGE for each in asked for one in predicates(each))
