"""Databases made while three migrations still had an earlier form start, and get the form of the others."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from local.embedded import EmbeddedServers
from plumbing.migrating import migrate
from tests.databases import ROOT
from tests.plumbing.telling import empty_database

# service → file, its checksum then, and what stood in it then instead of what stands in it now
EARLIER = {
    "access": (
        "0004_deletion.sql",
        "60db7ef64e89214d481dbc423f4d49a1090a8672bd142fb7876a18abc402bb48",
        {"create index cases_being_deleted on cases (case_id) where deletion_id is not null;\n": ""},
    ),
    "ingest": (
        "0002_deletion.sql",
        "8f0fed8e0ed3ec5b6bc498b144ec9a774f0f89aa272bef06ba91648084245caf",
        {" timestamptz not null,\n    deletion_id uuid\n": " timestamptz not null\n"},
    ),
    "sharing": (
        "0002_codes.sql",
        "a6c5881c6e1c567cb0f766287b6865750f481158c695ba436a4b4e4a5d85a1ef",
        {
            ", until it is used; it expires after": "; it has expired",
            " 10 minutes.": " 10 minutes after it was made.",
            "    lapsed boolean not null, ": "    used boolean not null,\n    lapsed boolean not null, ",
            "(created_at) where not lapsed": "(created_at) where not used and not lapsed",
        },
    ),
}

FORM = """
select table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable as part
    from information_schema.columns where table_schema = 'public'
union select indexdef from pg_indexes where schemaname = 'public'
"""


@pytest.mark.parametrize("service", EARLIER)
async def test_a_database_with_an_earlier_form_of_a_migration_becomes_like_any_other(
    service: str, servers: EmbeddedServers, tmp_path: Path, fresh_database: Callable[[str], str]
) -> None:
    name, checksum, then = EARLIER[service]
    plumbing, folder = ROOT / "plumbing/migrations", ROOT / "services" / service / "migrations"
    earlier = shutil.copytree(folder, tmp_path / service / "migrations")
    for path in earlier.glob("*.sql"):
        if path.name > name:
            path.unlink()
    sql = (earlier / name).read_text()
    for new, old in then.items():
        assert new in sql
        sql = sql.replace(new, old)
    assert hashlib.sha256(sql.encode()).hexdigest() == checksum
    (earlier / name).write_text(sql)

    url = empty_database(servers)
    await migrate(url, [plumbing, earlier])
    if service == "sharing":
        await _execute(url, _TWO_CODES)
    await migrate(url, [plumbing, folder])

    assert await _fetch(url, FORM) == await _fetch(fresh_database(service), FORM)
    if service == "sharing":
        assert await _fetch(url, "select session as part from codes") == {"unused"}


_TWO_CODES = """
alter table codes drop constraint codes_bucket_id_fkey;
insert into codes values
    (gen_random_uuid(), 'used', decode(repeat('00', 32), 'hex'), now(), true, false),
    (gen_random_uuid(), 'unused', decode(repeat('00', 32), 'hex'), now(), false, false);
"""


async def _execute(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


async def _fetch(url: str, sql: str) -> set[str]:
    connection = await asyncpg.connect(url)
    try:
        return {row["part"] for row in await connection.fetch(sql)}
    finally:
        await connection.close()
