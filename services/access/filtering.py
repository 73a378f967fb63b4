"""Saves, describes and lists the filters of users; `filterrules.py` says who may."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from uuid import UUID

from kernel.database import Database
from kernel.errors import Invalid
from kernel.ids import UserId
from kernel.versions import Change, must_be_current
from services.access.accessfilter import Historical, SavedFilter
from services.access.administration import Administration, account_of, managed
from services.access.domain import Role, User
from services.access.filter.form import filled, kept
from services.access.filter.grammar import parse
from services.access.filter.names import Names, bind, names, shown, stored
from services.access.filter.tree import Expression
from services.access.filternames import directory_of
from services.access.filterrules import (
    fault_of,
    is_of_group,
    must_know_filter,
    must_save_filter,
    roles_known_to,
)
from services.access.manager import Manager

if TYPE_CHECKING:
    from services.access.store import AccessTransaction


@dataclass(frozen=True, slots=True)
class FilterSettings:
    """A filter as an administrator wants it to be.

    Attributes:
        form: what was filled in.
        expression: as they write it.
        version: the one that it was made from (A68); 0 for the first.
    """

    user_id: UserId
    form: Mapping[str, object]
    expression: str
    historical: Historical
    version: int


@dataclass(frozen=True, slots=True)
class DescribedFilter:
    """A filter as somebody may know it.

    Attributes:
        saved: its expression with today's names of whom and what they know.
        fault: why it no longer parses, and hides everything (A15); empty while it does.
    """

    user_id: UserId
    login: str
    saved: SavedFilter
    last: Change
    fault: str = ""


@dataclass(frozen=True, slots=True)
class ListedFilter:
    """A filter in a list."""

    user_id: UserId
    login: str
    role: Role
    saved: SavedFilter
    last: Change

    @property
    def fault(self) -> str:
        """Why it no longer parses, and hides everything (A15); empty while it does."""
        return fault_of(self.saved, self.role)


class Filters:
    """Filters of users."""

    def __init__(self, database: Database[AccessTransaction]) -> None:
        self._database = database
        self._administration = Administration(database)

    async def save_filter(self, login: str, settings: FilterSettings) -> tuple[DescribedFilter, int]:
        """Sets the filter of a user; answers it and the revision of sight.

        Raises Invalid for what does not parse, with the place (`FilterError`): then nothing changes.
        """
        user_id = settings.user_id
        async with self._administration.change(login, "filter.saved", f"user:{user_id}") as act:
            manager, transaction = act.manager, act.transaction
            user = await managed(transaction, manager, user_id)
            old = await transaction.saved_filter(user_id)
            must_save_filter(manager, await account_of(transaction, user), old, transaction.now)
            last = await transaction.last_change_of_filter(user_id)
            must_be_current(f"the filter of `{user.login}`", settings.version, last)
            saved = await _bound(transaction, manager, user, settings, old)
            if saved == old:
                return await _described(transaction, manager, user, saved, last), await transaction.revision()
            change = await transaction.save_filter(user_id, saved, by=act.actor.login)
            # What it asks may name a patient, and stays out of the audit.
            revision = await act.done(
                *await act.users_changed({user_id}),
                version=change.version,
                form=int(bool(saved.form)),
                expression=int(bool(saved.expression)),
                historical=saved.historical,
            )
            return await _described(transaction, manager, user, saved, change), revision

    async def describe_filter(self, login: str, user_id: UserId) -> DescribedFilter:
        """The filter of a user whom the caller manages."""
        async with self._administration.look(login) as (transaction, actor):
            manager = Manager(actor)
            user = await managed(transaction, manager, user_id)
            must_know_filter(actor, user)
            saved = await transaction.saved_filter(user_id)
            last = await transaction.last_change_of_filter(user_id)
            return await _described(transaction, manager, user, saved, last)

    async def list_filters(self, login: str, after: str, limit: int) -> Sequence[ListedFilter]:
        """The filters of the users whom the caller manages, by login; those that ask nothing are left out."""
        async with self._administration.look(login) as (transaction, actor):
            homes = Manager(actor).homes
            return await transaction.filters(homes, roles_known_to(actor), after, limit)

    async def broken(self, after: str, limit: int) -> tuple[Sequence[ListedFilter], str]:
        """Of some filters those that no longer parse, and the last login looked at; empty: no more."""
        async with self._database.transaction() as transaction:
            found = await transaction.filters(None, list(Role), after, limit)
        return [each for each in found if each.fault], found[-1].login if found else ""


async def _bound(
    transaction: AccessTransaction, manager: Manager, user: User, settings: FilterSettings, old: SavedFilter
) -> SavedFilter:
    """What is saved: the expression with users and facilities by their ids."""
    form = kept(filled(settings.form))
    group = is_of_group(user.role)
    before = names(expression) if (expression := _parsed(old, group)) else Names(*[frozenset()] * 4)
    text = settings.expression.strip()
    if text:
        written = parse(text, is_of_group=group, stored=True)
        directory = await directory_of(transaction, manager, names(written))
        bound = bind(text, written, directory)
        ids = names(bound)
        _must_be_known(ids.user_ids - before.user_ids, directory.users, "expression")
        _must_be_known(ids.facility_ids - before.facility_ids, directory.facilities, "expression")
        text = stored(text, bound)
    saved = SavedFilter(form, text, settings.historical)
    asked = saved.parsed(is_of_group=group)  # what was stored parses, or nothing is stored
    if form.get("facilities") and asked:
        directory = await directory_of(transaction, manager, names(asked))
        _must_be_known(names(asked).facility_ids - before.facility_ids, directory.facilities, "form")
    return saved


def _parsed(saved: SavedFilter, group: bool) -> Expression | None:
    try:
        return saved.parsed(is_of_group=group)
    except Invalid:
        return None


def _must_be_known(ids: Collection[UUID], known: Collection[UUID], field: str) -> None:
    """Raises Invalid for an id that does not exist for who saves it and was not stored before."""
    if unknown := set(ids) - set(known):
        raise Invalid(f"`{field}` names `#{min(unknown)}`, which does not exist", field=field)


async def _described(
    transaction: AccessTransaction, manager: Manager, user: User, saved: SavedFilter, last: Change
) -> DescribedFilter:
    text, group = saved.expression, is_of_group(user.role)
    fault = fault_of(saved, user.role)
    if text and not fault:
        written = parse(text, is_of_group=group, stored=True)
        text = shown(text, written, await directory_of(transaction, manager, names(written)))
    return DescribedFilter(user.id, user.login, replace(saved, expression=text), last, fault)
