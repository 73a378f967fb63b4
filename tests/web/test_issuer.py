"""Passwords and invitations beside a real access: a code counts once, and a process that dies burns none."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest
import pytest_asyncio

from kernel.errors import Exhausted, Unauthenticated, Unavailable
from kernel.ids import UUID7
from local.embedded import EmbeddedServers
from local.pki import Pki
from plumbing import minting
from plumbing.db import Database
from tests.access.service import ADMIN, CLOCK, Service, serve
from tests.access.test_identity_service import identities
from tests.clocks import Clock
from tests.databases import Databases
from tests.ports import free_port
from tests.reporting.system import a_user
from web import client
from web.attempts import WINDOW
from web.client import Services
from web.issuer import DevelopmentIssuer
from web.store import WebTransaction
from web.tokens import Mint
from wire.access.v1 import access_pb2
from wire.access.v1.identity_pb2 import InviteRequest

PASSWORD, OTHER, ADDRESS, SECRET = "correct horse battery", "another horse battery", "127.0.0.1", "s" * 32

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Door:
    """The issuer, the access it asks, and its database."""

    access: Service
    services: Services
    database: Database[WebTransaction]
    clock: Clock
    user: access_pb2.User

    def issuer(self, services: Services | None = None) -> DevelopmentIssuer:
        """As another process has it: it shares the database alone."""
        return DevelopmentIssuer(self.database, services or self.services, SECRET)

    async def code(self) -> str:
        request = InviteRequest(user_id=self.user.user_id)
        return (await identities(self.access, ADMIN).Invite(request)).code


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def door(servers: EmbeddedServers, clones: Databases, pki: Pki) -> AsyncIterator[Door]:
    url, own = clones.make("access"), clones.make("web")
    async for access in serve(servers, url, pki):
        async with AsyncExitStack() as resources:
            facility = await access.facility("North")
            user = await a_user(access, "vos", access_pb2.ROLE_RADIOLOGIST, facility, access_pb2.LEVEL_REPORT)
            clock = Clock()
            database = await Database.connect(own, WebTransaction, clock=clock, new_id=UUID7(clock))
            resources.push_async_callback(database.close)
            mint = Mint(minting.Issuer(pki.token_key.read_bytes(), UUID7(CLOCK)), CLOCK)
            away = dict.fromkeys(("reporting", "ingest", "sharing"), f"127.0.0.1:{free_port()}")
            addresses = {"access": f"127.0.0.1:{access.port}", **away}
            services = await client.connect(addresses, pki.tls("bff"), mint, resources)
            yield Door(access, services, database, clock, user)


class _Wire:
    """The identities of a real access, and what happens around an answer."""

    def __init__(self, real: Any, after: Callable[[], Any]) -> None:
        self.DescribeInvitation = real.DescribeInvitation
        self._real = real
        self._after = after

    async def RedeemInvitation(self, request: Any) -> Any:  # noqa: N802
        answer = await self._real.RedeemInvitation(request)
        await self._after()
        return answer


def _around(door: Door, after: Callable[[], Any]) -> Services:
    return replace(door.services, identities=cast("Any", _Wire(door.services.identities, after)))


async def _lost() -> None:
    raise Unavailable("the process died here")


async def test_a_web_that_dies_once_access_has_the_invitation_burns_no_code(door: Door) -> None:
    code = await door.code()
    with pytest.raises(Unavailable):
        await door.issuer(_around(door, _lost)).accept(code, OTHER, ADDRESS)

    person = await door.issuer().accept(code, PASSWORD, ADDRESS)

    assert person.login == "vos"
    assert await door.issuer().sign_in("vos", PASSWORD, ADDRESS) == person
    with pytest.raises(Unauthenticated):
        await door.issuer().accept(code, OTHER, ADDRESS)
    with pytest.raises(Unauthenticated):
        await door.issuer().sign_in("vos", OTHER, ADDRESS)


async def test_of_two_who_show_one_code_at_once_one_is_let_in(door: Door) -> None:
    """Both are past access before either is finished."""
    code, both = await door.code(), asyncio.Barrier(2)
    issuers = [door.issuer(_around(door, both.wait)) for _ in range(2)]

    async with asyncio.timeout(20):
        ended = await asyncio.gather(
            *(
                issuer.accept(code, password, ADDRESS)
                for issuer, password in zip(issuers, (PASSWORD, OTHER), strict=True)
            ),
            return_exceptions=True,
        )

    assert sorted(type(each).__name__ for each in ended) == ["Person", "Unauthenticated"]
    right, wrong = (PASSWORD, OTHER) if isinstance(ended[1], Unauthenticated) else (OTHER, PASSWORD)
    assert await door.issuer().sign_in("vos", right, ADDRESS)
    with pytest.raises(Unauthenticated):
        await door.issuer().sign_in("vos", wrong, ADDRESS)


async def test_a_code_has_one_spelling(door: Door) -> None:
    code = await door.code()
    for odd in (f" {code}", code + "=", code.replace(code[0], "+", 1), "", "x" * 64):
        with pytest.raises(Unauthenticated):
            await door.issuer().accept(odd, PASSWORD, ADDRESS)
    assert await door.issuer().accept(code, PASSWORD, ADDRESS)


async def test_wrong_passwords_count_together_in_all_processes_and_no_login_is_kept(door: Door) -> None:
    door.clock.pass_by(WINDOW)
    for number in range(5):
        with pytest.raises(Unauthenticated):
            await door.issuer().sign_in("hunter2", f"guess {number}", ADDRESS)
    with pytest.raises(Exhausted):
        await door.issuer().sign_in("hunter2", "guess", ADDRESS)
    async with door.database.statements() as tx:
        assert "hunter2" not in str(await tx.connection.fetch("select * from attempts"))

    door.clock.pass_by(WINDOW)
    with pytest.raises(Unauthenticated):
        await door.issuer().sign_in("hunter2", "guess", ADDRESS)
    door.clock.pass_by(WINDOW)
    await door.issuer().drop_old()
    async with door.database.statements() as tx:
        assert await tx.connection.fetchval("select count(*) from attempts") == 0


async def test_a_sign_in_that_nobody_could_judge_is_no_wrong_one(door: Door) -> None:
    await door.issuer().accept(await door.code(), PASSWORD, ADDRESS)
    away = cast("Any", _Away())
    for _ in range(7):
        with pytest.raises(Unavailable):
            await door.issuer(replace(door.services, identities=away)).sign_in("vos", PASSWORD, ADDRESS)

    assert await door.issuer().sign_in("vos", PASSWORD, ADDRESS)


class _Away:
    """An access that does not answer."""

    async def ResolveIdentity(self, request: Any) -> Any:  # noqa: N802
        raise Unavailable("`access` does not answer")
