"""From case to case: which comes next in the list that somebody came from, and who else has a case open.

Both live in the web alone. A list is kept as the ids of the page that a login session was shown last; who is
at a case is known for the group's side only, shown to it only, and enters no list, order or event.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from plumbing.db import Database
from web.domain import Session
from web.store import WebTransaction

COUNTS_FOR = timedelta(seconds=150)
"""A page that is open says so each minute: whoever missed two is gone."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a case stands in the list that somebody came from.

    Attributes:
        number: its place on the page, from 1.
        of: how many cases the page had.
        following: the cases after it, in their order.
    """

    number: int
    of: int
    following: tuple[UUID, ...]


def place_of(case_id: UUID, shown: Sequence[UUID]) -> Place | None:
    """The place of a case in a list; None if it is not in it."""
    if case_id not in shown:
        return None
    at = list(shown).index(case_id)
    return Place(at + 1, len(shown), tuple(shown[at + 1 :]))


class Flow:
    """What the web remembers between one case and the next."""

    def __init__(self, database: Database[WebTransaction]) -> None:
        self._database = database

    async def came_by(self, session: Session, case_ids: Sequence[UUID]) -> None:
        """Remembers the list that a session is shown."""
        async with self._database.statements() as tx:
            await tx.save_shown(session.session_id, case_ids)

    async def place(self, session: Session, case_id: UUID) -> Place | None:
        """Where a case stands in the list that the session was shown last."""
        async with self._database.statements() as tx:
            return place_of(case_id, await tx.shown(session.session_id))

    async def open(self, session: Session, case_id: UUID) -> Sequence[str]:
        """Notes that somebody of the group has the case open; answers the names of the others who have."""
        async with self._database.statements() as tx:
            await tx.note_open(case_id, session.session_id)
            return await tx.others_at(case_id, session.person.user_id, tx.now - COUNTS_FOR)

    async def close(self, session: Session, case_id: UUID) -> None:
        async with self._database.statements() as tx:
            await tx.note_closed(case_id, session.session_id)

    async def drop_closed(self) -> None:
        """Forgets who had which case open."""
        async with self._database.statements() as tx:
            await tx.drop_closed(tx.now - COUNTS_FOR)
