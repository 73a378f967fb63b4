"""Somebody tries ids and links of shares, to learn which there are.

Positions: any user with an account, who administers the shares of another facility, an operator. An absent
share and somebody else's answer the same: word, sentence, the questions asked of access, and the statements.
"""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from kernel.ids import UUID7, BucketId, ShareId
from local.embedded import EmbeddedServers
from local.pki import Pki
from services.sharing.asking import Telling
from services.sharing.codes import Codes
from services.sharing.otp import Pepper
from services.sharing.validity import Validity
from services.sharing.wanted import Recipient
from tests.access.service import serve
from tests.databases import Databases
from tests.reporting.system import a_user
from tests.sharing.hearing import Heard, HeardTransaction
from tests.sharing.system import FURTHER, Sharing, a_world, act, error_of, till, use_cases, wanted
from tests.sharing.two_factor import Texts
from wire.access.v1 import access_pb2

pytestmark = pytest.mark.asyncio(loop_scope="module")

FOR_EVER = Validity(unlimited=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sharing(servers: EmbeddedServers, clones: Databases, pki: Pki) -> AsyncIterator[Sharing]:
    Heard.said = []
    url, access_url = clones.make("sharing"), clones.make("access")
    async for access in serve(servers, access_url, pki):
        world = await a_world(access)
        await a_user(
            access,
            "seth",
            access_pb2.ROLE_FACILITY_MANAGER,
            world.south,
            access_pb2.LEVEL_VIEW,
            "share.admin",
            "share.create",
        )
        async with use_cases(url, access_url, world, HeardTransaction) as made:
            yield made


Act = Callable[[str, BucketId, ShareId], Awaitable[object]]


def acts(sharing: Sharing) -> dict[str, Act]:
    new_id, shares = UUID7(sharing.clock), sharing.shares
    access: Any = sharing.access
    telling = Telling(sharing.database, access)
    codes = Codes(sharing.database, access, Texts(), telling, Pepper("p" * 32), secrets.randbelow, new_id)
    return {
        "Revoke a bucket": lambda login, bucket_id, _: shares.revoke(login, bucket_id, None),
        "Revoke a share": lambda login, _, share_id: shares.revoke(login, None, share_id),
        "Extend": lambda login, bucket_id, _: sharing.extending.extend(login, bucket_id, FOR_EVER),
        "shorten": lambda login, bucket_id, _: sharing.extending.extend(
            login, bucket_id, till(sharing, 1)["validity"]
        ),
        "ShareAgain": lambda login, _, share_id: shares.share_again(login, share_id, wanted([], "ron")),
        "Unblock": lambda login, bucket_id, _: codes.unblock(login, bucket_id),
        "SendCode": lambda login, bucket_id, _: codes.send_code(login, "s", bucket_id),
        "Redeem": lambda login, bucket_id, _: codes.redeem(login, "s", bucket_id, "123456"),
        "Open": lambda login, bucket_id, _: sharing.inbox.open(login, "s", sharing.links.text(bucket_id)),
    }


async def cost(sharing: Sharing, login: str, act_: Act, *ids: Any) -> tuple[str, list[str], list[str]]:
    """What is answered, what access was asked, and the statements."""
    act(login)
    sharing.access.asked, Heard.said = [], []
    error = await error_of(act_(login, *ids))
    return repr((type(error), error.sentence, error.field)), sharing.access.asked, Heard.said


@pytest.mark.proves("SEC-11", part="absent shares and somebody else's cost alike")
@pytest.mark.parametrize("login", ["ron", "seth", "olaf"])
async def test_an_absent_share_costs_what_somebody_elses_costs(sharing: Sharing, login: str) -> None:
    case_id = await sharing.world.case()
    shared = await sharing.share("vos", [case_id], recipients=[Recipient("rita", two_factor=True)], **FURTHER)
    ended = await sharing.share("vos", [case_id], "rob")
    await sharing.revoke("vos", share=ended)

    for name, each in acts(sharing).items():
        if (name, login) == ("Unblock", "olaf"):
            continue  # operators unblock every share
        absent = await cost(sharing, login, each, BucketId(uuid4()), ShareId(uuid4()))
        assert "NotFound" in absent[0], name
        assert absent[1], name
        for there in (shared, ended):
            foreign = await cost(sharing, login, each, there.buckets[0].id, there.id)
            assert (name, *absent) == (name, *foreign)
