"""P8: a page of a worklist, at as many cases as are asked for: over gRPC, and the time of its SQL beside.

    BENCH_P8_SIZES   numbers of cases, such as `1e4 1e5 1e6` (which is the default), up to `1e7`
    BENCH_P8_DATA    a folder where what was loaded is kept for the next run; without it nothing is kept
    BENCH_RUNS       how often each shape is asked for

What is measured is one mix: whoever sees 1, 50 and 500 facilities without a filter, each filter of the
examples, what is assigned, historical studies, a folder of a tenth of all cases, each order both ways, late
pages, searches, lists of what is not read, and counts.
"""

import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg

from bench import p8_data, p8_picture
from bench.results import Result, at_most, median, percentile, spread
from kernel.clock import MonotonicClock
from kernel.ids import UUID7
from local.embedded.postgres import SUPERUSER
from local.system import BUS, MIGRATE, LocalSystem
from plumbing.components import SERVICES
from plumbing.db import Database
from readroom.client import Readroom, connect
from readroom.endpoints import Endpoints
from readroom.session import Session
from services.access.main import KEPT_SETTINGS, LISTING_SETTINGS
from services.access.search import Listing, Order
from services.access.store import AccessTransaction
from services.access.usecases import Questions
from services.access.walking import Pace
from wire.access.v1 import access_pb2 as pb

SIZES = [p8_data.size_of(each) for each in os.environ.get("BENCH_P8_SIZES", "1e4 1e5 1e6").split()]
RUNS = int(os.environ.get("BENCH_RUNS", "5")) * 2
ADMIN = "admin"
PAGE = 50
LATE = 20
"""Pages that are turned before the late one."""

DUE_MS, DUE_GROWTH, DUE_CUT = 30, 2, 0.05
FIRST_SIZE = 100_000
"""What is served in the order of an index is compared with its time at so many cases."""

ORDERS = {
    Order.RECEIVED: pb.CASE_ORDER_RECEIVED,
    Order.STUDY_DATE: pb.CASE_ORDER_STUDY_DATE,
    Order.PATIENT_NAME: pb.CASE_ORDER_PATIENT_NAME,
    Order.PRIORITY: pb.CASE_ORDER_PRIORITY,
}


@dataclass(frozen=True, slots=True)
class Shape:
    """A list that somebody asks for.

    Attributes:
        is_indexed: whether an index serves it in order, so that it must not grow with the number of cases.
        is_late: whether a later page is asked for, and not the first.
        is_count: whether the number of its cases is asked for.
    """

    name: str
    login: str
    asked: Listing = field(default_factory=Listing)
    is_indexed: bool = False
    is_late: bool = False
    is_count: bool = False


UNREAD = "StudyStatusID != 'READ'"
NEVER = "StudyStatusID = 'TRANSCRIBED'"


def shapes() -> list[Shape]:
    """The mix, each of which is asked for equally often."""
    found = [Shape(f"no filter, {login}", login, is_indexed=True) for login in p8_data.PLAIN_USERS]
    found += [
        Shape(f"late page, {login}", login, is_indexed=True, is_late=True) for login in ("fifty", "all")
    ]
    found += [
        Shape(f"filter {login}", login, is_indexed=login in ("assigned", "in-work"))
        for login in p8_data.FILTERS
    ]
    for order in Order:
        for descending in (True, False):
            way = "down" if descending else "up"
            asked = Listing(order, descending)
            found += [
                Shape(f"{order} {way}, {login}", login, asked, is_indexed=True)
                for login in ("fifty", "all", p8_data.SHOWN)
            ]
    day = datetime.now(UTC) - timedelta(days=9)
    lines = (
        "smith",
        "bronstein",
        f"smith ct chest {day:%Y-%m}",
        "zelzel",
        "ct",
        f"{day:%Y-%m-%d}",
        "id:P0000012",
    )
    for line in lines:
        words = line.replace(f"{day:%Y-%m-%d}", "a day").replace(f"{day:%Y-%m}", "a month")
        found += [Shape(f"search {words}, {login}", login, Listing(line=line)) for login in ("fifty", "all")]
    found += [
        Shape(f"{name}, {order}, {login}", login, Listing(order, where=where), is_indexed=True)
        for name, where in (("unread", UNREAD), ("unread, none", NEVER))
        for order in (Order.RECEIVED, Order.PATIENT_NAME)
        for login in ("fifty", "all")
    ]
    found += [
        Shape(f"count, {login}", login, Listing(line=line), is_count=True)
        for login, line in (("one", ""), ("fifty", ""), ("all", ""), ("fifty", "smith"), ("children", ""))
    ]
    return found


@dataclass(slots=True)
class Measured:
    """What was measured of a shape at a number of cases, in milliseconds.

    Attributes:
        processor: what of its SQL the database spent on a processor: what a busy machine does not change.
        cut: how many of its pages ended because their time did.
    """

    shape: Shape
    over_grpc: list[float] = field(default_factory=list)
    sql: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    cut: int = 0


