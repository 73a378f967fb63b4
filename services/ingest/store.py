"""Ingest's tables: SQL beside the function that runs it, rows to domain values and back."""

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from kernel.dicom import UID, AETitle
from kernel.errors import Conflict, Unavailable
from kernel.ids import GatewayId, PackId, StudyId, TransferId
from plumbing.audit import AuditEntry
from services.ingest.deletionstore import DeletionStore
from services.ingest.domain import (
    MAX_MAPPING_VALUES,
    AETitleBinding,
    ConfirmedStudy,
    Description,
    Gateway,
    Instance,
    Limits,
    MappingValue,
    Place,
    Reach,
    RecordedRefusal,
    Refusal,
    RefusalKind,
    Sender,
    Series,
    StoredInstance,
    Study,
    Transfer,
    Verdict,
)
from services.ingest.usecases import Outcome

_GATEWAYS = """
    select g.*, array_agg(t.ae_title order by t.position) as ae_titles,
           array_agg(t.facility_id order by t.position) as facility_ids
    from gateways g join gateway_titles t using (gateway_id)
"""
# Where the actor administers every facility of the gateway.
_WITHIN_REACH = """
    ($1 or not exists (select from gateway_titles foreign_title
                       where foreign_title.gateway_id = {0}.gateway_id
                         and foreign_title.facility_id <> all($2::uuid[])))
"""
# A study is quiet if all its packs were sealed before $1 (A55).
_QUIET = """
    settled_at is null and not exists (
        select from packs p where p.study_id = studies.study_id and (p.sealed_at is null or p.sealed_at > $1))
"""


