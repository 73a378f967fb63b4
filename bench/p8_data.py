"""The worklists that P8 measures: cases at 500 facilities over 30 months, and 2,000 users.

PostgreSQL makes the rows by itself, from numbers that are the same each time, into the tables that the
service reads: the secondary indexes are dropped before and made after. What is derived of a case is written
in SQL and held against `services/access/derived.py` on a sample: a difference ends the load.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import product
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from services.access.derived import DERIVED, NAMES, TEXTS, Derived, derive
from services.access.filter.forms import plain

FACILITIES = 500
USERS = 2000
RADIOLOGISTS = 400
BATCH = 250_000
SAMPLE = 200
FOLDER = 100_000
"""Cases in the large folder, or a tenth of all."""

# As often as surnames are: the first has a share of one in a hundred.
_SYLLABLES = (
    "an be cor dal el fer gan hol is jen kel lom mar nor ol pet quin ros sten tor ul ver wil xan yor zel"
)
_REAL = (
    "Smith Johnson Williams Brown Jones Garcia Miller Davis Roe Doe Müller Åberg Çelik Muñoz Bronstein "
    "Larsson Novák Dvořák Weisz"
)
_GIVEN = (
    "James Mary John Patricia Robert Jennifer Michael Linda David Elizabeth William Barbara Richard Susan "
    "Joseph Jessica Thomas Sarah Charles Karen Anna Lena Jonas Mia Noah Emma Finn Clara Paul Ida"
)
_PARTS = "CHEST ABDOMEN HEAD NECK SPINE KNEE HIP SHOULDER HAND FOOT PELVIS HEART BREAST LIVER WRIST ANKLE"


def _families() -> Iterator[str]:
    yield from words(_REAL)
    first, second, third = (words(_SYLLABLES)[:number] for number in (26, 13, 12))
    yield from ("".join(each).capitalize() for each in product(first, second, third))


def words(line: str) -> list[str]:
    return line.split()


FAMILIES, GIVEN, BODY_PARTS = tuple(_families()), tuple(words(_GIVEN)), tuple(words(_PARTS))
_COMMON = {"CT": 30, "MR": 20, "US": 15, "CR": 15, "DX": 10, "MG": 5, "PT": 3, "NM": 1, "XA": 1}
MODALITIES = tuple(modality for modality, often in _COMMON.items() for _ in range(often))
VARIANTS = ("", " ROUTINE", " W CONTRAST", " WO CONTRAST", " FOLLOW UP", " 2 VIEWS", " Research Protocol")

FILTERS = {
    "referrer-is": ("ReferringPhysicianName = 'Bronstein^John'", "off"),
    "referrer-upper": ("upper(ReferringPhysicianName) = 'BRONSTEIN^JOHN'", "off"),
    "referrer-like": ("ReferringPhysicianName like '%Bronstein%'", "off"),
    "referrer-contains": ("ReferringPhysicianName contains 'BRONSTEIN'", "off"),
    "children": ("PatientAge < '18Y'", "off"),
    "research": ("StudyDescription like '%Research%'", "off"),
    "research-upper": ("upper(StudyDescription) like '%RESEARCH%'", "off"),
    "assigned": ("AssignedToUser = '$user'", "off"),
    "in-work": (
        "StudyStatusID in ('READY_TO_READ', 'ASSIGNED', 'IN_TRANSMIT') and age(CreatedTime) < '3d' "
        "and NumberOfStudyRelatedInstances < '1200' and assignedToUser = '$USER'",
        "off",
    ),
    "calling": ("callingAETitle in ('AE3', 'AE23', 'AE303')", "off"),
    "history-of-assigned": ("AssignedToUser = '$user'", "all"),
    "history-of-mr": ("Modality = 'MR'", "all"),
    "history-of-few": ("StudyDescription like '%Research%' and Modality = 'NM'", "all"),
}
"""Of users with 50 facilities, by login: the filter, and which historical studies it opens."""

PLAIN_USERS = {"one": 1, "fifty": 50, "all": FACILITIES}
"""Users without a filter, by login: at how many facilities they read."""

SHOWN = "shown"
"""Who sees a large folder, grants and buckets, and has no privilege."""


def user_id(number: int) -> UUID:
    return UUID(int=(1 << 120) + number)


def facility_id(number: int) -> UUID:
    return UUID(int=(2 << 120) + number)


def everybody() -> list[str]:
    """All logins, those that are measured first; the next ones are radiologists."""
    named = [*PLAIN_USERS, *FILTERS, SHOWN]
    return [*named, *(f"user{number}" for number in range(len(named), USERS))]


async def load(connection: "asyncpg.Connection[Any]", cases: int, end: datetime) -> None:
    """Fills an empty, migrated database of access. Needs a superuser: keys are not checked row by row.

    Args:
        end: when the last case was received; the first was 30 months before.
    """
    await connection.execute("set session_replication_role = replica; set synchronous_commit = off")
    await connection.execute("set maintenance_work_mem = '1GB'; set work_mem = '256MB'; set jit = off")
    await _people(connection)
    await _vocabulary(connection)
    indexes = await _without_indexes(connection, ("cases", "patients", "readings"))
    for first in range(0, cases // 4 + 1, BATCH):
        await connection.execute(_PATIENTS.format(first=first, last=min(first + BATCH, cases // 4 + 1) - 1))
    for first in range(0, cases, BATCH):
        await connection.execute(
            _CASES.format(first=first, last=min(first + BATCH, cases) - 1, cases=cases, end=end.isoformat())
        )
    await connection.execute(_READINGS)
    await _same_as_derived(connection, cases)
    for definition in indexes:
        await connection.execute(definition)
    await connection.execute("set session_replication_role = origin")
    await _shown(connection, cases)
    await connection.execute("vacuum (analyze)")


async def _people(connection: "asyncpg.Connection[Any]") -> None:
    await connection.executemany(
        "insert into facilities (facility_id, name, time_zone, version) values ($1, $2, 'UTC', 1)",
        [(facility_id(number), f"Hospital {number}") for number in range(FACILITIES)],
    )
    logins = everybody()
    roles = ["radiologist"] * RADIOLOGISTS + ["facility_user"] * (USERS - RADIOLOGISTS)
    await connection.executemany(
        "insert into users (user_id, login, name, role, active, home_facility_id, version)"
        " values ($1, $2, $2, $3, true, $4, 1)",
        [
            (user_id(number), login, roles[number], facility_id(number % FACILITIES))
            for number, login in enumerate(logins)
        ],
    )
    held: list[tuple[UUID, UUID]] = []
    for number, login in enumerate(logins):
        width = PLAIN_USERS.get(login, 50 if login in FILTERS else 0 if login == SHOWN else 1 + number % 20)
        step = FACILITIES // width if width else 0
        places = ((3 + place * step) % FACILITIES for place in range(width))
        held.extend((user_id(number), facility_id(place)) for place in places)
    await connection.copy_records_to_table(
        "privileges",
        records=[(user, facility, 3, None, []) for user, facility in held],
        columns=("user_id", "facility_id", "level", "expires_on", "read_types"),
    )
    await connection.executemany(
        "insert into user_filters (user_id, form, expression, historical, version, changed_by, changed_at)"
        " values ($1, '{}', $2, $3, 1, 'bench', now())",
        [
            (user_id(logins.index(login)), expression, historical)
            for login, (expression, historical) in FILTERS.items()
        ],
    )


async def _vocabulary(connection: "asyncpg.Connection[Any]") -> None:
    """Words by number, with their plain forms; and numbers that look drawn."""
    for table, words in (("families", FAMILIES), ("givens", GIVEN)):
        await connection.execute(f"create temp table {table} (k int primary key, word text, plain text)")
        await connection.copy_records_to_table(
            table, records=[(number, word, plain(word)) for number, word in enumerate(words)]
        )
    for name, values in (("modality", MODALITIES), ("part", BODY_PARTS), ("variant", VARIANTS)):
        await connection.execute(
            f"create function pg_temp.{name}(k int) returns text immutable language sql as"
            f" $$ select ({_array(values)})[k + 1] $$"
        )
    await connection.execute(_DRAWN.format(facilities=FACILITIES, families=len(FAMILIES), givens=len(GIVEN)))


def _array(values: Sequence[str]) -> str:
    return "array[" + ", ".join("'" + value + "'" for value in values) + "]::text[]"


async def _without_indexes(connection: "asyncpg.Connection[Any]", tables: Sequence[str]) -> list[str]:
    """Drops all but the primary keys; answers how they are made."""
    rows = await connection.fetch(
        """
        select i.indexrelid::regclass::text as name, pg_get_indexdef(i.indexrelid) as definition
        from pg_index i where i.indrelid = any($1::text[]::regclass[]) and not i.indisunique
        """,
        list(tables),
    )
    for row in rows:
        await connection.execute(f"drop index {row['name']}")
    return [row["definition"] for row in rows]


# A number in [0, 1) of a number; a rank of `n` of which the first are frequent; the number of a facility.
_DRAWN = """
create function pg_temp.u(i bigint, seed int) returns float8 immutable language sql as
    $$ select (hashint8extended(i, seed) & 2147483647)::float8 / 2147483648 $$;