async def measure() -> Sequence[Result]:
    """Loads what is missing, asks for each shape in turn, and draws the picture."""
    results: list[Result] = []
    told: dict[int, list[Measured]] = {}
    with tempfile.TemporaryDirectory(prefix="readroom-p8-") as name:
        folder = Path(os.environ.get("BENCH_P8_DATA") or name)
        for cases in SIZES:
            told[cases], writing = await asyncio.to_thread(_at, folder / str(cases), cases)
            results += _results(cases, told)
            results.append(writing)
            if "BENCH_P8_DATA" not in os.environ:
                shutil.rmtree(folder / str(cases), ignore_errors=True)
    p8_picture.draw(
        {cases: {each.shape.name: median(each.over_grpc) for each in found} for cases, found in told.items()}
    )
    return results


def _at(folder: Path, cases: int) -> tuple[list[Measured], Result]:
    """Everything at so many cases, with access as the only service."""
    commands = {name: [sys.executable, "-m", "services", name] for name in (MIGRATE, BUS, "access")}
    commands[MIGRATE] += ["--first-admin", ADMIN]
    folder.mkdir(parents=True, exist_ok=True)
    system = LocalSystem(folder, first_admin=ADMIN, commands=commands)
    system.prepare()
    try:
        url = system.servers.postgres.url("readroom_access", SUPERUSER, system.servers.postgres.password)
        asyncio.run(_load(url, cases))
        system.start_service("access")
        system.endpoints().write(system.data_dir)
        # A client knows every service; of these only access is there, and only access is asked.
        told = Endpoints.read(system.data_dir)
        endpoints = replace(told, services=dict.fromkeys(SERVICES, told.services["access"]))
        return asyncio.run(_ask(endpoints, system.servers.database_url("access"), url, cases))
    finally:
        system.stop()


async def _load(url: str, cases: int) -> None:
    connection = await asyncpg.connect(url)
    try:
        if await connection.fetchval("select exists (select from cases)"):
            return
        began = time.perf_counter()
        await p8_data.load(connection, cases, datetime.now(UTC))
        size = await connection.fetchval("select pg_size_pretty(pg_database_size(current_database()))")
        print(f"P8 loaded {cases} cases in {time.perf_counter() - began:.0f} s, {size}", flush=True)
    finally:
        await connection.close()


async def _ask(endpoints: Endpoints, own_url: str, url: str, cases: int) -> tuple[list[Measured], Result]:
    clock = MonotonicClock()
    measured = [Measured(shape) for shape in shapes()]
    async with AsyncExitStack() as stack:
        readrooms = {
            login: await stack.enter_async_context(connect(endpoints, Session.begin(login)))
            for login in {each.shape.login for each in measured}
        }
        kept, lists = [
            await Database.connect(
                own_url, AccessTransaction, clock=clock, new_id=UUID7(clock), pool_size=1, settings=settings
            )
            for settings in (KEPT_SETTINGS, LISTING_SETTINGS)
        ]
        questions = Questions(kept, clock, lists=lists, pace=Pace())
        statements: list[float] = []
        backends: list[int] = []
        for database in (kept, lists):
            stack.push_async_callback(database.close)
            async with database.statements() as transaction:
                transaction.connection.add_query_logger(lambda told: statements.append(told.elapsed))
                backends.append(transaction.connection.get_server_pid())
        tokens = {each.shape.name: await _late(readrooms[each.shape.login], each.shape) for each in measured}
        for run in range(RUNS + 1):
            for each in measured:
                shape = each.shape
                began = time.perf_counter()
                is_cut = await _call(readrooms[shape.login], shape, tokens[shape.name])
                took = time.perf_counter() - began
                statements.clear()
                on_processor = _on_processor(backends)
                if shape.is_count:
                    await questions.count_cases(shape.login, shape.asked)
                else:
                    await questions.list_cases(shape.login, None, PAGE, shape.asked)
                await asyncio.sleep(0)  # what was asked is told by the loop
                if run:  # the first warms
                    each.processor.append(1000 * (_on_processor(backends) - on_processor))
                    each.over_grpc.append(1000 * took)
                    each.sql.append(1000 * sum(statements))
                    each.cut += is_cut
    return measured, await _writing(url, cases)


def _on_processor(pids: Sequence[int]) -> float:
    """Seconds that processes were on a processor, as Linux counts it (`/proc/PID/schedstat`)."""
    return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in pids) / 1e9


async def _late(readroom: Readroom, shape: Shape) -> str:
    """The token of a later page; empty for the first."""
    token = ""
    for _ in range(LATE if shape.is_late else 0):
        token = (await readroom.access.ListCases(_request(shape, token))).next_page_token
    return token


def _request(shape: Shape, token: str) -> pb.ListCasesRequest:
    asked = shape.asked
    return pb.ListCasesRequest(
        page_size=PAGE,
        page_token=token,
        where=asked.where,
        search=asked.line,
        order=ORDERS[asked.order],
        ascending=not asked.descending,
    )


