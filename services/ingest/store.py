"""Ingest's tables: SQL beside the function that runs it, rows to domain values and back."""

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from kernel.dicom import UID
from kernel.ids import CaseId, PackId, StudyId, VolumeId, WriterId
from services.ingest.deletionstore import DeletionStore
from services.ingest.domain import ConfirmedStudy, Filed, MappingValue, Named, Seen, Sender, Series, Study
from services.ingest.gatewaystore import GatewayStore
from services.ingest.instancestore import InstanceStore
from services.ingest.partstore import PartStore, received_study, stored_instance
from services.ingest.quarantinestore import QuarantineStore
from services.ingest.settlingstore import SettlingStore
from services.ingest.transferstore import TransferStore
from services.ingest.volumestore import VolumeStore


class IngestTransaction(
    InstanceStore,
    GatewayStore,
    TransferStore,
    DeletionStore,
    SettlingStore,
    PartStore,
    QuarantineStore,
    VolumeStore,
):
    """A transaction over ingest's database."""

    # Receiving

    async def open_pack_for(
        self,
        sender: Sender,
        study_instance_uid: UID,
        pack_id: PackId,
        volume_id: VolumeId,
        writer_id: WriterId,
    ) -> tuple[StudyId | None, bool]:
        """The study that is live, and whether it was deleted since the transfer began (A26).

        Unless it was deleted, opens a pack for it: its row is there before its file.
        """
        row = await self.connection.fetchrow(
            """
            with found as (
                select (select study_id from studies
                        where receiving_facility_id = $1 and study_instance_uid = $2) as study_id,
                       deleted_since($1, $2, $3) as deleted),
            opened as (
                insert into packs (pack_id, committed_end, volume_id, writer_id, to_trim)
                select $4, 0, $5, $6, true from found where not deleted)
            select study_id, deleted from found
            """,
            sender.receiving_facility_id,
            study_instance_uid,
            sender.began(self.now),
            pack_id,
            volume_id,
            writer_id,
        )
        assert row is not None
        return row["study_id"], row["deleted"]

    async def open_pack(self, pack_id: PackId, volume_id: VolumeId, writer_id: WriterId) -> None:
        """Opens a pack: its row is there before its file."""
        await self.connection.execute(
            """
            insert into packs (pack_id, committed_end, volume_id, writer_id, to_trim)
            values ($1, 0, $2, $3, true)
            """,
            pack_id,
            volume_id,
            writer_id,
        )

    # Telling

    async def bump(self, study_ids: Collection[StudyId]) -> dict[StudyId, int]:
        """The next versions of these studies, which are told now."""
        if not study_ids:
            return {}
        rows = await self.connection.fetch(
            """
            update studies set version = version + 1, told_at = now()
            where study_id = any(array(select study_id from studies where study_id = any($1)
                                       order by study_id for no key update))
            returning study_id, version
            """,
            list(study_ids),
        )
        return {row["study_id"]: row["version"] for row in rows}

    async def bump_due(self, study_ids: Collection[StudyId], every: timedelta) -> dict[StudyId, int | None]:
        """The next versions of those of these studies of which no process has told anything for so long.

        None: it is not due, or another process has it in hand. What is gone is left out.
        """
        if not study_ids:
            return {}
        rows = await self.connection.fetch(
            """
            with due as (
                select study_id from studies
                where study_id = any($1)
                  and (told_at is null or told_at not between now() - $2::interval and now())
                order by study_id for no key update skip locked),
            told as (
                update studies s set version = version + 1, told_at = now() from due
                where s.study_id = due.study_id returning s.study_id, s.version)
            select s.study_id, told.version from studies s left join told using (study_id)
            where s.study_id = any($1)
            """,
            list(study_ids),
            every,
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

    async def viewed(self, login: str, session: str, case_id: CaseId) -> bool:
        """Whether this session has looked at the case in this hour before; from now on it has.

        What it looked at in earlier hours is forgotten.
        """
        hour = self.now.replace(minute=0, second=0, microsecond=0)
        new = await self.connection.fetchval(
            """
            insert into views (login, session, case_id, hour) values ($1, $2, $3, $4)
            on conflict (login, session, case_id) do update set hour = excluded.hour
                where views.hour <> excluded.hour
            returning true
            """,
            login,
            session,
            case_id,
            hour,
        )
        if new:
            await self.connection.execute("delete from views where login = $1 and hour < $2", login, hour)
        return not new

    async def instances(self, studies: Sequence[ConfirmedStudy], named: Named) -> list[Seen]:
        """The instances of these studies that are named; by series in order of first receipt."""
        return await self._seen(studies, named, _INSTANCES)

    async def series(self, studies: Sequence[ConfirmedStudy], named: Named) -> list[Seen]:
        """The first instance of each series of these studies that is named, with how many there are."""
        return await self._seen(studies, named, _SERIES)

    async def _seen(self, studies: Sequence[ConfirmedStudy], named: Named, statement: str) -> list[Seen]:
        more = [(text, value) for text, value in _named(named) if value is not None]
        where = "".join(f" and {text} = ${number}" for number, (text, _) in enumerate(more, 4))
        seen: list[Seen] = []
        for study in studies:
            rows = await self.connection.fetch(
                f"with found as ({_FOUND}{where}) {statement}",
                study.study_id,
                None if study.series is None else list(study.series),
                None if study.parts is None else list(study.parts),
                *(value for _, value in more),
            )
            seen += [
                Seen(
                    Filed(study.study_id, row["series_instance_uid"], row["filed_in"]),
                    stored_instance(row),
                    row["members"],
                )
                for row in rows
            ]
        return seen


_FOUND = """
    select i.*, st.study_instance_uid, coalesce(i.part, s.ordinal) as filed_in, s.ordinal,
           volume_of(p.volume_id) as volume_id
    from instances i join studies st using (study_id)
        join series s using (study_id, series_instance_uid)
        left join packs p on p.pack_id = i.pack_id
    where i.study_id = $1 and ($2::text[] is null or i.series_instance_uid = any($2))
      and ($3::int[] is null or coalesce(i.part, s.ordinal) = any($3))
"""
_INSTANCES = "select f.*, 1 as members from found f order by ordinal, received_at, sop_instance_uid"
_SERIES = """
    select distinct on (ordinal, filed_in)
        f.*, (count(*) over (partition by ordinal, filed_in))::int as members
    from found f order by ordinal, filed_in, received_at, sop_instance_uid
"""


def _named(named: Named) -> Sequence[tuple[str, str | None]]:
    """Only what is named stands in the statement, so that an index serves it."""
    return (
        ("st.study_instance_uid", named.study_instance_uid),
        ("i.series_instance_uid", named.series_instance_uid),
        ("i.sop_instance_uid", named.sop_instance_uid),
    )
