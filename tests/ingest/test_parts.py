"""Parts of a study: what came under one patient identity and with one value of each mapping tag."""

import asyncio
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import uuid4

import pytest

from kernel.clock import MonotonicClock
from kernel.dicom import (
    IDENTITY,
    INDEXED_ATTRIBUTES,
    MAX_VALUES,
    UID,
    VALUES_PARTED_BY,
    Level,
    cut_value,
)
from kernel.errors import Invalid
from kernel.ids import UUID7, PackId, StudyId
from plumbing.db import Database
from plumbing.pages import MAX_PAGE_BYTES
from plumbing.rpc import MAX_RESPONSE_BYTES
from services.ingest.deletionstore import TABLES
from services.ingest.domain import Verdict
from services.ingest.gateway import Gateway
from services.ingest.instanceindex import told_to_the_index
from services.ingest.parts import (
    MAX_DISTINCT,
    MAX_SERIES_NAMED,
    MOST,
    NOT_KEPT,
    PARTS_PAGE,
    SEVERAL,
    Description,
    Distinct,
    Part,
    StudyInParts,
)
from services.ingest.store import IngestTransaction
from tests.conftest import OpenDatabase
from tests.ingest.builders import a_gateway, a_sender, a_uid, an_instance, stored
from tests.ingest.objects import a_ct, with_other_bytes
from tests.ingest.system import Ingest, Sender, sent_objects
from tests.ingest.writing import open_pack
from wire.ingest.v1 import ingest_pb2 as pb

CLOCK = MonotonicClock()
TAG = "InstitutionName"
FIRST = 1_000_001
"""The number of a study's first part."""
ADA, BEA = {"PatientID": "1", "PatientName": "Vermeer^Ada"}, {"PatientID": "2", "PatientName": "Hals^Bea"}


def told(
    identity: Mapping[str, str] = ADA,
    institution: str = "",
    *,
    body_part: str = "",
    modality: str = "CT",
    **study: str,
) -> Description:
    """What an instance tells that came under this identity and these mapping values."""
    told = {TAG: institution, "BodyPartExamined": body_part}
    mapping = {tag: value for tag, value in told.items() if value}
    return Description({**identity, **study}, {"Modality": modality}, mapping, identity)


@dataclass
class Index:
    """The index with one study in it."""

    database: Database[IngestTransaction]
    gateway: Gateway
    study_id: StudyId = field(default_factory=lambda: StudyId(uuid4()))
    study: UID = field(default_factory=a_uid)
    offsets: "itertools.count[int]" = field(default_factory=lambda: itertools.count(0, 4096))
    pack_id: PackId = field(default_factory=lambda: PackId(uuid4()))

    async def receive(
        self,
        description: Description,
        series: UID,
        uid: UID | None = None,
        *,
        data: bytes = b"data",
        described: bool = False,
    ) -> Verdict:
        instance = an_instance(study=self.study, series=series, uid=uid)
        async with self.database.transaction() as transaction:
            await open_pack(transaction, self.pack_id)
            verdict, _ = await transaction.receive(
                self.study_id,
                a_sender(self.gateway),
                stored(instance, data=data, pack_id=self.pack_id, offset=next(self.offsets)),
                description,
                create=True,
                described=described,
            )
        return verdict

    async def receive_as_the_version_before(self, description: Description, series: UID) -> None:
        instance = an_instance(study=self.study, series=series)
        await self.execute(
            """
            select receive_instance_of_live_gateway(
                $1, true, $2, $3, $4, 'RIVERSIDE', $5, $6, '1.2', '1.2', '\\x00', $7, $8::bigint, 1, 1,
                $8::bigint + 4096,
                jsonb_build_object(
                    'study', $9::jsonb, 'series', $10::jsonb, 'mapping', $11::jsonb, 'limit', 8),
                now(), now())
            """,
            self.study_id,
            self.gateway.bindings[0].facility_id,
            self.study,
            self.gateway.gateway_id,
            series,
            instance.sop_instance_uid,
            uuid4(),
            next(self.offsets),
            *(as_json(each) for each in (description.study, description.series, description.mapping)),
        )

    async def execute(self, sql: str, *arguments: object) -> None:
        async with self.database.statements() as statements:
            await statements.connection.execute(sql, *arguments)

    async def one(self, sql: str, *arguments: object) -> object:
        async with self.database.statements() as statements:
            return await statements.connection.fetchval(sql, *arguments)

    async def page(self, after: int = 0) -> StudyInParts:
        async with self.database.transaction() as transaction:
            found = await transaction.study_in_parts(self.study_id, TAG, after)
        assert found is not None
        return found

    async def parts(self) -> dict[int, Part]:
        return {part.number: part for part in (await self.page()).parts}


