# ruff: noqa: S608  statements are put together from constants of this file
"""The statements that say what a user sees of cases.

Each is written around a `CaseQuery`. It answers the user's version and the revision from the same snapshot as
the cases, so that whoever asked with a user compiled at another version knows that the answer does not count.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import compress, product
from typing import TypeVar

import asyncpg
import msgspec

from kernel.ids import BucketId, CaseId, FacilityId
from kernel.reading import Side
from plumbing.db import Transaction
from services.access.active import gives_sight, is_active
from services.access.casequery import CaseQuery, CaseTexts, glimpsed_by, seen_by
from services.access.domain import Answer, CompiledUser, ConfirmedStudy, Found, Owned, Path, Sighting
from services.access.late import late_images
from services.access.received import ReceivedStudy, StudyOfSeries

A = TypeVar("A")

# Which case was found, and by which paths it is seen.
FOUND = """
    sighted.case_id, sighted.facility_id, sighted.deletion_id, sighted.instance_count, sighted.untouched,
    sighted.by_privilege, sighted.by_grant, sighted.by_folder, sighted.by_share
"""


def _check(cases: CaseQuery, case_id: CaseId, with_studies: bool, side: Side | None) -> str:
    """One case, whether its studies are asked for, and the side whose images since the report are, if any."""
    asked = cases.value(case_id), cases.value(with_studies), cases.value(side)
    return _check_of(cases.texts, cases.columns, *asked)


@lru_cache(maxsize=1000)
def _check_of(cases: CaseTexts, columns: tuple[str, ...], case: str, studies: str, late: str) -> str:
    """The statement, which is the same for all who have no filter, or whose filters read the same.

    The revision stands where the planner knows that it is one row: then it keeps one plan for all calls,
    where planning each would take longer than the answer. `offset 0` has each path looked up once: else the
    planner writes it out where it is demanded and where it is answered.
    """
    return f"""
        select u.version as user_version, (select value from revision) as revision,
            {FOUND},
            case when {studies} then (
                select jsonb_agg(
                    jsonb_build_object(
                        'study_id', s.study_id, 'series_instance_uids', s.series_instance_uids,
                        'parts', s.parts,
                        'received', case when s.parts is null then s.received end,
                        'snapshot', case when s.parts is null then s.snapshot end
                    )
                    order by s.study_id
                )
                from case_studies s where s.case_id = sighted.case_id
            ) end as studies,
            case when {late}::text is not null then (
                select (r.instance_count, r.images_since) from readings r
                where r.case_id = sighted.case_id and r.side = {late}
            ) end as reported{_values(columns)}
        from users u
        left join (select * from {cases.sighted} where sighted.case_id = {case} offset 0) sighted
            on {cases.visible}
        where u.login = {CaseQuery.login}
    """


def _check_many(cases: CaseQuery, case_ids: Sequence[CaseId]) -> str:
    by_historical = ", sighted.by_historical" if cases.by_historical else ""
    return f"""
        select u.version as user_version, revision.value as revision,
            {FOUND}{by_historical}{_values(cases.columns)}
        from users u
        cross join revision
        cross join unnest({cases.value(case_ids)}::uuid[]) with ordinality as asked (case_id, position)
        left join {cases.sighted} on sighted.case_id = asked.case_id and {cases.visible}
        where u.login = {cases.login}
        order by asked.position
    """


def _values(columns: Sequence[str]) -> str:
    """The values that a filter asks for, as the last columns of a row."""
    return "".join(f", sighted.{column}" for column in columns)


class Sightings(Transaction):
    """Reads cases as a user sees them; without a session no share that asks for codes counts."""

    async def check(
        self,
        user: CompiledUser,
        case_id: CaseId,
        *,
        with_studies: bool,
        with_late_images: bool = False,
        session: str = "",
    ) -> Answer[tuple[Found | None, tuple[ConfirmedStudy, ...]]] | None:
        """The case before the user's filter is asked, and of it what is asked for; None if they are gone."""
        cases = glimpsed_by(user, self.now, session)
        statement = _check(cases, case_id, with_studies, cases.side if with_late_images else None)
        row = await self.connection.fetchrow(statement, *cases.parameters)
        if row is None:
            return None
        found = _found(cases, row)
        if found and row["reported"]:
            late = late_images(found.sighting.instance_count, *row["reported"])
            seen = msgspec.structs.replace(found.sighting, late=late)
            found = msgspec.structs.replace(found, sighting=seen)
        return answer_of(row, (found, _confirmed_studies(row["studies"])))

    async def check_many(
        self, user: CompiledUser, case_ids: Sequence[CaseId], *, session: str = ""
    ) -> Answer[list[Found | None]] | None:
        """Each case before the user's filter is asked, in the order asked; None if the user is gone."""
        cases = glimpsed_by(user, self.now, session)
        rows = await self.connection.fetch(_check_many(cases, case_ids), *cases.parameters)
        return answer_of(rows[0], [_found(cases, row) for row in rows]) if rows else None

    async def sighted(
        self, user: CompiledUser, case_ids: Sequence[CaseId], *, session: str = ""
    ) -> Answer[list[Sighting | None]] | None:
        """Each case as the user sees it, filter and all, in the order asked; None if the user is gone."""
        cases = seen_by(user, self.now, session)
        rows = await self.connection.fetch(_check_many(cases, case_ids), *cases.parameters)
        return answer_of(rows[0], list(map(sighting_of, rows))) if rows else None

    async def knows_facility(self, user: CompiledUser, facility_id: FacilityId | None) -> Answer[bool] | None:
        """Whether a facility exists, True without one; None if the user is gone."""
        row = await self.connection.fetchrow(
            """
            select u.version as user_version, revision.value as revision,
                $2::uuid is null or exists (select from facilities where facility_id = $2) as is_known
            from users u cross join revision where u.login = $1
            """,
            user.login,
            facility_id,
        )
        return answer_of(row, row["is_known"]) if row else None

    async def owned(
        self, user: CompiledUser, case_id: CaseId, *, everywhere: bool, facilities: Collection[FacilityId]
    ) -> Owned | None:
        """The owner of a case that the user sees, or whose facility they administer."""
        cases = seen_by(user, self.now)
        row = await self.connection.fetchrow(
            f"""
            select sighted.facility_id, sighted.by_privilege from users u
            cross join {cases.sighted}
            where u.login = {cases.login} and sighted.case_id = {cases.value(case_id)}
                and sighted.deletion_id is null
                and (
                    {cases.visible} or {cases.value(everywhere)}
                    or sighted.facility_id = any({cases.value(list(facilities))}::uuid[])
                )
            """,
            *cases.parameters,
        )
        return Owned(row["facility_id"], row["by_privilege"]) if row else None

    async def is_active(self, bucket_id: BucketId) -> bool:
        """Whether a bucket gives sight now to its recipient, if need be after a code."""
        statement = f"select exists (select from buckets b where b.bucket_id = $1 and {is_active('$2')})"
        return bool(await self.connection.fetchval(statement, bucket_id, self.now))

    async def gives_sight(self, user: CompiledUser, bucket_id: BucketId, session: str) -> bool:
        """Whether a bucket gives the user sight now, in this session."""
        return bool(
            await self.connection.fetchval(
                f"""
                select exists (
                    select from buckets b
                    where b.bucket_id = $1 and b.user_id = $2 and {gives_sight("$3", "$4")}
                )
                """,
                bucket_id,
                user.grantee,
                self.now,
                session,
            )
        )


