"""The largest page of every list of the services but access, and of dead letters, fits its message."""

import re
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from kernel.delivery import MAX_ERROR_CHARACTERS
from kernel.dicom import MAX_CHARACTERS
from plumbing import deadletters, pages, rpc
from services.ingest.domain import MAX_REASON_CHARACTERS
from services.ingest.gateway import MAX_NAME_CHARACTERS, MAX_TITLES
from services.ingest.purgerecord import CONFIRM
from services.reporting.domain import MAX_CASE_BYTES, MAX_CASE_REPORTS
from services.routing import domain as routing
from services.routing.heldparts import UNDECIDED_NAMED
from services.sharing import wanted as sharing
from wire.ingest.v1 import ingest_pb2
from wire.letters.v1 import letters_pb2
from wire.notify.v1 import notify_pb2
from wire.reporting.v1 import reporting_pb2
from wire.routing.v1 import routing_pb2
from wire.sharing.v1 import sharing_pb2

ROOT = Path(__file__).parents[2]
CONTRACTS = (ingest_pb2, routing_pb2, reporting_pb2, sharing_pb2, notify_pb2, letters_pb2)

# The longest text of a field, in characters of four bytes. What is not named holds an id, a digest, a login
# or a word of ours: 128 of one byte.
CHARACTERS = {
    "Gateway.name": MAX_NAME_CHARACTERS,
    "Refusal.reason": MAX_REASON_CHARACTERS,
    "Facility.name": routing.MAX_NAME_CHARACTERS,
    "EndpointRule.text": MAX_CHARACTERS["ST"],
    "Held.series_instance_uid": MAX_CHARACTERS["UI"],
    "Held.reason": 128,
    "Share.reason": sharing.MAX_REASON_CHARACTERS,
    "Received.message": sharing.MAX_MESSAGE_CHARACTERS,
    "Received.sender_name": 128,
    "Notice.last_error": MAX_ERROR_CHARACTERS,
    "DeadLetter.sentence": deadletters.MAX_SENTENCE_CHARACTERS,
}
COUNTS = {
    "Gateway.ae_titles": MAX_TITLES,
    "Held.differs": 5,  # patient ID, issuer, name, birth date, sex
    "Deletion.waiting_for": len(CONFIRM) + 1,
    "Share.case_ids": sharing.MAX_CASES,
    "Received.case_ids": sharing.MAX_CASES,
    "Share.buckets": 99,  # of max_recipients
}

WHOLE = {
    "ListVersionsResponse": 500 * 64,
    "ListVolumesResponse": 1_000 * 512,
    # A case has at most these; reports, addenda and drafts count alike, with names of 128 characters.
    "ListReportsResponse": MAX_CASE_BYTES + MAX_CASE_REPORTS * 1024,
    "ListReadTypesResponse": 4,
    "ListUndecidedResponse": UNDECIDED_NAMED * 64,
}
"""Lists that answer everything at once, and how large they are at most."""


def lists(*, paged: bool) -> dict[str, Descriptor]:
    """The answers of all lists, by contract and name."""
    found = {}
    for contract in CONTRACTS:
        for service in contract.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                answer = method.output_type
                if method.name.startswith("List") and ("next_page_token" in answer.fields_by_name) is paged:
                    found[answer.full_name] = answer
    return found


def largest(kind: Any) -> Any:
    """A row in which every field is as long as it may be."""
    row: Any = GetMessageClass(kind)()
    for field in kind.fields:
        name = f"{kind.name}.{field.name}"
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            timed = field.message_type.full_name == "google.protobuf.Timestamp"
            inner = _timestamp(field) if timed else largest(field.message_type)
            target = getattr(row, field.name)
            if field.is_repeated:
                target.extend([inner] * COUNTS[name])
            else:
                target.CopyFrom(inner)
        elif field.is_repeated:
            getattr(row, field.name).extend(["x" * 128] * COUNTS[name])
        elif field.type == FieldDescriptor.TYPE_STRING:
            longest = CHARACTERS.get(name)
            setattr(row, field.name, "\N{GRINNING FACE}" * longest if longest else "x" * 128)
        elif field.type == FieldDescriptor.TYPE_BOOL:
            setattr(row, field.name, True)
        elif field.type == FieldDescriptor.TYPE_ENUM:
            setattr(row, field.name, field.enum_type.values[-1].number)
        else:
            setattr(row, field.name, 2**31 - 1)
    return row


def _timestamp(field: Any) -> Any:
    made: Any = GetMessageClass(field.message_type)()
    made.FromJsonString("9999-12-31T23:59:59.999999Z")
    return made


@pytest.mark.parametrize("name", lists(paged=True))
def test_the_largest_page_of_a_list_fits_its_message_and_names_the_next(name: str) -> None:
    answer = lists(paged=True)[name]
    rows_field: Any
    (rows_field,) = (field for field in answer.fields if field.is_repeated)
    row = largest(rows_field.message_type)
    assert row.ByteSize() < pages.MAX_PAGE_BYTES / 4
    rows, token = pages.fit([row] * (pages.MAX_SIZE + 1), pages.MAX_SIZE, lambda _: "x", lambda each: each)
    assert token
    page: Any = GetMessageClass(answer)(next_page_token="x" * pages.MAX_TOKEN_CHARACTERS)
    getattr(page, rows_field.name).extend(rows)
    assert page.ByteSize() < rpc.MAX_RESPONSE_BYTES


def test_a_list_without_pages_is_bounded_as_a_whole() -> None:
    whole = {name.rpartition(".")[2] for name in lists(paged=False)}
    assert whole == set(WHOLE)
    assert max(WHOLE.values()) < rpc.MAX_RESPONSE_BYTES


def test_every_page_of_a_service_ends_where_its_message_is_full() -> None:
    """`pages.cut` counts items only; a service gives its rows to `pages.fit`."""
    cutting = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "services").rglob("*.py")
        if re.search(r"pages\.cut\(", path.read_text())
    ]
    assert cutting == []