create function pg_temp.rank(n int, flat int, u float8) returns int immutable language sql as
    $$ select least(n - 1, floor(flat * exp(u * ln((n + flat)::float8 / flat)) - flat)::int) $$;
create function pg_temp.facility(u float8) returns int immutable language sql as
    $$ select pg_temp.rank({facilities}, 10, u) $$;
create function pg_temp.family(u float8) returns int immutable language sql as
    $$ select pg_temp.rank({families}, 20, u) $$;
create function pg_temp.given(u float8) returns int immutable language sql as
    $$ select pg_temp.rank({givens}, 10, u) $$;
create function pg_temp.forms(name text, plain text) returns jsonb immutable language sql as $$
    select case when octet_length(name) = length(name) then '{{}}'::jsonb else jsonb_build_object(
        name, jsonb_build_array(upper(name), lower(name), lower(name), plain)) end $$;
create function pg_temp.birth(p bigint) returns date immutable language sql as $$
    select (date '1935-01-01' + (pg_temp.u(p, 7) * 88)::int * interval '1 year'
        + (p % 12) * interval '1 month' + (p % 28) * interval '1 day')::date $$;
create function pg_temp.case_id(i bigint, at timestamptz) returns uuid immutable language sql as $$
    select (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '7'
        || substr(md5(i::text), 1, 19))::uuid $$;
