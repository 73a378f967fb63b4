"""The attacker may write to the bus: with the NATS user of each service, and with one who may do everything.

They forge every fact about a case of another hospital, its studies, shares and people, and about an id that
nobody knows. Facts are nudges: whoever hears one asks its owner, so nothing is lost and nothing is gained.
"""

from collections.abc import Collection
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import msgspec
import nats
import pytest
from nats.aio.client import Client

from demo.cast import BRANDT, CENTRAL, MARSH, NORTHGATE, VOS
from demo.reading import FINAL, completes, drafts, locks
from demo.sharing import inbox, the_mail, wanted
from demo.world import World
from kernel.events import FACTS, HEARS, SAYS, wire_subject
from plumbing.components import SERVICES
from plumbing.permissions import inbox as inbox_of
from plumbing.stream import STREAM
from tests.e2e.test_journey import seen, send, small
from tests.wait import eventually

Rows = dict[str, list[str]]

MOVING = {
    *("outbox", "heard", "dead_letters", "audit_rows"),  # whenever a fact is heard or refused
    *("bus_state", "migrations", "writers", "leases", "healing", "gateway_contacts"),  # by the clock
    "case_changes_gone",  # when changes are forgotten
}
EMPTIED = {"packs": "where study_id is not null"}
"""Files of studies that are gone go by the clock."""
FORGOTTEN = {"access.case_changes"}
"""Of which the oldest rows are forgotten by the clock."""


async def rows(world: World) -> Rows:
    """All that the services keep, by table."""
    found: Rows = {}
    for service in SERVICES:
        connection = await asyncpg.connect(world.system.servers.database_url(service))
        try:
            tables = await connection.fetch(
                "select table_name from information_schema.tables where table_schema = 'public'"
            )
            for (table,) in tables:
                if table not in MOVING:
                    texts = await connection.fetch(
                        f"select t::text from {table} t {EMPTIED.get(table, '')} order by 1"
                    )
                    found[f"{service}.{table}"] = [text for (text,) in texts]
        finally:
            await connection.close()
    return found


def differences(before: Rows, after: Rows) -> dict[str, set[str]]:
    """Rows that came or went, by table; not those that were forgotten."""
    found = {}
    for table in before.keys() | after.keys():
        was, is_now = set(before.get(table, ())), set(after.get(table, ()))
        found[table] = is_now - was if table in FORGOTTEN else is_now ^ was
    return {table: rows for table, rows in found.items() if rows}


async def settled(world: World) -> Rows:
    """The same twice in succession: what was under way is done."""
    last: Rows = {}

    async def stands() -> bool:
        nonlocal last
        before, last = last, await rows(world)
        return bool(before) and not differences(before, last)

    await eventually(stands)
    return last


async def forge(client: Client, subjects: Collection[str], ids: Collection[UUID]) -> None:
    jetstream = client.jetstream()
    for subject in subjects:
        for id_ in ids:
            lie = {"id": id_, "version": 1 << 40, "by": "routing", "study_ids": list(ids)}
            headers = {"Nats-Msg-Id": str(uuid4())}
            await jetstream.publish(subject, msgspec.json.encode(lie), headers=headers)


async def answered(client: Client) -> bool:
    """Whether each service has applied or refused every fact that it hears. Of what does not concern it
    nothing is noted: so the bus is asked, which keeps what is not decided."""
    for service in filter(HEARS.get, SERVICES):
        left = await client.jetstream().consumer_info(STREAM, service)
        if left.num_pending or left.num_ack_pending:
            return False
    return True


@pytest.mark.proves("ING-7", part="no forged fact loses or gains anything")
async def test_no_forged_fact_changes_anything(
    world: World, readers: None, outside: None, tmp_path: Path
) -> None:
    study = small("forged", "MS44")
    for site in (CENTRAL, NORTHGATE):  # the same Study Instance UID at two hospitals
        await send(world, site, study, tmp_path / site.name)
    case = await seen(world, VOS.login, study)
    await locks(MARSH)(world, case.case_id)
    await completes(MARSH, FINAL, "a report")(world, case.case_id)
    await locks(VOS)(world, case.case_id)
    await drafts(VOS, "a draft")(world, case.case_id)
    before = len(inbox(world, BRANDT))
    share = (await (await world.acting_as(VOS.login)).sharing.Share(wanted(case))).share
    await the_mail(world, BRANDT, before)
    connection = await asyncpg.connect(world.system.servers.database_url("ingest"))
    found = "select study_id from studies where study_instance_uid = $1 and settled_at is not null"

    async def both() -> list[asyncpg.Record]:
        rows = await connection.fetch(found, study.study_instance_uid)
        return list(rows) if len(rows) == 2 else []

    studies = await eventually(both)  # a study that settles later would change what others keep of it
    await connection.close()
    named = [case.case_id, case.facility_id, share.buckets[0].bucket_id, world.user_ids[BRANDT.login]]
    ids = [*map(UUID, named), *(row["study_id"] for row in studies), uuid4()]
    unforged = await settled(world)

    forged: set[str] = set()
    for service in SERVICES:
        own = [wire_subject(fact.subject, service) for fact in SAYS[service]]
        client = await nats.connect(
            world.system.servers.nats.url(service), inbox_prefix=inbox_of(service), allow_reconnect=False
        )
        await forge(client, own, ids)
        forged.update(own)
        await client.close()
    almighty = await nats.connect(world.system.servers.nats_url)
    await forge(almighty, forged | set(FACTS), ids)
    await eventually(lambda: answered(almighty), within=60)
    await almighty.close()

    left = await settled(world)
    assert {} == differences(unforged, left)
    assert await world.case(VOS.login, study.study_instance_uid)
