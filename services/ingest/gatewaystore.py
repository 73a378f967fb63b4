"""Gateways with their titles, and what was refused."""

from collections.abc import Collection, Mapping
from dataclasses import fields
from datetime import datetime
from uuid import UUID

import asyncpg

from kernel.dicom import AETitle
from kernel.errors import Conflict
from kernel.ids import GatewayId
from kernel.reach import Reach
from kernel.versions import NEVER_SAVED, Change
from plumbing.db import Transaction
from services.ingest.contacts import Contact
from services.ingest.domain import MAX_REASON_CHARACTERS, Admission, RecordedRefusal, Refusal, RefusalKind
from services.ingest.gateway import AETitleBinding, Gateway
from services.ingest.renewal import Life, Renewed

_GATEWAYS = """
    select g.*, titles.*, c.heard_at, c.stored_at, c.told_at, c.software_version, c.waiting_studies,
        c.waiting_since
    from gateways g left join gateway_contacts c using (gateway_id)
        cross join lateral (
            select array_agg(t.ae_title order by t.position) as ae_titles,
                array_agg(t.facility_id order by t.position) as facility_ids
            from gateway_titles t where t.gateway_id = g.gateway_id) titles
"""


class GatewayStore(Transaction):
    """Keeps gateways and refusals."""

    # Gateways

    async def insert_gateway(self, gateway: Gateway, by: str = "") -> None:
        """Inserts it; raises Conflict if a live gateway has its name or one of its titles."""
        await self.connection.execute(
            """
            insert into gateways (
                gateway_id, name, certificate_sha256, enrolled_at, version, certificate_ends_at, changed_by,
                changed_at
            )
            values ($1, $2, $3, $4, $5, $6, $7, $8)
            """,
            gateway.gateway_id,
            gateway.name,
            gateway.certificate_sha256,
            gateway.enrolled_at,
            gateway.version,
            gateway.certificate_ends_at,
            by,
            self.now,
        )
        await self.connection.execute(
            "insert into gateway_certificates values ($1, $2, $3, $4)",
            gateway.certificate_sha256,
            gateway.gateway_id,
            gateway.enrolled_at,
            gateway.certificate_ends_at,
        )
        await self._claim_name(gateway)
        await self._insert_titles(gateway)

    async def save_gateway(self, gateway: Gateway, by: str) -> None:
        """Saves name and titles; raises Conflict if another live gateway has one of them."""
        await self.connection.execute(
            """
            update gateways set name = $2, version = $3, changed_by = $4, changed_at = $5
            where gateway_id = $1
            """,
            gateway.gateway_id,
            gateway.name,
            gateway.version,
            by,
            self.now,
        )
        await self._claim_name(gateway)
        await self.connection.execute("delete from gateway_titles where gateway_id = $1", gateway.gateway_id)
        await self._insert_titles(gateway)

    async def _claim_name(self, gateway: Gateway) -> None:
        """Makes the name its own, in place of the one it had; that of a revoked gateway is free."""
        await self.connection.execute(
            """
            delete from gateway_names n using gateways g
            where n.gateway_id = g.gateway_id
              and (n.gateway_id = $1 or (n.name = lower($2) and g.revoked_at is not null))
            """,
            gateway.gateway_id,
            gateway.name,
        )
        try:
            await self.connection.execute(
                "insert into gateway_names values (lower($1), $2)", gateway.name, gateway.gateway_id
            )
        except asyncpg.UniqueViolationError as error:
            raise Conflict(
                f"there is already a gateway named `{gateway.name}`: revoke it first, or choose another name",
                field="name",
            ) from error

    async def _insert_titles(self, gateway: Gateway) -> None:
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
                    f"another gateway already has the AE title `{binding.ae_title}`: choose another title",
                    field="ae_titles.ae_title",
                ) from error

    async def gateway_change(self, gateway_id: GatewayId) -> Change:
        """Who changed it last, and when."""
        row = await self.connection.fetchrow(
            "select version, changed_by, changed_at from gateways where gateway_id = $1", gateway_id
        )
        return Change(row["version"], row["changed_by"] or "", row["changed_at"]) if row else NEVER_SAVED

    async def gateway(self, gateway_id: GatewayId) -> Gateway | None:
        row = await self.connection.fetchrow(f"{_GATEWAYS} where g.gateway_id = $1", gateway_id)
        return _gateway(row) if row else None

    async def lock_gateway(self, gateway_id: GatewayId) -> Gateway | None:
        """The gateway, which this transaction is going to change."""
        await self.connection.execute(
            "select from gateways where gateway_id = $1 for no key update", gateway_id
        )
        return await self.gateway(gateway_id)

    async def gateway_of_certificate(self, certificate_sha256: str) -> Gateway | None:
        """Whose it is; of several certificates of a gateway any. The version before keeps its in
        `gateways`."""
        row = await self.connection.fetchrow(
            f"""
            {_GATEWAYS} where g.gateway_id = coalesce(
                (select gateway_id from gateway_certificates where certificate_sha256 = $1),
                (select gateway_id from gateways where certificate_sha256 = $1))
            """,  # noqa: S608 constants only
            certificate_sha256,
        )
        return _gateway(row) if row else None

    async def life_of_certificate(self, certificate_sha256: str) -> Life | None:
        """Of a certificate of a live gateway. Where nobody kept its end, it lasts as long as all do."""
        row = await self.connection.fetchrow(
            """
            select coalesce(c.signed_at, g.enrolled_at) as signed_at,
                coalesce(c.ends_at, g.certificate_ends_at, g.enrolled_at + interval '398 days') as ends_at
            from gateways g left join gateway_certificates c
                on c.gateway_id = g.gateway_id and c.certificate_sha256 = $1
            where g.revoked_at is null and (c.certificate_sha256 = $1 or g.certificate_sha256 = $1)
            """,
            certificate_sha256,
        )
        return Life(**row) if row else None

    async def renewed(self, key_sha256: str) -> Renewed | None:
        """The certificate that was renewed for a key."""
        row = await self.connection.fetchrow(
            "select key_sha256, gateway_id, certificate_pem from gateway_keys where key_sha256 = $1",
            key_sha256,
        )
        return Renewed(**row) if row else None

    async def renew_certificate(self, renewed: Renewed, certificate_sha256: str, life: Life) -> None:
        """Adds a certificate to those of a gateway; the gateway ends with the last of them."""
        await self.connection.execute(
            "insert into gateway_certificates values ($1, $2, $3, $4)",
            certificate_sha256,
            renewed.gateway_id,
            life.signed_at,
            life.ends_at,
        )
        await self.connection.execute(
            "insert into gateway_keys values ($1, $2, $3, $4)",
            renewed.key_sha256,
            renewed.gateway_id,
            certificate_sha256,
            renewed.certificate_pem,
        )
        await self.connection.execute(
            """
            update gateways set certificate_ends_at = greatest(certificate_ends_at, $2) where gateway_id = $1
            """,
            renewed.gateway_id,
            life.ends_at,
        )

    async def gateways(self, reach: Reach, before: UUID | None, limit: int) -> list[Gateway]:
        """Newest first."""
        rows = await self.connection.fetch(
            f"""
            {_GATEWAYS} where gateway_within_reach(g.gateway_id, $1, $2)
              and ($3::uuid is null or g.gateway_id < $3)
            order by g.gateway_id desc limit $4
            """,
            reach.everywhere,
            list(reach.facilities),
            before,
            limit,
        )
        return [_gateway(row) for row in rows]

    async def revoke_gateway(self, gateway: Gateway) -> None:
        """Waits for the instances that are being committed; what comes later is of a revoked gateway."""
        await self.connection.execute(
            "select pg_advisory_xact_lock(gateway_lock_class(), hashtext($1::uuid::text))", gateway.gateway_id
        )
        await self.connection.execute(
            "update gateways set revoked_at = $2, version = $3 where gateway_id = $1",
            gateway.gateway_id,
            gateway.revoked_at,
            gateway.version,
        )
        await self.connection.execute(
            "update gateway_titles set live = false where gateway_id = $1", gateway.gateway_id
        )

    async def ended(self, admissions: Collection[Admission]) -> set[Admission]:
        """Those whose gateway is not live, or does not have the title for the facility."""
        rows = await self.connection.fetch(
            """
            select o.gateway_id, o.ae_title, o.facility_id
            from unnest($1::uuid[], $2::text[], $3::uuid[]) as o (gateway_id, ae_title, facility_id)
            where not exists (
                select from gateway_titles t
                where t.gateway_id = o.gateway_id and t.ae_title = o.ae_title
                  and t.facility_id = o.facility_id and t.live)
            """,
            [each.gateway_id for each in admissions],
            [each.ae_title for each in admissions],
            [each.facility_id for each in admissions],
        )
        return {Admission(**row) for row in rows}

    async def save_contacts(self, contacts: Mapping[GatewayId, Contact]) -> None:
        """What was noted of gateways becomes known; what was told counts as a whole."""
        noted = sorted(contacts.items())
        await self.connection.execute(
            """
            insert into gateway_contacts as known
            select noted.* from unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[], $4::timestamptz[],
                    $5::text[], $6::integer[], $7::timestamptz[])
                as noted (gateway_id, heard_at, stored_at, told_at, software_version, waiting_studies,
                    waiting_since)
            join gateways using (gateway_id) order by noted.gateway_id
            on conflict (gateway_id) do update set
                heard_at = greatest(known.heard_at, excluded.heard_at),
                stored_at = greatest(known.stored_at, excluded.stored_at),
                told_at = coalesce(excluded.told_at, known.told_at),
                software_version = case when excluded.told_at is null
                    then known.software_version else excluded.software_version end,
                waiting_studies = case when excluded.told_at is null
                    then known.waiting_studies else excluded.waiting_studies end,
                waiting_since = case when excluded.told_at is null
                    then known.waiting_since else excluded.waiting_since end
            """,
            [gateway_id for gateway_id, _ in noted],
            *([getattr(contact, each.name) for _, contact in noted] for each in fields(Contact)),
        )

    # Refusals

    async def insert_refusal(self, recorded: RecordedRefusal) -> None:
        refusal = recorded.refusal
        await self.connection.execute(
            "insert into refusals values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            recorded.refusal_id,
            recorded.refused_at,
            refusal.kind,
            refusal.sentence[:MAX_REASON_CHARACTERS],
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
            """
            select * from refusals r
            where gateway_within_reach(r.gateway_id, $1, $2) and ($1 or r.gateway_id is not null)
              and ($3::uuid is null or r.refusal_id < $3)
            order by r.refusal_id desc limit $4
            """,
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

    async def prune_refusals(self, older_than: datetime, keep: int, limit: int) -> int:
        """Deletes the oldest, at most so many; how many.

        The newest of each kind are kept, so that many of one kind never drive the others out.
        """
        return pruned(
            await self.connection.execute(
                """
                with bounds as (
                    select kind, (
                        select refusal_id from refusals r where r.kind = kinds.kind
                        order by refusal_id desc offset $2 limit 1) as last
                    from unnest($4::text[]) as kinds (kind))
                delete from refusals where refusal_id = any(array(
                    select refusal_id from refusals left join bounds using (kind)
                    where refused_at < $1 or refusal_id <= last order by refusal_id limit $3))
                """,
                older_than,
                keep,
                limit,
                list(RefusalKind),
            )
        )


def pruned(status: str) -> int:
    """The rows of a status such as `DELETE 3`."""
    return int(status.split()[-1])


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
        row["certificate_ends_at"],
        Contact(*(row[each.name] for each in fields(Contact))),
    )
