"""The transfers that gateways announce, and the studies that are whole when they end."""

from collections.abc import Sequence
from datetime import datetime

from kernel.dicom import UID, AETitle
from kernel.ids import GatewayId, StudyId, TransferId
from plumbing.db import Transaction
from services.ingest.gatewaystore import pruned
from services.ingest.transfers import Ended, Transfer

_COLUMNS = "transfer_id, gateway_id, calling_ae_title, study_instance_uid, begun_at"

# A study is whole when as many instances of it are durable as the transfer that ended had, and nobody else is
# about to send it: no other transfer to its facility that is announced and has not ended, superseded or not,
# and no further association that has a pack of it open (A55).
_WHOLE = """
    s.settled_at is null
    and t.instances <= (select count(*) from (
        select from instances i where i.study_id = s.study_id limit t.instances) durable)
    and not exists (
        select from transfers o join gateway_titles ot on ot.gateway_id = o.gateway_id
            and ot.ae_title = o.calling_ae_title and ot.live
        where o.study_instance_uid = s.study_instance_uid and ot.facility_id = s.receiving_facility_id
            and o.ended_at is null)
    and (select count(*) from packs p where p.study_id = s.study_id and p.sealed_at is null) <= 1
"""
_ENDED = """
    from transfers t
    join gateway_titles g on g.gateway_id = t.gateway_id and g.ae_title = t.calling_ae_title and g.live
    join studies s on s.receiving_facility_id = g.facility_id and s.study_instance_uid = t.study_instance_uid
    where t.transfer_id = any($1) and t.gateway_id = $2
"""


class TransferStore(Transaction):
    """Keeps transfers."""

    async def begin_transfers(self, gateway_id: GatewayId, transfers: Sequence[Transfer]) -> list[Transfer]:
        """Inserts those of a gateway that are not known, and marks all but its newest of each study (A26).

        Answers what is known under these ids now. One that ended and is announced again has not ended.
        """
        ids = [each.transfer_id for each in transfers]
        titles = [each.calling_ae_title for each in transfers]
        uids = [each.study_instance_uid for each in transfers]
        await self.connection.execute(
            f"""
            insert into transfers as known ({_COLUMNS})
            select id, $1, title, uid, begun_at
            from unnest($2::uuid[], $3::text[], $4::text[], $5::timestamptz[])
                as new (id, title, uid, begun_at)
            order by id
            on conflict (transfer_id) do update set ended_at = null, instances = null
                where known.gateway_id = $1 and known.ended_at is not null
            """,  # noqa: S608 constants only
            gateway_id,
            ids,
            titles,
            uids,
            [each.begun_at for each in transfers],
        )
        await self.connection.execute(
            """
            with queues as (select distinct * from unnest($2::text[], $3::text[]) as q (title, uid)),
            ranked as (
                select t.transfer_id, first_value(t.transfer_id) over (
                    partition by t.calling_ae_title, t.study_instance_uid
                    order by t.begun_at desc, t.transfer_id desc) as newest
                from transfers t
                    join queues q on t.calling_ae_title = q.title and t.study_instance_uid = q.uid
                where t.gateway_id = $1 and t.superseded_by is null)
            update transfers t set superseded_by = ranked.newest from ranked
            where t.transfer_id = ranked.transfer_id and ranked.newest <> t.transfer_id
              and t.superseded_by is null
            """,
            gateway_id,
            titles,
            uids,
        )
        rows = await self.connection.fetch(
            f"select {_COLUMNS} from transfers where transfer_id = any($1)",  # noqa: S608 constants only
            ids,
        )
        return [Transfer(**row) for row in rows]

    async def transfer(self, transfer_id: TransferId) -> Transfer | None:
        row = await self.connection.fetchrow(
            f"select {_COLUMNS} from transfers where transfer_id = $1",  # noqa: S608 constants only
            transfer_id,
        )
        return Transfer(**row) if row else None

    async def newest_transfer(
        self, gateway_id: GatewayId, calling_ae_title: AETitle, study_instance_uid: UID
    ) -> Transfer | None:
        """The newest that a gateway announced for a study under a title (A26)."""
        row = await self.connection.fetchrow(
            f"""
            select {_COLUMNS} from transfers
            where gateway_id = $1 and calling_ae_title = $2 and study_instance_uid = $3
              and superseded_by is null
            order by begun_at desc, transfer_id desc limit 1
            """,  # noqa: S608 constants only
            gateway_id,
            calling_ae_title,
            study_instance_uid,
        )
        return Transfer(**row) if row else None

    async def end_transfers(self, gateway_id: GatewayId, ended: Sequence[Ended]) -> None:
        """Notes the end of those that this gateway announced."""
        await self.connection.execute(
            """
            update transfers t set ended_at = now(), instances = told.instances
            from unnest($2::uuid[], $3::int[]) as told (transfer_id, instances)
            where t.transfer_id = told.transfer_id and t.gateway_id = $1
            """,
            gateway_id,
            [each.transfer_id for each in ended],
            [each.instances for each in ended],
        )

    async def settle_ended(
        self, gateway_id: GatewayId, transfer_ids: Sequence[TransferId]
    ) -> dict[StudyId, int]:
        """Settles the studies of these transfers that are whole; answers the new versions (A55).

        First the locks, then the decision, as `settle` does.
        """
        locked = await self.connection.fetch(
            f"""
            select study_id from studies where settled_at is null and study_id in (select s.study_id {_ENDED})
            order by study_id for no key update
            """,  # noqa: S608 constants only
            list(transfer_ids),
            gateway_id,
        )
        if not locked:
            return {}
        rows = await self.connection.fetch(
            f"""
            update studies set settled_at = now(), version = version + 1, told_at = now()
            where study_id = any($3) and study_id in (select s.study_id {_ENDED} and {_WHOLE})
            returning study_id, version
            """,  # noqa: S608 constants only
            list(transfer_ids),
            gateway_id,
            [row["study_id"] for row in locked],
        )
        return {row["study_id"]: row["version"] for row in rows}

    async def prune_transfers(self, older_than: datetime, limit: int) -> int:
        """Deletes the oldest, at most so many; how many."""
        return pruned(
            await self.connection.execute(
                """
                delete from transfers where transfer_id = any(array(
                    select transfer_id from transfers where begun_at < $1 order by begun_at limit $2))
                """,
                older_than,
                limit,
            )
        )

    async def prune_transfers_of(self, gateway_id: GatewayId, keep: int, limit: int) -> int:
        """Deletes the oldest of one gateway, at most so many; how many."""
        return pruned(
            await self.connection.execute(
                """
                delete from transfers where transfer_id = any(array(
                    select transfer_id from transfers where gateway_id = $1
                    order by begun_at desc offset $2 limit $3))
                """,
                gateway_id,
                keep,
                limit,
            )
        )
