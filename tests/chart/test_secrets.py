"""`readroom secrets make` writes what the chart mounts, and what servers need to let the services in."""

import asyncio
import base64
import json
import os
import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
from click.testing import CliRunner

from kernel.errors import Conflict, Invalid
from local.embedded import binaries
from local.embedded.postgres import SUPERUSER
from local.system import ROOT, LocalSystem
from plumbing.authority import CertificateAuthority
from plumbing.components import COMPONENTS, SERVICES
from plumbing.migrating import migrate
from readroom.cli import cli
from readroom.installation import Wanted, make, renew
from services.access.main import create_first_admin
from tests.chart.test_table import NAMES, of
from tests.wait import eventually

NOW = datetime(2026, 3, 3, 12, tzinfo=UTC)
CA = CertificateAuthority.create("servers", NOW).certificate_pem
WANTED = Wanted(
    release="readroom",
    namespace="radiology",
    database="db.example.org:5432",
    nats="nats.example.org:4222",
    cache="valkey.example.org:6379",
    servers_ca=CA,
    text_token=b"the token\n",
    smtp_password=b"the password\n",
    gateway_names=["dicom.example.org"],
)


def held(folder: Path) -> dict[str, dict[str, bytes]]:
    """What each Secret of a folder holds."""
    found = {}
    for path in folder.glob("*.json"):
        manifest = json.loads(path.read_text())
        assert (manifest["kind"], manifest["metadata"]["namespace"]) == ("Secret", "radiology")
        assert manifest["metadata"]["name"] == path.stem
        found[path.stem] = {key: base64.b64decode(value) for key, value in manifest["data"].items()}
    return found


@pytest.mark.proves("OPS-12", part="each Secret is written once")
def test_each_file_that_the_chart_mounts_is_written(tmp_path: Path) -> None:
    make(WANTED, tmp_path / "secrets", NOW)
    found = held(tmp_path / "secrets")
    for name in NAMES:
        for file, known in of(name, "files").items():
            secret = f"readroom-{known['secret'].replace('{component}', name)}"
            if secret != "readroom-pages-tls" and file not in {
                "revision-key-also", "smtp-ca.crt", "text-ca.crt", "oidc-client-secret", "oidc-ca.crt"
            }:  # fmt: skip
                assert found[secret][known.get("key", file)], f"{secret}: {file}"
    assert found["readroom-migrate"].keys() == {f"{name}-database-url" for name in NAMES} | {"bus-setup-url"}
    assert found["readroom-notify"]["text-token"] == b"the token"
    holders = [name for name, data in found.items() if b"PRIVATE KEY" in b"".join(data.values())]
    others = {"readroom-gateway-ca", "readroom-gateways-tls", "readroom-token-key"}
    assert set(holders) == {f"readroom-{name}-tls" for name in NAMES} | others


