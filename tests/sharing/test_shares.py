"""What senders do, with the decisions of access as it runs."""

import pytest

from tests.sharing.system import Sharing

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def test_a_share_shows_the_case(sharing: Sharing) -> None:
    case_id = await sharing.world.case()
    assert not await sharing.world.sees("rita", case_id)
    share = await sharing.share("vos", [case_id], "rita")
    assert await sharing.world.sees("rita", case_id)
    await sharing.revoke("vos", share=share)
    assert not await sharing.world.sees("rita", case_id)
