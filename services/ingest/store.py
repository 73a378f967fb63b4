"""Ingest's tables: SQL beside the function that runs it, rows to domain values and back."""

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from kernel.dicom import UID
from kernel.ids import PackId, StudyId
from services.ingest.deletionstore import DeletionStore
from services.ingest.domain import (
    ConfirmedStudy,
    Filed,
    MappingValue,
    Sender,
    Series,
    StoredInstance,
    Study,
)
from services.ingest.gatewaystore import GatewayStore
from services.ingest.instancestore import InstanceStore
from services.ingest.partstore import PartStore, received_study, stored_instance
from services.ingest.quarantinestore import QuarantineStore
from services.ingest.settlingstore import SettlingStore


class IngestTransaction(
    InstanceStore, GatewayStore, DeletionStore, SettlingStore, PartStore, QuarantineStore
):
    """A transaction over ingest's database."""

    # Receiving

    async def find_study(self, sender: Sender, study_instance_uid: UID) -> tuple[StudyId | None, bool]:
        """The study that is live, and whether it was deleted since the transfer began (A26)."""
        row = await self.connection.fetchrow(
            """
            select (select study_id from studies
                    where receiving_facility_id = $1 and study_instance_uid = $2),
                   deleted_since($1, $2, $3)
            """,
            sender.receiving_facility_id,
            study_instance_uid,
            sender.began(self.now),
        )
        assert row is not None
        return row[0], row[1]

    async def seal_packs(self, pack_ids: Collection[PackId]) -> dict[PackId, int]:
        """Ends packs, also such as hold nothing: a commit still under way fails. Answers where they end."""
        if not pack_ids:
            return {}
        rows = await self.connection.fetch(
            """
            insert into packs (pack_id, study_id, committed_end, sealed_at)
            select pack_id, null, 0, $2 from unnest($1::uuid[]) as released (pack_id) order by pack_id
            on conflict (pack_id) do update set sealed_at = coalesce(packs.sealed_at, excluded.sealed_at)
            returning pack_id, committed_end
            """,
            list(pack_ids),
            self.now,
        )
        return {row["pack_id"]: row["committed_end"] for row in rows}

    async def seal_open_packs(self) -> None:
        await self.connection.execute("update packs set sealed_at = $1 where sealed_at is null", self.now)

    async def pack_is_kept(self, pack_id: PackId) -> bool:
        """Whether it is the pack of a live study."""
        return bool(
            await self.connection.fetchval(
                "select exists (select from packs join studies using (study_id) where pack_id = $1)", pack_id
            )
        )

    async def sealed_packs(self, pack_ids: Collection[PackId]) -> dict[PackId, int]:
        """Where the sealed ones of these packs end."""
        rows = await self.connection.fetch(
            "select pack_id, committed_end from packs where pack_id = any($1) and sealed_at is not null",
            list(pack_ids),
        )
        return {row["pack_id"]: row["committed_end"] for row in rows}

    async def prune_packs(self, older_than: datetime, limit: int) -> int:
        """Deletes fences of packs in which nothing was committed, at most so many; how many."""
        status = await self.connection.execute(
            """
            delete from packs where pack_id = any(array(
                select pack_id from packs
                where study_id is null and committed_end = 0 and sealed_at < $1 limit $2))
            """,
            older_than,
            limit,
        )
        return int(status.split()[-1])

    # Telling

    async def bump(self, study_ids: Collection[StudyId]) -> dict[StudyId, int]:
        """The next versions of these studies."""
        if not study_ids:
            return {}
        rows = await self.connection.fetch(
            """
            update studies set version = version + 1
            where study_id = any(array(select study_id from studies where study_id = any($1)
                                       order by study_id for no key update))
            returning study_id, version
            """,
            list(study_ids),
        )
        return {row["study_id"]: row["version"] for row in rows}

    async def study(self, study_id: StudyId) -> Study | None:
        """The snapshot: the study's row first, so that the version is never newer than the rest."""
        row = await self.connection.fetchrow("select * from studies where study_id = $1", study_id)
        if row is None:
            return None
        values: dict[str, list[MappingValue]] = {}
        for value in await self.connection.fetch(
            "select * from mapping_values where study_id = $1 order by ordinal", study_id
        ):
            values.setdefault(value["series_instance_uid"], []).append(
                MappingValue(value["keyword"], value["value"], value["ordinal"])
            )
        series = await self.connection.fetch(
            """
            select s.series_instance_uid, s.attributes, count(i) as instance_count
            from series s left join instances i using (study_id, series_instance_uid)
            where s.study_id = $1
            group by s.study_id, s.series_instance_uid order by s.ordinal
            """,
            study_id,
        )
        return replace(
            received_study(row),
            series=tuple(
                Series(
                    s["series_instance_uid"],
                    json.loads(s["attributes"]),
                    s["instance_count"],
                    tuple(values.get(s["series_instance_uid"], ())),
                )
                for s in series
            ),
        )

    async def versions(self, after: StudyId | None, limit: int) -> list[tuple[StudyId, int]]:
        """By id."""
        rows = await self.connection.fetch(
            "select study_id, version from studies where study_id > $1 order by study_id limit $2",
            after or UUID(int=0),
            limit,
        )
        return [(row["study_id"], row["version"]) for row in rows]

    # Fetching

    async def instances(
        self, studies: Sequence[ConfirmedStudy], sop_instance_uid: UID | None
    ) -> list[tuple[Filed, StoredInstance]]:
        """The instances of these studies, or the one named; by series in order of first receipt."""
        found: list[tuple[Filed, StoredInstance]] = []
        for study in studies:
            rows = await self.connection.fetch(
                """
                select i.*, st.study_instance_uid, coalesce(i.part, s.ordinal) as filed_in
                from instances i join studies st using (study_id)
                    join series s using (study_id, series_instance_uid)
                where i.study_id = $1 and ($2::text[] is null or i.series_instance_uid = any($2))
                  and ($3::int[] is null or coalesce(i.part, s.ordinal) = any($3))
                  and ($4::text is null or i.sop_instance_uid = $4)
                order by s.ordinal, i.received_at, i.sop_instance_uid
                """,
                study.study_id,
                None if study.series is None else list(study.series),
                None if study.parts is None else list(study.parts),
                sop_instance_uid,
            )
            found += [
                (Filed(study.study_id, row["series_instance_uid"], row["filed_in"]), stored_instance(row))
                for row in rows
            ]
        return found