def as_json(values: Mapping[str, str]) -> str:
    return json.dumps(values)


@pytest.fixture
async def index(open_database: OpenDatabase) -> Index:
    database = await open_database("ingest", IngestTransaction, CLOCK, UUID7(CLOCK))
    gateway = a_gateway()
    async with database.transaction() as transaction:
        await transaction.insert_gateway(gateway)
    return Index(database, gateway)


async def test_each_identity_and_each_mapping_value_is_a_part_across_series(index: Index) -> None:
    first, second = a_uid(), a_uid()
    await index.receive(told(ADA, "MS44"), first)
    await index.receive(told(BEA, "MS44", modality="MR"), first)
    await index.receive(told(ADA, "MS45"), first)
    await index.receive(told(ADA, "MS44", modality="SR"), second)
    found = await index.page()
    assert found.identities == {1: ADA, 2: BEA}
    assert found.series_instance_uids == [first, second]
    assert not found.more
    summary = [
        (p.number, p.identity, p.mapping_values, p.modalities, p.series, p.instance_count)
        for p in found.parts
    ]
    assert summary == [
        (FIRST, 1, ("MS44",), ("CT", "SR"), (1, 2), 2),
        (FIRST + 1, 2, ("MS44",), ("MR",), (1,), 1),
        (FIRST + 2, 1, ("MS45",), ("CT",), (1,), 1),
    ]
    assert [each.number for each in (await index.page(FIRST)).parts] == [FIRST + 1, FIRST + 2]


async def test_a_part_says_its_institutions_and_body_parts_whatever_the_mapping_tag(index: Index) -> None:
    series = a_uid()
    await index.receive(told(ADA, "MS44"), series)
    await index.receive(told(ADA, "MS44"), a_uid())
    await index.receive(told(BEA, "MS45", body_part="KNEE\\CHEST \\KNEE\\"), series)
    async with index.database.transaction() as transaction:
        found = await transaction.study_in_parts(index.study_id, "StationName", 0)
    assert found is not None
    assert [(p.mapping_values, p.institution_names, p.body_parts) for p in found.parts] == [
        ((), Distinct(("MS44",)), Distinct()),
        ((), Distinct(("MS45",)), Distinct(("CHEST", "KNEE"))),
    ]


def test_many_distinct_values_are_told_up_to_a_number_with_how_many_more_there_are() -> None:
    told = Distinct.of([f"MS{n:04}" for n in range(MAX_DISTINCT + 3)])
    assert told == Distinct(tuple(f"MS{n:04}" for n in range(MAX_DISTINCT)), 3)


async def test_a_part_says_when_its_last_instance_was_durable(index: Index) -> None:
    series, twice = a_uid(), a_uid()
    for each in (ADA, BEA, ADA):
        await index.receive(told(each), series, twice if each is BEA else None)
    hers = (await index.parts())[FIRST + 1]
    await index.receive(told(BEA), series, twice)  # a duplicate is no instance
    first, second = (await index.parts()).values()
    assert first.received_at < second.received_at < first.last_received_at
    assert second == hers
    assert second.received_at == second.last_received_at