async def _call(readroom: Readroom, shape: Shape, token: str) -> bool:
    """Whether the page, or the count, ended because its time did."""
    if shape.is_count:
        counting = pb.CountCasesRequest(where=shape.asked.where, search=shape.asked.line)
        return (await readroom.access.CountCases(counting)).unfinished
    return (await readroom.access.ListCases(_request(shape, token))).continues


_COPY = """
insert into cases ({columns}) select {values} from cases c where c.case_id = $1
"""


async def _writing(url: str, cases: int) -> Result:
    """The cost of a case that arrives: its row, with all indexes, in a transaction that is taken back."""
    connection = await asyncpg.connect(url)
    took = []
    try:
        rows = await connection.fetch(
            "select attname from pg_attribute"
            " where attrelid = 'cases'::regclass and attnum > 0 and not attisdropped"
        )
        changed = {
            "case_id": "gen_random_uuid()",
            "received_at": "clock_timestamp()",
            "patient_name_order": "md5(random()::text)",
            "plain_text": "c.plain_text || E'\\n' || md5(random()::text)",
        }
        columns = [row["attname"] for row in rows]
        values = [changed.get(column, f"c.{column}") for column in columns]
        statement = _COPY.format(columns=", ".join(columns), values=", ".join(values))
        case_id = await connection.fetchval("select case_id from cases limit 1")
        for _ in range(200):
            transaction = connection.transaction()
            await transaction.start()
            began = time.perf_counter()
            await connection.execute(statement, case_id)
            took.append(1000 * (time.perf_counter() - began))
            await transaction.rollback()
    finally:
        await connection.close()
    what = f"a case written into the index at {_told(cases)} cases, p50"
    return Result(
        id="P8", what=what, ours=percentile(took, 0.5), unit="ms", runs=len(took), spread=spread(took)
    )


def _results(cases: int, told: dict[int, list[Measured]]) -> list[Result]:
    """The figures of a size; what is due is due of the largest."""
    measured = told[cases]
    is_last = cases == SIZES[-1]
    at = f"at {_told(cases)} cases"
    pages = [took for each in measured for took in each.over_grpc]
    cut = sum(each.cut for each in measured) / len(pages)
    found = [
        Result(
            id="P8",
            what=f"a page of {PAGE} or a count over the mix {at}, p99",
            ours=percentile(pages, 0.99),
            unit="ms",
            runs=len(pages),
            spread=spread(pages),
            due=at_most(DUE_MS) if is_last else None,
        ),
        Result(
            id="P8",
            what=f"the same {at}, p50",
            ours=percentile(pages, 0.5),
            unit="ms",
            runs=len(pages),
            spread=spread(pages),
        ),
        Result(
            id="P8",
            what=f"share of pages and counts that ended with their time {at}",
            ours=cut,
            unit="of 1",
            runs=len(pages),
            spread="",
            due=at_most(DUE_CUT) if is_last else None,
        ),
    ]
    busy = [took for each in measured for took in each.processor]
    found.append(
        Result(
            id="P8",
            what=f"processor time of the SQL of a page or a count over the mix {at}, p99",
            ours=percentile(busy, 0.99),
            unit="ms",
            runs=len(busy),
            spread=spread(busy),
        )
    )
    before = {each.shape.name: each for each in told.get(FIRST_SIZE, [])}
    for each in measured:
        growth, compared = None, before.get(each.shape.name)
        if compared and cases > FIRST_SIZE and each.shape.is_indexed:
            growth = median(each.over_grpc) / median(compared.over_grpc)
        print(
            f"P8 {_told(cases)} {each.shape.name}: {median(each.over_grpc):.1f} ms,"
            f" SQL {median(each.sql):.1f} ms, of the processor {median(each.processor):.1f} ms"
            f"{f', {each.cut} of {len(each.over_grpc)} cut' if each.cut else ''}"
            f"{f', {growth:.2f} x {_told(FIRST_SIZE)}' if growth else ''}",
            flush=True,
        )
    growths = [
        median(each.over_grpc) / median(before[each.shape.name].over_grpc)
        for each in measured
        if each.shape.is_indexed and each.shape.name in before and cases > FIRST_SIZE
    ]
    busier = [
        median(each.processor) / median(before[each.shape.name].processor)
        for each in measured
        if each.shape.is_indexed and each.shape.name in before and cases > FIRST_SIZE
    ]
    if busier:
        found.append(
            Result(
                id="P8",
                what=f"the same by processor time of the SQL {at}, against {_told(FIRST_SIZE)}, the worst",
                ours=max(busier),
                unit="times",
                runs=RUNS,
                spread=spread(busier),
            )
        )
    if growths:
        found.append(
            Result(
                id="P8",
                what=f"shapes that an index serves {at}, against {_told(FIRST_SIZE)}, the worst",
                ours=max(growths),
                unit="times",
                runs=RUNS,
                spread=spread(growths),
                due=at_most(DUE_GROWTH) if is_last else None,
            )
        )
    return found


def _told(cases: int) -> str:
    return f"{cases:,}"
