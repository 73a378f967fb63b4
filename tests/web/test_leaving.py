"""The web is told to stop while somebody follows a list."""

from pathlib import Path

import pytest

from local.embedded import EmbeddedServers
from local.pki import Pki
from tests.databases import Databases
from tests.web.reading import reading
from tests.web.test_live import followed


@pytest.mark.proves("OPS-4", part="a list that is followed ends with a word when the web is told to stop")
async def test_a_web_that_is_told_to_stop_lets_a_list_end(
    servers: EmbeddedServers, clones: Databases, pki: Pki, tmp_path: Path
) -> None:
    async with reading(servers, clones.make, pki, tmp_path) as ward:
        page = await ward.at("lind")
        await page.get("/")
        async with followed(page) as stream:
            await stream.line()
            [drain] = ward.web.drains
            await drain(60.0)  # it comes back as soon as nothing is under way
            assert await stream.until_end() == "again"
            assert not await stream.answer.content.read()