async def test_what_a_part_says_of_its_study_is_not_what_another_says(index: Index) -> None:
    series = a_uid()
    await index.receive(told(ADA), series)
    await index.receive(told(BEA, StudyDescription="knee"), series)
    await index.receive(told(ADA, AccessionNumber="7"), series)
    await index.receive(told(ADA, AccessionNumber="8"), series)
    found = await index.page()
    said = {p.number: found.attribute_sets[p.attribute_set] for p in found.parts}
    assert said == {
        FIRST: {**ADA, "AccessionNumber": "7"},
        FIRST + 1: {**BEA, "StudyDescription": "knee"},
    }


@pytest.mark.proves("A27", part="whoever the patient is")
async def test_a_duplicate_makes_no_part_and_other_bytes_are_a_conflict_whatever_the_patient(
    index: Index,
) -> None:
    series, uid = a_uid(), a_uid()
    await index.receive(told(ADA), series, uid)
    assert await index.receive(told(BEA), series, uid) is Verdict.DUPLICATE
    assert await index.receive(told(BEA), series, uid, data=b"hers") is Verdict.CONFLICT
    assert list(await index.parts()) == [FIRST]
    assert (await index.page()).identities == {1: ADA}


async def test_an_instance_of_a_part_that_was_described_needs_its_digest_alone(index: Index) -> None:
    series = a_uid()
    await index.receive(told(ADA), series)
    assert await index.receive(told(ADA), series, described=True) is Verdict.NEW
    # The index was never told of this part: it asks, and has done nothing.
    assert await index.receive(told(BEA), series, described=True) is Verdict.UNDESCRIBED
    assert {number: part.instance_count for number, part in (await index.parts()).items()} == {FIRST: 2}


async def test_what_the_version_before_received_is_a_part_for_each_series_that_nothing_changes(
    index: Index,
) -> None:
    first, second = a_uid(), a_uid()
    nameless = {"PatientID": "1"}
    await index.receive_as_the_version_before(told(nameless, "MS44"), first)
    await index.receive_as_the_version_before(told(nameless, ""), second)
    before = await index.page()
    assert [p.institution_names for p in before.parts] == [Distinct(("MS44",)), Distinct()]
    assert before.identities == {1: nameless}
    assert [(p.number, p.identity, p.mapping_values, p.series) for p in before.parts] == [
        (1, 1, ("MS44",), (1,)),
        (2, 1, (), (2,)),
    ]
    await index.receive(told(BEA, "MS45"), first)
    await index.receive(told(nameless, "MS44"), second)
    after = await index.page()
    assert after.identities == {1: nameless, 2: BEA}
    assert list(after.parts)[:2] == list(before.parts)
    assert after.attribute_sets[after.parts[0].attribute_set] == before.attribute_sets[1]
    assert [(p.number, p.identity, p.mapping_values) for p in after.parts][2:] == [
        (FIRST, 2, ("MS45",)),
        (FIRST + 1, 1, ("MS44",)),
    ]


async def test_what_the_version_before_adds_afterwards_has_an_identity_that_nobody_can_tell(
    index: Index,
) -> None:
    """After a roll back, and forward again."""
    await index.receive(told(ADA), a_uid())
    await index.receive_as_the_version_before(told(BEA, "MS44"), a_uid())
    found = (await index.parts())[2]
    assert (found.identity, found.attribute_set, found.mapping_values) == (0, 0, ("MS44",))


