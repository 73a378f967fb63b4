"""Lists that tell what changes (WatchCases).

One loop for all, in fixed ticks. It reads what was committed since the tick before, and asks once for each
distinct sight and list which of the changed cases are in it: never for each user, and never for each fact.
What ends by the clock is asked about when it ends, and each list anew every few seconds, whatever was told.

Nobody waits for the slow list of another: users take turns, and a tick tells of the lists that have answered.
Nothing is told that is not sure: who was compiled anew meanwhile is told nothing before the next tick. A list
that stays in doubt ends, so that no row outlives its sight on a screen (A69).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from kernel.clock import Clock
from kernel.database import Database
from kernel.errors import Exhausted, Invalid, ReadroomError, Unavailable
from kernel.ids import CaseId
from services.access.domain import Answer, CompiledUser
from services.access.live import MAX_ROWS, Account, Change, Changes, Digests, Event, Window
from services.access.livelists import LiveList, Render, Watched, Watcher, key_of
from services.access.search import Search, search_of
from services.access.turns import Turns
from services.access.usecases import Questions
from services.access.walking import first_rows

if TYPE_CHECKING:
    from services.access.store import AccessTransaction

TICK_S = 0.25
"""What changed is told at these instants alone, so that when it is told says nothing of what caused it."""

ASKED_FOR_S = TICK_S / 2
"""Of a tick, for what is asked. What takes longer goes on, and is told at a later tick."""

CUT_AFTER = timedelta(seconds=4)
"""A list that was in doubt for so long ends: a row goes within 5 s of its sight (A69)."""

ASK_AGAIN = timedelta(seconds=0.5)
"""For a list that could not be asked for."""

LONGEST = timedelta(minutes=5)
"""Then a stream ends, and whoever goes on shows who they are again."""

PATIENCE = timedelta(seconds=20)
"""Who takes nothing for so long is told nothing more."""

MOST = 1000
"""Lists that a process watches: each takes about 100 kB, and a share of every tick."""

MOST_OF_A_USER = 20

MOST_CHANGES = 2000
"""Of a tick. Where more changed each list is looked for anew."""

MOST_LOCKS = 10_000
"""Of which is known when they end; the others show when each list is looked for anew."""

AT_ONCE = 3
"""Lists that are asked for at the same time: the pool has few connections, and others need them."""

ANEW_AT_ONCE = 2
"""Lists that are looked for anew at the same time: others ask for lists there. One user's at most one."""

KEPT_FOR = timedelta(hours=1)
"""How long is known what changed."""

_TOO_SLOW = "this list cannot be followed in time: watch it again in a minute, or narrow its search"


