# ruff: noqa: S608  statements are put together from constants of this file
"""The statements over cases that answer a user.

Each takes the same six parameters first and reads cases only through `_SIGHTED`, which says by which
paths the user sees a case, and `_VISIBLE`, which demands one of them; whatever shows something of a case
demands with `_SHOWN` that it is not being deleted too (A60). Nobody sees a case that is being moved. Each
answers the user's version and the revision from the same snapshot as the cases, so that whoever asked with a
user compiled at another version knows that the answer does not count.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import compress, product
from typing import TypeVar
from uuid import UUID

import asyncpg
import msgspec

from kernel.ids import BucketId, CaseId, FacilityId, FolderId, UserId
from kernel.reading import Side
from plumbing.db import Transaction
from services.access.active import gives_sight, is_active
from services.access.caseindex import CaseSummary, ListedCase, Position, Priority
from services.access.domain import Answer, CompiledUser, ConfirmedStudy, Path, Sighting
from services.access.folders import Place, Showing
from services.access.late import late_images
from services.access.readingstore import PROJECTION, projection
from services.access.received import LISTED, ReceivedStudy, StudyAttributes, StudyOfSeries

_GIVES_SIGHT = gives_sight(now="$5", session="$6")

# $1 login, $2 facilities they see by privilege, $3 their id where grants and shares count for them, $4 their
# folders, $5 now, $6 their login session. `by_share` is null without a share, else whether they may write.
_SIGHTED = f"""(
    select c.*,
        c.facility_id = any($2::uuid[]) as by_privilege,
        exists (select from case_grants g where g.case_id = c.case_id and g.user_id = $3::uuid) as by_grant,
        exists (
            select from folder_cases f where f.case_id = c.case_id and f.folder_id = any($4::uuid[])
        ) as by_folder,
        (
            select bool_or(b.write_report) from bucket_cases h join buckets b using (bucket_id)
            where h.case_id = c.case_id and h.user_id = $3::uuid and {_GIVES_SIGHT}
        ) as by_share
    from cases c where c.move_id is null
) sighted"""
_VISIBLE = "(sighted.by_privilege or sighted.by_grant or sighted.by_folder or sighted.by_share is not null)"
_SHOWN = f"{_VISIBLE} and sighted.deletion_id is null"
# Few at a time, and looked up once in a statement: a page is cut off before it looks at any case.
_HIDDEN = """array(
    select d.case_id from cases d where d.deletion_id is not null
    union all select m.case_id from cases m where m.move_id is not null
)"""
_FOUND = """
    sighted.case_id, sighted.facility_id, sighted.deletion_id, sighted.instance_count, sighted.untouched,
    sighted.by_privilege, sighted.by_grant, sighted.by_folder, sighted.by_share
"""

# $7 case, $8 whether its studies are asked for, $9 the side whose images since the report are, or null. The
# revision stands where the planner knows that it is one row: then it keeps one plan for all calls, where
# planning each would take longer than the answer. `offset 0` has each path looked up once: else the planner
# writes it out where it is demanded and where it is answered.
_CHECK = f"""
    select u.version as user_version, (select value from revision) as revision,
        {_FOUND},
        case when $8 then (
            select jsonb_agg(
                jsonb_build_object(
                    'study_id', s.study_id, 'series_instance_uids', s.series_instance_uids, 'parts', s.parts,
                    'received', case when s.parts is null then s.received end,
                    'snapshot', case when s.parts is null then s.snapshot end
                )
                order by s.study_id
            )
            from case_studies s where s.case_id = sighted.case_id
        ) end as studies,
        case when $9::text is not null then (
            select (r.instance_count, r.images_since) from readings r
            where r.case_id = sighted.case_id and r.side = $9
        ) end as reported
    from users u
    left join (select * from {_SIGHTED} where sighted.case_id = $7 offset 0) sighted on {_VISIBLE}
    where u.login = $1
