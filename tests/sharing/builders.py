"""Buckets, shares and wishes with defaults: a test says only what it is about."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

from kernel.ids import BucketId, CaseId, FacilityId, ShareId, UserId
from kernel.language import Language
from services.sharing.domain import Bucket, Rights, Share
from services.sharing.wanted import Recipient, Wanted
from tests.clocks import NOON

LATER = NOON + timedelta(days=30)
NORTH = FacilityId(uuid4())


def a_bucket(**changes: Any) -> Bucket:
    values: dict[str, Any] = {
        "id": BucketId(uuid4()),
        "share_id": ShareId(uuid4()),
        "recipient_login": "rita",
        "recipient_user_id": UserId(uuid4()),
        "two_factor": False,
        "send_mail": False,
        "ends_at": LATER,
    }
    return Bucket(**values | changes)


def a_share(*buckets: Bucket, **changes: Any) -> Share:
    """A share of one case with these buckets."""
    values: dict[str, Any] = {
        "id": buckets[0].share_id if buckets else ShareId(uuid4()),
        "sender_login": "sender",
        "sender_user_id": UserId(uuid4()),
        "sender_name": "Dr S",
        "facility_id": NORTH,
        "time_zone": "Europe/Amsterdam",
        "reason": "second opinion",
        "message": "please look",
        "language": Language.EN,
        "urgent": False,
        "rights": Rights.READ_REPORT,
        "allow_further_sharing": False,
        "parent_bucket_id": None,
        "shared_at": NOON,
        "case_ids": (CaseId(uuid4()),),
        "buckets": buckets,
    }
    return Share(**values | changes)


def a_wish(**changes: Any) -> Wanted:
    values: dict[str, Any] = {
        "case_ids": [CaseId(uuid4())],
        "recipients": [Recipient("rita")],
        "rights": Rights.READ_REPORT,
        "reason": "second opinion",
        "patient_agreed": True,
    }
    return Wanted(**values | changes)
