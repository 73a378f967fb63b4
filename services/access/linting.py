"""Lint: what a filter would do, said before it is saved (BEY-4).

What cannot be read is answered with its place and its repair; what can, with its meaning, with cautions
and with what it would show. Counts are of facilities that the asker administers, whole rows only of cases
that they see themself (A73). Of the reading only what the side of the user knows is looked at, and whoever is
of the facility's side asks for users of that side only: a filter tells them nothing of a pre-read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from kernel.database import Database
from kernel.errors import Invalid
from kernel.ids import FacilityId, UserId
from services.access.administration import compiled, managed
from services.access.domain import no_user, reader_of
from services.access.filter import form, names
from services.access.filter.form import Form
from services.access.filter.grammar import parse
from services.access.filter.lint import Caution, Filled, Use, lint
from services.access.filter.names import Directory
from services.access.filter.reader import Reader
from services.access.filter.reading import read
from services.access.filter.tree import Expression, predicates
from services.access.filternames import directory_of
from services.access.filterrules import must_know_filter
from services.access.manager import Manager
from services.access.shown import ShownCase, all_shown

if TYPE_CHECKING:
    from services.access.store import AccessTransaction


MAX_COUNTED = 10_000
"""Cases that a filter is tried on: the newest of each facility, as many of each. It takes some 50 ms."""
SAMPLES = 10
MAX_CAUTIONS = 50
"""Nobody reads more."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A filter that is being written. Whom or what the asker may not know it names by id, as it was shown.

    Attributes:
        user_id: whom it is for; None: for somebody like the asker.
        form: what is filled in, by field of `Form`.
    """

    user_id: UserId | None
    form: Mapping[str, Any]
    expression: str


class Counted(NamedTuple):
    """What a filter shows of the cases that it was tried on.

    Attributes:
        cases: it was tried on.
        are_all: whether these are all there are.
        filled: in how many of them each field that the filter reads has a value, by keyword.
    """

    cases: int
    shown: int
    are_all: bool
    filled: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Linted:
    """What a filter would do.

    Attributes:
        fault: why it is refused; then nothing else is known. A `FilterError` has a place in the expression,
            of others `field` names the field of the form.
        reading: in plain English.
        cautions: of the expression.
        form_says: what the form says as an expression, with today's names.
        offered: the form that says just what the expression says, where nothing is filled in.
        counted: None only beside a fault.
        samples: the newest of those shown that the asker sees.
    """

    fault: Invalid | None = None
    reading: str = ""
    cautions: Sequence[Caution] = ()
    form_says: str = ""
    offered: Form | None = None
    counted: Counted | None = None
    samples: Sequence[ShownCase] = ()


class Linting:
    """Tries filters. Everything that one answer says is of one snapshot."""

    def __init__(self, database: Database[AccessTransaction]) -> None:
        self._database = database

    async def lint(self, login: str, session: str, draft: Draft) -> Linted:
        """What a filter would do, or why it is refused.

        Needs `access.admin` somewhere. Raises NotFound for a user whom the asker does not manage, as for one
        who does not exist, and Denied for one of the group if the asker is of the facility's side.
        """
        async with self._database.transaction() as transaction:
            await transaction.in_one_snapshot()
            asker = await compiled(transaction, login)
            manager = Manager(asker)
            reader = await _reader(transaction, manager, draft.user_id)
            try:
                asked = await _asked(transaction, manager, reader, draft)
            except Invalid as fault:
                return Linted(fault=fault)
            return await _tried(transaction, manager, session, reader, asked)


class _Asked(NamedTuple):
    """What is asked, bound.

    Attributes:
        written: the expression alone; None if there is none.
        whole: form and expression, AND-ed.
    """

    form: Form
    written: Expression | None
    whole: Expression
    directory: Directory


async def _reader(transaction: AccessTransaction, manager: Manager, user_id: UserId | None) -> Reader:
    """For whom it is tried: the user, or the asker for somebody like them."""
    asker = manager.user
    if user_id is None or user_id == asker.id:
        user = await transaction.user(asker.id)
        if user is None:
            raise no_user(asker.id)
    else:
        user = await managed(transaction, manager, user_id)
        must_know_filter(asker, user)
    home = await transaction.facility(user.home_facility_id) if user.home_facility_id else None
    return reader_of(user, home.time_zone if home else "UTC")


async def _asked(transaction: AccessTransaction, manager: Manager, reader: Reader, draft: Draft) -> _Asked:
    """Raises Invalid for what cannot be asked, `FilterError` where it has a place in the expression."""
    filled_in = form.filled(draft.form)
    said = form.expression_of(filled_in)
    text = draft.expression
    written = None
    if text.strip() or said is None:
        written = parse(text, is_of_group=reader.is_of_group, stored=True)
    whole = form.both(said, written)
    assert whole is not None, "no text is read as nothing"
    directory = await directory_of(transaction, manager, names.names(whole))
    bound = names.bind(text, written, directory) if written else None
    return _Asked(filled_in, bound, form.both(said, bound) or whole, directory)


async def _tried(
    transaction: AccessTransaction, manager: Manager, session: str, reader: Reader, asked: _Asked
) -> Linted:
    fields = sorted({each.field for each in predicates(asked.whole)}, key=lambda field: field.keyword)
    facilities = [each for each in map(FacilityId, asked.directory.facilities) if manager.administers(each)]
    counted = await transaction.try_filter(asked.whole, reader, facilities, fields, MAX_COUNTED)
    filled = {keyword: Filled(counted.cases, with_value) for keyword, with_value in counted.filled.items()}
    use = Use(is_access_filter=True, is_of_group=reader.is_of_group, filled=filled)
    samples = await transaction.samples(
        manager.user, session, asked.whole, reader, facilities, MAX_COUNTED, SAMPLES
    )
    said, now = form.expression_of(asked.form), transaction.now
    return Linted(
        reading=read(names.named(asked.whole, asked.directory)),
        cautions=lint(asked.written, use)[:MAX_CAUTIONS] if asked.written else (),
        form_says=names.shown(form.text_of(asked.form), said, asked.directory) if said else "",
        offered=form.offered(asked.written) if asked.written and said is None else None,
        counted=counted,
        samples=all_shown(manager.user, samples, now),
    )
