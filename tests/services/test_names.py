"""Whoever is answered an id of a facility, user, gateway or folder is answered its name too.

A page that gets ids alone has to list everything to name a few.
"""

from collections.abc import Iterator

from google.protobuf.descriptor import Descriptor

from tests.e2e.test_deactivated import SERVICES
from wire.auth.v1 import auth_pb2

NAMED_BY = {
    "facility_id": {"facility_name"},
    "user_id": {"login", "user_name"},
    "gateway_id": {"gateway_name", "calling_ae_title"},
    "folder_id": {"folder_name"},
}
"""Kinds of ids, by the end of their name, and the fields beside them that say who or what it is.

Beside its own id a thing has its `name`.
"""

WITHOUT_A_NAME = {
    "CheckPermissionResponse.facility_ids": "services ask it; people ask ListMyFacilities",
    "Decision.facility_id": "services ask it; pages have the case",
    "FilterForm.facility_ids": "of what was filled in; DescribeFilter names them in its expression",
    "Privilege.user_id": "it is the user who was asked for",
    # Not yet: a page of administration needs them.
    "AETitleBinding.facility_id": "gateways",
    "Deletion.facility_id": "deletions",
    "EndpointRule.endpoint_facility_id": "rules",
    "EndpointRule.hub_facility_id": "rules",
    "Folder.member_user_ids": "folders: up to 1,000",
    "HeldPart.receiving_facility_id": "held parts: ListHeld names it",
    "PatientRecord.facility_id": "patients",
    "PermissionGrant.facility_id": "users: as many as came in one request",
    "Placement.facility_id": "what Distribute answers",
    "Placement.received_via_facility_id": "what Distribute answers",
    "Policy.facility_id": "it is the facility that was asked for",
    "Quarantined.gateway_id": "quarantine",
    "SettleLength.facility_id": "it is the facility that was asked for",
    "Share.facility_id": "shares",
    "Change.to_facility_id": "what Reevaluate would do",
    "User.home_facility_id": "users",
}


def ids(kind: Descriptor, outer: tuple[Descriptor, ...] = ()) -> Iterator[tuple[str, str, set[str]]]:
    """Each id in an answer: message and field, the kind of the id, and the fields beside it."""
    for field in kind.fields:
        inner = field.message_type
        if inner is not None and inner.full_name.startswith("wire.") and inner not in outer:
            yield from ids(inner, (*outer, kind))
        of = next((each for each in NAMED_BY if field.name.removesuffix("s").endswith(each)), None)
        if of:
            named = {each.name for each in kind.fields}
            is_its_own = of.removesuffix("_id") in kind.name.lower() and field.name == of
            yield (
                f"{kind.name}.{field.name}",
                of,
                named | NAMED_BY[of] if is_its_own and "name" in named else named,
            )


def answered() -> Iterator[tuple[str, str, set[str]]]:
    for contract in SERVICES.values():
        for service in contract.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                if "bff" in method.GetOptions().Extensions[auth_pb2.callers].user:
                    yield from ids(method.output_type)


def test_what_people_are_answered_by_id_is_named() -> None:
    unnamed = {place for place, of, beside in answered() if not beside & NAMED_BY[of]}

    assert [] == sorted(unnamed - WITHOUT_A_NAME.keys())
    assert [] == sorted(WITHOUT_A_NAME.keys() - unnamed), "these are named by now, or gone"