async def test_identities_sets_and_parts_are_bounded(index: Index) -> None:
    series = a_uid()
    await index.receive(told(ADA), series)
    for table, column in (("identities", "identity"), ("attribute_sets", "attributes")):
        await index.execute(
            f"""
            insert into {table} (study_id, number, {column})
            select $1, n, jsonb_build_object('PatientID', 'x' || n) from generate_series(2, 64) as n
            """,
            index.study_id,
        )
    await index.receive(told(BEA), series)
    many = (await index.parts())[FIRST + 1]
    assert (many.identity, many.attribute_set) == (0, 0)

    await index.execute(
        """
        insert into parts select $1, 1000000 + n, sha256(int4send(n)), 1, 1, '{}'
        from generate_series(3, $2::int) as n
        """,
        index.study_id,
        MOST["parts"],
    )
    for institution in ("MS1", "MS2"):
        await index.receive(told(ADA, institution), series)
        assert await index.receive(told(ADA, institution), series, described=True) is Verdict.UNDESCRIBED
    await index.receive(told(BEA, "MS1"), series)
    last = (await index.page(1_000_000 + MOST["parts"])).parts
    assert [(p.identity, p.mapping_values, p.instance_count) for p in last] == [
        (1, SEVERAL, 2),
        (0, SEVERAL, 1),
    ]
    assert {(p.institution_names, p.body_parts) for p in last} == {(NOT_KEPT, NOT_KEPT)}


async def buffers(index: Index, description: Description, series: UID) -> int:
    """Buffers that the statement touches which indexes an instance."""
    instance = an_instance(study=index.study, series=series)
    sender = a_sender(index.gateway)

    def count(plan: Mapping[str, int]) -> int:
        return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]

    async with index.database.statements() as statements:
        plan = await statements.connection.fetchval(
            """
            explain (analyze, buffers, format json) select index_instance(
                $1, false, $2, $3, $4, 'RIVERSIDE', $5, $6, '1.2', '1.2', '\\x00', $7, $8::bigint, 1, 1,
                $8::bigint + 4096,
                $9, $10::jsonb, now(), now())
            """,
            index.study_id,
            sender.receiving_facility_id,
            index.study,
            sender.gateway_id,
            series,
            instance.sop_instance_uid,
            index.pack_id,
            next(index.offsets),
            description.digest,
            told_to_the_index(description),
        )
    return count(json.loads(plan)[0]["Plan"])


async def test_describing_a_series_costs_the_same_at_the_first_and_at_the_two_thousandth(
    index: Index,
) -> None:
    await index.receive(told(ADA, "MS0"), a_uid())
    few = [await buffers(index, told(ADA, f"MS{n}"), a_uid()) for n in range(1, 11)]
    await index.execute(
        """
        insert into series select $1, '1.3.' || n, n, '{}' from generate_series(100, 2100) as n
        """,
        index.study_id,
    )
    await index.execute(
        """
        insert into mapping_values select $1, n, '1.3.' || n / 8, 'ProtocolName', 'p' || n
        from generate_series(800, 16800) as n
        """,
        index.study_id,
    )
    await index.execute(
        """
        insert into parts select $1, 1000000 + n, sha256(int4send(n)), 1, 1, '{}'
        from generate_series(100, 2100) as n
        """,
        index.study_id,
    )
    await index.execute("analyze")
    many = [await buffers(index, told(ADA, f"MS{n}"), a_uid()) for n in range(11, 21)]
    assert sorted(many)[5] < 1.5 * sorted(few)[5] + 20, (few, many)


async def test_the_purge_knows_each_table_that_names_studies(index: Index) -> None:
    async with index.database.statements() as statements:
        rows = await statements.connection.fetch(
            """
            select table_name from information_schema.columns
            where column_name = 'study_id' and table_schema = 'public'
            """
        )
    known = {*TABLES, "studies", "packs", "quarantined", "tombstones", "doomed_studies"}
    assert {row["table_name"] for row in rows} == known


# Against the running service


async def described(ingest: Ingest, **more: object) -> pb.Study:
    study_id = await ingest.one("select study_id from studies")
    request = pb.DescribeStudyRequest(study_id=str(study_id), by_parts=True, **more)  # type: ignore[arg-type]
    return (await ingest.service("routing").DescribeStudy(request)).study


