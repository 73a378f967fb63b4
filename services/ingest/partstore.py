# ruff: noqa: S608  statements are put together from constants
"""The parts of studies: what was received under one identity and with one value of each mapping tag."""

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

from kernel.dicom import IDENTITY
from kernel.filing import Layout
from kernel.ids import FacilityId, StudyId
from plumbing.db import Transaction
from services.ingest.domain import Instance, Place, StoredInstance, Study
from services.ingest.parts import (
    BODY_PART_EXAMINED,
    DESCRIBED,
    INSTITUTION_NAME,
    MAX_SERIES_NAMED,
    MOST,
    NOT_KEPT,
    PARTS_PAGE,
    SEVERAL,
    Distinct,
    Part,
    StudyInParts,
)

# Parts of study $1 behind number $2, with the values of tags $3, at most $4; with $5 only parts of these
# numbers. An instance of the version before names no part: its series is one. As long as that is not kept as
# a part, it is what its rows say.
_PARTS = """
    with counted as (
        select coalesce(i.part, s.ordinal) as number, max(s.series_instance_uid) as series_instance_uid,
               count(*) as instance_count, min(i.received_at) as received_at,
               max(i.received_at) as last_received_at
        from instances i left join series s
            on i.part is null and s.study_id = i.study_id and s.series_instance_uid = i.series_instance_uid
        where i.study_id = $1 and (i.part > $2 or i.part is null) and coalesce(i.part, s.ordinal) > $2
          and ($5::int[] is null or coalesce(i.part, s.ordinal) = any($5))
        group by 1 order by 1 limit $4)
    select c.number, c.instance_count, c.received_at, c.last_received_at, p.number is not null as is_kept,
           p.identity,
           p.attribute_set, p.mapping is null as is_several,
           case when p.number is null
               then (select jsonb_object_agg(keyword, told)
                     from (select keyword, jsonb_agg(value order by ordinal) as told from mapping_values m
                           where m.study_id = $1 and m.series_instance_uid = c.series_instance_uid
                             and m.keyword = any($3) group by keyword) as values_of_tag)
               else (select jsonb_object_agg(key, value) from jsonb_each(p.mapping) where key = any($3))
           end as mapping,
           case when p.number is null
               then array[c.number]
               else array(select series from part_series s
                          where s.study_id = $1 and s.part = c.number order by series)
           end as series,
           case when p.number is null
               then array(select attributes ->> 'Modality' from series s
                          where s.study_id = $1 and s.series_instance_uid = c.series_instance_uid
                            and s.attributes ->> 'Modality' <> '')
               else array(select distinct modality from part_series s
                          where s.study_id = $1 and s.part = c.number and modality <> '' order by modality)
           end as modalities
    from counted c left join parts p on p.study_id = $1 and p.number = c.number
    order by c.number
"""

_PART_COLUMNS = (
    "number", "instance_count", "received_at", "last_received_at", "is_kept", "identity", "attribute_set",
    "is_several", "mapping", "series", "modalities",
)  # fmt: skip

# The study, and a page of its parts as `_PARTS` says. One statement, so that all of it is of one instant.
_IN_PARTS = f"""
    select st.*,
        (select jsonb_object_agg(number, identity) from identities where study_id = $1) as identities,
        (select jsonb_object_agg(number, attributes) from attribute_sets where study_id = $1)
            as attribute_sets,
        array(select series_instance_uid from series where study_id = $1 and $2 = 0
              order by ordinal limit $6) as series_named,
        array(select parts from ({_PARTS}) parts) as parts
    from studies st where study_id = $1
"""

# What waits to be described again. The state stands in the text, or the partial index of 0013 does not serve.
_WAITING = f"""
    select study_id from (
        (select study_id from studies where not by_parts and study_id > $1 order by study_id limit $2)
        union
        (select distinct study_id from parts where described < {DESCRIBED} and study_id > $1
         order by study_id limit $2)) as waiting
    order by study_id limit $2
"""
_FIRST_INSTANCES = f"""
    with waiting as (
        select number from parts where study_id = $1 and number > $2 and described < {DESCRIBED}
        order by number limit $3),
    first as (
        select distinct on (number) coalesce(i.part, s.ordinal) as number, i.*, st.study_instance_uid,
               volume_of(p.volume_id) as volume_id
        from instances i join studies st using (study_id) left join series s
            on i.part is null and s.study_id = i.study_id and s.series_instance_uid = i.series_instance_uid
            left join packs p on p.pack_id = i.pack_id
        where i.study_id = $1 and coalesce(i.part, s.ordinal) in (select number from waiting)
        order by number, i.received_at, i.sop_instance_uid)
    select waiting.number as waits, first.* from waiting left join first using (number) order by waits
"""
_COUNT_WAITING = f"""
    select (select count(*) from (select from parts where described < {DESCRIBED} limit $1) as parts)
         + (select count(*) from (select from studies where not by_parts limit $1) as studies)
"""


