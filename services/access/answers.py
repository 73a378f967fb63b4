"""AccessService: what goes out, domain to proto."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any, TypeVar

from google.protobuf.message import Message
from prometheus_client import Counter

from kernel.errors import Exhausted
from kernel.language import Language
from kernel.reading import PrivilegeLevel, ReadType, Side
from plumbing import pages
from plumbing.timestamps import timestamp
from services.access.accessfilter import Historical
from services.access.acts import CaseAct
from services.access.administration import HeldPrivilege
from services.access.assignable import Assignable
from services.access.caseindex import Priority
from services.access.describedcases import DescribedCase
from services.access.domain import Decision, Path, Role, User
from services.access.filtering import DescribedFilter, ListedFilter
from services.access.folders import Folder, Showing
from services.access.linking import Known, Linked
from services.access.live import Event
from services.access.patients import Link, Record
from services.access.received import LISTED
from services.access.search import Order, Place
from services.access.shown import ALL_BUT_PRIORS, ALL_COLUMNS, Column, Columns, ShownCase, WaitsFor
from services.access.usecases import Count, Page
from wire.access.v1 import access_pb2 as pb

ROLE_VALUES = {role: pb.Role.Value(f"ROLE_{role.name}") for role in Role}
READ_TYPE_VALUES = {read_type: pb.ReadType.Value(f"READ_TYPE_{read_type.name}") for read_type in ReadType}
LEVEL_VALUES = {
    PrivilegeLevel.NONE: pb.LEVEL_UNSPECIFIED,
    PrivilegeLevel.VIEW: pb.LEVEL_VIEW,
    PrivilegeLevel.DRAFT: pb.LEVEL_DRAFT,
    PrivilegeLevel.REPORT: pb.LEVEL_REPORT,
}
SIDE_VALUES = {
    Side.NONE: pb.SIDE_UNSPECIFIED,
    Side.GROUP: pb.SIDE_GROUP,
    Side.FACILITY: pb.SIDE_FACILITY,
}
PRIORITY_VALUES = {priority: pb.Priority.Value(f"PRIORITY_{priority.name}") for priority in Priority}
ORDER_VALUES = {order: pb.CaseOrder.Value(f"CASE_ORDER_{order.name}") for order in Order}
CASE_ACT_VALUES = {act: pb.CaseAct.Value(f"CASE_ACT_{act.name}") for act in CaseAct}
WAITS_FOR_VALUES: dict[WaitsFor | None, pb.WaitsFor.ValueType] = {
    None: pb.WAITS_FOR_UNSPECIFIED,
    **{each: pb.WaitsFor.Value(f"WAITS_FOR_{each.name}") for each in WaitsFor},
}
PATH_VALUES = {path: pb.Path.Value(f"PATH_{path.name}") for path in Path}
HISTORICAL_VALUES = {
    Historical.OFF: pb.HISTORICAL_UNSPECIFIED,
    Historical.EARLIER: pb.HISTORICAL_EARLIER,
    Historical.ALL: pb.HISTORICAL_ALL,
}
LANGUAGE_VALUES: dict[Language | None, pb.Language.ValueType] = {
    None: pb.LANGUAGE_UNSPECIFIED,
    **{language: pb.Language.Value(f"LANGUAGE_{language.name}") for language in Language},
}


Whole = TypeVar("Whole", bound=Message)


def in_one_message(answer: Whole, advice: str) -> Whole:
    """An answer that has no pages; raises Exhausted where no channel would take it."""
    if answer.ByteSize() > pages.MAX_PAGE_BYTES:
        raise Exhausted(f"the answer would not fit into one message: {advice}")
    return answer


def an_assignable(each: Assignable) -> pb.Assignable:
    return pb.Assignable(
        user_id=str(each.user.id),
        login=each.user.login,
        name=each.user.name,
        is_assignee=each.is_assignee,
        level_now=LEVEL_VALUES[each.level_now],
        level=LEVEL_VALUES[each.level],
        hidden_by=each.hidden_by,
    )


def a_user(user: User) -> pb.User:
    return pb.User(
        user_id=str(user.id),
        login=user.login,
        name=user.name,
        role=ROLE_VALUES[user.role],
        active=user.active,
        permissions=[
            pb.PermissionGrant(permission=grant.permission, facility_id=str(grant.facility_id or ""))
            for grant in sorted(user.permissions, key=lambda g: (g.permission, str(g.facility_id or "")))
        ],
        home_facility_id=str(user.home_facility_id or ""),
        version=user.version,
        email=user.contact.email,
        mobile_number=user.contact.mobile_number,
        language=LANGUAGE_VALUES[user.contact.language],
        contact_version=user.contact_version,
    )


def a_case_summary(case: DescribedCase) -> pb.CaseSummary:
    return pb.CaseSummary(
        case_id=str(case.case_id),
        facility_id=str(case.facility_id),
        facility_name=case.facility_name,
        time_zone=case.time_zone,
        patient_initials=case.patient_initials,
        study_description=case.study_description,
        study_date=case.study_date,
    )


def a_filter(told: DescribedFilter) -> pb.Filter:
    return pb.Filter(
        user_id=str(told.user_id),
        login=told.login,
        form=a_form(told.saved.form),
        expression=told.saved.expression,
        historical=HISTORICAL_VALUES[told.saved.historical],
        version=told.last.version,
        changed_by=told.last.by,
        changed_at=timestamp(told.last.at),
        fault=told.fault,
    )


def a_form(form: Mapping[str, Any]) -> pb.FilterForm:
    return pb.FilterForm(
        facility_ids=form.get("facilities", ()),
        **{name: value for name, value in form.items() if name in pb.FilterForm.DESCRIPTOR.fields_by_name},
    )


def a_filtered_user(listed: ListedFilter) -> pb.FilteredUser:
    return pb.FilteredUser(
        user_id=str(listed.user_id),
        login=listed.login,
        version=listed.last.version,
        historical=HISTORICAL_VALUES[listed.saved.historical],
        broken=bool(listed.fault),
    )


def place(held: HeldPrivilege) -> tuple[str, str]:
    """Privileges are listed by facility."""
    return held.facility_name, str(held.facility_id)


def a_privilege(held: HeldPrivilege) -> pb.Privilege:
    privilege = held.privilege
    return pb.Privilege(
        user_id=str(held.user_id),
        facility_id=str(held.facility_id),
        facility_name=held.facility_name,
        level=LEVEL_VALUES[privilege.level],
        expires_on=privilege.expires_on.isoformat() if privilege.expires_on else "",
        read_types=_read_types(privilege.read_types),
        effective_level=LEVEL_VALUES[held.effective_level],
        expires_at=timestamp(held.expires_at),
        version=privilege.version,
    )


def a_folder(folder: Folder) -> pb.Folder:
    return pb.Folder(
        folder_id=str(folder.id),
        name=folder.name,
        member_user_ids=sorted(map(str, folder.members)),
        version=folder.last.version,
        changed_by=folder.last.by,
        changed_at=timestamp(folder.last.at),
    )


def a_folder_case(showing: Showing) -> pb.FolderCase:
    return pb.FolderCase(
        folder_id=str(showing.to),
        folder_name=showing.name,
        case_id=str(showing.case_id),
        facility_id=str(showing.facility_id),
        facility_name=showing.facility_name,
    )


def a_case_grant(showing: Showing) -> pb.CaseGrant:
    return pb.CaseGrant(
        case_id=str(showing.case_id),
        user_id=str(showing.to),
        login=showing.login,
        name=showing.name,
        facility_id=str(showing.facility_id),
        facility_name=showing.facility_name,
    )


def a_decision(decision: Decision) -> pb.Decision:
    if not decision.allowed:
        return pb.Decision(being_deleted=decision.being_deleted)
    return pb.Decision(
        allowed=True,
        level=LEVEL_VALUES[decision.level],
        own_level=LEVEL_VALUES[decision.own_level],
        own_read_types=_read_types(decision.own_read_types),
        images=decision.images,
        reports=decision.reports,
        paths=[PATH_VALUES[path] for path in decision.paths],
        side=SIDE_VALUES[decision.side],
        read_types=_read_types(decision.read_types),
        facility_id=str(decision.facility_id),
        user_version=decision.user_version,
        user_name=decision.user_name,
        studies=[
            pb.ConfirmedStudy(
                study_id=str(study.study_id),
                all_series=study.series_instance_uids is None,
                series_instance_uids=study.series_instance_uids or (),
                by_parts=study.parts is not None,
                parts=study.parts or (),
            )
            for study in decision.studies
        ],
        instance_count=decision.instance_count,
        images_since_report=decision.late.count if decision.late else 0,
        images_since=timestamp(decision.late.since) if decision.late else None,
        role=ROLE_VALUES[decision.role] if decision.role else pb.ROLE_UNSPECIFIED,
        user_id=str(decision.user_id or ""),
    )


CUT = Counter(
    "readroom_access_cut_lists",
    "Pages and counts that ended because their time did; the list goes on there",
    ["what"],
)


def a_count(counted: Count) -> pb.CountCasesResponse:
    """The number of cases of a worklist."""
    if counted.is_cut:
        CUT.labels("count").inc()
    return pb.CountCasesResponse(count=counted.count, more=counted.is_more, unfinished=counted.is_cut)


def a_page(
    page: Page, came_to: Place | None, token: Callable[[Place], str], columns: Columns
) -> pb.ListCasesResponse:
    """A page of a worklist, and the tokens of those beside it.

    Args:
        came_to: the place next to which it was asked for.
        token: of a place.
        columns: of each row.
    """
    back = came_to is not None and came_to.backward
    rows = pages.fitting(page[::-1] if back else page, partial(a_case, columns=columns))
    kept = page[len(page) - len(rows) :] if back else page[: len(rows)]
    is_whole = len(kept) == len(page)
    told = [place for each in kept if (place := each.place)]
    more = page.more if is_whole else (told[0].before() if back else told[-1])
    after = told[-1] if told else more and replace(more, backward=False)
    before = told[0].before() if told else more and more.before()
    if page.is_cut and is_whole:
        CUT.labels("page").inc()
    following, preceding = (after, more) if back else (more, before if came_to else None)
    return pb.ListCasesResponse(
        cases=rows[::-1] if back else rows,
        next_page_token=token(following) if following else "",
        previous_page_token=token(preceding) if preceding else "",
        continues=page.is_cut and is_whole,
    )


def related_cases(
    found: Sequence[ShownCase], limit: int, token: Callable[[Place], str], columns: Columns
) -> pb.ListRelatedCasesResponse:
    """A page of cases beside another; of `found` one more than the page has, if there are more."""
    rows = pages.fitting(found[:limit], partial(a_case, columns=columns))
    last = found[len(rows) - 1].place if len(found) > len(rows) else None
    return pb.ListRelatedCasesResponse(cases=rows, next_page_token=token(last) if last else "")


def a_message(case: ShownCase) -> bytes:
    """A row as it is told, the same for the same row."""
    return a_case(case, ALL_BUT_PRIORS).SerializeToString(deterministic=True)


def an_event(event: Event, cursor: str) -> pb.WatchCasesResponse:
    return pb.WatchCasesResponse(
        resync=event.resync,
        rows=[
            pb.WatchCasesResponse.Row(
                case=pb.Case.FromString(told.message),
                after_case_id=str(told.after or ""),
                appeared=told.appeared,
            )
            for told in event.rows
        ],
        went=map(str, event.went),
        cursor=cursor,
    )


@cache
def _read_types(read_types: frozenset[ReadType]) -> tuple[pb.ReadType.ValueType, ...]:
    """Kept, for there are few of them and each decision tells two."""
    return tuple(sorted(READ_TYPE_VALUES[read_type] for read_type in read_types))


def _attribute(name: str) -> Callable[[ShownCase], Any]:
    return lambda case: getattr(case.summary.attributes, name)


def _of_summary(name: str) -> Callable[[ShownCase], Any]:
    return lambda case: getattr(case.summary, name)


_CASE: Mapping[Column, Callable[[ShownCase], Any]] = {
    **{each: _attribute(each) for each in Column if each in LISTED},
    **{
        each: _of_summary(each)
        for each in (
            Column.MODALITIES_IN_STUDY,
            Column.MODALITIES_LEFT_OUT,
            Column.SERIES_COUNT,
            Column.INSTANCE_COUNT,
            Column.ANOTHER_PATIENT_HELD,
            Column.WRITTEN_DIFFERENTLY,
            Column.CALLING_AE_TITLE,
        )
    },
    Column.FACILITY_ID: lambda case: str(case.facility_id),
    Column.FACILITY_NAME: lambda case: case.facility_name,
    Column.RECEIVED_AT: lambda case: timestamp(case.received_at),
    Column.STUDY_INSTANCE_UID: lambda case: case.study_instance_uid,
    Column.STUDY_STATUS_ID: lambda case: case.study_status_id,
    Column.UNDISTRIBUTED: lambda case: case.undistributed,
    Column.LEVEL: lambda case: LEVEL_VALUES[case.level],
    Column.LOCK_HOLDER_NAME: lambda case: case.reading.lock.holder_name if case.reading.lock else "",
    Column.LOCK_ENDS_AT: lambda case: timestamp(case.reading.lock.ends_at) if case.reading.lock else None,
    Column.LOCK_SINCE: lambda case: timestamp(case.reading.lock.since) if case.reading.lock else None,
    Column.REPORTED_READ_TYPES: lambda case: _read_types(case.reading.read_types),
    Column.REPORTED_AT: lambda case: timestamp(case.reading.reported_at),
    Column.IMAGES_SINCE_REPORT: lambda case: case.late.count if case.late else 0,
    Column.IMAGES_SINCE: lambda case: timestamp(case.late.since) if case.late else None,
    Column.ASSIGNEE_LOGIN: lambda case: case.assignee_login or "",
    Column.PRIORITY: lambda case: PRIORITY_VALUES[case.priority],
    Column.GATEWAY_ID: lambda case: str(case.summary.gateway_id or ""),
    Column.MAY: lambda case: sorted(CASE_ACT_VALUES[each] for each in case.may),
    Column.WAITS_FOR: lambda case: WAITS_FOR_VALUES[case.waits_for],
    Column.WAITS_SINCE: lambda case: timestamp(case.waits_since),
    Column.PRIOR_COUNT: lambda case: case.prior_count,
}
"""What each column of a row is made of."""


def a_case(case: ShownCase, columns: Columns = ALL_COLUMNS) -> pb.Case:
    """The row of a case, with these columns."""
    return pb.Case(case_id=str(case.case_id), **{str(each): _CASE[each](case) for each in columns})


def a_patient_record(record: Record) -> pb.PatientRecord:
    patient = record.patient
    return pb.PatientRecord(
        patient_record_id=str(record.id),
        patient_id=patient.key.patient_id,
        issuer=patient.key.issuer,
        facility_id=str(patient.key.facility_id or ""),
        patient_name=patient.name,
        patient_birth_date=patient.birth_date,
    )


def a_patient_link(link: Link) -> pb.PatientLink:
    return pb.PatientLink(
        link_id=str(link.id),
        one_record_id=str(link.one_id),
        other_record_id=str(link.other_id),
        linked_by=link.linked_by,
        linked_at=timestamp(link.linked_at),
    )


def linked_patients(linked: Linked, revision: str) -> pb.LinkPatientsResponse:
    return pb.LinkPatientsResponse(
        record=a_patient_record(linked.one),
        other_record=a_patient_record(linked.other),
        link=a_patient_link(linked.link) if linked.link else None,
        gains=[
            pb.LinkPatientsResponse.SightGained(
                user_id=str(gain.user.id), login=gain.user.login, cases=gain.cases
            )
            for gain in linked.gains
        ],
        gains_left_out=linked.gains_left_out,
        revision=revision,
    )


def a_patient(known: Known) -> pb.DescribePatientResponse:
    return pb.DescribePatientResponse(
        record=a_patient_record(known.record) if known.record else None,
        linked=map(a_patient_record, known.others),
        links=map(a_patient_link, known.links),
        left_out=known.left_out,
    )