create function pg_temp.id(kind int, k int) returns uuid immutable language sql as
    $$ select (lpad(to_hex(kind), 2, '0') || lpad(to_hex(k), 30, '0'))::uuid $$;
"""

_PATIENTS = """
insert into patients (patient_record_id, patient_id, issuer, patient_name, patient_birth_date, person_id)
select md5('patient' || p)::uuid, 'P' || lpad(p::text, 8, '0'), 'BENCH', f.word || '^' || g.word,
    to_char(pg_temp.birth(p), 'YYYYMMDD'),
    md5('patient' || p)::uuid
from generate_series({first}::bigint, {last}) p
join families f on f.k = pg_temp.family(pg_temp.u(p, 5))
join givens g on g.k = pg_temp.given(pg_temp.u(p, 6))
"""

# Of each line of `plain_text` the expression, by column.
_LINES = {
    "patient_id": "lower(patient_id)",
    "accession_number": "lower(accession)",
    "dicom_study_id": "lower(dicom_study_id)",
    "patient_sex": "lower(sex)",
    "institution_names": "lower(institution)",
    "study_description": "lower(description)",
    "body_parts": "lower(part)",
    "study_instance_uid": "uid",
    "modalities_in_study": "case when modality = 'PT' then E'ct\\npt' else lower(modality) end",
    "calling_ae_title": "lower(calling)",
    "patient_name": "patient_plain",
    "referring_physician_name": "nullif(referrer_plain, patient_plain)",
}
_PLAIN_TEXT = "concat_ws(E'\\n', " + ", ".join(
    _LINES[column] for column in (*TEXTS, *NAMES) if column in _LINES
) + ")"  # fmt: skip

# Drawn in layers: what depends on a number, then on what that gave.
_CASES = (
    """
