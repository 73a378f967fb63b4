"""Received studies, placements and what was purged: SQL beside the function that runs it."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import asyncpg

from kernel.dicom import UID
from kernel.errors import Conflict
from kernel.ids import CaseId, StudyId
from services.routing.domain import UNDISTRIBUTED, PlacedStudy, Placement, Reason, mapping_key
from services.routing.heldstore import STORED, HeldStore, reason
from services.routing.parts import HeldKind, HeldReason, KnownStudy


class PlacementStore(HeldStore):
    """Keeps what routing knows of received studies."""

    # Received studies and placements

    async def lock_study(self, study_id: StudyId) -> KnownStudy | None:
        """What is known of a received study; until this transaction ends nobody else places or purges it.

        None for a study that was purged: nothing may be written of it.
        """
        row = await self.connection.fetchrow(
            """
            insert into received_studies as study (study_id, study_version) values ($1, 0)
            on conflict (study_id) do update set study_version = study.study_version returning *
            """,
            study_id,
        )
        assert row is not None
        purged, waits = await self._left_of(study_id) if row["case_id"] is None else (False, False)
        if row["study_version"] or not purged:
            return KnownStudy(
                0 if waits else row["parts_version"],
                row["case_id"],
                row["mapping_tag"],
                _mapping_value(row),
                _placed_study(row),
                await self.judged(study_id) if row["parts_version"] else {},
            )
        await self.connection.execute("delete from received_studies where study_id = $1", study_id)
        return None

    async def _left_of(self, study_id: StudyId) -> tuple[bool, bool]:
        """Whether a study was purged; and whether it waited beside a case that is in its way no more."""
        row = await self.connection.fetchrow(
            """
            select exists (select from tombstones where id = $1),
                exists (select from held where study_id = $1 and reason = $2 and case_id is null)
            """,
            study_id,
            HeldReason.SECOND_STUDY,
        )
        assert row is not None
        return row[0], row[1]

    async def save_study(self, study_id: StudyId, known: KnownStudy) -> None:
        await self.connection.execute(
            """
            update received_studies set study_version = greatest(study_version, $2), parts_version = $2,
                case_id = $3, mapping_tag = $4, mapping_value = $5, all_series = $6,
                series_instance_uids = $7, parts = $8, another_patient_held = $9, written_differently = $10
            where study_id = $1
            """,
            study_id,
            known.version,
            known.case_id,
            known.mapping_tag,
            known.mapping_value,
            known.placed.all_series,
            known.placed.series_instance_uids,
            known.placed.parts,
            known.placed.another_patient_held,
            known.placed.written_differently,
        )

    async def mapping_tag_of(self, study_id: StudyId) -> tuple[bool, str | None]:
        """Whether the study belongs to a case, and the tag that decided so."""
        row = await self.connection.fetchrow(
            "select case_id, mapping_tag from received_studies where study_id = $1", study_id
        )
        return (row["case_id"] is not None, row["mapping_tag"]) if row else (False, None)

    async def known_versions(self, study_ids: Sequence[StudyId]) -> dict[StudyId, int]:
        """The version of each that was last applied; 0 where it has to be applied again.

        That is where the version before holds series of it, or where the case that was in its way has moved.
        """
        rows = await self.connection.fetch(
            """
            select study_id, case
                when exists (
                    select from held h
                    where h.study_id = study.study_id and h.reason = $3 and h.case_id is null
                ) then 0
                when parts_version > 0 then parts_version
                when exists (select from held h where h.study_id = study.study_id and h.kind = $2) then 0
                else study_version
            end as version
            from received_studies study where study_id = any($1)
            """,
            study_ids,
            HeldKind.SERIES,
            HeldReason.SECOND_STUDY,
        )
        return {row["study_id"]: row["version"] for row in rows}

    async def insert_placement(self, placement: Placement) -> CaseId:
        """The CaseId that the study has at the facility: this placement's, or that of a live case.

        The live case stays until the end of this transaction; where it was purged in between, nothing is in
        the way of this placement any more.
        """
        while True:
            case_id = await self.connection.fetchval(
                """
                insert into placements (case_id, facility_id, received_via_facility_id, study_instance_uid,
                    reason, placed_at, version)
                values ($1, $2, $3, $4, $5, $6, $7)
                on conflict (facility_id, study_instance_uid) do nothing returning case_id
                """,
                placement.case_id,
                placement.facility_id,
                placement.received_via_facility_id,
                placement.study_instance_uid,
                placement.reason,
                placement.placed_at,
                placement.version,
            ) or await self.connection.fetchval(
                """
                select case_id from placements where facility_id = $1 and study_instance_uid = $2
                for key share
                """,
                placement.facility_id,
                placement.study_instance_uid,
            )
            if case_id is not None:
                return CaseId(case_id)

    async def lock_placement(self, case_id: CaseId) -> Placement | None:
        """The placement, without its studies, which this transaction may change."""
        row = await self.connection.fetchrow(
            "select * from placements where case_id = $1 for update", case_id
        )
        return _placement(row) if row else None

    async def update_placement(self, placement: Placement) -> None:
        """Raises Conflict if the facility already has this study as another case."""
        try:
            await self.connection.execute(
                """
                update placements
                set facility_id = $2, received_via_facility_id = $3, reason = $4, version = $5,
                    moved_by_hand = $6, last_move_id = $7
                where case_id = $1
                """,
                placement.case_id,
                placement.facility_id,
                placement.received_via_facility_id,
                STORED.get(placement.reason, placement.reason),
                placement.version,
                placement.moved_by_hand,
                placement.last_move_id,
            )
        except asyncpg.UniqueViolationError as error:
            raise Conflict(
                "the facility already has this study as another case", field="facility_id"
            ) from error

    async def waiting_placement(self, study_id: StudyId) -> Placement | None:
        """The undistributed case of a study that nobody has moved by hand, without its studies."""
        row = await self.connection.fetchrow(
            """
            select placement.* from received_studies join placements placement using (case_id)
            where study_id = $1 and reason = any($2) and not moved_by_hand
            """,
            study_id,
            list(UNDISTRIBUTED),
        )
        return _placement(row) if row else None

    async def placement(self, case_id: CaseId) -> Placement | None:
        """The placement with its studies, as one statement sees them."""
        rows = await self.connection.fetch(
            """
            select * from placements join received_studies study using (case_id)
            where case_id = $1 order by study_id
            """,
            case_id,
        )
        return _placement(rows[0], [_placed_study(row) for row in rows]) if rows else None

    async def placement_versions(self, after: UUID, limit: int) -> list[tuple[UUID, int]]:
        rows = await self.connection.fetch(
            "select case_id, version from placements where case_id > $1 order by 1 limit $2", after, limit
        )
        return [(row["case_id"], row["version"]) for row in rows]

    # Deletion

    async def studies_of(self, case_id: CaseId) -> list[StudyId]:
        """The received studies that belong to a case."""
        rows = await self.connection.fetch(
            "select study_id from received_studies where case_id = $1 order by study_id", case_id
        )
        return [row["study_id"] for row in rows]

    async def studies_beside(self, case_id: CaseId) -> list[StudyId]:
        """The received studies that are held because the case is in their way."""
        rows = await self.connection.fetch(
            "select study_id from held where case_id = $1 and reason = $2 order by study_id",
            case_id,
            HeldReason.SECOND_STUDY,
        )
        return [row["study_id"] for row in rows]

    async def leave_beside(self, case_id: CaseId) -> None:
        """The case is in the way of no study any more: each that waited beside it is placed again."""
        await self.connection.execute(
            "update held set case_id = null where case_id = $1 and reason = $2",
            case_id,
            HeldReason.SECOND_STUDY,
        )

    async def purge(self, case_id: CaseId, study_ids: Sequence[StudyId]) -> list[StudyId]:
        """Removes a case and these studies for good; what was beside it is held no longer.

        Answers all StudyIds that were ever purged with the case.
        """
        await self.connection.execute(
            """
            insert into tombstones (id, case_id) select id, $1::uuid from unnest($1::uuid || $2::uuid[]) as id
            on conflict do nothing
            """,
            case_id,
            study_ids,
        )
        await self.connection.execute(
            "delete from held where study_id = any($2::uuid[]) or case_id = $1", case_id, study_ids
        )
        await self.connection.execute(
            "delete from received_studies where study_id = any($1::uuid[])", study_ids
        )
        await self.connection.execute("delete from placements where case_id = $1", case_id)
        return await self.purged_with(case_id) or []

    async def purged_with(self, case_id: CaseId) -> list[StudyId] | None:
        """All StudyIds that were ever purged with the case; None if it was not purged itself."""
        rows = await self.connection.fetch(
            "select id from tombstones where case_id = $1 order by id", case_id
        )
        ids = [row["id"] for row in rows]
        return [each for each in ids if each != case_id] if case_id in ids else None

    async def _is_purged(self, id_: UUID) -> bool:
        return bool(
            await self.connection.fetchval("select exists (select from tombstones where id = $1)", id_)
        )

    async def hold_undistributed(self, placement: Placement) -> None:
        """The case waits at its hub for a person."""
        await self.connection.executemany(
            """
            insert into held (held_id, study_id, kind, case_id, facility_id, reason, held_at)
            values ($1, $2, $3, $4, $5, $6, $7)
            on conflict (study_id, kind, series_instance_uid) do update set reason = excluded.reason
            """,
            [
                (
                    self.new_id(),
                    study_id,
                    HeldKind.UNDISTRIBUTED,
                    placement.case_id,
                    placement.facility_id,
                    STORED.get(placement.reason, placement.reason),
                    self.now,
                )
                for study_id in await self.studies_of(placement.case_id)
            ],
        )


Row = asyncpg.Record | Mapping[str, Any]


def _placed_study(row: Row) -> PlacedStudy:
    return PlacedStudy(
        row["study_id"],
        row["all_series"],
        tuple(UID(uid) for uid in row["series_instance_uids"]),
        None if row["parts"] is None else tuple(row["parts"]),
        row["another_patient_held"],
        tuple(row["written_differently"]),
    )


def _mapping_value(row: Row) -> str | None:
    """As it is compared now: the version before told runs of blanks apart."""
    return row["mapping_value"] and mapping_key(row["mapping_value"])


def _placement(row: Row, studies: Sequence[PlacedStudy] = ()) -> Placement:
    return Placement(
        row["case_id"],
        row["facility_id"],
        row["received_via_facility_id"],
        UID(row["study_instance_uid"]),
        Reason(reason(row)),
        row["placed_at"],
        row["version"],
        tuple(studies),
        row["moved_by_hand"],
        row["last_move_id"],
    )
