"""P11: from a share to its mail at the mail server, and how fast a backlog drains when that server returns.

Shares are made through the API, as a user makes them; a mail counts from the instant at which the mail
server of the system keeps it, which is the name of its file. The backlog is made while the mail server is
away, and drains when it is started again; nothing else is told. Beside it a bare loop over as many SMTP
connections as notify holds hands the same mails to the same server: no database, no owner is asked.
"""

import asyncio
import itertools
import os
import re
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiosmtplib
import asyncpg

from bench.results import Result, at_least, at_most, median, percentile, spread
from bench.site import Site, running, store_cases
from readroom.received import Mail
from services.notify.events import SENDERS
from wire.access.v1.access_pb2 import ROLE_REFERRING_PHYSICIAN, SaveUserRequest, User
from wire.sharing.v1.sharing_pb2 import RIGHTS_READ_REPORT, Recipient, ShareRequest

RUNS = int(os.environ.get("BENCH_RUNS", "5"))
SHARES = int(os.environ.get("BENCH_P11_SHARES", "200"))
BACKLOG = int(os.environ.get("BENCH_P11_BACKLOG", "2000"))
A_SECOND = 5
DUE_S, DUE_RATE = 1.0, 100

CASES = 20
RECIPIENTS = 30
AT_ONCE = 8
"""Shares on their way at once while a backlog is made."""
TO_EACH = 3
WITHIN_S = 300.0


@dataclass(frozen=True, slots=True)
class Shared:
    """A share: when it was asked for and when it was answered, in seconds since 1970."""

    asked: float
    answered: float


async def measure() -> Sequence[Result]:
    async with running() as site:
        requests = await _requests(site)
        steady = await _steady(site, requests)
        drains = [await _drain(site, requests) for _ in range(RUNS)]
    return [*steady, *_backlog(drains)]


async def _requests(site: Site) -> Iterator[ShareRequest]:
    """Shares without end, of one case after the other, to three users after the other."""
    case_ids = await store_cases(site, CASES)
    logins = [f"reader{number}" for number in range(RECIPIENTS)]
    for login in logins:
        user = User(login=login, name=login, role=ROLE_REFERRING_PHYSICIAN, email=f"{login}@example.org")
        await site.readroom.access.SaveUser(SaveUserRequest(user=user))
    return _all_shares(itertools.cycle(case_ids), itertools.cycle(logins))


def _all_shares(case_ids: Iterator[str], logins: Iterator[str]) -> Iterator[ShareRequest]:
    for number in itertools.count():
        yield ShareRequest(
            case_ids=[next(case_ids)],
            recipients=[Recipient(login=next(logins), send_mail=True) for _ in range(TO_EACH)],
            rights=RIGHTS_READ_REPORT,
            reason="measuring",
            patient_agreed=True,
            message=f"Share number {number}.",
        )


async def _share(site: Site, request: ShareRequest) -> Shared:
    asked = time.time()
    await site.readroom.sharing.Share(request)
    return Shared(asked, time.time())