insert into cases (case_id, facility_id, received_at, last_received_at, study_instance_uid, undistributed,
    placed_at, placement_version, parts_version, version, derived_in, derived, untouched, settled,
    patient_name, patient_id, issuer_of_patient_id, patient_birth_date, patient_sex, study_date, study_time,
    study_description, accession_number, dicom_study_id, referring_physician_name, modalities_in_study,
    institution_names, body_parts, calling_ae_title, series_count, instance_count,
    study_day, study_time_of_day, study_at, study_order, birth_day,
    age_years, age_months, age_weeks, age_days, text_forms, plain_text, patient_name_order,
    patient_record_id, person_id,
    assignee_id, assigned_by, assigned_at, priority, status_group, status_facility,
    reported_types_group, reported_types_facility)
select pg_temp.case_id(i, received_at),
    pg_temp.id(2, facility), received_at, received_at + interval '1 minute', uid, false,
    received_at, 1, 1, 1, 1, """
    + str(DERIVED)
    + """, true, true,
    patient_name, patient_id, 'BENCH', to_char(birth, 'YYYYMMDD'), sex, to_char(day, 'YYYYMMDD'),
    to_char(at, 'HH24MISS'), description, accession, dicom_study_id, referrer,
    case when modality = 'PT' then '{{CT,PT}}'::text[] else array[modality] end,
    array[institution], array[part], calling, 1 + (i % 9)::int, instances,
    day, at, (day + at) at time zone 'UTC', day + at, birth,
    extract(year from age(day, birth)),
    extract(year from age(day, birth)) * 12 + extract(month from age(day, birth)),
    (day - birth) / 7, day - birth,
    nullif(pg_temp.forms(patient_name, patient_plain) || pg_temp.forms(referrer, referrer_plain), '{{}}'),
    """
    + _PLAIN_TEXT
    + """, patient_plain, md5('patient' || p)::uuid, md5('patient' || p)::uuid,
    case when assigned then pg_temp.id(1, (pg_temp.u(i, 12) * """
    + str(RADIOLOGISTS)
    + """)::int) end, case when assigned then 'bench' else '' end, case when assigned then received_at end,
    case when pg_temp.u(i, 13) < 0.02 then 2 when pg_temp.u(i, 13) < 0.1 then 1 else 0 end,
    case when not unread then 'READ' when assigned then 'ASSIGNED' else 'READY_TO_READ' end,
    case when not unread then 'READ' else 'READY_TO_READ' end,
    case when unread then '{{}}'::text[] else '{{FINAL}}' end,
    case when unread then '{{}}'::text[] else '{{FINAL}}' end