def test_nobody_else_reads_it_and_nothing_of_it_is_printed(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(CA)
    (tmp_path / "token").write_text("a-token-of-the-text-gateway")
    command = ["secrets", "make", "--to", str(tmp_path / "made"), "--namespace", "radiology"]
    command += ["--database", "db:5432", "--nats", "nats:4222", "--cache", "valkey:6379"]
    command += ["--servers-ca", str(tmp_path / "ca.pem"), "--text-token-file", str(tmp_path / "token")]
    done = CliRunner().invoke(cli, command, catch_exceptions=False)

    assert done.exit_code == 0
    secret = [value for data in held(tmp_path / "made").values() for value in data.values()]
    passwords = re.findall(r"[0-9a-f]{64}", (tmp_path / "made/servers/databases.sql").read_text())
    assert len(passwords) == 2 * len(COMPONENTS)
    for each in (*secret, *(password.encode() for password in passwords)):
        assert each.decode().strip() not in done.output
    modes = {oct(path.stat().st_mode & 0o777) for path in (tmp_path / "made").rglob("*") if path.is_file()}
    assert modes == {"0o600"}
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o700


def test_no_secret_is_like_another_and_none_is_replaced(tmp_path: Path) -> None:
    for name in ("one", "two"):
        make(WANTED, tmp_path / name, NOW)
    keys = [
        held(tmp_path / folder)[f"readroom-{name}"]["audit-key"]
        for folder in ("one", "two")
        for name in NAMES
    ]
    assert len(set(keys)) == len(keys)
    with pytest.raises(Conflict, match="is not empty"):
        make(WANTED, tmp_path / "one", NOW)
    assert held(tmp_path / "one")["readroom-access"]["audit-key"] in keys


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"release": "Readroom"}, "release"),
        ({"namespace": "a b"}, "namespace"),
        ({"database": "db"}, "database"),
        ({"nats": "nats:port"}, "nats"),
        ({"cache": ":1"}, "cache"),
        ({"servers_ca": b"not a certificate"}, "servers-ca"),
        ({"text_token": b"\n"}, "text-token-file"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_written(
    wrong: dict[str, str | bytes], field: str, tmp_path: Path
) -> None:
    said = {name: getattr(WANTED, name) for name in Wanted.__slots__} | wrong
    with pytest.raises(Invalid) as refusal:
        make(Wanted(**said), tmp_path / "made", NOW)
    assert refusal.value.field == field
    assert not (tmp_path / "made").exists()


def test_certificates_are_renewed_by_the_same_authorities(tmp_path: Path) -> None:
    make(WANTED, tmp_path / "made", NOW)
    before = held(tmp_path / "made")
    names = renew(tmp_path / "made", NOW + timedelta(days=300))
    after = held(tmp_path / "made")

    assert set(names) == {*(f"readroom-{name}-tls" for name in NAMES), "readroom-gateways-tls"}
    for name, data in after.items():
        assert (data != before[name]) == (name in names)
        if name in names:
            assert data["ca.crt"] == before[name]["ca.crt"]
            certificate = tmp_path / "certificate.pem"
            certificate.write_bytes(data["tls.crt"])
            text = subprocess.run(
                ["openssl", "x509", "-in", certificate, "-noout", "-ext", "subjectAltName"],
                capture_output=True, text=True, check=True,
            ).stdout  # fmt: skip
            assert ("dicom.example.org" in text) == (name == "readroom-gateways-tls")
    with pytest.raises(Invalid, match="holds no authorities"):
        renew(tmp_path, NOW)


def test_with_cert_manager_there_are_no_certificates(tmp_path: Path) -> None:
    said = {name: getattr(WANTED, name) for name in Wanted.__slots__} | {"certificates": False}
    names = make(Wanted(**said), tmp_path / "made", NOW)

    assert not [name for name in names if name.endswith("-tls") or name == "readroom-gateway-ca"]
    with pytest.raises(Invalid):
        renew(tmp_path / "made", NOW)


def test_nats_takes_its_part(tmp_path: Path) -> None:
    make(WANTED, tmp_path / "made", NOW)
    done = subprocess.run(
        [binaries.locate("nats-server", os.environ), "-t", "-c", tmp_path / "made/servers/nats.conf"],
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr


@pytest.mark.drill
@pytest.mark.proves("OPS-12", part="one database role a service, with rights on rows alone")
def test_services_run_with_rights_on_rows_alone(tmp_path: Path) -> None:
    """Real services on databases that `databases.sql` made: they serve, seal, and cannot change the audit."""
    system = LocalSystem(tmp_path / "data", durable=False)
    system.prepare()
    try:
        local = f"127.0.0.1:{system.servers.postgres.port}"
        said = {name: getattr(WANTED, name) for name in Wanted.__slots__} | {"database": local}
        make(Wanted(**said), tmp_path / "made", NOW)
        # This PostgreSQL has roles and databases of these names already.
        sql = (tmp_path / "made/servers/databases.sql").read_text().replace("readroom_", "other_")
        urls = {
            (secret.removeprefix("readroom-"), key): value.decode().replace("readroom_", "other_")
            for secret, data in held(tmp_path / "made").items()
            for key, value in data.items()
            if key.endswith("database-url")
        }
        asyncio.run(_run(system, sql))
        for name in SERVICES:
            owner = urls["migrate", f"{name}-database-url"]
            asyncio.run(migrate(owner, [ROOT / folder for folder in COMPONENTS[name].migrations]))
        asyncio.run(create_first_admin(urls["access", "database-url"], "admin", None))
        system._settings = {
            f"READROOM_{name}_DATABASE_URL".upper(): urls[name, "database-url"] for name in SERVICES
        }
        for name in SERVICES:
            system._spawn(name)
        for name in SERVICES:
            system._wait_until_ready(name)
        asyncio.run(_acts(urls))
        for name in SERVICES:
            log = system._services[name].log.read_text()
            assert "permission denied" not in log, name
    finally:
        system.stop()


async def _run(system: LocalSystem, sql: str) -> None:
    """As psql does: a line that connects to another database, and statements."""
    first, *others = re.split(r"^\\connect (\w+)$", sql, flags=re.MULTILINE)
    parts = [("postgres", first), *zip(others[::2], others[1::2], strict=True)]
    for database, statements in parts:
        address = system.servers.postgres.url(database, SUPERUSER, system.servers.postgres.password)
        connection = await asyncpg.connect(address)
        for statement in re.sub(r"^--.*$", "", statements, flags=re.MULTILINE).split(";"):
            if statement.strip():
                await connection.execute(statement)
        await connection.close()


async def _acts(urls: dict[tuple[str, str], str]) -> None:
    for name in SERVICES:
        connection = await asyncpg.connect(urls[name, "database-url"])
        for statement in (
            "alter table audit_rows disable trigger all",
            "drop trigger never_emptied on audit_rows",
            "truncate audit_rows",
            "drop table audit_rows",
            "create table mine (id int)",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
        lacking = await connection.fetch(
            "select tablename, what from pg_tables, unnest('{select,insert,update,delete}'::text[]) what "
            "where schemaname = 'public' and not has_table_privilege(quote_ident(tablename), what)"
        )
        assert not lacking
        await connection.close()
    access = await asyncpg.connect(urls["access", "database-url"])
    sealed = "select count(*) from audit_rows where seal is not null"

    async def is_sealed() -> bool:
        return bool(await access.fetchval(sealed))

    await eventually(is_sealed)
    await access.close()
