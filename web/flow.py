"""From list to case to case: what somebody looked at, which comes next, and who else has a case open.

All live in the web alone. A list is kept as the ids that a login session was shown last, and as what was
asked for, under an id that its address may hold; who is at a case is known for the group's side only, shown
to it only, and enters no list, order or event.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from kernel.errors import ReadroomError
from kernel.ids import NewId, parse_id
from plumbing.db import Database
from web.domain import Session, View
from web.store import WebTransaction

COUNTS_FOR = timedelta(seconds=150)
"""A page that is open says so each minute: whoever missed two is gone."""


MOST_VIEWS = 100
"""That a session may go back to."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a case stands in the list that somebody came from.

    Attributes:
        number: its place among the cases that were shown, from 1.
        of: how many these were.
        following: the cases after it, in their order.
        list_path: where the list is.
    """

    number: int
    of: int
    following: tuple[UUID, ...]
    list_path: str = "/"


def place_of(case_id: UUID, shown: Sequence[UUID], view_id: UUID | None = None) -> Place | None:
    """The place of a case in a list; None if it is not in it."""
    if case_id not in shown:
        return None
    at = list(shown).index(case_id)
    return Place(at + 1, len(shown), tuple(shown[at + 1 :]), path_of(view_id))


def path_of(view_id: UUID | None) -> str:
    """Where a list is looked at; without a view as everybody begins."""
    return f"/?view={view_id}" if view_id else "/"


class Flow:
    """What the web remembers between one case and the next."""

    def __init__(self, database: Database[WebTransaction], new_id: NewId) -> None:
        self._database = database
        self._new_id = new_id

    async def keep_view(self, session: Session, view: View) -> str:
        """Keeps how a session wants to look at a list; answers its path."""
        view_id = self._new_id()
        async with self._database.transaction() as tx:
            await tx.save_view(view_id, session.session_id, view, MOST_VIEWS)
        return path_of(view_id)

    async def view(self, session: Session, text: str) -> View | None:
        """What an address names: one that this session keeps, or what everybody begins with; else None."""
        if not text:
            return View()
        try:
            view_id = parse_id(text, "view")
        except ReadroomError:
            return None
        async with self._database.statements() as tx:
            return await tx.view(view_id, session.session_id)

    async def came_by(self, session: Session, case_ids: Sequence[UUID], view_id: UUID | None = None) -> None:
        """Remembers the cases that a session is shown, and the view that they are of."""
        async with self._database.statements() as tx:
            await tx.save_shown(session.session_id, case_ids, view_id)

    async def place(self, session: Session, case_id: UUID) -> Place | None:
        """Where a case stands in the list that the session was shown last."""
        async with self._database.statements() as tx:
            return place_of(case_id, *await tx.shown(session.session_id))

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