class IngestTransaction(DeletionStore):
    """A transaction over ingest's database."""

    async def record(
        self, actor: str, action: str, object_: str, outcome: Outcome, **detail: str | int
    ) -> None:
        """Writes an audit row."""
        await self.audit(AuditEntry(actor, action, object_, outcome, detail))

    # Gateways

    async def insert_gateway(self, gateway: Gateway) -> None:
        """Inserts it; raises Conflict if a live gateway has one of its titles."""
        await self.connection.execute(
            "insert into gateways values ($1, $2, $3, $4, null, $5)",
            gateway.gateway_id,
            gateway.name,
            gateway.certificate_sha256,
            gateway.enrolled_at,
            gateway.version,
        )
        for position, binding in enumerate(gateway.bindings):
            try:
                await self.connection.execute(
                    "insert into gateway_titles values ($1, $2, $3, $4)",
                    gateway.gateway_id,
                    binding.ae_title,
                    binding.facility_id,
                    position,
                )
            except asyncpg.UniqueViolationError as error:
                raise Conflict(
                    f"a live gateway has the AE title `{binding.ae_title}`", field="ae_titles.ae_title"
                ) from error

    async def gateway(self, gateway_id: GatewayId) -> Gateway | None:
        row = await self.connection.fetchrow(
            f"{_GATEWAYS} where g.gateway_id = $1 group by g.gateway_id", gateway_id
        )
        return _gateway(row) if row else None

    async def lock_gateway(self, gateway_id: GatewayId) -> Gateway | None:
        """The gateway, which this transaction is going to change."""
        await self.connection.execute(
            "select from gateways where gateway_id = $1 for no key update", gateway_id
        )
        return await self.gateway(gateway_id)

    async def gateway_of_certificate(self, certificate_sha256: str) -> Gateway | None:
        row = await self.connection.fetchrow(
            f"{_GATEWAYS} where g.certificate_sha256 = $1 group by g.gateway_id", certificate_sha256
        )
        return _gateway(row) if row else None

    async def gateways(self, reach: Reach, before: UUID | None, limit: int) -> list[Gateway]:
        """Newest first."""
        rows = await self.connection.fetch(
            f"""
            {_GATEWAYS} where {_WITHIN_REACH.format("g")} and ($3::uuid is null or g.gateway_id < $3)
            group by g.gateway_id order by g.gateway_id desc limit $4
            """,
            reach.everywhere,
            list(reach.facilities),
            before,
            limit,
        )
        return [_gateway(row) for row in rows]

    async def revoke_gateway(self, gateway: Gateway) -> None:
        await self.connection.execute(
            "update gateways set revoked_at = $2, version = $3 where gateway_id = $1",
            gateway.gateway_id,
            gateway.revoked_at,
            gateway.version,
        )
        await self.connection.execute(
            "update gateway_titles set live = false where gateway_id = $1", gateway.gateway_id
        )

    async def revoked(self, gateway_ids: Collection[GatewayId]) -> set[GatewayId]:
        """Those of `gateway_ids` that are not live."""
        rows = await self.connection.fetch(
            "select gateway_id from gateways where gateway_id = any($1) and revoked_at is null",
            list(gateway_ids),
        )
        return set(gateway_ids) - {row["gateway_id"] for row in rows}

    # Refusals

    async def insert_refusal(self, recorded: RecordedRefusal) -> None:
        refusal = recorded.refusal
        await self.connection.execute(
            "insert into refusals values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            recorded.refusal_id,
            recorded.refused_at,
            refusal.kind,
            refusal.reason,
            refusal.certificate_sha256,
            refusal.calling_ae_title,
            refusal.remote_address,
            refusal.gateway_id,
            refusal.sop_instance_uid,
            refusal.status,
        )

    async def refusals(self, reach: Reach, before: UUID | None, limit: int) -> list[RecordedRefusal]:
        """Newest first; those of unknown senders only where `reach` is everywhere."""
        rows = await self.connection.fetch(
            f"""
            select * from refusals r
            where {_WITHIN_REACH.format("r")} and ($1 or r.gateway_id is not null)
              and ($3::uuid is null or r.refusal_id < $3)
            order by r.refusal_id desc limit $4
            """,  # noqa: S608 constants only
            reach.everywhere,
            list(reach.facilities),
            before,
            limit,
        )
        return [
            RecordedRefusal(
                row["refusal_id"],
                row["refused_at"],
                Refusal(
                    RefusalKind(row["kind"]),
                    row["reason"],
                    row["remote_address"],
                    row["certificate_sha256"],
                    row["calling_ae_title"],
                    row["gateway_id"],
                    row["sop_instance_uid"],
                    row["status"],
                ),
            )
            for row in rows
        ]

    async def prune_refusals(self, older_than: datetime, keep: int) -> None:
        await self.connection.execute(
            """
            delete from refusals where refused_at < $1
               or refusal_id <= (select refusal_id from refusals order by refusal_id desc offset $2 limit 1)
            """,
            older_than,
            keep,
        )

    # Transfers

    async def begin_transfer(self, transfer: Transfer) -> Transfer:
        """Inserts it unless it is known, and marks all but the queue's newest entry for the study (A26)."""
        await self.connection.execute(
            """
            insert into transfers values ($1, $2, $3, $4, $5) on conflict (transfer_id) do nothing
            """,
            transfer.transfer_id,
            transfer.gateway_id,
            transfer.calling_ae_title,
            transfer.study_instance_uid,
            transfer.begun_at,
        )
        await self.connection.execute(
            """
            update transfers t set superseded_by = newest.transfer_id
            from (select transfer_id from transfers
                  where gateway_id = $1 and calling_ae_title = $2 and study_instance_uid = $3
                    and superseded_by is null
                  order by begun_at desc, transfer_id desc limit 1) newest
            where t.gateway_id = $1 and t.calling_ae_title = $2 and t.study_instance_uid = $3
              and t.superseded_by is null and t.transfer_id <> newest.transfer_id
            """,
            transfer.gateway_id,
            transfer.calling_ae_title,
            transfer.study_instance_uid,
        )
        known = await self.transfer(transfer.transfer_id)
        assert known is not None
        return known

    async def transfer(self, transfer_id: TransferId) -> Transfer | None:
        row = await self.connection.fetchrow(
            """
            select transfer_id, gateway_id, calling_ae_title, study_instance_uid, begun_at
            from transfers where transfer_id = $1
            """,
            transfer_id,
        )
        return Transfer(**row) if row else None

    async def prune_transfers(self, older_than: datetime) -> None:
        await self.connection.execute("delete from transfers where begun_at < $1", older_than)

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
            sender.begun_at,
        )
        assert row is not None
        return row[0], row[1]

    async def receive(
        self,
        study_id: StudyId,
        sender: Sender,
        stored: StoredInstance,
        description: Description | None,
        *,
        create: bool,
    ) -> tuple[Verdict, StudyId]:
        """Indexes an instance whose bytes are durable; the function in 0002 decides (R1, R4, A26).

        Raises Unavailable if the pack was sealed, or the study purged, meanwhile.
        """
        instance, place = stored.instance, stored.place
        described = None if description is None else {**asdict(description), "limit": MAX_MAPPING_VALUES}
        try:
            row = await self.connection.fetchrow(
                """
                select verdict, live_study_id from receive_instance(
                    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17::jsonb, $18,
                    $19)
                """,
                study_id,
                create,
                sender.receiving_facility_id,
                instance.study_instance_uid,
                sender.gateway_id,
                sender.calling_ae_title,
                instance.series_instance_uid,
                instance.sop_instance_uid,
                instance.sop_class_uid,
                instance.transfer_syntax_uid,
                stored.sha256,
                place.pack_id,
                place.offset,
                place.prefix_length,
                place.data_set_length,
                place.end,
                described and json.dumps(described),
                self.now,
                sender.begun_at,
            )
        except asyncpg.ObjectNotInPrerequisiteStateError as error:
            raise Unavailable("the pack is sealed, or the study was purged") from error
        assert row is not None
        return Verdict(row["verdict"]), row["live_study_id"]

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
        """Whether a study has instances in it."""
        return bool(
            await self.connection.fetchval(
                "select exists (select from packs where pack_id = $1 and study_id is not null)", pack_id
            )
        )

    async def sealed_packs(self, pack_ids: Collection[PackId]) -> dict[PackId, int]:
        """Where the sealed ones of these packs end."""
        rows = await self.connection.fetch(
            "select pack_id, committed_end from packs where pack_id = any($1) and sealed_at is not null",
            list(pack_ids),
        )
        return {row["pack_id"]: row["committed_end"] for row in rows}

    async def prune_packs(self, older_than: datetime) -> None:
        """Deletes the fences of packs in which nothing was committed."""
        await self.connection.execute(
            "delete from packs where study_id is null and committed_end = 0 and sealed_at < $1", older_than
        )

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

    async def settle(self, sealed_before: datetime) -> dict[StudyId, int]:
        """Settles what is quiet; answers the new versions.

        First the locks, then the decision: the first instance of a new pack takes the same lock.
        """
        candidates = await self.connection.fetch(
            f"select study_id from studies where {_QUIET} order by study_id for no key update",  # noqa: S608
            sealed_before,
        )
        if not candidates:
            return {}
        rows = await self.connection.fetch(
            f"""
            update studies set settled_at = $2, version = version + 1
            where study_id = any($3) and {_QUIET} returning study_id, version
            """,  # noqa: S608 constants only
            sealed_before,
            self.now,
            [row["study_id"] for row in candidates],
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
        return Study(
            row["study_id"],
            row["version"],
            row["study_instance_uid"],
            row["receiving_facility_id"],
            row["gateway_id"],
            row["calling_ae_title"],
            row["received_at"],
            row["settled_at"] is not None,
            json.loads(row["attributes"]),
            tuple(
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

    # Quarantine

    async def quarantine_has_room(self, sender: Sender, sha256: bytes, length: int, limits: Limits) -> bool:
        """Whether these bytes are not kept yet, and the gateway's share lets them in."""
        return bool(
            await self.connection.fetchval(
                """
                select count(*) < $3 and coalesce(sum(file_length), 0) + $4 <= $5
                   and not exists (select from quarantined where sha256 = $2)
                from quarantined where gateway_id = $1
                """,
                sender.gateway_id,
                sha256,
                limits.quarantine_instances,
                length,
                limits.quarantine_bytes,
            )
        )

    async def insert_quarantined(self, study_id: StudyId, sender: Sender, stored: StoredInstance) -> bool:
        """Whether the digest is kept now: not for a study that was purged meanwhile."""
        await self.connection.execute(
            """
            with study as (select from studies where study_id = $3 for key share),
            reprieved as (delete from doomed_files where sha256 = $1)
            insert into quarantined
            select $1, $2, $3, $4, $5, $6, $7, $8 from study on conflict do nothing
            """,
            stored.sha256,
            sender.gateway_id,
            study_id,
            stored.instance.sop_class_uid,
            stored.instance.sop_instance_uid,
            stored.instance.transfer_syntax_uid,
            stored.place.file_length,
            self.now,
        )
        return bool(
            await self.connection.fetchval(
                "select exists (select from quarantined where sha256 = $1)", stored.sha256
            )
        )

    async def quarantined(self) -> set[bytes]:
        """Every digest that is kept."""
        return {row["sha256"] for row in await self.connection.fetch("select sha256 from quarantined")}

    # Fetching

    async def instances(
        self, studies: Sequence[ConfirmedStudy], sop_instance_uid: UID | None
    ) -> list[StoredInstance]:
        """The instances of these studies, or the one named; by series in order of first receipt."""
        found: list[StoredInstance] = []
        for study in studies:
            rows = await self.connection.fetch(
                """
                select i.*, st.study_instance_uid
                from instances i join studies st using (study_id)
                    join series s using (study_id, series_instance_uid)
                where i.study_id = $1 and ($2::text[] is null or i.series_instance_uid = any($2))
                  and ($3::text is null or i.sop_instance_uid = $3)
                order by s.ordinal, i.received_at, i.sop_instance_uid
                """,
                study.study_id,
                None if study.series is None else list(study.series),
                sop_instance_uid,
            )
            found += [_stored(row) for row in rows]
        return found


def _gateway(row: "asyncpg.Record") -> Gateway:
    return Gateway(
        row["gateway_id"],
        row["name"],
        tuple(
            AETitleBinding(AETitle(title), facility_id)
            for title, facility_id in zip(row["ae_titles"], row["facility_ids"], strict=True)
        ),
        row["certificate_sha256"],
        row["enrolled_at"],
        row["revoked_at"],
        row["version"],
    )


def _stored(row: Any) -> StoredInstance:
    # The end of an entry matters to its writer only.
    return StoredInstance(
        Instance(
            row["sop_class_uid"],
            row["sop_instance_uid"],
            row["study_instance_uid"],
            row["series_instance_uid"],
            row["transfer_syntax_uid"],
        ),
        row["sha256"],
        Place(row["pack_id"], row["entry_offset"], row["prefix_length"], row["data_set_length"], 0),
    )
