"""P7: `Check` over gRPC beside the least a handler must do (`minimal_check.py`), and `CheckMany` of 1,000."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

import grpc

from bench.results import Result, at_most, median, spread, times_the_peer
from bench.site import LOGIN, Site, running, store_cases
from kernel.clock import MonotonicClock
from plumbing import minting, rpc, tls
from readroom.client import Readroom, connect
from readroom.session import Session, read_private
from wire.access.v1 import access_pb2, access_pb2_grpc

FILTERED = "filtered"
FILTER = "PatientName contains 'synthetic' and PatientAge >= '18Y' and Modality = 'CT'"

CALLS = 3000
AT_ONCE = 16
RUNS = int(os.environ.get("BENCH_RUNS", "5"))


async def measure() -> Sequence[Result]:
    async with running() as site:
        [case_id] = await store_cases(site, 1)
        await _filter_somebody(site)
        # Each is asked as a user: our own without a filter and with one, and the yardstick.
        asked = {"ours": LOGIN, "filtered": FILTERED, "minimal": LOGIN}
        with _minimal(site) as port:
            ours, minimal = site.endpoints.services["access"], f"127.0.0.1:{port}"
            rates: dict[str, list[float]] = {name: [] for name in asked}
            async with AsyncExitStack() as stack:
                stubs = {}
                for name in asked:
                    channel = await stack.enter_async_context(
                        _channel(site, minimal if name == "minimal" else ours)
                    )
                    stubs[name] = access_pb2_grpc.AccessServiceStub(channel)
                    await _rate(stubs[name], case_id, _token(site, asked[name]))  # warm
                for _ in range(RUNS):
                    for name, stub in stubs.items():
                        rates[name].append(await _rate(stub, case_id, _token(site, asked[name])))
        many = [await _check_many(site.readroom, case_id) for _ in range(4 * RUNS)]
        async with connect(site.endpoints, Session.begin(FILTERED)) as readroom:
            many_filtered = [await _check_many(readroom, case_id) for _ in range(4 * RUNS)]
    return [
        _one("without a filter", rates["ours"], rates["minimal"]),
        _one("with a filter", rates["filtered"], rates["minimal"]),
        _many("without a filter", many),
        _many("with a filter", many_filtered),
    ]


def _one(whose: str, ours: Sequence[float], minimal: Sequence[float]) -> Result:
    return Result(
        id="P7",
        what=f"Check {whose}, {AT_ONCE} at once on one channel",
        ours=median(ours),
        unit="calls/s",
        runs=RUNS,
        spread=spread(ours, minimal),
        peer=median(minimal),
        peer_name="mutual TLS + token + one SELECT",
        ratio=median(ours) / median(minimal),
        due=times_the_peer(0.8),
    )


def _many(whose: str, took: Sequence[float]) -> Result:
    in_ms = [1000 * each for each in took]
    return Result(
        id="P7",
        what=f"CheckMany {whose} of 1,000 cases",
        ours=median(in_ms),
        unit="ms",
        runs=len(in_ms),
        spread=spread(in_ms),
        due=at_most(15),
    )


async def _filter_somebody(site: Site) -> None:
    """Another radiologist, who sees the case through a filter."""
    access = site.readroom.access
    user = access_pb2.User(login=FILTERED, name="Filtered", role=access_pb2.ROLE_RADIOLOGIST)
    user_id = (await access.SaveUser(access_pb2.SaveUserRequest(user=user))).user.user_id
    privilege = access_pb2.Privilege(
        user_id=user_id, facility_id=site.facility_id, level=access_pb2.LEVEL_REPORT
    )
    await access.SavePrivilege(access_pb2.SavePrivilegeRequest(privilege=privilege))
    saved = access_pb2.Filter(user_id=user_id, expression=FILTER)
    await access.SaveFilter(access_pb2.SaveFilterRequest(filter=saved))


def _token(site: Site, login: str) -> str:
    issuer_key = read_private(site.endpoints.issuer_key)
    now = MonotonicClock().now()
    return minting.mint(issuer_key, login=login, session="bench", audience="access", now=now)


async def _rate(stub: "access_pb2_grpc.AccessServiceAsyncStub", case_id: str, token: str) -> float:
    """Calls per second."""
    request = access_pb2.CheckRequest(case_id=case_id)
    headers = (("authorization", f"Bearer {token}"),)
    left = iter(range(CALLS))

    async def call() -> None:
        for _ in left:
            answer = await stub.Check(request, timeout=10, metadata=headers)
            assert answer.decision.allowed

    began = time.perf_counter()
    await asyncio.gather(*(call() for _ in range(AT_ONCE)))
    return CALLS / (time.perf_counter() - began)


async def _check_many(readroom: Readroom, case_id: str) -> float:
    """Seconds of one call; one case is there, the others are not, which reads the index the same."""
    absent = [f"{case_id[:-6]}{number:06x}" for number in range(999)]
    request = access_pb2.CheckManyRequest(case_ids=[case_id, *absent])
    began = time.perf_counter()
    answer = await readroom.access.CheckMany(request)
    assert len(answer.decisions) == 1000
    return time.perf_counter() - began


def _channel(site: Site, address: str) -> grpc.aio.Channel:
    """A plain channel: both sides are called by the same client."""
    caller = rpc.TLSFiles(
        site.endpoints.caller_certificate, site.endpoints.caller_key, site.endpoints.service_ca
    )
    return grpc.aio.secure_channel(
        address, tls.grpc_channel_credentials(caller),
        options=[("grpc.ssl_target_name_override", "access.readroom")])  # fmt: skip


class _minimal:  # noqa: N801  used as a function
    """The yardstick as a process of its own, with access's identity and database; answers its port."""

    def __init__(self, site: Site) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = int(probe.getsockname()[1])
        identity = site.system.pki.tls("access")
        files = [str(path) for path in (identity.certificate, identity.key, identity.ca)]
        self._command = [sys.executable, "-m", "bench.minimal_check", str(self._port), *files,
                         str(site.system.pki.token_keys)]  # fmt: skip
        self._environment = {**os.environ, "DATABASE_URL": site.system.servers.database_url("access")}

    def __enter__(self) -> int:
        self._process = subprocess.Popen(self._command, env=self._environment)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    return self._port
            time.sleep(0.05)
        raise RuntimeError("the yardstick did not start")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
