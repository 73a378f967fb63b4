"""A data directory as a version left it, in one file: what is needed to start it elsewhere, and no more.

Of PostgreSQL it holds a dump of each database, made by its own `pg_dump`; of everything else the files. Ports
are chosen anew where it is unpacked. `story.json` is what the test wants to know again.
"""

import os
import shutil
import sqlite3
import subprocess
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from local.embedded import EmbeddedServers, binaries
from plumbing.components import COMPONENTS

LEFT_OUT = {"postgres", "valkey", "logs", "mail", "texts", "lock", "processes.json", "endpoints.json"}
"""What is made anew, or in the dumps, or of no use elsewhere."""

_GATEWAYS = "demo/gateways"
_PORT = "_port"


class Story(msgspec.Struct):
    """What was made on the data.

    Attributes:
        version: the commit whose version made it.
        made_at: when, in UTC.
        facility_ids, user_ids: by name and by login.
        digests: the SHA-256 of each data set that was sent, by SOP Instance UID.
        ports: the port that each server had.
    """

    version: str
    made_at: datetime
    facility_ids: dict[str, str]
    user_ids: dict[str, str]
    digests: dict[str, str]
    ports: dict[str, int] = {}


def dump(servers: EmbeddedServers) -> None:
    """Writes DATA/dumps/NAME.sql for each database; nobody may be writing to them."""
    folder = servers.data_dir / "dumps"
    folder.mkdir()
    for name in COMPONENTS:  # what the version that is checked out has
        options = ["--no-owner", "--no-privileges", "--file", str(folder / f"{name}.sql")]
        _run("pg_dump", *options, servers.database_url(name))


def pack(data_dir: Path, story: Story, archive: Path) -> None:
    """Packs the data directory of a system that has stopped."""
    kept = msgspec.json.decode((data_dir / "kept.json").read_bytes(), type=dict[str, str | int])
    story.ports = {key.removesuffix(_PORT): int(kept[key]) for key in kept if key.endswith(_PORT)}
    kept = {k: value for k, value in kept.items() if not k.endswith(_PORT) and k != "postgres_folder"}
    (data_dir / "kept.json").write_bytes(msgspec.json.encode(kept))
    (data_dir / "story.json").write_bytes(msgspec.json.encode(story))
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_LZMA) as packed:
        for path in sorted(_needed(data_dir)):
            packed.write(path, path.relative_to(data_dir))


def _needed(data_dir: Path) -> Iterator[Path]:
    for path in data_dir.rglob("*"):
        parts = path.relative_to(data_dir).parts
        if path.is_file() and parts[0] not in LEFT_OUT and parts[:2] != ("demo", "sent"):
            yield path


def unpack(archive: Path, servers: EmbeddedServers) -> Story:
    """Fills an empty data directory and starts its servers; the databases are as they were dumped.

    For the services it is an hour after the data were made, by the offset of their clocks. A site's gateway
    has no such offset: its spool is moved to the present.
    """
    servers.open()
    with zipfile.ZipFile(archive) as packed:
        for name in packed.namelist():
            Path(packed.extract(name, servers.data_dir)).chmod(0o600)
    story = msgspec.json.decode((servers.data_dir / "story.json").read_bytes(), type=Story)
    offset = story.made_at + timedelta(hours=1) - datetime.now(UTC)
    (servers.data_dir / "clock-offset").write_text(str(offset.total_seconds()))
    for gateway in (servers.data_dir / _GATEWAYS).iterdir():
        _move(gateway, servers, story)
    servers.start()
    dumps = servers.data_dir / "dumps"
    with ThreadPoolExecutor(2) as beside:
        loads = [beside.submit(_load, servers, each.stem, each) for each in dumps.iterdir()]
        for load in loads:
            load.result()
    shutil.rmtree(dumps)
    return story


def _load(servers: EmbeddedServers, service: str, dumped: Path) -> None:
    options = [
        "--no-psqlrc",
        "--quiet",
        "--set",
        "ON_ERROR_STOP=1",
        "--single-transaction",
        "--output",
        os.devnull,
    ]
    _run("psql", *options, "--file", str(dumped), servers.database_url(service))


def _move(gateway: Path, servers: EmbeddedServers, story: Story) -> None:
    """Tells a gateway where Central is now, and the ages of what waits in its spool."""
    text = (gateway / "gateway.toml").read_text()
    for name, port in story.ports.items():
        text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{servers.kept.port(name)}")
    (gateway / "gateway.toml").write_text(text)
    older = time.time() - story.made_at.timestamp()
    with sqlite3.connect(gateway / "spool" / "gateway.db") as spool:
        spool.execute("update transfers set created_at = created_at + ?, next_attempt_at = 0", (older,))
    spool.close()


def _run(program: str, *arguments: str) -> None:
    tool = binaries.locate("postgres", os.environ).with_name(program)
    done = subprocess.run([tool, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{program} failed: {done.stderr}")