"""

# $7 cases
_CHECK_MANY = f"""
    select u.version as user_version, revision.value as revision, {_FOUND}
    from users u
    cross join revision
    cross join unnest($7::uuid[]) with ordinality as asked (case_id, position)
    left join {_SIGHTED} on sighted.case_id = asked.case_id and {_VISIBLE}
    where u.login = $1
    order by asked.position
"""

# Each path is a branch of its own that an index serves in order, each cut off at the page; what they
# offer passes the same predicate as a check. A case in several folders or shares counts once before the cut.
# $7 and $8: after this position; $9: rows; $10: facility; $11: the side whose projection of the reading is
# shown, on which nothing else may depend (A59).
_LIST = f"""
    with page as (
        (
            select offered.case_id, offered.received_at
            from unnest($2::uuid[]) as seen (facility_id)
            cross join lateral (
                select c.case_id, c.received_at from cases c
                where c.facility_id = seen.facility_id and (c.received_at, c.case_id) < ($7, $8)
                    and c.case_id <> all({_HIDDEN})
                order by c.received_at desc, c.case_id desc limit $9
            ) offered
            order by received_at desc, case_id desc limit $9
        ) union (
            select g.case_id, g.received_at from case_grants g
            where g.user_id = $3::uuid and (g.received_at, g.case_id) < ($7, $8)
                and g.case_id <> all({_HIDDEN})
                and ($10::uuid is null or $10 = (
                    select c.facility_id from cases c where c.case_id = g.case_id
                ))
            order by g.received_at desc, g.case_id desc limit $9
        ) union (
            select distinct offered.case_id, offered.received_at
            from unnest($4::uuid[]) as theirs (folder_id)
            cross join lateral (
                select f.case_id, f.received_at from folder_cases f
                where f.folder_id = theirs.folder_id and (f.received_at, f.case_id) < ($7, $8)
                    and f.case_id <> all({_HIDDEN})
                    and ($10::uuid is null or $10 = (
                        select c.facility_id from cases c where c.case_id = f.case_id
                    ))
                order by f.received_at desc, f.case_id desc limit $9
            ) offered
            order by received_at desc, case_id desc limit $9
        ) union (
            select distinct offered.case_id, offered.received_at
            from buckets b
            cross join lateral (
                select h.case_id, h.received_at from bucket_cases h
                where h.bucket_id = b.bucket_id and (h.received_at, h.case_id) < ($7, $8)
                    and h.case_id <> all({_HIDDEN})
                    and ($10::uuid is null or $10 = (
                        select c.facility_id from cases c where c.case_id = h.case_id
                    ))
                order by h.received_at desc, h.case_id desc limit $9
            ) offered
            where b.user_id = $3::uuid and {_GIVES_SIGHT}
            order by received_at desc, case_id desc limit $9
        )
        order by received_at desc, case_id desc limit $9
    )
    select u.version as user_version, revision.value as revision, coalesce(f.name, '') as facility_name,
        sighted.*, a.login as assignee_login, {PROJECTION}, r.images_since
    from users u
    cross join revision
    left join (page join {_SIGHTED} using (case_id)) on {_SHOWN}
    left join facilities f on f.facility_id = sighted.facility_id
    left join readings r on r.case_id = sighted.case_id and r.side = $11
    left join users a on a.user_id = sighted.assignee_id and $11 = '{Side.GROUP}'
    where u.login = $1
    order by sighted.received_at desc, sighted.case_id desc
"""

_ADMINISTERED = f"""
    select sighted.facility_id from users u
    cross join {_SIGHTED}
    where u.login = $1 and sighted.case_id = $7 and sighted.deletion_id is null
        and ({_VISIBLE} or $8 or sighted.facility_id = any($9::uuid[]))
