"""The tables of patients; `patients.py` says what they mean."""

import hashlib
from collections.abc import Collection, Iterable, Mapping

import asyncpg

from kernel.ids import CaseId, FacilityId
from plumbing import locks
from plumbing.db import Transaction
from plumbing.locks import LockClass
from services.access.accessfilter import Historical
from services.access.casequery import seen_by
from services.access.domain import CompiledUser
from services.access.patients import Link, LinkId, Patient, PatientKey, PersonId, Record, RecordId


class PatientStore(Transaction):
    """Keeps patient records, and what administrators have linked."""

    async def hold_patients(self, keys: Iterable[PatientKey]) -> None:
        """Until the transaction ends nobody else makes, links or drops records with these keys."""
        await locks.hold_all(self.connection, LockClass.PATIENT, [(_digest(key), None) for key in keys])

    async def record_of(self, case_id: CaseId) -> Record | None:
        """The record that a case is of."""
        row = await self.connection.fetchrow(
            """
            select p.* from cases c join patients p using (patient_record_id) where c.case_id = $1
            """,
            case_id,
        )
        return _record(row) if row else None

    async def records_of(self, key: PatientKey, limit: int) -> list[Record]:
        """Records with a key, the oldest first."""
        rows = await self.connection.fetch(
            """
            select * from patients
            where patient_id = $1 and issuer = $2 and facility_id is not distinct from $3
            order by patient_record_id limit $4
            """,
            key.patient_id,
            key.issuer,
            key.facility_id,
            limit,
        )
        return list(map(_record, rows))

    async def records_together(self, record_ids: Collection[RecordId]) -> list[Record]:
        """All records of the persons of these records, the oldest first."""
        if not record_ids:
            return []
        rows = await self.connection.fetch(
            """
            select * from patients
            where person_id in (select p.person_id from patients p where p.patient_record_id = any($1))
            order by patient_record_id
            """,
            list(record_ids),
        )
        return list(map(_record, rows))

    async def make_record(self, patient: Patient) -> Record:
        """A new record, linked to no other."""
        record_id = RecordId(self.new_id())
        await self.connection.execute(
            """
            insert into patients (patient_record_id, patient_id, issuer, facility_id, patient_name,
                patient_birth_date, person_id)
            values ($1, $2, $3, $4, $5, $6, $1)
            """,
            record_id,
            patient.key.patient_id,
            patient.key.issuer,
            patient.key.facility_id,
            patient.name,
            patient.birth_date,
        )
        return Record(record_id, patient, PersonId(record_id))

    async def renew_or_drop_record(self, record_id: RecordId) -> bool:
        """Lets a record say what the first of its cases says; without a case it goes. Whether it went."""
        status = await self.connection.execute(
            """
            with first as (
                select patient_name, patient_birth_date from cases where patient_record_id = $1
                order by case_id limit 1
            ), renewed as (
                update patients p set patient_name = first.patient_name,
                    patient_birth_date = first.patient_birth_date
                from first where p.patient_record_id = $1
            )
            delete from patients where patient_record_id = $1 and not exists (select from first)
            """,
            record_id,
        )
        return status == "DELETE 1"

    async def records_without_cases(
        self, after: RecordId | None, limit: int
    ) -> tuple[list[Record], RecordId | None]:
        """Of the next records by id those without a case, and the last id that was looked at."""
        rows = await self.connection.fetch(
            """
            select p.*, not exists (
                select from cases c where c.patient_record_id = p.patient_record_id
            ) as without_cases
            from patients p where $1::uuid is null or p.patient_record_id > $1
            order by p.patient_record_id limit $2
            """,
            after,
            limit,
        )
        last = rows[-1]["patient_record_id"] if rows else None
        return [_record(row) for row in rows if row["without_cases"]], last

    # Links

    async def links_among(self, records: Collection[RecordId]) -> list[Link]:
        """The links that join one of these records, the oldest first."""
        rows = await self.connection.fetch(
            """
            select * from patient_links where one_id = any($1) or other_id = any($1)
            order by linked_at, link_id
            """,
            list(records),
        )
        return list(map(_link, rows))

    async def link(self, link_id: LinkId) -> Link | None:
        row = await self.connection.fetchrow("select * from patient_links where link_id = $1", link_id)
        return _link(row) if row else None

    async def records(self, record_ids: Collection[RecordId]) -> list[Record]:
        """Those that exist, the oldest first."""
        rows = await self.connection.fetch(
            "select * from patients where patient_record_id = any($1) order by patient_record_id",
            list(record_ids),
        )
        return list(map(_record, rows))

    async def make_link(self, link: Link) -> None:
        await self.connection.execute(
            """
            insert into patient_links (link_id, one_id, other_id, linked_by, linked_at)
            values ($1, $2, $3, $4, $5)
            """,
            link.id,
            link.one_id,
            link.other_id,
            link.linked_by,
            link.linked_at,
        )

    async def drop_link(self, link_id: LinkId) -> None:
        await self.connection.execute("delete from patient_links where link_id = $1", link_id)

    async def cases_of_records(
        self, record_ids: Collection[RecordId], limit: int
    ) -> list[tuple[CaseId, RecordId, FacilityId]]:
        """The cases of these records, each with its record and owner."""
        rows = await self.connection.fetch(
            """
            select case_id, patient_record_id, facility_id from cases
            where patient_record_id = any($1) order by case_id limit $2
            """,
            list(record_ids),
            limit,
        )
        return [tuple(row) for row in rows]

    async def facilities_of_records(
        self, record_ids: Collection[RecordId]
    ) -> list[tuple[RecordId, FacilityId]]:
        """Each facility that owns a case of one of these records, with the record."""
        rows = await self.connection.fetch(
            "select distinct patient_record_id, facility_id from cases where patient_record_id = any($1)",
            list(record_ids),
        )
        return [tuple(row) for row in rows]

    async def records_seen(
        self, user: CompiledUser, record_ids: Collection[RecordId], session: str = ""
    ) -> set[RecordId]:
        """Those of these records of which the user sees a case."""
        cases = seen_by(user, self.now, session)
        rows = await self.connection.fetch(
            f"""
            select record_id
            from users u cross join unnest({cases.value(list(record_ids))}::uuid[]) as asked (record_id)
            where u.login = {cases.login} and exists (
                select from {cases.sighted} where sighted.patient_record_id = record_id and {cases.shown}
            )
            """,  # noqa: S608  of what a `CaseQuery` is made of
            *cases.parameters,
        )
        return {row["record_id"] for row in rows}

    async def possible_anchors(self, case_id: CaseId, historical: Historical, limit: int) -> list[CaseId]:
        """The other cases of its patient that open a case to who is shown one of them (A71)."""
        rows = await self.connection.fetch(
            """
            select a.case_id from cases c join cases a on a.person_id = c.person_id and a.case_id <> c.case_id
            where c.case_id = $1 and ($2 or c.study_day is null or c.study_day <= a.study_day)
            order by a.case_id limit $3
            """,
            case_id,
            historical is Historical.ALL,
            limit,
        )
        return [row["case_id"] for row in rows]

    async def logins_with_historical(self, facility_ids: Collection[FacilityId], limit: int) -> list[str]:
        """Who has a privilege at one of these facilities and a filter with historical studies, by login."""
        rows = await self.connection.fetch(
            """
            select u.login from user_filters f join users u using (user_id)
            where f.historical <> 'off' and exists (
                select from privileges p where p.user_id = u.user_id and p.facility_id = any($1)
            )
            order by u.login limit $2
            """,
            list(facility_ids),
            limit,
        )
        return [row["login"] for row in rows]

    async def save_persons(self, persons: Mapping[RecordId, PersonId]) -> None:
        """Says whose these records are, and their cases."""
        await self.connection.execute(
            """
            with said as (select * from unnest($1::uuid[], $2::uuid[]) as said (record_id, person_id)),
            changed as (
                update patients p set person_id = said.person_id from said
                where p.patient_record_id = said.record_id and p.person_id <> said.person_id
                returning p.patient_record_id, p.person_id
            )
            update cases c set person_id = changed.person_id from changed
            where c.patient_record_id = changed.patient_record_id and c.person_id is not null
            """,
            list(persons),
            list(persons.values()),
        )


def _digest(key: PatientKey) -> int:
    """Of which the lock takes 32 bits."""
    said = "\0".join([key.patient_id, key.issuer, str(key.facility_id or "")])
    return int.from_bytes(hashlib.blake2b(said.encode(), digest_size=8).digest(), "big")


def _record(row: asyncpg.Record) -> Record:
    key = PatientKey(row["patient_id"], row["issuer"], row["facility_id"])
    return Record(
        row["patient_record_id"],
        Patient(key, row["patient_name"], row["patient_birth_date"]),
        row["person_id"],
    )


def _link(row: asyncpg.Record) -> Link:
    return Link(row["link_id"], row["one_id"], row["other_id"], row["linked_by"], row["linked_at"])