from (
    select drawn.*, f.word || '^' || g.word as patient_name, f.plain || '^' || g.plain as patient_plain,
        rf.word || '^' || rg.word as referrer, rf.plain || '^' || rg.plain as referrer_plain,
        modality || ' ' || part
            || pg_temp.variant(case when pg_temp.u(i, 20) < 0.01 then 6 else (i % 6)::int end) as description,
        pg_temp.u(i, 11) < case when unread then 0.3 else 0.05 end as assigned,
        'Hospital ' || facility as institution, 'AE' || facility as calling,
        pg_temp.birth(p) as birth
    from (
        select i, p, received_at, pg_temp.facility(pg_temp.u(
                case when pg_temp.u(i, 3) < 0.8 then p else i end, 4)) as facility,
            '1.2.826.0.1.3680043.10.' || i as uid, 'P' || lpad(p::text, 8, '0') as patient_id,
            'A' || lpad(i::text, 9, '0') as accession, 'S' || i as dicom_study_id,
            case when p % 2 = 0 then 'F' else 'M' end as sex,
            (received_at - (pg_temp.u(i, 8) ^ 6) * interval '60 days')::date as day,
            date_trunc('second', received_at - interval '40 minutes')::time as at,
            pg_temp.modality((pg_temp.u(i, 9) * 100)::int % """
    + str(len(MODALITIES))
    + """) as modality, pg_temp.part((pg_temp.u(i, 10) * 1000)::int % """
    + str(len(BODY_PARTS))
    + """) as part,
            (1 + pg_temp.u(i, 14) ^ 3 * 1500)::int as instances,
            (i > {cases} * 0.998 and pg_temp.u(i, 15) < 0.8) or pg_temp.u(i, 15) < 0.0004 as unread
        from (
            select i, (pg_temp.u(i, 1) * ({cases} / 4))::bigint as p,
                timestamptz '{end}' - interval '913 days' * (1 - (i + 1)::float8 / {cases}) as received_at
            from generate_series({first}::bigint, {last}) i
        ) numbered
    ) drawn
    join families f on f.k = pg_temp.family(pg_temp.u(p, 5))
    join givens g on g.k = pg_temp.given(pg_temp.u(p, 6))
    join families rf on rf.k = pg_temp.family(pg_temp.u(i % 3000 + 13 * facility, 21))
    join givens rg on rg.k = pg_temp.given(pg_temp.u(i % 3000 + 13 * facility, 22))
) told
order by i
"""
)

_READINGS = """
insert into readings (case_id, side, version, state, read_types, reported_at, instance_count, derived_version)
select case_id, side, 1, 'final', '{final}', received_at + interval '3 hours', instance_count, 1
from cases cross join (values ('group'), ('facility')) sides (side) where status_group = 'READ'
"""


async def _shown(connection: "asyncpg.Connection[Any]", cases: int) -> None:
    """A large folder, a small one, 2,000 grants and 300 buckets of one user; some of everybody's."""
    shown = user_id(everybody().index(SHOWN))
    large, small = UUID(int=(3 << 120) + 1), UUID(int=(3 << 120) + 2)
    for number, folder in enumerate((large, small)):
        await connection.execute(
            "insert into folders (folder_id, name, name_folded) values ($1, $2, $2)",
            folder,
            f"folder {number}",
        )
        await connection.execute("insert into folder_members values ($1, $2)", folder, shown)
    every = cases // min(FOLDER, cases // 10)
    numbered = "(select case_id, received_at, row_number() over (order by received_at) as n from cases) c"
    for folder, step in ((large, every), (small, every * 100)):
        await connection.execute(
            f"insert into folder_cases (folder_id, case_id, received_at)"
            f" select $1, case_id, received_at from {numbered} where n % $2 = 0",
            folder,
            step,
        )
    await connection.execute(
        f"insert into case_grants (user_id, case_id, received_at)"
        f" select $1, case_id, received_at from {numbered} where n % $2 = 1 limit 2000",
        shown,
        max(2, cases // 2000),
    )
    buckets = [UUID(int=(4 << 120) + number) for number in range(300)]
    await connection.executemany(
        "insert into buckets (bucket_id, version, open, ends_at, sender_id, user_id, facility_id,"
        " two_factor, write_report, allow_further_sharing)"
        " values ($1, 1, true, 'infinity', $2, $3, $4, false, false, false)",
        [(bucket, user_id(0), shown, facility_id(0)) for bucket in buckets],
    )
    await connection.execute(
        f"""
        insert into bucket_cases (bucket_id, user_id, case_id, received_at)
        select b.bucket_id, $2, c.case_id, c.received_at
        from unnest($1::uuid[]) with ordinality as b (bucket_id, number)
        join {numbered} on n % $3 = 2 and n / $3 / 5 = b.number
        """,
        buckets,
        shown,
        max(3, cases // 1600),
    )


async def _same_as_derived(connection: "asyncpg.Connection[Any]", cases: int) -> None:
    """Raises ValueError where SQL made of a case what Python would not."""
    rows = await connection.fetch(
        f"select * from cases tablesample system (1) limit {SAMPLE}" if cases > 100_000 else
        f"select * from cases limit {SAMPLE}"
    )  # fmt: skip
    assert len(rows) == SAMPLE or cases < SAMPLE
    odd = await connection.fetch("select * from cases where text_forms is not null limit 50")
    for row in [*rows, *odd]:
        expected = derive(dict(row), UTC)
        for column in Derived.__slots__:
            stored, told = row[column], getattr(expected, column)
            if column == "text_forms":
                stored = msgspec.json.decode(stored) if stored else None
                told = {name: list(forms) for name, forms in told.items()} if told else None
            if column == "plain_text":
                stored, told = set(stored.split("\n")), set(told.split("\n"))
            if stored != told:
                raise ValueError(f"`{column}` is {stored!r}, and derived {told!r}")


def size_of(text: str) -> int:
    """`1e6`, `1000000` or `10^6`."""
    found = re.fullmatch(r"(\d+)(?:e|\^)(\d+)", text)
    return int(text) if found is None else int(found[1]) ** int(found[2]) if "^" in text else int(float(text))
