# ruff: noqa: S608  statements are put together from constants of this file
"""The tables of the case index, written from what their owners say; nothing here answers a user."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from kernel.ids import CaseId, DeletionId, FacilityId, StudyId
from plumbing import locks
from plumbing.db import Transaction
from plumbing.locks import LockClass
from services.access.caseindex import Deletion, Entry, IndexedCase, Placement
from services.access.derived import DERIVED, Derived
from services.access.domain import ConfirmedStudy
from services.access.patients import Filing, Patient
from services.access.received import ReceivedStudy, StudyAttributes, StudyOfSeries


class CaseStore(Transaction):
    """Keeps the case index."""

    async def hold_case(self, case_id: CaseId, study_ids: Sequence[StudyId] = ()) -> bool:
        """Until the end of the transaction nobody else indexes or purges the case, also if absent.

        False if it, or one of these studies, was purged: then no row of it may be written.
        """
        await self.hold_cases([case_id])
        return not await self.connection.fetchval(
            "select exists (select from tombstones where id = any($1::uuid[]))", [case_id, *study_ids]
        )

    async def hold_cases(self, case_ids: Collection[CaseId]) -> None:
        """Until the end of the transaction nobody else indexes, moves, deletes or shows these cases."""
        abouts = [(case_id.int, case_id.int & (1 << 63) - 1) for case_id in case_ids]
        await locks.hold_all(self.connection, LockClass.CASE, abouts)

    async def lock_case(self, case_id: CaseId) -> IndexedCase | None:
        """The case as indexed; until the end of the transaction nobody else indexes it, also if absent."""
        await self.hold_cases([case_id])
        row = await self.connection.fetchrow(
            """
            select facility_id, study_instance_uid, undistributed, placed_at, placement_version,
                parts_version, another_patient_held, written_differently, received_at, settled, derived_in,
                patient_id, issuer_of_patient_id, patient_name, patient_birth_date
            from cases where case_id = $1
            """,
            case_id,
        )
        if row is None:
            return None
        studies = await self.connection.fetch(
            "select * from case_studies where case_id = $1 order by study_id", case_id
        )
        placement = Placement(
            case_id=case_id,
            facility_id=row["facility_id"],
            study_instance_uid=row["study_instance_uid"],
            undistributed=row["undistributed"],
            studies=tuple(map(_confirmed_study, studies)),
            placed_at=row["placed_at"],
            # What the version before wrote since tells no parts: routing is heard again.
            version=row["placement_version"] if row["parts_version"] is None else row["parts_version"],
            another_patient_held=row["another_patient_held"],
            written_differently=tuple(row["written_differently"]),
        )
        heard = [study for row in studies if (study := _received_study(row))]
        is_derived = row["derived_in"] is not None
        filed_as = _filed_as(row) if is_derived else None
        known = IndexedCase(placement, row["received_at"], (), row["settled"], is_derived, filed_as)
        return known.hear(None, heard)

    async def save_case(self, entry: Entry, derived: Derived, filing: Filing | None) -> None:
        """Inserts or replaces the entry of a locked case; `received_at` stays as it was first.

        `filing`: whose it is; None: that stays.
        """
        case = entry.case
        columns: dict[str, Any] = {
            "case_id": entry.case_id,
            **entry.columns(),
            "derived": case.derived,
            **{column: getattr(derived, column) for column in Derived.__slots__},
            "text_forms": msgspec.json.encode(derived.text_forms).decode() if derived.text_forms else None,
        }
        if filing:
            record = filing.record
            columns |= {
                "patient_record_id": record.id if record else None,
                "person_id": record.person_id if record else None,
            }
        numbered = [f"${number}" for number in range(1, len(columns) + 2)]
        await self.connection.execute(
            f"""
            insert into cases ({", ".join(columns)}, received_at, version, derived_in, untouched)
            values ({", ".join(numbered)}, 1, 1, true)
            on conflict (case_id) do update set version = cases.version + 1,
                derived_in = cases.version + 1,
                {", ".join(f"{column} = excluded.{column}" for column in columns)}
            """,
            *columns.values(),
            case.received_at,
        )
        placement, heard = case.placement, {study.id: study for study in case.studies}
        await self.connection.execute(
            "delete from case_studies where case_id = $1 and study_id <> all($2)",
            placement.case_id,
            [study.study_id for study in placement.studies],
        )
        await self.connection.executemany(
            """
            insert into case_studies
                (case_id, study_id, series_instance_uids, parts, received_version, received)
            values ($1, $2, $3, $4, $5, $6)
            on conflict (case_id, study_id) do update set
                series_instance_uids = excluded.series_instance_uids, parts = excluded.parts,
                received_version = excluded.received_version, received = excluded.received,
                version = null, snapshot = null
            """,
            [
                (
                    placement.case_id,
                    study.study_id,
                    study.series_instance_uids,
                    study.parts,
                    heard[study.study_id].version if study.study_id in heard else None,
                    msgspec.json.encode(heard[study.study_id]).decode() if study.study_id in heard else None,
                )
                for study in placement.studies
            ],
        )

    async def forget_case(self, case_id: CaseId) -> bool:
        """Whether it was known."""
        await self.connection.execute("delete from readings where case_id = $1", case_id)
        await self.connection.execute("delete from case_studies where case_id = $1", case_id)
        status = await self.connection.execute("delete from cases where case_id = $1", case_id)
        return status == "DELETE 1"

    # What is to be derived again

    async def count_outdated(self, at_most: int) -> int:
        count: int = await self.connection.fetchval(
            f"select count(*) from (select from cases where derived < {DERIVED} limit $1) outdated", at_most
        )
        return count

    async def outdated(self, after: CaseId | None, limit: int) -> list[CaseId]:
        """Cases that are to be derived again, by id."""
        rows = await self.connection.fetch(
            f"""
            select case_id from cases where derived < {DERIVED} and ($1::uuid is null or case_id > $1)
            order by case_id limit $2
            """,
            after,
            limit,
        )
        return [row["case_id"] for row in rows]

    async def mark_rezoned(self, before: datetime, limit: int) -> bool:
        """Marks the next cases of a facility whose time zone changed before; False if there is none."""
        facility = await self.connection.fetchrow(
            "select * from rezoned where since <= $1 order by since limit 1 for update skip locked", before
        )
        if facility is None:
            return False
        page = await self.connection.fetch(
            """
            select case_id, received_at from cases
            where facility_id = $1 and ($2::timestamptz is null or (received_at, case_id) < ($2, $3))
            order by received_at desc, case_id desc limit $4
            """,
            facility["facility_id"],
            facility["after_received_at"],
            facility["after_case_id"],
            limit,
        )
        await self.connection.execute(
            """
            with locked as (select case_id from cases where case_id = any($1) order by case_id for update)
            update cases set derived = 0, study_at = null from locked
            where cases.case_id = locked.case_id and cases.facility_id = $2
            """,
            [row["case_id"] for row in page],
            facility["facility_id"],
        )
        if len(page) < limit:
            await self.connection.execute(
                "delete from rezoned where facility_id = $1", facility["facility_id"]
            )
        else:
            await self.connection.execute(
                "update rezoned set after_received_at = $2, after_case_id = $3 where facility_id = $1",
                facility["facility_id"],
                page[-1]["received_at"],
                page[-1]["case_id"],
            )
        return True

    async def sees_letters(self) -> bool:
        """Whether pg_trgm takes letters beyond ASCII for letters."""
        return bool(await self.connection.fetchval("select cardinality(show_trgm('жу')) > 0"))

    # Deletion

    async def deletion(self, deletion_id: DeletionId) -> Deletion | None:
        row = await self.connection.fetchrow("select * from deletions where deletion_id = $1", deletion_id)
        if row is None:
            return None
        return Deletion(row["deletion_id"], row["case_id"], row["facility_id"], tuple(row["study_ids"]))

    async def begin_delete(self, deletion: Deletion) -> None:
        """Hides the case from everybody."""
        await self.connection.execute(
            """
            insert into deletions (deletion_id, case_id, facility_id, study_ids, begun_at)
            values ($1, $2, $3, $4, $5)
            """,
            deletion.id,
            deletion.case_id,
            deletion.facility_id,
            deletion.study_ids,
            self.now,
        )
        await self.connection.execute(
            "update cases set deletion_id = $2 where case_id = $1", deletion.case_id, deletion.id
        )

    async def is_live(self, case_id: CaseId) -> bool:
        """Whether it is known and nobody has begun to delete it; nobody begins until the transaction ends."""
        await self.hold_cases([case_id])
        return bool(
            await self.connection.fetchval(
                """
                select exists (select from cases where case_id = $1)
                    and not exists (select from deletions where case_id = $1)
                """,
                case_id,
            )
        )

    async def is_deleted(self, case_id: CaseId) -> bool:
        """Whether its deletion has begun, or it was purged."""
        return bool(
            await self.connection.fetchval(
                """
                select exists (select from deletions where case_id = $1)
                    or exists (select from tombstones where id = $1)
                """,
                case_id,
            )
        )

    async def purge_case(self, case_id: CaseId) -> bool:
        """Removes every row of a case, and the buckets that held no other, for good; whether it was known."""
        await self.hold_cases([case_id])
        await self.connection.execute(
            """
            insert into tombstones (id)
            select $1
            union select study_id from case_studies where case_id = $1
            union select unnest(study_ids) from deletions where case_id = $1
            on conflict do nothing
            """,
            case_id,
        )
        buckets = await self.connection.fetch(
            "delete from bucket_cases where case_id = $1 returning bucket_id", case_id
        )
        await self.connection.execute(
            """
            delete from buckets b where b.bucket_id = any($1)
                and not exists (select from bucket_cases h where h.bucket_id = b.bucket_id)
            """,
            [row["bucket_id"] for row in buckets],
        )
        return await self.forget_case(case_id)

    async def expect_studies(self, case_id: CaseId, study_ids: Sequence[StudyId]) -> None:
        """Notes that these studies are about to be indexed; nothing of them belongs yet."""
        await self.connection.execute(
            """
            insert into case_studies (case_id, study_id, series_instance_uids, parts)
            select $1, study_id, '{}', '{}' from unnest($2::uuid[]) as expected (study_id)
            on conflict do nothing
            """,
            case_id,
            study_ids,
        )

    async def studies_of(self, case_id: CaseId) -> list[StudyId]:
        rows = await self.connection.fetch("select study_id from case_studies where case_id = $1", case_id)
        return [row["study_id"] for row in rows]

    async def cases_of(self, study_id: StudyId) -> list[CaseId]:
        rows = await self.connection.fetch(
            "select case_id from case_studies where study_id = $1 order by case_id", study_id
        )
        return [row["case_id"] for row in rows]

    async def versions_in_cases(self, study_id: StudyId) -> list[int | None]:
        """The version of a study in the entry of each of its cases; None where it is only expected."""
        rows = await self.connection.fetch(
            "select received_version from case_studies where study_id = $1", study_id
        )
        return [row["received_version"] for row in rows]

    async def stale_facilities(self, versions: Mapping[UUID, int]) -> list[FacilityId]:
        """Those of which an older version is known, or none."""
        return await self._stale(
            "left join facilities known on known.facility_id = told.id", "known.version", versions
        )

    async def stale_cases(self, versions: Mapping[UUID, int]) -> list[CaseId]:
        """Those of which an older placement is known, or none."""
        return await self._stale(
            "left join cases known on known.case_id = told.id",
            "coalesce(known.parts_version, known.placement_version)",
            versions,
        )

    async def stale_studies(self, versions: Mapping[UUID, int]) -> list[StudyId]:
        """The studies of known cases of which an older version is known, or none."""
        return await self._stale(
            "join case_studies known on known.study_id = told.id",
            "coalesce(known.received_version, known.version)",
            versions,
        )

    async def stale_readings(self, versions: Mapping[UUID, int]) -> list[CaseId]:
        """Those of which an older version is known, or none, or the version before has heard the newest."""
        return await self._stale(
            """
            left join readings known on known.case_id = told.id
            left join cases c on c.case_id = told.id and c.status_group is not null
            """,
            """
            case when c.case_id is null or known.derived_version = known.version then known.version end
            """,
            versions,
        )

    async def _stale(self, join: str, version: str, versions: Mapping[UUID, int]) -> list[Any]:
        rows = await self.connection.fetch(
            f"""
            select distinct told.id from unnest($1::uuid[], $2::bigint[]) as told (id, version)
            {join} where {version} is null or {version} < told.version
            """,
            list(versions),
            list(versions.values()),
        )
        return [row["id"] for row in rows]


def _filed_as(row: asyncpg.Record) -> Patient | None:
    said = StudyAttributes(
        patient_id=row["patient_id"],
        issuer_of_patient_id=row["issuer_of_patient_id"],
        patient_name=row["patient_name"],
        patient_birth_date=row["patient_birth_date"],
    )
    return Patient.of(said, row["facility_id"])


def _confirmed_study(row: asyncpg.Record) -> ConfirmedStudy:
    uids, parts = row["series_instance_uids"], row["parts"]
    return ConfirmedStudy(
        row["study_id"], None if uids is None else tuple(uids), None if parts is None else tuple(parts)
    )


def _received_study(row: asyncpg.Record) -> ReceivedStudy | None:
    if row["received"] is not None:
        return msgspec.json.decode(row["received"], type=ReceivedStudy)
    if row["snapshot"] is not None:  # the version before wrote it
        return msgspec.json.decode(row["snapshot"], type=StudyOfSeries).in_parts()
    return None