def answer_of(row: asyncpg.Record, found: A) -> Answer[A]:
    """What was found, with what the row says of the user and the revision."""
    return Answer(row["user_version"], row["revision"], found)


# By whether the user's privilege, a grant, a folder, a share opens the case; beside them nothing historical
# counts.
_WAYS = (Path.PRIVILEGE, Path.GRANT, Path.FOLDER, Path.SHARE)
_OPEN_PATHS = {
    is_open: tuple(compress(_WAYS, is_open)) or (Path.HISTORICAL,)
    for is_open in product((False, True), repeat=len(_WAYS))
}


def _found(cases: CaseQuery, row: asyncpg.Record) -> Found | None:
    sighting = sighting_of(row)
    return Found(sighting, row[-len(cases.columns) :] if cases.columns else ()) if sighting else None


def sighting_of(row: asyncpg.Record) -> Sighting | None:
    """A case with the paths by which it is seen, which are never none; None for an empty row."""
    if row["case_id"] is None:
        return None
    may_write = row["by_share"]
    paths = _OPEN_PATHS[row["by_privilege"], row["by_grant"], row["by_folder"], may_write is not None]
    return Sighting(
        row["case_id"],
        row["facility_id"],
        paths,
        bool(may_write),
        row["deletion_id"] is not None,
        row["instance_count"],
        row["untouched"],
    )


@dataclass(frozen=True, slots=True)
class _KeptStudy(ConfirmedStudy):
    """A study as it is stored; where routing told series only, with the snapshot that numbers their parts."""

    received: ReceivedStudy | None = None
    snapshot: StudyOfSeries | None = None

    def confirmed(self) -> ConfirmedStudy:
        received = self.received or (self.snapshot.in_parts() if self.snapshot else None)
        parts = received.parts_of(self) if received else self.parts
        return ConfirmedStudy(self.study_id, self.series_instance_uids, parts)


def _confirmed_studies(text: str | None) -> tuple[ConfirmedStudy, ...]:
    kept = () if text is None else msgspec.json.decode(text, type=list[_KeptStudy])
    return tuple(each.confirmed() for each in kept)