"""

# What shows cases beside privileges, by what is shown to: table, column, and whether it is a manager's whose
# users' homes are $7. Who administers everything names no home.
_SHOWN_TO = {
    "user": (
        "case_grants",
        "user_id",
        "exists (select from users t where t.user_id = shown.user_id and t.home_facility_id = any($7))",
    ),
    "folder": (
        "folder_cases",
        "folder_id",
        """(
            select coalesce(bool_and(coalesce(t.home_facility_id = any($7), false)), false)
            from folder_members m join users t using (user_id) where m.folder_id = shown.folder_id
        )""",
    ),
}


def _showings(to: str, of: str) -> str:
    """The showings of a case, or those to a user or folder, that a manager may know of.

    $8 what is asked about; $9, $10, $11: after this place; $12: rows.
    """
    table, column, is_theirs = _SHOWN_TO[to]
    return f"""
        select u.version as user_version, revision.value as revision, found.*
        from users u
        cross join revision
        left join lateral (
            select shown.case_id, shown.{column} as shown_to, shown.received_at, sighted.facility_id
            from {table} shown join {_SIGHTED} using (case_id)
            where shown.{of} = $8 and (shown.received_at, shown.case_id, shown.{column}) < ($9, $10, $11)
                and sighted.deletion_id is null
                and (
                    $7::uuid[] is null or sighted.facility_id = any($7) or ({_VISIBLE} and {is_theirs})
                )
            order by shown.received_at desc, shown.case_id desc, shown.{column} desc limit $12
        ) found on true
        where u.login = $1
        order by found.received_at desc, found.case_id desc, found.shown_to desc
    """


_GRANTS = {of: _showings("user", of) for of in ("case_id", "user_id")}
_FOLDER_CASES = {of: _showings("folder", of) for of in ("case_id", "folder_id")}

_LAST_ID = UUID(int=2**128 - 1)
_NEWEST = Position(datetime.max.replace(tzinfo=UTC), CaseId(_LAST_ID))


A = TypeVar("A")


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
    ) -> Answer[tuple[Sighting | None, tuple[ConfirmedStudy, ...]]] | None:
        """The case as the user sees it, and of it what is asked for; None if the user is gone."""
        side = user.reading_side if with_late_images else None
        row = await self.connection.fetchrow(_CHECK, *self._paths(user, session), case_id, with_studies, side)
        if row is None:
            return None
        sighting = _sighting(row)
        if sighting and row["reported"]:
            sighting = replace(sighting, late=late_images(sighting.instance_count, *row["reported"]))
        return _answer(row, (sighting, _confirmed_studies(row["studies"])))

    async def check_many(
        self, user: CompiledUser, case_ids: Sequence[CaseId], *, session: str = ""
    ) -> Answer[list[Sighting | None]] | None:
        """Each case as the user sees it, in the order asked; None if the user is gone."""
        rows = await self.connection.fetch(_CHECK_MANY, *self._paths(user, session), case_ids)
        return _answer(rows[0], list(map(_sighting, rows))) if rows else None

    async def list_cases(
        self,
        user: CompiledUser,
        after: Position | None,
        limit: int,
        facility_id: FacilityId | None,
        *,
        session: str = "",
    ) -> Answer[list[tuple[ListedCase, Sighting]]] | None:
        """The cases that the user sees, newest first; None if the user is gone."""
        login, facilities, *others = self._paths(user, session)
        if facility_id is not None:
            facilities = tuple(f for f in facilities if f == facility_id)
        after = after or _NEWEST
        rows = await self.connection.fetch(
            _LIST,
            login,
            facilities,
            *others,
            after.received_at,
            after.case_id,
            limit,
            facility_id,
            user.reading_side,
        )
        if not rows:
            return None
        return _answer(rows[0], [(_listed_case(row), found) for row in rows if (found := _sighting(row))])

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
        return _answer(row, row["is_known"]) if row else None

    async def owning_facility(
        self, user: CompiledUser, case_id: CaseId, *, everywhere: bool, facilities: Collection[FacilityId]
    ) -> FacilityId | None:
        """The owner of a case that the user sees, or whose facility they administer."""
        facility_id: FacilityId | None = await self.connection.fetchval(
            _ADMINISTERED, *self._paths(user, ""), case_id, everywhere, list(facilities)
        )
        return facility_id

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

    async def list_grants(
        self,
        user: CompiledUser,
        of: CaseId | UserId,
        *,
        by_case: bool,
        facilities: Collection[FacilityId] | None,
        after: Place | None,
        limit: int,
    ) -> Answer[list[Showing]] | None:
        """The grants of a case or to a user that a manager of these facilities (None: all) may know of."""
        statement = _GRANTS["case_id" if by_case else "user_id"]
        return await self._list_showings(statement, user, of, facilities, after, limit)

    async def list_folder_cases(
        self,
        user: CompiledUser,
        of: CaseId | FolderId,
        *,
        by_case: bool,
        facilities: Collection[FacilityId] | None,
        after: Place | None,
        limit: int,
    ) -> Answer[list[Showing]] | None:
        """The same of the folders that hold a case, or of what is in a folder."""
        statement = _FOLDER_CASES["case_id" if by_case else "folder_id"]
        return await self._list_showings(statement, user, of, facilities, after, limit)

    async def _list_showings(
        self,
        statement: str,
        user: CompiledUser,
        of: UUID,
        facilities: Collection[FacilityId] | None,
        after: Place | None,
        limit: int,
    ) -> Answer[list[Showing]] | None:
        after = after or Place(_NEWEST.received_at, _NEWEST.case_id, _LAST_ID)
        rows = await self.connection.fetch(
            statement,
            *self._paths(user, ""),
            None if facilities is None else list(facilities),
            of,
            after.received_at,
            after.case_id,
            after.to,
            limit,
        )
        if not rows:
            return None
        found = [
            Showing(row["case_id"], row["facility_id"], row["shown_to"], row["received_at"])
            for row in rows
            if row["case_id"]
        ]
        return _answer(rows[0], found)

    def _paths(
        self, user: CompiledUser, session: str
    ) -> tuple[str, Sequence[UUID], UUID | None, Sequence[UUID], datetime, str]:
        return user.login, user.facilities, user.grantee, user.folders, self.now, session


def _answer(row: asyncpg.Record, found: A) -> Answer[A]:
    return Answer(row["user_version"], row["revision"], found)


# By whether the user's privilege, a grant, a folder, a share opens the case.
_OPEN_PATHS = {
    is_open: tuple(compress(Path, is_open)) for is_open in product((False, True), repeat=len(Path))
}


def _sighting(row: asyncpg.Record) -> Sighting | None:
    if row["case_id"] is None:
        return None
    may_write = row["by_share"]
    paths = _OPEN_PATHS[row["by_privilege"], row["by_grant"], row["by_folder"], may_write is not None]
    being_deleted = row["deletion_id"] is not None
    return Sighting(
        row["case_id"],
        row["facility_id"],
        paths,
        bool(may_write),
        being_deleted,
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


def _listed_case(row: asyncpg.Record) -> ListedCase:
    return ListedCase(
        case_id=row["case_id"],
        facility_id=row["facility_id"],
        facility_name=row["facility_name"],
        received_at=row["received_at"],
        study_instance_uid=row["study_instance_uid"],
        undistributed=row["undistributed"],
        summary=CaseSummary(
            attributes=StudyAttributes(**{name: row[name] for name in LISTED}),
            modalities_in_study=tuple(row["modalities_in_study"]),
            series_count=row["series_count"],
            instance_count=row["instance_count"],
            settled=row["settled"],
            modalities_left_out=row["modalities_left_out"],
            another_patient_held=row["another_patient_held"],
            written_differently=tuple(row["written_differently"]),
        ),
        reading=projection(row),
        images_since=row["images_since"],
        assignee_login=row["assignee_login"],
        priority=Priority(row["priority"]),
    )