class PartStore(Transaction):
    """Reads the parts of studies; the functions in 0007 and 0012 write them."""

    async def study_in_parts(
        self, study_id: StudyId, mapping_tag: str, after_part: int, *, only: Collection[int] = ()
    ) -> StudyInParts | None:
        """A page, as one statement sees it. With `only`, no parts but these."""
        row = await self.connection.fetchrow(
            _IN_PARTS,
            study_id,
            after_part,
            [mapping_tag, INSTITUTION_NAME, BODY_PART_EXAMINED],
            PARTS_PAGE + 1,
            list(only) or None,
            MAX_SERIES_NAMED + 1,
        )
        if row is None:
            return None
        study = received_study(row)
        not_kept = 0 if row["by_parts"] else 1
        identities, attribute_sets = _numbered(row["identities"]), _numbered(row["attribute_sets"])
        named = row["series_named"]
        return StudyInParts(
            replace(study, attributes={}),
            identities or {1: {key: value for key, value in study.attributes.items() if key in IDENTITY}},
            attribute_sets if identities else {1: study.attributes},
            [
                _part(dict(zip(_PART_COLUMNS, each, strict=True)), mapping_tag, not_kept)
                for each in row["parts"][:PARTS_PAGE]
            ],
            len(row["parts"]) > PARTS_PAGE,
            named if len(named) <= MAX_SERIES_NAMED else [],
        )

    async def undescribed(self, after: StudyId | None, limit: int) -> list[StudyId]:
        """The next studies of which something waits to be described again, by id."""
        rows = await self.connection.fetch(_WAITING, after or UUID(int=0), limit)
        return [row["study_id"] for row in rows]

    async def keep_as_parts(self, study_id: StudyId) -> None:
        """Keeps what an early version received as parts: each series one."""
        await self.connection.execute(
            """
            select keep_series_as_parts(study_id) from (
                select study_id from studies where study_id = $1 and not by_parts for no key update) as early
            """,
            study_id,
        )

    async def first_instances(
        self, study_id: StudyId, after_part: int, limit: int
    ) -> list[tuple[int, StoredInstance | None]]:
        """The next parts that wait to be described again, with the instance of each that came first."""
        rows = await self.connection.fetch(_FIRST_INSTANCES, study_id, after_part, limit)
        return [(row["waits"], stored_instance(row) if row["sop_instance_uid"] else None) for row in rows]

    async def describe_again(self, study_id: StudyId, told: Mapping[int, Mapping[str, str]]) -> bool:
        """Adds what parts tell of their study, by number; whether the study says more now."""
        return bool(
            await self.connection.fetchval(
                """
                select bool_or(describe_part_again($1, number, told, $4, $5))
                from unnest($2::int[], $3::jsonb[]) as parts (number, told)
                """,
                study_id,
                list(told),
                [json.dumps(each) for each in told.values()],
                MOST["attribute_sets"],
                DESCRIBED,
            )
        )

    async def count_undescribed(self, most: int) -> int:
        """Parts that wait to be described again, and studies not kept as parts; each up to so many."""
        return int(await self.connection.fetchval(_COUNT_WAITING, most))

    async def receiving_facilities(self, study_ids: Collection[StudyId]) -> dict[StudyId, FacilityId]:
        """Of those that are live."""
        rows = await self.connection.fetch(
            "select study_id, receiving_facility_id from studies where study_id = any($1)", list(study_ids)
        )
        return {row["study_id"]: row["receiving_facility_id"] for row in rows}


def _numbered(told: str | None) -> Mapping[int, Mapping[str, str]]:
    by_number: Mapping[str, Mapping[str, str]] = json.loads(told or "{}")
    return {int(number): by_number[number] for number in sorted(by_number, key=int)}


def stored_instance(row: Any) -> StoredInstance:
    """The instance of a row, without the end of its entry: that matters to its writer only."""
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
        Layout(row["head_length"], row["pixel_offset"]),
        row["volume_id"],
    )


def received_study(row: Any) -> Study:
    """The study of a row, without its series."""
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
        (),
    )


def _part(row: Any, mapping_tag: str, not_kept: int) -> Part:
    """`not_kept`: the identity and attribute set of a series that is not kept as a part."""
    kept = row["is_kept"]
    stands_for_others = kept and row["is_several"]
    mapping: Mapping[str, list[str]] = json.loads(row["mapping"] or "{}")
    institutions, body_parts = (
        NOT_KEPT if stands_for_others else Distinct.of(mapping.get(tag, ()))
        for tag in (INSTITUTION_NAME, BODY_PART_EXAMINED)
    )
    return Part(
        row["number"],
        row["identity"] if kept else not_kept,
        SEVERAL if stands_for_others else tuple(mapping.get(mapping_tag, ())),
        row["attribute_set"] if kept else not_kept,
        tuple(row["modalities"]),
        tuple(row["series"]),
        row["instance_count"],
        row["received_at"],
        row["last_received_at"],
        institutions,
        body_parts,
    )