async def _steady(site: Site, requests: Iterator[ShareRequest]) -> Sequence[Result]:
    """One recipient each; a share begins when it is its turn, whatever became of those before."""
    await _share(site, _to_one(next(requests)))  # warm: the first mail opens a connection
    await _mails(site, 1)
    wanted = [_to_one(next(requests)) for _ in range(SHARES)]
    began = time.perf_counter()

    async def in_turn(number: int, request: ShareRequest) -> Shared:
        await asyncio.sleep(began + number / A_SECOND - time.perf_counter())
        return await _share(site, request)

    shares = await asyncio.gather(*(in_turn(*each) for each in enumerate(wanted)))
    by_number = {_number(mail): mail for mail in map(Mail.read, await _mails(site, 1 + SHARES))}
    at = [by_number[_number_of(request.message)].at.timestamp() for request in wanted]
    # A mail may be there before the caller has its answer.
    answered = [max(0.0, 1000 * (mail - share.answered)) for mail, share in zip(at, shares, strict=True)]
    asked = [1000 * (mail - share.asked) for mail, share in zip(at, shares, strict=True)]
    p99 = percentile(answered, 0.99)
    what = f"{SHARES} shares, {A_SECOND} a second"
    return [
        Result(
            id="P11", what=f"share answered to mail handed over, {what}, p99", ours=p99, unit="ms",
            runs=SHARES, spread=spread(answered), due=at_most(1000 * DUE_S)),
        Result(
            id="P11", what=f"share answered to mail handed over, {what}, p50",
            ours=percentile(answered, 0.5), unit="ms", runs=SHARES, spread=spread(answered)),
        Result(
            id="P11", what=f"share asked for to mail handed over, {what}, p99",
            ours=percentile(asked, 0.99), unit="ms", runs=SHARES, spread=spread(asked)),
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Drain:
    """One backlog.

    Attributes:
        rate: notices a second, from the return of the mail server to the last mail.
        flowing: the same from the first mail on.
        bare: mails a second of the bare loop.
        away: seconds without mail server.
    """

    rate: float
    flowing: float
    bare: float
    away: float


async def _drain(site: Site, requests: Iterator[ShareRequest]) -> Drain:
    sink = site.system.servers.sink
    _forget(site)
    away = time.time()
    sink.kill()
    mails = await _make_backlog(site, requests)
    await asyncio.to_thread(sink.start)
    back = time.time()
    paths = await _mails(site, mails)
    at = sorted(_time(path) for path in paths)
    letters = [path.read_bytes() for path in paths]
    if len({_reference(letter) for letter in letters}) != mails:
        raise RuntimeError("a mail was sent twice")
    bare = await _bare(site, letters)
    return Drain(mails / (at[-1] - back), mails / (at[-1] - at[0]), bare, back - away)


async def _make_backlog(site: Site, requests: Iterator[ShareRequest]) -> int:
    """Shares as fast as it goes, until so many notices wait; answers how many."""
    wanted = itertools.islice(requests, -(-BACKLOG // TO_EACH))
    made = 0

    async def share() -> None:
        nonlocal made
        for request in wanted:
            await _share(site, request)
            made += TO_EACH

    await asyncio.gather(*(share() for _ in range(AT_ONCE)))
    notify = await asyncpg.connect(site.system.servers.database_url("notify"))
    try:
        deadline = time.monotonic() + WITHIN_S
        while await notify.fetchval("select count(*) from notices where state = 'waiting'") < made:
            if time.monotonic() > deadline:
                raise RuntimeError("the shares were not heard of")
            await asyncio.sleep(0.1)
    finally:
        await notify.close()
    return made


def _backlog(drains: Sequence[Drain]) -> Sequence[Result]:
    ours, bare = [drain.rate for drain in drains], [drain.bare for drain in drains]
    flowing = [drain.flowing for drain in drains]
    away = median([drain.away for drain in drains])
    what = f"backlog of {BACKLOG} notices after {away:.0f} s without mail server"
    return [
        Result(
            id="P11", what=f"{what}, from its return to the last mail", ours=median(ours), unit="/s",
            peer=median(bare), peer_name=f"bare aiosmtplib, {SENDERS} connections",
            ratio=median(ours) / median(bare), runs=len(drains), spread=spread(ours, bare),
            due=at_least(DUE_RATE)),
        Result(
            id="P11", what=f"{what}, from the first mail to the last", ours=median(flowing), unit="/s",
            runs=len(drains), spread=spread(flowing)),
    ]  # fmt: skip


async def _bare(site: Site, letters: Sequence[bytes]) -> float:
    """Mails a second of a loop that only hands them over."""
    host, _, port = site.system.servers.sink.mail_address.rpartition(":")
    left = iter(letters)

    async def hand_over() -> None:
        async with aiosmtplib.SMTP(
            hostname=host, port=int(port), local_hostname="bench", start_tls=False
        ) as smtp:
            for letter in left:
                envelope, _, content = letter.partition(b"\r\nFrom: ")
                to = envelope.rpartition(b"<")[2].rstrip(b">").decode()
                await smtp.sendmail("bench@example.org", [to], b"From: " + content)

    _forget(site)
    began = time.perf_counter()
    await asyncio.gather(*(hand_over() for _ in range(SENDERS)))
    took = time.perf_counter() - began
    assert len(_received(site)) == len(letters)
    return len(letters) / took


async def _mails(site: Site, wanted: int) -> Collection[Path]:
    """What the mail server has kept, as soon as it is so many."""
    deadline = time.monotonic() + WITHIN_S
    while len(found := _received(site)) < wanted:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{len(found)} of {wanted} mails came within {WITHIN_S:.0f} s")
        await asyncio.sleep(0.05)
    return found


def _received(site: Site) -> Sequence[Path]:
    return list(site.endpoints.mail.glob("*.eml"))


def _forget(site: Site) -> None:
    for path in _received(site):
        path.unlink()


def _time(path: Path) -> float:
    return int(path.stem) / 1e9


def _to_one(request: ShareRequest) -> ShareRequest:
    del request.recipients[1:]
    return request


def _number(mail: Mail) -> int:
    return _number_of(mail.text)


def _number_of(text: str) -> int:
    found = re.search(r"Share number (\d+)\.", text)
    assert found is not None
    return int(found[1])


def _reference(letter: bytes) -> bytes:
    found = re.search(rb"\r\nMessage-ID: (\S+)", letter)
    assert found is not None
    return found[1]
