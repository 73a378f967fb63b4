"""The worklist: the cases of who is signed in, as access lists them.

What a person searches for may name a patient. It comes in the body of a POST and is kept beside their
session; an address holds the id under which it is kept.
"""

import asyncio
from collections.abc import AsyncGenerator
from uuid import UUID

from kernel.errors import Exhausted, Invalid, NotFound, ReadroomError, Unavailable
from kernel.ids import parse_id
from web import errors, live
from web.asked import Answer, Asked, Data, File, News, Page, Redirect, Stream
from web.domain import View
from wire.access.v1 import access_pb2 as pb
from wire.access.v1.identity_pb2 import DescribeMeRequest, DescribeMeResponse

_COUNT_WITHIN_S = 1.5
"""A count may take long where a page does not: the page is shown without it then."""

_SAVED = tuple(each for each in live.COLUMNS if each not in ("may", "modalities_left_out", "prior_count"))
_SAVED_WITHIN_S = 60.0

MOST_CASES = 500
"""Of a list that leads from one to the next."""

_MAX_TOKEN_CHARACTERS = 4096
_MAX_SEARCH_CHARACTERS = 1000
"""What is longer is cut; access refuses it all the same, and says so on the page that holds it."""

ORDERS = {
    "received": pb.CASE_ORDER_RECEIVED,
    "study": pb.CASE_ORDER_STUDY_DATE,
    "patient": pb.CASE_ORDER_PATIENT_NAME,
    "priority": pb.CASE_ORDER_PRIORITY,
}
"""By the key of the column."""

_SORTED = {
    "received": ("received, oldest first", "received, newest first"),
    "study": ("study, oldest first", "study, newest first"),
    "patient": ("patient, A to Z", "patient, Z to A"),
    "priority": ("priority, most urgent last", "priority, most urgent first"),
}
"""How the list is sorted, in words that stay where its column gives way: ascending, descending."""

_FIRST_ASCENDING = {"patient"}
"""Names begin with A; of all else the newest or most urgent is first."""


def view_of(form: "dict[str, str]") -> View:
    """Reads the form of the list: the buttons of it name a column to sort by, or a page to go to."""
    order, _, direction = form.get("sorted", "").partition(" ")
    if order not in ORDERS:
        order, direction = "received", ""
    ascending = direction == "up"
    search = "" if form.get("clear") else form.get("search", "").strip()[:_MAX_SEARCH_CHARACTERS]
    if (column := form.get("sort", "")) in ORDERS:
        ascending = not ascending if column == order else column in _FIRST_ASCENDING
        return View(search, column, ascending)
    token = form.get("page", "")[:_MAX_TOKEN_CHARACTERS]
    unchanged = form.get("searched", "") == search  # a page of another search says nothing
    return View(search, order, ascending, token if unchanged else "")


async def choose(asked: Asked) -> Answer:
    """Keeps what somebody wants to look at, and leads there: going back and loading again need no form."""
    return Redirect(await asked.house.flow.keep_view(asked.signed_in, view_of(dict(asked.form))))


async def show(asked: Asked) -> Answer:
    """One page of the list, how many cases there are, and who is looking."""
    view = await asked.house.flow.view(asked.signed_in, asked.query.get("view", ""))
    if view is None:  # of a session that has ended
        return Redirect("/")
    view_id = _view_id(asked.query.get("view", ""))
    access = asked.house.services.access
    request = _page_of(view, view.page_token)
    listing, counted, described = await asyncio.gather(
        access.ListCases(request),
        access.CountCases(pb.CountCasesRequest(search=view.search), timeout=_COUNT_WITHIN_S),
        asked.house.services.identities.DescribeMe(DescribeMeRequest()),
        return_exceptions=True,
    )
    problem, code, cases = "", 200, pb.ListCasesResponse()
    match listing:
        case pb.ListCasesResponse():
            cases = listing
            shown = [UUID(each.case_id) for each in cases.cases]
            await asked.house.flow.came_by(asked.signed_in, shown, view_id)
        case Invalid() | Exhausted() | Unavailable():  # what was typed stays where it is
            problem, code = listing.sentence, errors.told(listing).status
        case BaseException():
            raise listing
    values = {
        "view": view,
        "view_id": view_id or "",
        "cases": cases.cases,
        "next_page": cases.next_page_token,
        "previous_page": cases.previous_page_token,
        "continues": cases.continues,
        "count": _count(counted),
        "me": (me := _described(described)),
        "administers": any(each.permission == "access.admin" and each.everywhere for each in me.permissions),
        "problem_text": problem,
        "sorted_by": _SORTED[view.order][0 if view.ascending else 1],
        "zone": me.time_zone,
        **live.AROUND,
    }
    return Page("worklist/page.html", values, code)


