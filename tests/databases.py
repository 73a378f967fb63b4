"""Databases for tests: cloned from a template, lent to one test after the other, and emptied in between.

To clone one and to drop it costs 60 ms of processor time; to empty it, 5 ms. What a test may leave behind is
rows, and numbers of sequences. A database of which anything else is not as in the template (a trigger, a
grant, what the planner knows of its tables) is dropped. One that somebody is still connected to waits until
they have gone.

A first connection costs what everything else does together: PostgreSQL starts a process, which plans each
statement anew. So `Pools` lends databases with the connections to them.
"""

import itertools
from collections import defaultdict, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psycopg

from kernel.clock import Clock
from kernel.ids import NewId
from local.embedded import EmbeddedServers
from local.embedded.postgres import SUPERUSER, Postgres, run_anywhere
from plumbing.components import COMPONENTS
from plumbing.db import Database, Transaction
from plumbing.migrating import migrate

Connection = psycopg.Connection[Any]
T = TypeVar("T", bound=Transaction)

ROOT = Path(__file__).parents[1]

EMPTY, IN_USE, CHANGED = "empty", "in use", "changed"
KEPT = "kept for the next test"
"""The name of connections that stay open while the database is emptied, if they do nothing."""
PATIENT_S = 30.0
"""What a statement may take: how fast it must be, other tests say, and the machine may be busy."""
MOST_CONNECTIONS = 24
"""Of one database: what the tests of races ask for."""

_OF_OURS = "relnamespace = 'public'::regnamespace"
# Of each kind of thing how many there are, and the newest change: nothing is made, altered or dropped unseen.
_KINDS = {
    "pg_class": _OF_OURS,
    "pg_attribute join pg_class c on attrelid = c.oid": _OF_OURS,
    "pg_attrdef": "true",
    "pg_constraint": "true",
    "pg_index": "true",
    "pg_proc": "pronamespace = 'public'::regnamespace",
    "pg_trigger": "true",
    "pg_event_trigger": "true",
    "pg_policy": "true",
    "pg_rewrite": "true",
    "pg_extension": "true",
    "pg_namespace": "nspname !~ '^pg_(toast_)?temp'",
}
# What is written in place: by `analyze` and `vacuum`; and what stands outside the database.
_SUMS = (
    f"select concat_ws(',', sum(relpages), sum(reltuples)) from pg_class where {_OF_OURS}",
    f"select count(*) from pg_statistic join pg_class c on starelid = c.oid where {_OF_OURS}",
    "select concat_ws(',', datacl, datconnlimit) from pg_database where datname = current_database()",
    "select count(*) from pg_db_role_setting s join pg_database d on d.oid = s.setdatabase"
    " where datname = current_database()",
)


def _shape() -> str:
    """An expression of SQL: a text that changes with all but rows of tables and numbers of sequences."""
    newest = "max({}.xmin::text::bigint)"
    counts = [
        f"select concat_ws(',', count(*), {newest.format(tables.split()[0])}) from {tables} where {which}"
        for tables, which in _KINDS.items()
    ]
    return "concat_ws(' ', " + ", ".join(f"({each})" for each in (*counts, *_SUMS)) + ")"


class Databases:
    """The databases of the tests of this process, in a PostgreSQL that has a role for each service."""

    def __init__(self, servers: EmbeddedServers) -> None:
        self._servers = servers
        self._numbers = itertools.count(1)
        self._emptying: dict[str, str] = {}
        self._free: defaultdict[str, deque[Lent]] = defaultdict(deque)
        self._administrator = _connect(servers.postgres, "postgres")
        # PostgreSQL drops a database when each of its processes has taken note, and one that a client is
        # about to sign in to takes note when they have. If that client is in the event loop that asks for a
        # database, and waits for the drop, both wait for `authentication_timeout`: 60 s. So nobody waits.
        self._dropper = ThreadPoolExecutor(max_workers=1, thread_name_prefix="dropper")

    def close(self) -> None:
        self._dropper.shutdown(cancel_futures=True)
        for lent in itertools.chain.from_iterable(self._free.values()):
            lent.close()
        self._administrator.close()

    def make(self, service: str) -> str:
        """The address of a new database of the service, migrated and empty. It stays."""
        return self._address(service, self._clone(service))

    def lend(self, service: str) -> "Lent":
        """A database of the service, migrated and empty: one that was given back, or else a new one."""
        free = self._free[service]
        for _ in range(len(free)):
            lent = free.popleft()
            state = lent.empty()
            if state == EMPTY:
                return lent
            if state == IN_USE:
                free.append(lent)
            else:
                lent.close()
                self._dropper.submit(self._drop, lent.name)
        name = self._clone(service)
        return Lent(
            self._servers.postgres, service, name, self._address(service, name), self._emptying[service]
        )

    def take_back(self, lent: "Lent") -> None:
        self._free[lent.service].append(lent)

    def _clone(self, service: str) -> str:
        owner, template = f"readroom_{service}", f"template_{service}"
        if service not in self._emptying:
            self._execute(f"create database {template} owner {owner}")
            folders = [ROOT / folder for folder in COMPONENTS[service].migrations]
            run_anywhere(migrate(self._address(service, template), folders))
            with _connect(self._servers.postgres, template) as connection:
                self._emptying[service] = _emptying(connection)
        name = f"test_{service}_{next(self._numbers)}"
        self._execute(f"create database {name} template {template} strategy file_copy owner {owner}")
        return name

    def _drop(self, name: str) -> None:
        with _connect(self._servers.postgres, "postgres") as connection:
            connection.execute(f"drop database {name} with (force)".encode())

    def _execute(self, statement: str) -> None:
        self._administrator.execute(statement.encode())

    def _address(self, service: str, name: str) -> str:
        return f"{self._servers.database_url(service).rpartition('/')[0]}/{name}"


