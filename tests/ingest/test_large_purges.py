"""A purge takes as long as it must: in batches, with the study gone from the first moment (A28, A60)."""

import time
from uuid import UUID, uuid4

import pytest

from kernel.errors import NotFound
from plumbing.dblimits import COMMAND_S
from services.ingest.deletion import PURGED_AT_ONCE
from services.ingest.purgerecord import CONFIRM
from tests.ingest.builders import a_uid
from tests.ingest.objects import a_ct
from tests.ingest.system import Ingest, Sender, sent_objects
from tests.ingest.test_deletion import ONE_INSTANCE, a_case, confirm, delete, deletions, only_left
from tests.wait import eventually
from wire.ingest.v1 import ingest_pb2 as pb

INSTANCES = 3 * PURGED_AT_ONCE
SLOWLY = """
    create function slowly() returns trigger language plpgsql as $$
        begin perform pg_sleep(0.1); return old; end $$
    """
SLOW = """
    create trigger slow before delete on instances for each row
    when (right(old.sop_instance_uid, 2) = '00') execute function slowly()
    """
"""A database that deletes no more than a thousand rows a second."""


async def a_large_study(ingest: Ingest, study: str) -> UUID:
    """One instance is sent, the others are rows: no purge looks at bytes."""
    await sent_objects(Sender.of(ingest, await ingest.enrol()), a_ct(study=study))
    study_id: UUID = await ingest.one("select study_id from studies")
    await ingest.rows(
        f"""
        insert into instances
        select study_id, '1.2.3.' || n, series_instance_uid, sop_class_uid, transfer_syntax_uid, sha256,
            pack_id, entry_offset, prefix_length, data_set_length, received_at
        from instances cross join generate_series(1, {INSTANCES}) as n
        """
    )
    await ingest.rows(
        """
        insert into series select study_id, '1.2.4.' || n, n + 1, '{}'
        from studies cross join generate_series(1, 3000) as n
        """
    )
    await ingest.rows(
        """
        insert into parts select study_id, 1000001 + n, sha256(int4send(n)), 1, 1, '{}'
        from studies cross join generate_series(1, 3000) as n
        """
    )
    for sql in (SLOWLY, SLOW):
        await ingest.rows(sql)
    return study_id


@pytest.mark.proves("A28", part="however many instances there are")
@pytest.mark.proves("A60", part="the record is open while rows are left")
async def test_a_study_of_more_instances_than_a_statement_can_delete_is_purged(ingest: Ingest) -> None:
    study = a_uid()
    study_id = await a_large_study(ingest, study)
    case_id = await a_case(ingest, study)

    began = time.monotonic()
    assert (await delete(ingest, case_id)).state == pb.Deletion.STATE_BEGUN
    assert time.monotonic() - began < COMMAND_S
    # Nobody finds it any more, and sent again it is another study, while the rows are still going.
    with pytest.raises(NotFound):
        await ingest.service("routing").DescribeStudy(pb.DescribeStudyRequest(study_id=str(study_id)))
    small = str(uuid4())
    ingest.access.cases[small] = [str(uuid4())]
    await delete(ingest, small)
    for by in CONFIRM:
        await confirm(ingest, small, by)
        await confirm(ingest, case_id, by)
    (answer,) = await sent_objects(Sender.of(ingest, await ingest.enrol("AGAIN")), a_ct(study=study))
    assert answer.status == 0

    async def waits_for_ingest_alone() -> bool:
        found = {each.case_id: each for each in await deletions(ingest)}
        is_closed = found[small].state == pb.Deletion.STATE_CLOSED
        return is_closed and list(found[case_id].waiting_for) == ["ingest"]

    # Another deletion does not wait for this one.
    await eventually(waits_for_ingest_alone)
    assert await ingest.one("select count(*) from instances where study_id = $1", study_id)
    # A start in the middle goes on from where it was.
    await ingest.stop()
    await ingest.start()
    await eventually(lambda: all_closed(ingest), within=30)
    await eventually(lambda: only_left(ingest, **ONE_INSTANCE))
    assert await ingest.one("select study_id from studies") != study_id


async def all_closed(ingest: Ingest) -> bool:
    return {each.state for each in await deletions(ingest)} == {pb.Deletion.STATE_CLOSED}
