"""What an earlier version received, and kept less of, is described again from its packs."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast
from uuid import uuid4

import pytest

from kernel.clock import MonotonicClock
from kernel.dicom import INDEXED_ATTRIBUTES, Level
from kernel.errors import Unavailable
from kernel.ids import UUID7, StudyId
from plumbing.db import Database
from plumbing.leases import HELD_FOR, Lease
from services.ingest import events
from services.ingest.describing import PARTS_AT_ONCE, Describing
from services.ingest.dimse import describe
from services.ingest.domain import StoredInstance
from services.ingest.packreading import PackReading
from services.ingest.packs import BEGINNING_CHUNK_BYTES, DAMAGED, MAX_BEGINNING_BYTES, Packs
from services.ingest.parts import DESCRIBED, MOST
from services.ingest.store import IngestTransaction
from tests.ingest.builders import a_uid
from tests.ingest.objects import a_ct, element
from tests.ingest.system import DicomObject, Ingest, Sender, sent_objects
from tests.ingest.writing import WriterOfTheTest
from tests.wait import eventually
from wire.ingest.v1 import ingest_pb2 as pb

CLOCK = MonotonicClock()
new_id = UUID7(CLOCK)
FIRST = 1_000_001
NEW = {
    "TimezoneOffsetFromUTC": "+0100",
    "PhysiciansOfRecord": "Hooch^Pieter\\Steen^Jan",
    "PatientInstitutionResidence": "Ward 7",
}
"""What the version before did not keep."""
SAYS_IT = {
    0x0008_0201: ("SH", NEW["TimezoneOffsetFromUTC"]),
    0x0008_1048: ("PN", NEW["PhysiciansOfRecord"]),
    0x0038_0400: ("LO", NEW["PatientInstitutionResidence"]),
}
HERS = {0x0010_0010: ("PN", "Hals^Bea"), 0x0010_0020: ("LO", "2")}


def test_whoever_keeps_another_attribute_raises_the_state() -> None:
    """Else nobody describes again what was received without it."""
    assert DESCRIBED == 1
    assert {each.keyword for each in INDEXED_ATTRIBUTES if each.level is Level.STUDY} == {
        "AccessionNumber",
        "CurrentPatientLocation",
        "IssuerOfPatientID",
        "PatientAge",
        "PatientBirthDate",
        "PatientID",
        "PatientInstitutionResidence",
        "PatientName",
        "PatientSex",
        "PhysiciansOfRecord",
        "ReferringPhysicianName",
        "RequestingPhysician",
        "RequestingService",
        "StudyDate",
        "StudyDescription",
        "StudyID",
        "StudyTime",
        "TimezoneOffsetFromUTC",
    }


async def received(ingest: Ingest, *objects: DicomObject) -> None:
    """In one association; then everything has settled, and ingest has stopped."""
    answers = await sent_objects(Sender.of(ingest, await ingest.enrol()), *objects)
    assert {answer.status for answer in answers} == {0}

    async def settled() -> bool:
        return not await ingest.one("select count(*) from studies where settled_at is null")

    await eventually(settled)
    await ingest.stop()


async def keep_as_the_version_before(ingest: Ingest) -> None:
    """Leaves of what was received what the version before kept of it."""
    for table in ("attribute_sets", "studies"):
        await ingest.rows(f"update {table} set attributes = attributes - $1::text[]", list(NEW))
    await ingest.rows("update parts set described = 0")


async def keep_as_series(ingest: Ingest) -> None:
    """Leaves of what was received what the version kept that knew no parts."""
    await keep_as_the_version_before(ingest)
    for table in ("parts", "part_series", "identities", "attribute_sets"):
        await ingest.rows(f"delete from {table}")
    await ingest.rows("update instances set part = null")
    await ingest.rows("update studies set by_parts = false, series_in_parts = 0")


async def sets(ingest: Ingest) -> dict[int, dict[str, str]]:
    """What each part says of its study."""
    rows = await ingest.rows(
        """
        select p.number, key, value from parts p
            join attribute_sets a on a.study_id = p.study_id and a.number = p.attribute_set,
            jsonb_each_text(a.attributes)
        """
    )
    found: dict[int, dict[str, str]] = {}
    for number, key, value in rows:
        found.setdefault(number, {})[key] = value
    return found


async def waiting(ingest: Ingest) -> int:
    return int(await ingest.one("select count(*) from parts where described < 1"))


async def told(ingest: Ingest) -> list[int]:
    """The versions that were told of changed studies."""
    rows = await ingest.rows(
        "select (payload ->> 'version')::int from outbox where subject = 'study.changed.v1' order by id"
    )
    return [version for (version,) in rows]


def describing(database: Database[IngestTransaction], files: "Packs | Watched") -> Describing:
    """Of a process whose volume is the only one."""
    alone: Any = None
    writer = WriterOfTheTest(volume_id=files.volume_id)
    reading = PackReading(database, cast("Packs", files), alone, writer, alone)
    return Describing(database, files, reading, describe)


@dataclass
class Archive:
    """The index and the packs that a stopped ingest has left."""

    ingest: Ingest
    database: Database[IngestTransaction]
    packs: Packs

    def describing(self) -> Describing:
        return describing(self.database, self.packs)

    async def studies(self) -> list[StudyId]:
        return list(await self.describing().undescribed(None, 100))


@asynccontextmanager
async def archive(ingest: Ingest) -> AsyncIterator[Archive]:
    database = await Database.connect(ingest.database_url, IngestTransaction, clock=CLOCK, new_id=new_id)
    packs = Packs(ingest.packs, new_id)
    try:
        yield Archive(ingest, database, packs)
    finally:
        packs.close()
        await database.close()


async def test_a_start_describes_again_what_the_version_before_received_and_tells_it(ingest: Ingest) -> None:
    study = a_uid()
    await received(ingest, a_ct(study=study, more=SAYS_IT), a_ct(study=study, more=SAYS_IT | HERS))
    assert await waiting(ingest) == 0
    complete = await sets(ingest)
    assert complete[FIRST].items() >= NEW.items()
    await keep_as_the_version_before(ingest)
    assert await sets(ingest) != complete
    before = await ingest.one("select version from studies")
    facts = len(await told(ingest))

    await ingest.start()

    async def described() -> bool:
        return await waiting(ingest) == 0

    await eventually(described)
    assert await sets(ingest) == complete
    study_id = await ingest.one("select study_id from studies")
    request = pb.DescribeStudyRequest(study_id=str(study_id), by_parts=True)
    answer = (await ingest.service("access").DescribeStudy(request)).study
    assert answer.version == before + 1
    assert (await told(ingest))[facts:] == [before + 1]


async def test_each_series_of_a_version_that_knew_no_parts_is_described_again(ingest: Ingest) -> None:
    study = a_uid()
    await received(ingest, *(a_ct(study=study, series=a_uid(), more=SAYS_IT) for _ in range(2)))
    await keep_as_series(ingest)
    async with archive(ingest) as left:
        [study_id] = await left.studies()
        await events.count_undescribed(left.describing())
        assert events.UNDESCRIBED._value.get() == 1
        await left.describing().describe_again(study_id)
        await events.count_undescribed(left.describing())
        assert events.UNDESCRIBED._value.get() == 0
        assert await left.studies() == []
    found = await sets(ingest)
    assert list(found) == [1, 2]
    assert all(each.items() >= NEW.items() for each in found.values())


async def test_what_is_known_stays_and_what_says_no_more_is_not_told(ingest: Ingest) -> None:
    study = a_uid()
    await received(ingest, a_ct(study=study, more={0x0008_1030: ("LO", "knee")}), a_ct(study=a_uid()))
    await keep_as_the_version_before(ingest)
    await ingest.rows(
        "update attribute_sets set attributes = attributes || $1", '{"StudyDescription": "hip"}'
    )
    facts = await told(ingest)
    async with archive(ingest) as left:
        for study_id in await left.studies():
            await left.describing().describe_again(study_id)
    assert await waiting(ingest) == 0
    assert {each["StudyDescription"] for each in (await sets(ingest)).values()} == {"hip"}
    assert await told(ingest) == facts


async def test_it_goes_on_after_a_stop_where_it_was(ingest: Ingest) -> None:
    await received(ingest, *(a_ct(study=a_uid(), more=SAYS_IT) for _ in range(5)))
    await keep_as_the_version_before(ingest)
    async with archive(ingest) as left:
        first, *others = await left.studies()
        lease = Lease(left.database, "describe again", new_id())
        assert await events.describe_next(left.describing(), lease, None, 1) == (first, 1.0)
        assert await left.studies() == others
        # Another process knows nothing of how far this one was.
        await lease.give_back()
        other = Lease(left.database, "describe again", new_id())
        assert await events.describe_next(left.describing(), other, None, 100) == (others[-1], 1.0)
        assert await events.describe_next(left.describing(), other, others[-1], 100) == (None, events.REST_S)
    assert await waiting(ingest) == 0


async def test_a_process_without_the_lease_describes_nothing(ingest: Ingest) -> None:
    await received(ingest, a_ct(more=SAYS_IT))
    await keep_as_the_version_before(ingest)
    async with archive(ingest) as left:
        holder, other = (Lease(left.database, "describe again", new_id()) for _ in range(2))
        assert await holder.hold()
        after, pause = await events.describe_next(left.describing(), other, None, 100)
        assert (after, pause) == (None, HELD_FOR.total_seconds())
        assert await waiting(ingest) == 1


async def test_two_who_describe_the_same_study_change_it_once(ingest: Ingest) -> None:
    await received(ingest, a_ct(more=SAYS_IT))
    await keep_as_the_version_before(ingest)
    before = await ingest.one("select version from studies")
    async with archive(ingest) as left:
        [study_id] = await left.studies()
        await asyncio.gather(*(left.describing().describe_again(study_id) for _ in range(4)))
    assert await ingest.one("select version from studies") == before + 1


@pytest.mark.parametrize("damage", ["gone", "short", "other bytes"])
async def test_a_part_that_cannot_be_read_waits_and_keeps_no_other(ingest: Ingest, damage: str) -> None:
    study = a_uid()
    await received(ingest, a_ct(study=study, more=SAYS_IT))
    await ingest.start()
    gateway = Sender(ingest.ports["dicom"], "HARBOUR", (await ingest.enrol("HARBOUR")).tls)
    await sent_objects(gateway, a_ct(study=study, more=SAYS_IT | HERS))
    await ingest.stop()
    await keep_as_the_version_before(ingest)
    first = await ingest.one("select pack_id from instances order by received_at limit 1")
    [path] = [path for path in ingest.pack_files() if path.stem == str(first)]
    content = path.read_bytes()
    alerts = DAMAGED._value.get()
    match damage:
        case "gone":
            path.unlink()
        case "short":
            path.write_bytes(content[:2100])
        case _:
            path.write_bytes(content.replace(b"1.2.840.99999.", b"1.2.840.99998."))
    async with archive(ingest) as left:
        [study_id] = await left.studies()
        with pytest.raises(Unavailable):
            await left.describing().describe_again(study_id)
        assert DAMAGED._value.get() == alerts + 1
        found = await sets(ingest)
        assert found[FIRST + 1].items() >= NEW.items()
        assert not found[FIRST].keys() & NEW.keys()

        path.write_bytes(content)  # from a backup
        [study_id] = await left.studies()
        await left.describing().describe_again(study_id)
    assert (await sets(ingest))[FIRST].items() >= NEW.items()


class Watched:
    """The packs, and what happens while they are read."""

    def __init__(self, packs: Packs) -> None:
        self.packs = packs
        self.volume_id = packs.volume_id
        self.bytes = 0

    def beginning(self, stored: StoredInstance) -> Iterator[bytes]:
        for chunk in self.packs.beginning(stored):
            self.bytes += len(chunk)
            yield chunk

    def damaged(self, stored: StoredInstance) -> None:
        self.packs.damaged(stored)


async def test_no_pixels_are_read(ingest: Ingest) -> None:
    await received(ingest, a_ct(more=SAYS_IT, pixels=bytes(8 << 20)))
    await keep_as_the_version_before(ingest)
    async with archive(ingest) as left:
        watched = Watched(left.packs)
        [study_id] = await left.studies()
        await describing(left.database, watched).describe_again(study_id)
        assert watched.bytes <= BEGINNING_CHUNK_BYTES
    assert (await sets(ingest))[FIRST].items() >= NEW.items()


async def test_what_stands_behind_megabytes_of_private_elements_is_not_looked_for_without_end(
    ingest: Ingest,
) -> None:
    """Until then what is found counts: the part waits no longer."""
    private: dict[int, tuple[str, bytes | str]] = {
        0x0009_0010: ("LO", "OURS"),
        0x0009_1001: ("UN", bytes(2 * MAX_BEGINNING_BYTES)),
    }
    await received(ingest, a_ct(more=SAYS_IT | private))
    await keep_as_the_version_before(ingest)
    async with archive(ingest) as left:
        watched = Watched(left.packs)
        [study_id] = await left.studies()
        await describing(left.database, watched).describe_again(study_id)
        assert watched.bytes <= MAX_BEGINNING_BYTES
    [says] = (await sets(ingest)).values()
    assert says["PhysiciansOfRecord"] == NEW["PhysiciansOfRecord"]
    assert "PatientInstitutionResidence" not in says
    assert await waiting(ingest) == 0


async def test_an_object_that_would_not_be_filed_today_is_described_by_what_comes_before(
    ingest: Ingest,
) -> None:
    """The version before did not look whether an element that it did not keep occurs twice."""
    whole = a_ct(more=SAYS_IT)
    await received(ingest, whole)
    await keep_as_the_version_before(ingest)
    [path] = ingest.pack_files()
    residence = element(0x0038_0400, "LO", NEW["PatientInstitutionResidence"])
    path.write_bytes(path.read_bytes().replace(residence, residence[:-6] + b"Ward 8", 1))
    physicians = element(0x0008_1048, "PN", NEW["PhysiciansOfRecord"])
    twice = physicians.replace(b"\x48\x10", b"\x01\x02", 1)  # the offset from UTC, again
    path.write_bytes(path.read_bytes().replace(physicians, twice, 1))
    alerts = DAMAGED._value.get()
    async with archive(ingest) as left:
        [study_id] = await left.studies()
        await left.describing().describe_again(study_id)
    assert await waiting(ingest) == 0
    assert (await sets(ingest))[FIRST]["TimezoneOffsetFromUTC"] == NEW["TimezoneOffsetFromUTC"]
    assert DAMAGED._value.get() == alerts


async def test_a_study_that_is_purged_while_it_is_read_comes_back_in_nothing(ingest: Ingest) -> None:
    await received(ingest, a_ct(more=SAYS_IT))
    await keep_as_the_version_before(ingest)
    facts = await told(ingest)
    async with archive(ingest) as left:
        [study_id] = await left.studies()
        loop = asyncio.get_running_loop()

        class Purged(Watched):
            def beginning(self, stored: StoredInstance) -> Iterator[bytes]:
                purge = ingest.rows("delete from studies")
                asyncio.run_coroutine_threadsafe(purge, loop).result(10)
                yield from super().beginning(stored)

        await describing(left.database, Purged(left.packs)).describe_again(study_id)
    assert await told(ingest) == facts
    [says] = (await sets(ingest)).values()
    assert not says.keys() & NEW.keys()


async def many_sets(left: Archive, sets_of_study: int, parts_of_set: int) -> StudyId:
    """A study with so many sets, each of so many parts, which wait."""
    [study_id] = await left.studies()
    await left.ingest.rows("delete from parts")
    await left.ingest.rows("delete from attribute_sets")
    await left.ingest.rows(
        """
        insert into attribute_sets select $1, n, jsonb_build_object('StudyDescription', 'study ' || n)
        from generate_series(1, $2::int) n
        """,
        study_id,
        sets_of_study,
    )
    await left.ingest.rows(
        """
        insert into parts select $1, 1000000 + n, sha256(int4send(n)), 1, 1 + (n - 1) / $3::int, '{}'
        from generate_series(1, $2::int * $3::int) n
        """,
        study_id,
        sets_of_study,
        parts_of_set,
    )
    return study_id


async def test_each_of_sixty_four_sets_is_completed_where_it_is(ingest: Ingest) -> None:
    await received(ingest, a_ct())
    await keep_as_the_version_before(ingest)
    async with archive(ingest) as left:
        study_id = await many_sets(left, MOST["attribute_sets"], 1)
        async with left.database.transaction() as transaction:
            says = {FIRST + n: NEW for n in range(64)}
            assert await transaction.describe_again(study_id, says)
            assert not await transaction.describe_again(study_id, says)
    found = await sets(ingest)
    assert [found[FIRST + n] for n in range(64)] == [
        {**NEW, "StudyDescription": f"study {n + 1}"} for n in range(64)
    ]


async def test_there_are_never_more_sets_than_before_whatever_the_parts_say(ingest: Ingest) -> None:
    """Two parts share each set, and say something different: for all of them there is no room."""
    await received(ingest, a_ct())
    await keep_as_the_version_before(ingest)
    async with archive(ingest) as left:
        study_id = await many_sets(left, MOST["attribute_sets"], 2)
        async with left.database.transaction() as transaction:
            says = {FIRST + n: {"PhysiciansOfRecord": f"Hooch^{n}"} for n in range(128)}
            await transaction.describe_again(study_id, says)
    assert await ingest.one("select count(*) from attribute_sets") == MOST["attribute_sets"]
    assert await waiting(ingest) == 0


async def test_a_study_of_more_parts_than_one_transaction_takes_is_described_whole(ingest: Ingest) -> None:
    """Nothing is left of it, also where nobody can say which instance a part is made of."""
    await received(ingest, a_ct(more=SAYS_IT))
    await keep_as_the_version_before(ingest)
    async with archive(ingest) as left:
        study_id = await many_sets(left, 1, 2 * PARTS_AT_ONCE + 1)
        await left.describing().describe_again(study_id)
    assert await waiting(ingest) == 0
    assert (await sets(ingest))[FIRST].items() >= NEW.items()


async def test_only_parts_that_this_version_makes_are_described_already(ingest: Ingest) -> None:
    """The version before tells the index no state; after a way back its parts wait."""
    await received(ingest, a_ct(more=SAYS_IT))
    study_id, series = await ingest.one("select study_id from studies"), a_uid()
    await ingest.rows(
        """
        select describe_part($1, $2, $3, '{"study": {}, "series": {}, "mapping": {}, "identity": {},
                                           "most": {"identities": 64, "parts": 4000, "attribute_sets": 64,
                                                    "series_in_parts": 65536, "mapping_values": 8}}')
        """,
        study_id,
        series,
        uuid4().bytes,
    )
    described = await ingest.rows("select described from parts order by number")
    assert [each for (each,) in described] == [DESCRIBED, 0]
