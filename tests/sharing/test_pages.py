"""What anybody may put into shares fits into one answer, so that nobody's list can be made to fail."""

from uuid import uuid4

from google.protobuf.timestamp_pb2 import Timestamp

from plumbing.rpc import MAX_RESPONSE_BYTES
from services.sharing.api import RECEIVED_PAGE_SIZE, SHARES_PAGE_SIZE
from services.sharing.wanted import MAX_CASES, MAX_MESSAGE_CHARACTERS, MAX_REASON_CHARACTERS
from wire.sharing.v1 import sharing_pb2 as pb

WIDE = "\U0001f9e0"
AT = Timestamp(seconds=253402300799, nanos=999_999_999)
CASES = [str(uuid4()) for _ in range(MAX_CASES)]
MOST_RECIPIENTS = 99


def test_the_longest_page_of_what_was_received_fits() -> None:
    received = pb.Received(
        bucket_id=str(uuid4()),
        sender_login="x" * 128,
        sender_name=WIDE * 128,
        shared_at=AT,
        ends_at=AT,
        rights=pb.RIGHTS_WRITE_REPORT,
        message=WIDE * MAX_MESSAGE_CHARACTERS,
        code_needed=True,
        blocked=True,
        case_ids=CASES,
        allow_further_sharing=True,
    )
    page = pb.ListReceivedResponse(received=[received] * RECEIVED_PAGE_SIZE, next_page_token="x" * 100)

    assert page.ByteSize() < MAX_RESPONSE_BYTES


def test_the_longest_page_of_shares_fits() -> None:
    bucket = pb.Bucket(
        bucket_id=str(uuid4()),
        recipient_login="x" * 128,
        rights=pb.RIGHTS_WRITE_REPORT,
        state=pb.Bucket.STATE_BLOCKED,
        ends_at=AT,
        two_factor=True,
        wrong_codes=5,
        opened_at=AT,
        allow_further_sharing=True,
    )
    share = pb.Share(
        share_id=str(uuid4()),
        sender_login="x" * 128,
        facility_id=str(uuid4()),
        shared_at=AT,
        case_ids=CASES,
        reason=WIDE * MAX_REASON_CHARACTERS,
        buckets=[bucket] * MOST_RECIPIENTS,
    )
    page = pb.ListSharesResponse(shares=[share] * SHARES_PAGE_SIZE, next_page_token="x" * 100)

    assert page.ByteSize() < MAX_RESPONSE_BYTES
