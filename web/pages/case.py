"""One case: what it is, its reports as the person may see them, its lock, and other cases of the patient."""

import asyncio
from typing import Any
from uuid import UUID

from kernel.errors import NotFound, ReadroomError
from kernel.ids import parse_id
from web import words
from web.asked import Answer, Asked, Page, Redirect
from wire.access.v1 import access_pb2 as pb
from wire.access.v1.identity_pb2 import DescribeMeRequest, DescribeMeResponse
from wire.reporting.v1.reporting_pb2 import ListReportsRequest, ListReportsResponse

RELATED = 20
_RELATED_COLUMNS = (
    "facility_name",
    "study_date",
    "study_time",
    "study_description",
    "modalities_in_study",
    "modalities_left_out",
    "study_status_id",
    "undistributed",
    "reported_read_types",
    "instance_count",
)


async def show(asked: Asked) -> Answer:
    """The page; an unknown, a foreign and a deleted case are one and the same answer."""
    case_id = id_of(asked.path["case_id"])
    values = await loaded(asked, case_id)
    return Page("case/page.html", {**values, **await around(asked, case_id, values["me"])})


async def around(asked: Asked, case_id: str, me: DescribeMeResponse) -> dict[str, Any]:
    """Where the case stands in the list that the person came from, and who else of the group has it open."""
    flow, session = asked.house.flow, asked.signed_in
    is_group = me.side == pb.SIDE_GROUP
    return {
        "place": await flow.place(session, UUID(case_id)),
        "here": await flow.open(session, UUID(case_id)) if is_group else (),
    }


async def show_next(asked: Asked) -> Answer:
    """Leads to the next case of the list that the person still sees, else back to the list."""
    case_id = id_of(asked.path["case_id"])
    place = await asked.house.flow.place(asked.signed_in, UUID(case_id))
    for following in place.following if place else ():
        try:
            await asked.house.services.access.DescribeCase(pb.DescribeCaseRequest(case_id=str(following)))
        except NotFound:
            continue
        return Redirect(f"/cases/{following}/report")
    return Redirect(place.list_path if place else "/")


async def loaded(asked: Asked, case_id: str) -> dict[str, Any]:
    """What the pages of a case show of it; raises NotFound for one that the person does not see."""
    services = asked.house.services
    described, reports, related, me = await asyncio.gather(
        services.access.DescribeCase(pb.DescribeCaseRequest(case_id=case_id)),
        services.reporting.ListReports(ListReportsRequest(case_id=case_id)),
        services.access.ListRelatedCases(
            pb.ListRelatedCasesRequest(case_id=case_id, page_size=RELATED, columns=_RELATED_COLUMNS)
        ),
        services.identities.DescribeMe(DescribeMeRequest()),
        return_exceptions=True,
    )
    for answer in (described, reports, related, me):
        if isinstance(answer, BaseException) and not isinstance(answer, ReadroomError):
            raise answer
    if isinstance(described, BaseException):
        raise described
    missing = [
        part
        for part, answer in (("its reports", reports), ("other cases of the patient", related))
        if isinstance(answer, ReadroomError)
    ]
    return {
        "case": described.case,
        "reports": reports if isinstance(reports, ListReportsResponse) else ListReportsResponse(),
        "related": related.cases if isinstance(related, pb.ListRelatedCasesResponse) else (),
        "more_related": bool(isinstance(related, pb.ListRelatedCasesResponse) and related.next_page_token),
        "me": (known := DescribeMeResponse(time_zone="UTC") if isinstance(me, BaseException) else me),
        "zone": known.time_zone,
        "missing": missing,
        "opens": pb.CASE_ACT_OPEN in described.case.may,
        "assigns": pb.CASE_ACT_ASSIGN in described.case.may,
        "deletes": pb.CASE_ACT_DELETE in described.case.may,
        "breaks": any(each.permission == "lock.break" for each in known.permissions),
        "words": words,
    }


def id_of(text: str) -> str:
    """Whatever is no id is no case either."""
    try:
        return str(parse_id(text, "case_id"))
    except ReadroomError:
        raise NotFound("there is no such case, or you do not see it") from None