class Lent:
    """A database that one test after the other has for itself.

    Attributes:
        address: for the role of its service.
    """

    def __init__(self, postgres: Postgres, service: str, name: str, address: str, emptying: str) -> None:
        self.service = service
        self.name = name
        self.address = address
        self._postgres = postgres
        self._emptying = emptying
        self._connection: Connection | None = None

    def empty(self) -> str:
        """Whether it is as a new one now, and else why not."""
        try:
            if self._connection is None:
                self._connection = _connect(self._postgres, self.name)
                self._connection.execute("set session_replication_role = replica")  # without any trigger
                self._connection.execute(self._emptying.encode())
            row = self._connection.execute("select pg_temp.emptied()").fetchone()
        except psycopg.OperationalError:  # nobody may connect to it any more, or it is gone
            return CHANGED
        assert row
        return str(row[0])

    def close(self) -> None:
        if self._connection:
            self._connection.close()


@dataclass(frozen=True)
class Pool:
    """The connections to a database that is lent."""

    lent: Lent
    first: Database[Transaction]

    def database(self, transaction: type[T], clock: Clock, new_id: NewId, size: int) -> Database[T]:
        """As a process has it that begins now."""
        return Database(self.first._pool, transaction, clock=clock, new_id=new_id, size=size)

    async def take_back(self, database: Database[T]) -> bool:
        """Whether another test may have the connections of this one: it has closed none, and holds none."""
        free = database._idle
        if database._taken != len(free) or self.first._pool.is_closing():
            return False
        while free:
            await self.first._pool.release(free.pop())
        return True


class Pools:
    """Databases that one test after the other has for itself, with the connections to them. For one loop."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases
        self._free: defaultdict[str, list[Pool]] = defaultdict(list)

    async def lend(self, service: str, clock: Clock, new_id: NewId) -> Pool:
        free = self._free[service]
        while free:
            pool = free.pop()
            if pool.lent.empty() == EMPTY:
                return pool
            await self._end(pool)
        lent = self._databases.lend(service)
        first = await Database.connect(
            lent.address,
            Transaction,
            clock=clock,
            new_id=new_id,
            pool_size=MOST_CONNECTIONS,
            settings={"application_name": KEPT},
            command_s=PATIENT_S,
        )
        return Pool(lent, first)

    async def take_back(self, pool: Pool, database: Database[T]) -> None:
        if await pool.take_back(database):
            self._free[pool.lent.service].append(pool)
        else:
            await self._end(pool)

    async def close(self) -> None:
        for pool in itertools.chain.from_iterable(self._free.values()):
            await self._end(pool)

    async def _end(self, pool: Pool) -> None:
        await pool.first.close()
        self._databases.take_back(pool.lent)


def _connect(postgres: Postgres, database: str) -> Connection:
    return psycopg.connect(postgres.url(database, SUPERUSER, postgres.password), autocommit=True)


def _emptying(template: Connection) -> str:
    """The function that makes a clone what the template is, unless it answers why it cannot."""

    def column(query: str) -> list[Any]:
        return [value for (value,) in template.execute(query.encode())]

    tables = column(f"select quote_ident(relname) from pg_class where relkind = 'r' and {_OF_OURS}")
    deletions = [f"delete from {table}" for table in tables]
    fillings = []
    for table in tables:
        if rows := column(f"select json_agg(t)::text from {table} t having count(*) > 0"):
            known = f"json_populate_recordset(null::{table}, $rows${rows[0]}$rows$)"
            fillings.append(f"insert into {table} overriding system value select * from {known}")
    (shape,) = column(f"select {_shape()}")
    numbers = column(
        "select format('perform setval(%L, %s, %L)', s.oid::regclass, coalesce(last_value, start_value),"
        " last_value is not null) from pg_sequences join pg_class s on relname = sequencename"
        f" where schemaname = 'public' and {_OF_OURS}"
    )
    body = ";\n".join([*deletions, *fillings, *numbers])
    return f"""
        create function pg_temp.emptied() returns text language plpgsql as $emptied$
        begin
            if exists (
                select from pg_stat_activity where datname = current_database()
                and backend_type = 'client backend' and pid <> pg_backend_pid()
                and (application_name <> '{KEPT}' or state <> 'idle')
            ) then
                return '{IN_USE}';
            end if;
            if {_shape()} <> '{shape}' then
                return '{CHANGED}';
            end if;
            {body};
            return '{EMPTY}';
        end $emptied$
    """
