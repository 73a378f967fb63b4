"""One process: it serves until it is told to stop or until something ends, and then says why."""

import asyncio
import os
import re
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path

import aiohttp
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from kernel.errors import Unavailable
from local.pki import Pki
from plumbing import rpc
from plumbing.clocks import clock_of
from tests.auditing import audit_settings
from tests.forks import fork
from tests.plumbing import a_process
from tests.ports import free_port
from tests.wait import Stopwatch, eventually

ROOT = Path(__file__).parents[2]


@dataclass
class Process:
    running: BaseProcess
    out: Path
    err: Path
    grpc_port: int
    http: str

    async def status(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(f"{self.http}{path}") as answer:
            return answer.status, await answer.text()

    async def serving(self) -> bool:
        assert self.running.is_alive(), "it ended"
        try:
            return (await self.status("/startupz"))[0] == 200
        except aiohttp.ClientError:
            return False

    async def said(self, line: str) -> str:
        """What it has said, once the line is there."""
        await eventually(lambda: self.out.exists() and f"{line}\n" in self.out.read_text())
        return self.out.read_text()

    async def end(self) -> tuple[int, str, str]:
        """Exit code, what it said, and its stderr; within the 5 s that a process has."""
        await eventually(lambda: not self.running.is_alive(), within=5)
        assert self.running.exitcode is not None
        return self.running.exitcode, self.out.read_text(), self.err.read_text()

    async def told_to_stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        assert self.running.pid
        os.kill(self.running.pid, number)
        return await self.end()


Start = Callable[..., "asyncio.Future[Process]"]


@pytest.fixture
async def start(pki: Pki, tmp_path: Path) -> AsyncIterator[Callable[..., object]]:
    async with AsyncExitStack() as stack:

        async def begin(scenario: str, **told: str) -> Process:
            grpc_port, http_port = free_port(), free_port()
            files = pki.tls("access")
            settings = {
                "LISTEN": f"127.0.0.1:{grpc_port}",
                "HTTP_LISTEN": f"127.0.0.1:{http_port}",
                "DATABASE_URL": "postgresql://role@127.0.0.1/db",
                "NATS_URL": "nats://127.0.0.1:4222",
                "TLS_CERTIFICATE": str(files.certificate),
                "TLS_KEY": str(files.key),
                "TLS_CA": str(files.ca),
                "TOKEN_KEYS": str(pki.token_keys),
                **audit_settings(pki.folder),
                **told,
            }
            environ = {f"READROOM_TEST_{key}": value for key, value in settings.items()}
            out, err = tmp_path / "out", tmp_path / "err"
            running = fork(a_process.main, [scenario], out, err, environ)
            stack.callback(running.join)
            stack.callback(running.kill)
            return Process(running, out, err, grpc_port, f"http://127.0.0.1:{http_port}")

        yield begin


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_serves_until_it_is_told_to_stop_and_closes_everything(
    start: Start, number: signal.Signals
) -> None:
    process = await start("runs")
    await eventually(process.serving, within=20)
    assert await process.status("/readyz") == (200, '{"database": true}')
    code, out, _ = await process.told_to_stop(number)
    assert code == 0
    assert out.splitlines()[1:] == ["drains for 1 s", "task cancelled", "resource closed"]


async def test_while_it_drains_it_is_not_ready_and_everything_else_goes_on(start: Start, pki: Pki) -> None:
    process = await start("drains", DRAIN_S="2")
    await eventually(process.serving, within=20)
    assert process.running.pid
    os.kill(process.running.pid, signal.SIGTERM)
    await process.said("drains for 2 s")

    assert await process.status("/readyz") == (503, '{"database": true, "stays": false}')
    assert await process.status("/livez") == await process.status("/startupz") == (200, "ok")
    async with rpc.connect(f"127.0.0.1:{process.grpc_port}", "access", pki.tls("bff")) as channel:
        health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.SERVING
    assert "task cancelled" not in process.out.read_text()
    code, out, _ = await process.end()
    assert code == 0
    assert out.splitlines()[1:] == ["drains for 2 s", "task cancelled", "resource closed"]


async def test_a_drain_that_fails_does_not_keep_it(start: Start) -> None:
    process = await start("drain_fails")
    await eventually(process.serving, within=20)
    code, out, _ = await process.told_to_stop()
    assert code == 0
    assert out.splitlines()[1:] == ["drains for 1 s", "task cancelled", "resource closed"]


async def test_a_call_that_does_not_end_does_not_keep_it(start: Start, pki: Pki) -> None:
    process = await start("runs")
    await eventually(process.serving, within=20)
    async with rpc.connect(f"127.0.0.1:{process.grpc_port}", "access", pki.tls("bff")) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await anext(watch)).status == health_pb2.HealthCheckResponse.SERVING
        code, out, _ = await process.told_to_stop()
        assert (await anext(watch)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises((grpc.aio.AioRpcError, Exception)):
            await anext(watch)
    assert code == 0
    assert "resource closed" in out


@pytest.mark.proves("OPS-4", part="a call under way has as long to end as the drain")
@pytest.mark.parametrize(("drain_s", "lasts_s"), [("4", 4.0), ("0", 2.0)])
async def test_a_call_under_way_has_what_the_drain_has_left(
    start: Start, pki: Pki, drain_s: str, lasts_s: float
) -> None:
    process = await start("runs", DRAIN_S=drain_s)
    await eventually(process.serving, within=20)
    async with rpc.connect(f"127.0.0.1:{process.grpc_port}", "access", pki.tls("bff")) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        await anext(watch)
        assert process.running.pid
        began = time.monotonic()
        os.kill(process.running.pid, signal.SIGTERM)
        await anext(watch)  # it is told that nobody new is served
        with pytest.raises(Unavailable):
            await anext(watch)
        assert time.monotonic() - began >= lasts_s - 0.2
    await eventually(lambda: not process.running.is_alive())


async def test_a_resource_that_does_not_close_does_not_keep_it(start: Start) -> None:
    process = await start("resource_hangs")
    await eventually(process.serving, within=20)
    assert (await process.told_to_stop())[0] == 0


async def test_it_can_be_stopped_while_it_is_being_built(start: Start) -> None:
    process = await start("hangs_in_build")
    await process.said("building")
    assert (await process.told_to_stop())[0] == 0


@pytest.mark.parametrize(
    ("scenario", "reason"),
    [
        (
            "ends",
            "access: the task `relay` has ended although this process needs it: start the process again",
        ),
        ("fails_in_build", "access: unexpected error, see the log"),
    ],
)
async def test_whatever_ends_it_is_told_in_one_line_with_exit_code_1(
    start: Start, scenario: str, reason: str
) -> None:
    code, _, err = await (await start(scenario)).end()
    assert code == 1
    assert err.splitlines()[-1] == reason
    assert "DOE" not in err


@pytest.mark.parametrize("scenario", ["fails_with_a_word", "fails_unexpectedly"])
async def test_a_task_that_fails_is_started_again_and_ends_nothing(start: Start, scenario: str) -> None:
    process = await start(scenario)
    await eventually(process.serving, within=20)

    async def failed_twice() -> bool:
        _, text = await process.status("/metrics")
        found = re.search(r'readroom_timer_failures_total{task="relay"} (\d)', text)
        return bool(found and int(found[1]) > 1)

    await eventually(failed_twice)
    code, _, err = await process.told_to_stop()
    assert code == 0
    assert "DOE" not in err


async def test_a_bad_setting_is_told_in_one_line(start: Start) -> None:
    code, _, err = await (await start("runs", LISTEN="nowhere")).end()
    assert (code, err) == (1, "access: `READROOM_TEST_LISTEN` is not valid: expected HOST:PORT\n")


@pytest.mark.parametrize("key", ["LISTEN", "HTTP_LISTEN"])
async def test_an_address_that_is_taken_is_told(start: Start, key: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as rival:
        address = f"127.0.0.1:{rival.getsockname()[1]}"
        code, _, err = await (await start("runs", **{key: address})).end()
    assert code == 1
    assert err.splitlines()[-1].startswith(f"access: cannot listen on `{address}`")


@pytest.mark.proves("OPS-7", part="readiness asks the parts; start-up and liveness do not")
@pytest.mark.parametrize("scenario", ["never_ready", "ready_fails"])
async def test_it_is_not_ready_while_a_part_does_not_answer(start: Start, scenario: str) -> None:
    process = await start(scenario)
    await eventually(process.serving, within=20)
    watch = Stopwatch()
    assert await process.status("/readyz") == (503, '{"database": false}')
    assert watch.seconds() < 2
    for path in ("/livez", "/startupz", "/healthz"):
        assert await process.status(path) == (200, "ok")


@pytest.mark.proves("OPS-7", part="a process that is being built lives, and has not started")
async def test_while_it_is_built_it_lives_and_has_not_started(start: Start, tmp_path: Path) -> None:
    process = await start("builds_until_asked", GO_ON=str(tmp_path / "go on"))
    await process.said("building")
    assert await process.status("/livez") == (200, "ok")
    assert await process.status("/startupz") == (503, "starting")
    assert await process.status("/readyz") == (503, '{"started": false}')
    (tmp_path / "go on").touch()
    await eventually(process.serving)
    assert await process.status("/readyz") == (200, '{"database": true}')


async def test_what_it_can_wait_for_is_told_and_decides_nothing(start: Start) -> None:
    process = await start("bus_away")
    await eventually(process.serving, within=20)
    assert await process.status("/readyz") == (200, '{"database": true, "beside": {"bus": false}}')


async def test_metrics_count_calls_by_method_and_word(start: Start, pki: Pki) -> None:
    process = await start("runs")
    await eventually(process.serving, within=20)
    async with rpc.connect(f"127.0.0.1:{process.grpc_port}", "access", pki.tls("bff")) as channel:
        await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    status, text = await process.status("/metrics")
    assert status == 200
    assert 'readroom_rpc_seconds_count{method="/grpc.health.v1.Health/Check",word="ok"} 1.0' in text


async def test_time_moves_with_the_offset_file(start: Start, tmp_path: Path) -> None:
    (tmp_path / "offset").write_text("864000")
    process = await start("hangs_in_build", CLOCK_OFFSET_FILE=str(tmp_path / "offset"))
    said = (await process.said("building")).split()[1]
    ahead = datetime.fromisoformat(said) - datetime.now(UTC)
    assert timedelta(days=9.9) < ahead < timedelta(days=10.1)


def test_the_offset_is_looked_for_each_millisecond_and_read_at_each_question(tmp_path: Path) -> None:
    file = tmp_path / "offset"
    passed = 0.0
    clock = clock_of(file, stopwatch=lambda: passed)
    first = clock.now()
    file.write_text("3600\n")
    assert clock.now() - first < timedelta(minutes=1), "it was looked for just now"
    passed = 0.001
    second = clock.now()
    assert second - first >= timedelta(hours=1)
    file.write_text("3590")
    assert clock.now() >= second, "it goes back no little"
    file.write_text("0")
    assert clock.now() - first < timedelta(minutes=1)