async def test_two_patients_in_one_series_are_two_parts_of_two_identities(ingest: Ingest) -> None:
    study, series = a_uid(), a_uid()
    hers = {0x0010_0010: ("PN", "Hals^Bea"), 0x0010_0020: ("LO", "2"), 0x0010_0040: ("CS", "F")}
    answers = await sent_objects(
        Sender.of(ingest, await ingest.enrol()),
        a_ct(study=study, series=series),
        a_ct(study=study, series=series, more=hers),
        with_other_bytes(a_ct(study=study, series=series, uid="1.2.3")),
        a_ct(study=study, series=series, uid="1.2.3", more=hers),
    )
    assert [a.status for a in answers] == [0, 0, 0, 0xC111]
    told = await described(ingest, mapping_tag="PatientID")
    assert [(i.number, i.patient_name, i.patient_id, i.patient_sex) for i in told.identities] == [
        (1, "Vermeer^Ada", "", ""),
        (2, "Hals^Bea", "2", "F"),
    ]
    assert [(p.number, p.identity, list(p.mapping_values), p.instance_count) for p in told.parts] == [
        (FIRST, 1, [], 2),
        (FIRST + 1, 2, ["2"], 1),
    ]
    assert not told.attributes
    assert not told.series
    with pytest.raises(Invalid):
        await described(ingest, mapping_tag="PixelData")


async def test_what_filters_ask_for_is_told_of_each_part(ingest: Ingest) -> None:
    study = a_uid()
    chest = {
        0x0008_0080: ("LO", "Riverside"),
        0x0018_0015: ("CS", "CHEST"),
        0x0008_0201: ("SH", "+0100"),
        0x0008_1048: ("PN", "Hooch^Pieter\\Steen^Jan"),
        0x0038_0400: ("LO", "Ward 7"),
    }
    knee = chest | {0x0018_0015: ("CS", "KNEE")}
    await sent_objects(
        Sender.of(ingest, await ingest.enrol()),
        *(a_ct(study=study, more=more) for more in (chest, knee, chest)),
    )
    told = await described(ingest)
    assert told.calling_ae_title == "RIVERSIDE"
    assert told.gateway_id == str(await ingest.one("select gateway_id from gateways"))
    assert [(list(p.institution_names), list(p.body_parts)) for p in told.parts] == [
        (["Riverside"], ["CHEST"]),
        (["Riverside"], ["KNEE"]),
    ]
    first, second = told.parts
    assert (first.institution_names_left_out, first.body_parts_left_out) == (0, 0)
    assert first.received_at.ToDatetime() < second.received_at.ToDatetime()
    assert second.last_received_at.ToDatetime() < first.last_received_at.ToDatetime()
    [attributes] = told.attribute_sets
    wanted = ("TimezoneOffsetFromUTC", "PhysiciansOfRecord", "PatientInstitutionResidence")
    assert [attributes.attributes[each] for each in wanted] == ["+0100", "Hooch^Pieter\\Steen^Jan", "Ward 7"]


async def test_sixty_four_sets_and_identities_of_the_longest_texts_fit_into_one_answer(
    ingest: Ingest,
) -> None:
    """Eight values of each attribute, of letters that take four bytes."""
    await sent_objects(Sender.of(ingest, await ingest.enrol()), a_ct())
    longest = {
        each.keyword: cut_value(VALUES_PARTED_BY.join(["=".join(["𝔛" * 64] * 3)] * MAX_VALUES), each.vr)
        for each in INDEXED_ATTRIBUTES
        if each.level is Level.STUDY
    }
    identity = {keyword: value for keyword, value in longest.items() if keyword in IDENTITY}
    for table, column, values in (
        ("attribute_sets", "attributes", longest),
        ("identities", "identity", identity),
    ):
        await ingest.rows(
            f"insert into {table} (study_id, number, {column})"
            " select study_id, n, $1::jsonb from studies, generate_series(2, 64) n",
            as_json(values),
        )
    page = await described(ingest)
    assert len(page.attribute_sets) == len(page.identities) == 64
    assert page.ByteSize() <= MAX_PAGE_BYTES < MAX_RESPONSE_BYTES