class Watching:
    """Tells lists."""

    def __init__(
        self,
        database: Database[AccessTransaction],
        questions: Questions,
        clock: Clock,
        *,
        lists: Database[AccessTransaction] | None = None,
        most: int = MOST,
        most_of_a_user: int = MOST_OF_A_USER,
        most_changes: int = MOST_CHANGES,
        asked_for_s: float = ASKED_FOR_S,
    ) -> None:
        """`lists`: where a list is looked for, if not beside all else; `asked_for_s`: of a tick."""
        self._database = database
        self._of_lists = lists or database
        self._questions = questions
        self._clock = clock
        self._most, self._most_of_a_user, self._most_changes = most, most_of_a_user, most_changes
        self._watchers: set[Watcher] = set()
        self._lists: dict[Any, LiveList] = {}
        self._snapshot: str | None = None
        self._locks: dict[CaseId, datetime] = {}
        self._answered_at = clock.now()
        self._asked_for_s = asked_for_s
        self._asks: dict[LiveList, asyncio.Task[None]] = {}  # what is asked for just now, or has just been
        self._one_by_one, self._anew = Turns(AT_ONCE), Turns(ANEW_AT_ONCE)
        self._opening = Turns(AT_ONCE)  # after a restart all come at once

    @property
    def watchers(self) -> int:
        """How many lists are watched."""
        return len(self._watchers)

    @property
    def lists(self) -> int:
        """How many of them are distinct."""
        return len(self._lists)

    async def watch_cases(
        self, watched: Watched, held: Digests | None, render: Render, *, at_least: int = 0
    ) -> AsyncGenerator[Event]:
        """What is told of the first rows of a list: all that its reader does not have, then what changes.

        It ends after LONGEST. Raises Exhausted for too many, and for who takes nothing; Unauthenticated once
        the account is deactivated.
        """
        if not 1 <= watched.rows <= MAX_ROWS:
            raise Invalid(f"`rows` must be 1 to {MAX_ROWS}", field="rows")
        async with self._opening.of(watched.login):
            watcher = await self._begin(watched, held, render, at_least)
        ends_at = self._clock.now() + LONGEST
        try:
            while watcher.error is None:
                if event := watcher.take():
                    yield event
                elif (left := (ends_at - self._clock.now()).total_seconds()) > 0:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(left):
                            await watcher.wake.wait()
                else:
                    return
            raise watcher.error
        finally:
            self._end(watcher)

    async def _begin(self, watched: Watched, held: Digests | None, render: Render, at_least: int) -> Watcher:
        self._must_have_room(watched.login)
        if self._snapshot is None:  # what changes from now on is heard
            async with self._database.statements() as statements:
                began = await statements.changes_since(None, 0)
            self._snapshot = self._snapshot or began.snapshot
        user, search = await self._seen(watched, at_least)
        async with self._database.statements() as statements:
            account = (await statements.accounts([user.login]))[user.login]
        self._must_have_room(user.login)
        shared = self._list_of(user, watched, search, account)
        watcher = Watcher(watched, render, user, shared, held, account)
        shared.watchers.add(watcher)
        self._watchers.add(watcher)
        try:
            has_answered = await self._ask_anew(shared)
            ready = watcher.look(self._clock.now())
            if not has_answered or account.version != user.version or not await self._is_sure(watcher):
                raise Unavailable("an administrator is changing your account: try again in a second")
            watcher.tell(ready, self._clock.now())
        except BaseException:
            self._end(watcher)
            raise
        return watcher

    def _must_have_room(self, login: str) -> None:
        if len(self._watchers) >= self._most:
            raise Exhausted("too many lists are watched: try again later, or list the cases without watching")
        if sum(each.user.login == login for each in self._watchers) >= self._most_of_a_user:
            raise Exhausted(f"you watch {self._most_of_a_user} lists already: close one of them")

    def _end(self, watcher: Watcher) -> None:
        self._watchers.discard(watcher)
        self._leave(watcher)

    def _leave(self, watcher: Watcher) -> None:
        left = watcher.list
        left.watchers.discard(watcher)
        if not left.watchers and self._lists.get(left.key) is left:
            del self._lists[left.key]

    async def _seen(self, watched: Watched, at_least: int = 0) -> tuple[CompiledUser, Search | None]:
        """Who watches, as they are now, and what they search for; raises what ListCases does."""

        async def ask(statements: AccessTransaction, user: CompiledUser) -> Answer[Search | None] | None:
            current = await statements.knows_facility(user, None)
            if current is None:
                return None
            is_current = current.user_version == user.version
            return current.carrying(await search_of(statements, user, watched.asked) if is_current else None)

        user, answer = await self._questions.asked(watched.login, ask, at_least)
        return user, answer.found

    def _list_of(
        self, user: CompiledUser, watched: Watched, search: Search | None, account: Account
    ) -> LiveList:
        """The list of all who see the same; who is shown nothing singly sees what their rights show."""
        session = watched.session
        if not account.shown_singly:
            user, session = replace(user, grantee=None), ""
        key = key_of(user, session, watched, search)
        if key not in self._lists:
            order = watched.asked
            window = Window(order.order, watched.rows, descending=order.descending)
            self._lists[key] = LiveList(key, user, session, watched.asked, search, window)
        return self._lists[key]

    # The loop

    async def tick(self) -> None:
        """Looks at what was committed since the last tick, and tells who is concerned."""
        if not self._watchers:
            self._snapshot, self._answered_at = None, self._clock.now()
            self._locks.clear()
            return
        try:
            await self._tick()
        except Exception as error:  # whoever does not know shows nothing
            if self._clock.now() - self._answered_at > CUT_AFTER:
                self._cut(self._watchers, error if isinstance(error, Unavailable) else Unavailable(_TOO_SLOW))
            raise
        finally:
            now = self._clock.now()
            for each in [*self._watchers]:
                if each.doubted_since and now - each.doubted_since > CUT_AFTER:
                    self._cut([each], each.list.trouble or Unavailable(_TOO_SLOW))
            slow = [each for each in self._watchers if each.waits_since and now - each.waits_since > PATIENCE]
            self._cut(slow, Exhausted("what changes is not taken as fast as it comes: watch the list again"))

    def _cut(self, watchers: Iterable[Watcher], error: ReadroomError) -> None:
        for each in list(watchers):
            each.fail(error)
            self._end(each)

    async def _tick(self) -> None:
        async with self._database.statements() as statements:
            changes = await statements.changes_since(self._snapshot, self._most_changes)
            changed, of_persons = await self._changed(statements, changes)
        await self._move(changes)
        self._snapshot = changes.snapshot
        now = self._clock.now()
        for each in self._lists.values():
            if changes.ids is None:
                each.forget()
            each.hear({**changed, **of_persons} if each.is_historical else changed, now)
        failures = await self._ask_all(now)
        await self._tell(changes.snapshot)
        self._answered_at = self._clock.now()
        if failures:
            raise failures[0]

    async def _ask_all(self, now: datetime) -> list[BaseException]:
        """Asks all lists that are due, or of which cases changed; answers what failed since the last tick."""
        for each in sorted(self._lists.values(), key=lambda each: each.doubted_since or now):
            is_asked = each in self._asks or each.asking.locked()
            if not is_asked and (each.changed or each.is_due(now)):
                self._asks[each] = asyncio.create_task(self._asked(each))
        if self._asks:
            await asyncio.wait(self._asks.values(), timeout=self._asked_for_s)
        ended = [each for each, task in self._asks.items() if task.done()]
        return [error for each in ended if (error := self._asks.pop(each).exception())]

    async def close(self) -> None:
        """Asks for nothing any more."""
        asks = [*self._asks.values()]
        for each in asks:
            each.cancel()
        await asyncio.gather(*asks, return_exceptions=True)

    async def _tell(self, snapshot: str) -> None:
        """Tells whose lists have news, but for those whose sight may have changed since a snapshot."""
        now = self._clock.now()
        for each in self._watchers:
            if each.list.doubted_since and not each.has_answers:
                each.event = None  # it may be so no longer
        ready = {each: each.look(now) for each in self._watchers if each.has_news and not each.unsure_since}
        if not ready:
            return
        users = {each.user.id for each in ready}
        async with self._database.statements() as statements:
            later = await statements.changes_since(snapshot, len(users), among=users)
        if later.ids is None:
            return
        changed = set(later.ids)
        for watcher, looked in ready.items():
            if watcher.user.id not in changed and watcher.error is None:
                watcher.tell(looked, now)

    async def _asked(self, each: LiveList) -> None:
        """Asks what is in a list; what cannot be asked now is soon looked for anew."""
        try:
            if each.is_due(self._clock.now()) or not await self._ask(each):
                await self._ask_anew(each)
        except Unavailable as error:
            now = self._clock.now()
            each.failed(error, now, again_at=now + ASK_AGAIN)

    async def _changed(
        self, statements: AccessTransaction, changes: Changes
    ) -> tuple[dict[CaseId, Change], dict[CaseId, Change]]:
        """The cases that changed, by a commit or by the end of a lock; and those that they may show."""
        now = self._clock.now()
        ended = [case_id for case_id, until in self._locks.items() if until <= now]
        for case_id in ended:
            del self._locks[case_id]
        ids = [CaseId(each) for each in {*(changes.ids or ()), *ended}]
        if not ids:
            return {}, {}
        changed = await statements.changed(ids)
        for case_id, change in changed.items():
            if change.locked_until and change.locked_until > now and len(self._locks) < MOST_LOCKS:
                self._locks[case_id] = change.locked_until
        if not any(each.is_historical for each in self._lists.values()):
            return changed, {}
        others = await statements.of_same_persons(ids, MOST_CHANGES)
        return changed, await statements.changed(others) if others else {}

    async def _ask_anew(self, each: LiveList) -> bool:
        """Looks for a list; whether it has answered."""
        login = each.asker.login
        async with each.asked_for(), self._anew.of(login), self._of_lists.statements() as statements:
            asker = each.asker
            each.begin_anew()
            answer = await first_rows(
                statements, asker, each.asked, each.window.limit, each.search, session=each.session
            )
            if answer is None or answer.user_version != asker.version:
                each.forget()  # they are somebody else by now: somebody else asks
                return False
            each.window.replace(answer.found)
            each.asked_anew(statements.now)
            return True

    async def _ask(self, each: LiveList) -> bool:
        """Asks about the cases that changed; whether that is enough to know the list."""
        login = each.asker.login
        async with each.asked_for(), self._one_by_one.of(login), self._database.statements() as statements:
            asker, case_ids, each.changed = each.asker, each.changed, set()
            answer = await statements.in_list(asker, each.asked, case_ids, each.search, session=each.session)
            if answer is None or answer.user_version != asker.version:
                each.forget()
                return True
            is_enough = each.window.hear(case_ids, answer.found)
            if is_enough:
                each.answered(statements.now)
            return is_enough

    # Whose sight changed

    async def _is_sure(self, watcher: Watcher) -> bool:
        """Whether they are still as they were compiled, and shown singly what they were."""
        async with self._database.statements() as statements:
            accounts = await statements.accounts([watcher.user.login])
        return accounts.get(watcher.user.login) == watcher.account

    async def _move(self, changes: Changes) -> None:
        """Puts whose sight changed to the list that they see now; who sees nothing more is told so."""
        ids = None if changes.ids is None else set(changes.ids)
        concerned = [
            each for each in self._watchers if ids is None or each.user.id in ids or each.unsure_since
        ]
        if not concerned:
            return
        async with self._database.statements() as statements:
            accounts = await statements.accounts([each.user.login for each in concerned])
        for watcher in concerned:
            account = accounts.get(watcher.user.login)
            if account is None or account != watcher.account or watcher.unsure_since:
                await self._compile_again(watcher, account or watcher.account)

    async def _compile_again(self, watcher: Watcher, account: Account) -> None:
        # Until it is known what they see; what was ready is not told.
        watcher.unsure_since = watcher.unsure_since or self._clock.now()
        watcher.event = watcher.waits_since = None
        try:
            user, search = await self._seen(watcher.watched)
        except Unavailable:
            return
        except ReadroomError as error:
            self._cut([watcher], error)
            return
        self._leave(watcher)
        watcher.user, watcher.account = user, account
        if account.version == user.version:
            watcher.unsure_since = None
        watcher.list = self._list_of(user, watcher.watched, search, account)
        watcher.looked_at = watcher.rights_of = None
        watcher.list.watchers.add(watcher)
        watcher.list.forget()

    async def forget_changes(self) -> bool:
        """Forgets some of the changes of before KEPT_FOR; whether there were any."""
        async with self._database.statements() as statements:
            return await statements.prune_changes(KEPT_FOR) > 0
