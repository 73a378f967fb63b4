"""AccessService: what comes in, proto to domain; each raises Invalid, which names the field."""

import re
from datetime import UTC, date, datetime
from typing import Literal, TypeVar
from uuid import UUID

from google.protobuf.message import Message

from kernel.errors import Invalid
from kernel.ids import BucketId, CaseId, FacilityId, FolderId, MoveId, UserId, parse_id
from kernel.language import Language
from plumbing.callers import caller
from services.access.buckets import Grant, Share, Standing
from services.access.contact import checked_contact
from services.access.domain import Permission, PermissionGrant, Role
from services.access.folders import FolderSettings
from services.access.manager import UserSettings
from services.access.moves import Move
from services.access.search import Listing, Order
from wire.access.v1 import access_pb2 as pb

MAX_SKIPPED = 10_000
"""As far as a list is counted."""

# ISO 8601 has other forms, which Python takes.
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def user_id(text: str) -> UserId:
    return UserId(parse_id(text, "user_id"))


def bucket_id(text: str, field: str = "bucket_id") -> BucketId:
    return BucketId(parse_id(text, field))


def share(request: pb.GrantBucketsRequest) -> Share:
    parent = request.parent_bucket_id
    return Share(
        case_ids=tuple(dict.fromkeys(CaseId(parse_id(each, "case_ids")) for each in request.case_ids)),
        grants=tuple(
            Grant(bucket_id(grant.bucket_id), grant.recipient_login, grant.two_factor)
            for grant in request.grants
        ),
        ends_at=instant(request, "ends_at"),
        write_report=request.write_report,
        allow_further_sharing=request.allow_further_sharing,
        parent_id=bucket_id(parent, "parent_bucket_id") if parent else None,
    )


def folder(given: pb.Folder) -> FolderSettings:
    return FolderSettings(
        folder_id=FolderId(parse_id(given.folder_id, "folder_id")) if given.folder_id else None,
        name=given.name,
        members=frozenset(UserId(parse_id(each, "member_user_ids")) for each in given.member_user_ids),
        version=given.version,
    )


def move(request: pb.BeginMoveRequest) -> Move:
    return Move(
        MoveId(parse_id(request.move_id, "move_id")),
        case_id(request.case_id),
        FacilityId(parse_id(request.from_facility_id, "from_facility_id")),
        FacilityId(parse_id(request.to_facility_id, "to_facility_id")),
        request.by_hand,
    )


def standing(told: pb.ChangeBucketsRequest.Change) -> Standing:
    return Standing(bucket_id(told.bucket_id), told.version, told.open, instant(told, "ends_at"), told.ended)


def instant(message: Message, field: str) -> datetime | None:
    if not message.HasField(field):
        return None
    try:
        at: datetime = getattr(message, field).ToDatetime(UTC)
    except ValueError:
        raise Invalid(f"`{field}` is not an instant", field=field) from None
    return at


def case_id(text: str) -> CaseId:
    return CaseId(parse_id(text, "case_id"))


def facility_id(text: str, field: str) -> FacilityId | None:
    return FacilityId(parse_id(text, field)) if text else None


def listing(
    given: pb.ListCasesRequest | pb.WatchCasesRequest | pb.ExportCasesRequest, orders: dict[int, Order]
) -> Listing:
    """Which cases are asked for, and in which order."""
    return Listing(
        order=one_of(orders, given.order or pb.CASE_ORDER_RECEIVED, "order"),
        descending=not given.ascending,
        facility_id=facility_id(given.facility_id, "facility_id"),
        where=given.where,
        line=given.search,
    )


def counting(given: pb.CountCasesRequest) -> Listing:
    """Which cases are counted."""
    return Listing(
        facility_id=facility_id(given.facility_id, "facility_id"), where=given.where, line=given.search
    )


def skipped(count: int) -> int:
    """How many cases are passed over; only ingest may ask for that, for a client of DICOMweb counts so."""
    if count and caller().peer != "ingest":
        raise Invalid("only ingest may say `skip`: use `next_page_token` of the page before", field="skip")
    if not 0 <= count <= MAX_SKIPPED:
        raise Invalid(f"`skip` must be 0 to {MAX_SKIPPED}", field="skip")
    return count


def form(given: pb.FilterForm) -> dict[str, object]:
    """What was filled in, by the names of `filter.form`."""
    filled = {field.name: value for field, value in given.ListFields()}
    return {"facilities" if name == "facility_ids" else name: value for name, value in filled.items()}


def user(
    request: pb.SaveUserRequest, roles: dict[int, Role], languages: dict[int, Language | None]
) -> UserSettings:
    """A user as an administrator wants them to be."""
    given = request.user
    return UserSettings(
        user_id=user_id(given.user_id) if given.user_id else None,
        version=given.version,
        login=given.login,
        name=given.name,
        role=one_of(roles, given.role, "role") if given.role else None,
        active=given.active,
        home_facility_id=facility_id(given.home_facility_id, "home_facility_id"),
        permissions=frozenset(map(granted, given.permissions)) if request.set_permissions else None,
        contact=checked_contact(
            given.email, given.mobile_number, one_of(languages, given.language, "language")
        ),
    )


def granted(given: pb.PermissionGrant) -> PermissionGrant:
    return PermissionGrant(permission(given.permission), facility_id(given.facility_id, "facility_id"))


def permission(text: str) -> Permission:
    try:
        return Permission(text)
    except ValueError:
        known = " ".join(sorted(Permission))
        raise Invalid(
            f"`{text[:64]}` is not a permission; the permissions are: {known}", field="permission"
        ) from None


def day(text: str, field: str) -> date:
    try:
        if not _DATE.fullmatch(text):
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise Invalid(f"`{field}` is not a date: write it as YYYY-MM-DD", field=field) from None


Id = TypeVar("Id", bound=UUID)


def either(shown_to: Id | Literal[""], case_id: CaseId | Literal[""], field: str) -> Id | CaseId:
    """The one of two ids that a list is asked by."""
    if shown_to and not case_id:
        return shown_to
    if case_id and not shown_to:
        return case_id
    raise Invalid(f"name either `case_id` or `{field}`", field="case_id")


Meaning = TypeVar("Meaning")


def one_of(meanings: dict[int, Meaning], value: int, field: str) -> Meaning:
    if value not in meanings:
        raise Invalid(f"`{field}` has no value {value}", field=field)
    return meanings[value]
