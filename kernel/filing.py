"""What must be right about an instance before it can be filed: one table of checks for whoever acknowledges.

The gateway asks before it answers the modality, and ingest before it files. So a modality is never told that
something is kept which Central server would refuse for good: it may delete what was acknowledged.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from enum import StrEnum
from typing import NamedTuple

from kernel.dataset import DataSetWalk, Excessive, Malformed, Octets
from kernel.dicom import INDEXED_ATTRIBUTES, UID, parse_uid
from kernel.errors import Invalid

SPECIFIC_CHARACTER_SET = 0x0008_0005
SOP_CLASS_UID = 0x0008_0016
SOP_INSTANCE_UID = 0x0008_0018
STUDY_INSTANCE_UID = 0x0020_000D
SERIES_INSTANCE_UID = 0x0020_000E

_IDENTITY = {SOP_CLASS_UID, SOP_INSTANCE_UID, STUDY_INSTANCE_UID, SERIES_INSTANCE_UID}
_WANTED = frozenset({SPECIFIC_CHARACTER_SET, *_IDENTITY, *(a.tag for a in INDEXED_ATTRIBUTES)})
_LAST_WANTED = max(_WANTED)


class Fault(StrEnum):
    """Why an instance cannot be filed."""

    DATA_SET_MISMATCH = "data set mismatch"
    MALFORMED = "malformed"
    TRUNCATED = "truncated"
    UNINDEXABLE = "unindexable"
    EXCESSIVE = "excessive"


STATUS: Mapping[Fault, tuple[int, str]] = {
    # PS3.4 table B.2-1: error, data set does not match SOP class (A9xx).
    Fault.DATA_SET_MISMATCH: (0xA900, "SOP class or instance UID differs from the command"),
    # PS3.4 table B.2-1: error, cannot understand (Cxxx); the last three digits are ours.
    Fault.MALFORMED: (0xC001, "the data set is malformed"),
    Fault.TRUNCATED: (0xC002, "the data set is truncated"),
    Fault.UNINDEXABLE: (0xC003, "no valid study or series instance UID"),
    Fault.EXCESSIVE: (0xC004, "too many elements, or inflates too far"),
}
"""Status and Error Comment (at most 64 characters, VR LO) of a C-STORE."""


class CannotBeFiled(Invalid):
    """The instance is refused for good: the same bytes fail again."""

    def __init__(self, fault: Fault, detail: str = "") -> None:
        """`detail`: where it is wrong, without values."""
        super().__init__(STATUS[fault][1])
        self.fault = fault
        self.detail = detail
        self.status, self.comment = STATUS[fault]


class Identity(NamedTuple):
    """The UIDs of an instance, as command and data set agree on them."""

    sop_class_uid: UID
    sop_instance_uid: UID
    study_instance_uid: UID
    series_instance_uid: UID
    transfer_syntax_uid: UID


class Layout(NamedTuple):
    """Where things are in a data set, inflated; see `dataset.Elements`."""

    head_length: int | None = None
    pixel_offset: int | None = None


UNKNOWN_LAYOUT = Layout()


class Examination:
    """Examines one instance while its bytes pass; every method raises CannotBeFiled.

    Attributes:
        layout: known once the data set is whole.
    """

    def __init__(
        self,
        sop_class_uid: str,
        sop_instance_uid: str,
        transfer_syntax_uid: str,
        *,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        """The UIDs are what the command announced; `meanwhile` as in `DataSetWalk`."""
        self._announced = (sop_class_uid, sop_instance_uid)
        self._transfer_syntax_uid = transfer_syntax_uid
        self.layout = UNKNOWN_LAYOUT
        self._walk = DataSetWalk(transfer_syntax_uid, _WANTED, enough=_IDENTITY, meanwhile=meanwhile)

    def feed(self, chunk: Octets) -> None:
        """Takes the next bytes."""
        try:
            self._walk.feed(chunk)
        except Excessive as error:
            raise CannotBeFiled(Fault.EXCESSIVE, error.sentence) from error
        except Malformed as error:
            raise CannotBeFiled(Fault.MALFORMED, error.sentence) from error

    @property
    def has_identity(self) -> bool:
        """Whether everything that identifies the instance has come."""
        return self._walk.values.keys() >= _IDENTITY

    @property
    def has_all_that_is_indexed(self) -> bool:
        """Whether nothing that is indexed can follow: it has come to an element behind all of that."""
        return self._walk.reached > _LAST_WANTED

    @property
    def values(self) -> Mapping[int, bytes]:
        """The raw values of what is indexed, as far as it has come."""
        return self._walk.values

    @property
    def notes(self) -> tuple[str, ...]:
        """How it is not quite DICOM, though it can be filed; no values."""
        return self._walk.notes

    @property
    def study_instance_uid(self) -> UID | None:
        """The Study Instance UID, as far as it has come and is one; also of what cannot be filed."""
        with suppress(Invalid):
            return parse_uid(self._uid(STUDY_INSTANCE_UID), "study_instance_uid")
        return None

    def identify(self) -> Identity:
        """The identity, from what has come so far."""
        if (self._uid(SOP_CLASS_UID), self._uid(SOP_INSTANCE_UID)) != self._announced:
            raise CannotBeFiled(Fault.DATA_SET_MISMATCH)
        try:
            return Identity(
                UID(self._announced[0]),
                UID(self._announced[1]),
                parse_uid(self._uid(STUDY_INSTANCE_UID), "study_instance_uid"),
                parse_uid(self._uid(SERIES_INSTANCE_UID), "series_instance_uid"),
                UID(self._transfer_syntax_uid),
            )
        except Invalid as error:
            raise CannotBeFiled(Fault.UNINDEXABLE) from error

    def finish(self) -> Mapping[int, bytes]:
        """The raw values of all that is indexed, by tag, once the data set is whole."""
        try:
            found = self._walk.finish()
        except Malformed as error:
            raise CannotBeFiled(Fault.TRUNCATED, error.sentence) from error
        self.layout = Layout(found.head_length, found.pixel_offset)
        return found.values

    def _uid(self, tag: int) -> str:
        return self._walk.values.get(tag, b"").strip(b"\0 ").decode("ascii", "replace")