async def test_identities_that_differ_beyond_what_is_kept_differ(ingest: Ingest) -> None:
    study = a_uid()
    long = "x" * 64
    await sent_objects(
        Sender.of(ingest, await ingest.enrol()),
        *(a_ct(study=study, more={0x0010_0020: ("LO", each)}) for each in (long + "1", long + "2")),
    )
    told = await described(ingest)
    assert len({i.patient_id for i in told.identities}) == 2
    assert [p.identity for p in told.parts] == [1, 2]


async def test_a_study_of_five_thousand_series_and_the_longest_texts_is_described_in_pages_that_fit(
    ingest: Ingest,
) -> None:
    await sent_objects(Sender.of(ingest, await ingest.enrol()), a_ct())
    longest = "王" * 1024
    await ingest.rows(
        """
        with study as (select study_id from studies),
        in_all as (insert into series select study_id, '1.3.' || n, n, '{"Modality": "CT"}'
                 from study, generate_series(2, 5000) n),
        sets as (insert into attribute_sets select study_id, n, jsonb_build_object(
                     'PatientName', $1::text, 'ReferringPhysicianName', $1::text,
                     'StudyDescription', 'study ' || n)
                 from study, generate_series(2, 64) n),
        of_part as (insert into part_series select study_id, 1000000 + n, n + 904, 'CT'
                    from study, generate_series(2, 4096) n),
        parts as (insert into parts select study_id, 1000000 + n, sha256(int4send(n)), 1, 1,
                      jsonb_build_object('InstitutionAddress', jsonb_build_array($1::text))
                  from study, generate_series(2, 4096) n)
        insert into instances
            select study_id, '1.4.' || n, '1.3.' || n, sop_class_uid, transfer_syntax_uid, sha256, pack_id,
                   entry_offset, prefix_length, data_set_length, received_at,
                   1000001 + (n - 1) % 4096
            from instances join study using (study_id), generate_series(2, 5000) n
        """,
        longest,
    )
    found: list[pb.Part] = []
    pages = 0
    more = True
    while more:
        after = found[-1].number if found else 0
        page = await described(ingest, mapping_tag="InstitutionAddress", after_part=after)
        assert page.ByteSize() <= MAX_PAGE_BYTES < MAX_RESPONSE_BYTES
        assert 1 <= len(page.parts) <= PARTS_PAGE
        assert not page.series_instance_uids  # of more than others could keep
        assert len(page.attribute_sets) == 64
        found += page.parts
        pages += 1
        more = page.more_parts
    assert [part.number for part in found] == list(range(FIRST, FIRST + 4096))
    assert sum(part.instance_count for part in found) == 5000
    assert pages > 4096 / PARTS_PAGE


async def test_a_study_of_two_thousand_series_names_them_and_one_of_more_names_none(ingest: Ingest) -> None:
    await sent_objects(Sender.of(ingest, await ingest.enrol()), a_ct())
    await ingest.rows(
        "insert into series select study_id, '1.3.' || n, n, '{}' from studies, generate_series(2, 2000) n"
    )
    assert len((await described(ingest)).series_instance_uids) == MAX_SERIES_NAMED
    await ingest.rows("insert into series select study_id, '1.3.2001', 2001, '{}' from studies")
    assert not (await described(ingest)).series_instance_uids


async def test_associations_that_describe_at_once_make_each_part_once(index: Index) -> None:
    series = a_uid()
    await index.receive(told(ADA), series)

    async def send(number: int) -> None:
        pack = Index(index.database, index.gateway, index.study_id, index.study)
        for institution in ("MS1", "MS2", "MS3"):
            await pack.receive(told(BEA if number % 2 else ADA, institution), series)

    await asyncio.gather(*map(send, range(8)))
    found = await index.page()
    assert found.identities == {1: ADA, 2: BEA}
    assert sorted((p.identity, *p.mapping_values) for p in found.parts) == sorted(
        [(1,), *((identity, f"MS{n}") for identity in (1, 2) for n in (1, 2, 3))]
    )
    assert sum(p.instance_count for p in found.parts) == 25
