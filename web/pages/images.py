"""The way to the images of a case: the pages tell the viewer's host whose session it is, by a code."""

import re
from uuid import UUID

from kernel.errors import NotFound
from web.asked import Answer, Asked, Page, Redirect
from web.pages.case import id_of
from wire.access.v1.access_pb2 import CheckRequest

_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)


async def show(asked: Asked) -> Answer:
    """Sends the browser to the viewer's host, and back there with a code once that host knows it again."""
    case_id = id_of(asked.path["case_id"])
    checked = await asked.house.services.access.Check(CheckRequest(case_id=case_id, images=True))
    if not checked.decision.images:
        raise NotFound("there are no images that you may see")
    host = asked.house.viewer_origin
    if not host or "again" in asked.query:
        return Page("images/page.html", {"case_id": case_id, "again": "again" in asked.query and bool(host)})
    address = f"{host}/open/{case_id}"
    browser = asked.query.get("browser", "")
    if not _DIGEST.fullmatch(browser):
        return Redirect(address)
    code = await asked.house.viewing.code(asked.signed_in, UUID(case_id), bytes.fromhex(browser))
    return Redirect(f"{address}?code={code}")
