"""The facts: what happened, in the past tense.

A fact is a nudge. It carries an id and the owner's version (the confirmation of a purge also who gives it,
and ids), never patient data; whoever hears it asks the owner for the snapshot and writes only what is
newer, so a fact that is lost, late, repeated or out of order is harmless. The subject carries the version
of the form: `study.received.v1`. A fact that several services say carries on the wire who says it too:
`case.purged.v1.routing` (`wire_subject`).
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import ClassVar, Self
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Fact:
    """An id and its owner's version.

    Attributes:
        id: what it is about; its kind follows from the subject.
        version: the owner's version of it at that moment.
    """

    subject: ClassVar[str] = ""
    names_sayer: ClassVar[bool] = False
    """Whether the subject on the wire ends with the service that says it."""

    id: UUID
    version: int

    def said_by(self, sayer: str) -> Self:
        """The fact as it was heard from this service; empty where the subject named none."""
        return self


class GatewayChanged(Fact):
    """A gateway was enrolled or revoked; id is a GatewayId. Said by ingest."""

    subject = "gateway.changed.v1"


class StudyReceived(Fact):
    """The first instance of a study is durable; id is a StudyId. Said by ingest (A55)."""

    subject = "study.received.v1"


class StudyChanged(Fact):
    """A study has grown, has other attributes or has settled; id is a StudyId. Said by ingest (A55)."""

    subject = "study.changed.v1"


class FacilityChanged(Fact):
    """A facility was created or changed; id is a FacilityId. Said by routing."""

    subject = "facility.changed.v1"


class CasePlaced(Fact):
    """A case was placed, or more of its study joined it; id is a CaseId. Said by routing."""

    subject = "case.placed.v1"


class CaseUndistributed(Fact):
    """A case was placed at its hub because no rule distributed it; id is a CaseId. Said by routing (A17)."""

    subject = "case.undistributed.v1"


class CaseMoved(Fact):
    """A case has another owning facility; id is a CaseId. Said by routing."""

    subject = "case.moved.v1"


class UserChanged(Fact):
    """A user, or what they are compiled from, changed; id is a UserId. Said by access."""

    subject = "user.changed.v1"


class SightChanged(Fact):
    """Who sees a case changed, by a grant, a folder, a share or a move; id is a CaseId. Said by access."""

    subject = "sight.changed.v1"


class CaseGrown(Fact):
    """A case has images that came after its report; id is a CaseId. Said by access, once for each report.

    Said after a pre-read too: whoever hears it shows a side only what its own projection says (A59).
    """

    subject = "case.grown.v1"


class ReadingChanged(Fact):
    """The lock or the reports of a case are others than before; id is a CaseId. Said by reporting."""

    subject = "reading.changed.v1"


class CaseDeleted(Fact):
    """A case is being deleted, everywhere and for good; id is a CaseId. Said by ingest (A60)."""

    subject = "case.deleted.v1"


@dataclass(frozen=True, slots=True)
class CasePurged(Fact):
    """A service keeps nothing of a deleted case any more; id is a CaseId. Said by every other service (A60).

    Attributes:
        by: the service. Whoever hears the fact finds the sayer of the subject here: what the payload names is
            ignored, and one release from now it names nobody.
        study_ids: the StudyIds that routing held for the case; of the others none. Ingest asks routing.
    """

    subject: ClassVar[str] = "case.purged.v1"
    names_sayer: ClassVar[bool] = True

    by: str = ""
    study_ids: tuple[UUID, ...] = ()

    def said_by(self, sayer: str) -> Self:
        return replace(self, by=sayer)


class ShareCreated(Fact):
    """A bucket gives sight; id is a BucketId. Said by sharing, as are the next four."""

    subject = "share.created.v1"


class ShareOpened(Fact):
    """A recipient has opened their bucket for the first time; id is a BucketId."""

    subject = "share.opened.v1"


class ShareBlocked(Fact):
    """Five wrong codes in succession have blocked a bucket; id is a BucketId (A41)."""

    subject = "share.blocked.v1"


class ShareRevoked(Fact):
    """A bucket was ended by hand, or with the share it came from; id is a BucketId."""

    subject = "share.revoked.v1"


class ShareExpired(Fact):
    """The last day of a bucket has passed; id is a BucketId."""

    subject = "share.expired.v1"


FACTS: dict[str, type[Fact]] = {
    fact.subject: fact
    for fact in (
        GatewayChanged,
        StudyReceived,
        StudyChanged,
        FacilityChanged,
        CasePlaced,
        CaseUndistributed,
        CaseMoved,
        UserChanged,
        SightChanged,
        CaseGrown,
        ReadingChanged,
        CaseDeleted,
        CasePurged,
        ShareCreated,
        ShareOpened,
        ShareBlocked,
        ShareRevoked,
        ShareExpired,
    )
}
"""Every fact by its subject."""

SAYS: dict[str, tuple[type[Fact], ...]] = {
    "ingest": (GatewayChanged, StudyReceived, StudyChanged, CaseDeleted),
    "routing": (FacilityChanged, CasePlaced, CaseUndistributed, CaseMoved, CasePurged),
    "access": (UserChanged, SightChanged, CaseGrown, CasePurged),
    "reporting": (ReadingChanged, CasePurged),
    "sharing": (ShareCreated, ShareOpened, ShareBlocked, ShareRevoked, ShareExpired, CasePurged),
    "notify": (CasePurged,),
}
"""Who says what: the bus takes a fact from nobody else."""

HEARS: dict[str, tuple[type[Fact], ...]] = {
    "ingest": (CasePurged,),
    "routing": (StudyReceived, StudyChanged, CaseDeleted),
    "access": (
        StudyReceived,
        StudyChanged,
        CasePlaced,
        CaseUndistributed,
        CaseMoved,
        FacilityChanged,
        ReadingChanged,
        CaseDeleted,
    ),
    "reporting": (CaseDeleted,),
    "sharing": (CaseDeleted,),
    "notify": (ShareCreated, ShareRevoked, ShareExpired, UserChanged, CaseDeleted),
}
"""Who hears what: the bus gives a fact to nobody else. Nobody hears what they say themselves."""


def wire_subject(subject: str, sayer: str) -> str:
    """The subject under which a service says the fact with this subject."""
    return f"{subject}.{sayer}" if FACTS[subject].names_sayer else subject


def fact_of(wire_subject: str) -> tuple[str, str]:
    """The fact's own subject, and the sayer whom a subject on the wire names; empty where it names nobody."""
    subject, _, sayer = wire_subject.rpartition(".")
    if subject in FACTS and FACTS[subject].names_sayer:
        return subject, sayer
    return wire_subject, ""


def heard_subjects(facts: Collection[type[Fact]]) -> list[str]:
    """The subjects on the wire of these facts; also without sayer, as the version before said them."""
    sayers = [(fact, service) for service, said in SAYS.items() for fact in said if fact in facts]
    return sorted({fact.subject for fact in facts} | {wire_subject(f.subject, each) for f, each in sayers})
