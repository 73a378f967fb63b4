"""Deleting a study: what goes and what remains is said first, and the person types what they mean to delete.

A page counts only what its reader may see of the case, and says that the rest goes too. How far a deletion
has come is told as far as it is the same for everybody: from when on nobody sees the case.
"""

import asyncio
from typing import Any

from kernel.errors import Denied, ReadroomError, Unauthenticated, lacks
from web import errors, words
from web.asked import Answer, Asked, Page
from web.pages import case
from wire.access.v1.identity_pb2 import DescribeMeRequest
from wire.ingest.v1.ingest_pb2 import (
    DeleteStudyRequest,
    Deletion,
    ListDeletionsRequest,
    ListDeletionsResponse,
)
from wire.sharing.v1.sharing_pb2 import ListSharesRequest, ListSharesResponse

WORD = "delete"
"""What is typed for a case whose patient has no number."""

_SHARES = 100
_DELETIONS = 100


async def show(asked: Asked) -> Answer:
    """What would go, what would remain, and the field for the confirmation."""
    return await _page(asked, case.id_of(asked.path["case_id"]))


async def delete(asked: Asked) -> Answer:
    """Deletes the case once what was typed names it; when this is answered nobody sees it any more."""
    case_id = case.id_of(asked.path["case_id"])
    page = await _page(asked, case_id)
    expected = page.values["expected"]
    if asked.form.get("typed", "").strip().casefold() != expected.casefold():
        problem = "what you typed does not name this study, so nothing is deleted: type it exactly"
        return _with(page, problem, 422)
    request = DeleteStudyRequest(case_id=case_id, force=bool(asked.form.get("force")))
    try:
        await asked.house.services.ingest.DeleteStudy(request)
    except Unauthenticated:
        raise
    except ReadroomError as refused:
        return _with(page, errors.sentence(refused), errors.told(refused).status)
    return Page("deletion/done.html", {"origin": page.values["case"].calling_ae_title})


async def show_all(asked: Asked) -> Answer:
    """The deletions that the person may know of, newest first."""
    services = asked.house.services
    me = await services.identities.DescribeMe(DescribeMeRequest())
    try:
        listed = await services.ingest.ListDeletions(ListDeletionsRequest(page_size=_DELETIONS))
    except Denied:  # they delete nowhere
        listed = ListDeletionsResponse()
    values = {
        "deletions": listed.deletions,
        "more": bool(listed.next_page_token),
        "asked_only": Deletion.STATE_ASKED,
        "zone": me.time_zone,
    }
    return Page("deletion/list.html", values)


async def _page(asked: Asked, case_id: str) -> Page:
    """Raises Denied for who sees the case and may not delete it."""
    request = ListSharesRequest(case_id=case_id, page_size=_SHARES)
    values, shares = await asyncio.gather(case.loaded(asked, case_id), _shares(asked, request))
    if not values["deletes"]:
        raise lacks("study.delete", at="the facility of the case")
    known: dict[str, Any] = {
        **values,
        "shares": shares.shares if shares else (),
        "more_shares": bool(shares and shares.next_page_token),
        "missing": [*values["missing"], *([] if shares else ["its shares"])],
        "expected": values["case"].patient_id.strip() or WORD,
        "states": words.SHARES,
        "problem_text": "",
    }
    return Page("deletion/page.html", known)


async def _shares(asked: Asked, request: ListSharesRequest) -> ListSharesResponse | None:
    """The shares that the person may know of; None if sharing does not answer."""
    try:
        return await asked.house.services.sharing.ListShares(request)
    except Unauthenticated:
        raise
    except ReadroomError:
        return None


def _with(page: Page, problem: str, status: int) -> Page:
    return Page(page.template, {**page.values, "problem_text": problem}, status)
