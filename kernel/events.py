"""The facts: what happened, in the past tense.

A fact is a nudge. It carries an id and the owner's version, never patient data; whoever hears it asks
the owner for the snapshot and writes only what is newer, so a fact that is lost, late, repeated or out
of order is harmless. The subject carries the version of the form: `study.received.v1`.
"""

from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Fact:
    """An id and its owner's version.

    Attributes:
        id: what it is about; its kind follows from the subject.
        version: the owner's version of it at that moment.
    """

    subject: ClassVar[str] = ""

    id: UUID
    version: int


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
    """A user, or what he is compiled from, changed; id is a UserId. Said by access."""

    subject = "user.changed.v1"


class SightChanged(Fact):
    """Who sees a case changed by a grant or a folder; id is a CaseId. Said by access."""

    subject = "sight.changed.v1"


class ReadingChanged(Fact):
    """The lock or the reports of a case are others than before; id is a CaseId. Said by reporting."""

    subject = "reading.changed.v1"


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
        ReadingChanged,
    )
}
"""Every fact by its subject."""
