"""Transfers: queue entries of gateways, each for one study: announced, carried and ended (A26)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from kernel.dicom import UID, AETitle, parse_ae_title, parse_uid
from kernel.errors import Conflict, Denied, Invalid
from kernel.ids import GatewayId, TransferId
from services.ingest.domain import MAX_TRANSFER_AGE, Refused, Sender, StoreStatus
from services.ingest.gateway import Gateway

MAX_AT_ONCE = 100
"""Transfers of one call: a few statements take them in some milliseconds."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """A gateway's queue entry for one study, kept across its retries."""

    transfer_id: TransferId
    gateway_id: GatewayId
    calling_ae_title: AETitle
    study_instance_uid: UID
    begun_at: datetime


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a gateway says of an entry before it sends it: its words as they came.

    Attributes:
        age: of the entry by the gateway's own clock; None if it does not say.
    """

    transfer_id: TransferId
    study_instance_uid: str
    calling_ae_title: str
    age: timedelta | None

    def transfer(self, gateway: Gateway, now: datetime) -> Transfer:
        """The transfer; `now` is PostgreSQL's. Raises Invalid, or Denied for a title of somebody else."""
        title = parse_ae_title(self.calling_ae_title, "calling_ae_title")
        uid = parse_uid(self.study_instance_uid, "study_instance_uid")
        if gateway.receives_for(title) is None:
            raise Denied(f"`{title}` is not an AE title of this gateway")
        return Transfer(self.transfer_id, gateway.gateway_id, title, uid, transfer_begun_at(self.age, now))


@dataclass(frozen=True, slots=True)
class Ended:
    """A transfer of which everything has its answer; `instances` of it were acknowledged."""

    transfer_id: TransferId
    instances: int


def transfer_begun_at(age: timedelta | None, now: datetime) -> datetime:
    """Return when the entry began by our clock; the gateway's clock only measures its age.

    An age that cannot be, or that nobody tells, counts as MAX_TRANSFER_AGE: at worst the transfer of a study
    that was deleted meanwhile is refused, and an Export sends it again.
    """
    if age is None or not timedelta() <= age <= MAX_TRANSFER_AGE:
        return now - MAX_TRANSFER_AGE
    return now - age


def must_fit(told: Sequence[object], field: str) -> None:
    """Raises Invalid for more than one call may tell."""
    if len(told) > MAX_AT_ONCE:
        raise Invalid(
            f"`{field}` names more than {MAX_AT_ONCE} transfers: tell them in several calls", field=field
        )


def must_differ(told: Sequence[Announcement | Ended]) -> None:
    """Raises Invalid where one call tells of a transfer twice."""
    if len({each.transfer_id for each in told}) < len(told):
        raise Invalid(
            "`transfer_id` stands twice in one call: tell of each transfer once", field="transfer_id"
        )


def must_be_the_same(wanted: Sequence[Transfer], known: Sequence[Transfer]) -> None:
    """Raises Conflict where an id that is announced is the transfer of another study."""
    queues = {each.transfer_id: _queue(each) for each in known}
    if any(queues.get(each.transfer_id) != _queue(each) for each in wanted):
        raise Conflict(
            "`transfer_id` is known as the transfer of another study: announce this one under a new id",
            field="transfer_id",
        )


def _queue(transfer: Transfer) -> tuple[GatewayId, AETitle, UID]:
    return transfer.gateway_id, transfer.calling_ae_title, transfer.study_instance_uid


def must_count(ended: Sequence[Ended]) -> None:
    """Raises Invalid for a number of instances that cannot be."""
    if any(each.instances < 0 for each in ended):
        raise Invalid("`instances` must not be negative", field="instances")


def carrying(sender: Sender, study_instance_uid: UID, newest: Transfer | None) -> Sender:
    """Return the sender of one study in an association, which may carry many transfers.

    A transfer that the association named counts for its own study. Any other study is of the newest transfer
    that the gateway announced for it. Without one it is of the association itself, if that named no transfer.

    Raises Refused.
    """
    if sender.transfer_study_instance_uid == study_instance_uid:
        return sender
    if newest is not None:
        return replace(
            sender,
            transfer_id=newest.transfer_id,
            transfer_study_instance_uid=study_instance_uid,
            begun_at=newest.begun_at,
        )
    if sender.transfer_study_instance_uid is not None:
        raise Refused(StoreStatus.OTHER_STUDY)
    return sender