def _page_of(view: View, page_token: str) -> pb.ListCasesRequest:
    return pb.ListCasesRequest(
        page_size=live.ROWS,
        page_token=page_token,
        search=view.search,
        order=ORDERS[view.order],
        ascending=view.ascending,
        columns=live.COLUMNS,
    )


def _shown(asked: Asked) -> live.Shown:
    """What the page of a script shows, as it says itself."""
    return live.Shown(asked.house, live.held_of(asked.form.get("held", "")), asked.form.get("zone", "UTC"))


async def rows(asked: Asked) -> Answer:
    """A page of the list as it is now, as far as its script does not show it already."""
    view = await _named(asked)
    request = _page_of(view, asked.form.get("page", "")[:_MAX_TOKEN_CHARACTERS])
    listing = await asked.house.services.access.ListCases(request)
    is_whole = not listing.next_page_token and not request.page_token
    told = await _shown(asked).told(listing.cases, asked.now, is_whole=is_whole)
    around = {"next": listing.next_page_token, "previous": listing.previous_page_token}
    return News({**around, **(told.values if told else {})}, told.parts if told else {})


async def follow(asked: Asked) -> Answer:
    """What changes of the first page of the list, as it changes."""
    view = await _named(asked)
    request = pb.WatchCasesRequest(
        rows=live.ROWS, search=view.search, order=ORDERS[view.order], ascending=view.ascending
    )
    return Stream(live.follow(asked, request, _shown(asked)))


async def shown(asked: Asked) -> Answer:
    """Remembers which cases of the list its page shows, so that one leads to the next."""
    await _named(asked)
    view_id = _view_id(asked.form.get("view", ""))
    await asked.house.flow.came_by(asked.signed_in, _ids(asked), view_id)
    return Data({})


async def read(asked: Asked) -> Answer:
    """Leads to the first of the cases that somebody has chosen, and from it to the others."""
    chosen = _ids(asked)
    if not chosen:
        raise Invalid("choose at least one case of the list")
    await asked.house.flow.came_by(asked.signed_in, chosen)
    return Redirect(f"/cases/{chosen[0]}")


def _ids(asked: Asked) -> list[UUID]:
    return [parse_id(each, "cases") for each in asked.form.get("cases", "").split(",")[:MOST_CASES] if each]


async def save(asked: Asked) -> Answer:
    """The whole list as a file for a spreadsheet; access audits who saves it."""
    view = await _named(asked)
    request = pb.ExportCasesRequest(
        search=view.search, order=ORDERS[view.order], ascending=view.ascending, columns=_SAVED
    )
    return File(_parts(asked, request), "worklist.csv", "text/csv; charset=utf-8")


async def _parts(asked: Asked, request: pb.ExportCasesRequest) -> AsyncGenerator[bytes]:
    is_whole = False
    async for part in asked.house.services.access.ExportCases(request, timeout=_SAVED_WITHIN_S):
        is_whole = part.HasField("case_count")
        if part.csv:
            yield part.csv
    if not is_whole:
        raise Unavailable("the list broke off while it was saved: save it again")


async def count(asked: Asked) -> Answer:
    """How many cases the list has, for a page that did not wait for it."""
    view = await _named(asked)
    request = pb.CountCasesRequest(search=view.search)
    return Data({"count": _count(await asked.house.services.access.CountCases(request))})


async def here(asked: Asked) -> Answer:
    """Somebody does something on the page that needs nothing of us: they are at their desk."""
    return Data({})


async def _named(asked: Asked) -> View:
    """The view that a script names; raises NotFound once it is not kept any more."""
    view = await asked.house.flow.view(asked.signed_in, asked.form.get("view", ""))
    if view is None:
        raise NotFound("this view of the list is not kept any more")
    return view


def _view_id(text: str) -> UUID | None:
    """The id of the view that an address or a script names; None if it names none."""
    return parse_id(text, "view") if text else None


def _count(counted: "pb.CountCasesResponse | BaseException") -> str:
    """How many cases there are, in words; empty where nobody knows."""
    match counted:
        case pb.CountCasesResponse():
            number = f"{counted.count:,}".replace(",", "\u202f")
            if counted.more or counted.unfinished:
                return f"more than {number} cases" if counted.more else f"at least {number} cases"
            return "1 case" if counted.count == 1 else f"{number} cases"
        case ReadroomError():
            return ""
        case _:
            raise counted


def _described(described: "DescribeMeResponse | BaseException") -> DescribeMeResponse:
    """Who is looking; nothing of it is needed to show a list."""
    match described:
        case DescribeMeResponse():
            return described
        case ReadroomError():
            return DescribeMeResponse(time_zone="UTC", may_see_cases=True)
        case _:
            raise described
