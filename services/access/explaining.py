"""Explains to whoever administers a facility why somebody sees a case there, or does not."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from kernel.database import Database
from kernel.errors import lacks
from kernel.ids import CaseId, UserId
from services.access.administration import compiled
from services.access.domain import (
    CompiledUser,
    Permission,
    Sighting,
    User,
    no_case,
    no_user,
)
from services.access.explain import (
    MOST_COUNTED,
    Evidence,
    ExplainedCase,
    ExplainedFacility,
    ExplainedFilter,
    Explanation,
    explain,
    must_be_explained_to,
)
from services.access.filter.names import names
from services.access.filter.trace import columns
from services.access.filternames import directory_of
from services.access.manager import Manager
from services.access.privileges import shown_privilege

if TYPE_CHECKING:
    from services.access.store import AccessTransaction


class Explaining:
    """Explanations. Everything that one tells is of one snapshot."""

    def __init__(self, database: Database[AccessTransaction]) -> None:
        self._database = database

    async def explain(self, login: str, user_id: UserId, case_id: CaseId) -> Explanation:
        """Why the user sees the case or does not.

        Raises NotFound for a user whom the asker does not manage, as for one who does not exist. Of a case
        whose facility they do not administer it raises Denied if they see it, else NotFound.
        """
        async with self._database.transaction() as transaction:
            await transaction.in_one_snapshot()
            asker = await compiled(transaction, login)
            manager = Manager(asker)
            case = await _administered(transaction, manager, case_id)
            user, their = await _explained(transaction, manager, user_id)
            return explain(
                Evidence(
                    user,
                    their,
                    case,
                    await _sighting(transaction, their, case_id),
                    shown_privilege(await transaction.privilege(user_id, case.facility.id), asker.side),
                    await transaction.showings(user_id, case_id, manager.homes),
                    await _filter(transaction, manager, their, case_id),
                    transaction.now,
                )
            )

    async def explain_list(
        self, login: str, user_id: UserId, after: tuple[str, UUID] | None, limit: int
    ) -> list[ExplainedFacility]:
        """What the user sees of each facility that the asker administers, by name and id, after this one."""
        async with self._database.transaction() as transaction:
            await transaction.in_one_snapshot()
            manager = Manager(await compiled(transaction, login))
            _, their = await _explained(transaction, manager, user_id)
            found = []
            for facility in await transaction.administered(manager.homes, after, limit):
                counted = await transaction.count_shown(their, facility.id, MOST_COUNTED)
                found.append(ExplainedFacility.of(their, facility, counted, transaction.now))
            return found


async def _explained(
    transaction: AccessTransaction, manager: Manager, user_id: UserId
) -> tuple[User, CompiledUser]:
    """A user who may be explained to the manager, as stored and with what they are compiled to."""
    user = await transaction.user(user_id)
    if user is None:
        raise no_user(user_id)
    manager.must_manage(user)
    their = await transaction.compiled_user(user.login)
    if their is None:
        raise no_user(user_id)
    must_be_explained_to(manager.user, their)
    return user, their


async def _administered(transaction: AccessTransaction, manager: Manager, case_id: CaseId) -> ExplainedCase:
    """A case whose facility they administer."""
    case = await transaction.explained_case(case_id)
    if case is not None and manager.administers(case.facility.id):
        return case
    if case is None or await _sighting(transaction, manager.user, case_id) is None:
        raise no_case(case_id)
    raise lacks(Permission.ADMINISTER_ACCESS, at="the facility")


async def _filter(
    transaction: AccessTransaction, manager: Manager, user: CompiledUser, case_id: CaseId
) -> ExplainedFilter | None:
    """The filter of a user, asked of a case whose values the manager is told if they see it."""
    if user.filter is None:
        return None
    values = await transaction.case_values(case_id, columns(user.filter.expression, user.filter.reader))
    asked = names(user.filter.expression)
    ids = {each for each in values.values() if isinstance(each, UUID)}
    known = await directory_of(
        transaction,
        manager,
        asked._replace(user_ids=asked.user_ids | ids, facility_ids=asked.facility_ids | ids),
    )
    seen = await _sighting(transaction, manager.user, case_id)
    return ExplainedFilter.of(
        user.filter,
        values,
        transaction.now,
        {**known.users, **known.facilities},
        values_shown=seen is not None and not seen.being_deleted,
    )


async def _sighting(transaction: AccessTransaction, user: CompiledUser, case_id: CaseId) -> Sighting | None:
    answer = await transaction.sighted(user, [case_id])
    return answer.found[0] if answer else None
