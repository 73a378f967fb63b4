"""What an instance is refused for, by whoever asks."""

import pytest

from kernel.filing import CannotBeFiled, Examination, Fault
from tests.ingest.objects import a_ct, element
from tests.ingest.system import DicomObject

EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
ICON = (
    b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    + element(0x7FE0_0010, "OW", b"\1\2")
    + b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
)
"""A sequence of undefined length with pixels in it."""


def examine(sending: DicomObject) -> None:
    examination = Examination(sending.sop_class_uid, sending.sop_instance_uid, EXPLICIT_LITTLE)
    examination.feed(sending.data)
    examination.finish()
    examination.identify()


def test_a_whole_instance_is_filed() -> None:
    examine(a_ct())


@pytest.mark.parametrize("tag", [0x0020_000D, 0x0020_000E])
@pytest.mark.parametrize("uid", ["", "1." + "3" * 68, "1. 2.3", "1.2/3"])
def test_study_and_series_need_a_uid(tag: int, uid: str) -> None:
    with pytest.raises(CannotBeFiled) as refused:
        examine(a_ct(more={tag: ("UI", uid)}))
    assert refused.value.fault is Fault.UNINDEXABLE


def test_an_indexed_element_has_one_value() -> None:
    whole = a_ct()
    twice = element(0x0010_0010, "PN", "Other^Name") + whole.data
    with pytest.raises(CannotBeFiled) as refused:
        examine(DicomObject(twice, whole.sop_class_uid, whole.sop_instance_uid))
    assert refused.value.fault is Fault.MALFORMED


def test_what_is_indexed_has_come_with_the_first_element_behind_it() -> None:
    """An element within a sequence says nothing of how far the data set has come."""
    sending = a_ct()
    name = sending.data.index(element(0x0010_0010, "PN", "")[:4])
    data = sending.data[:name] + ICON + sending.data[name:]
    pixels = data.rindex(element(0x7FE0_0010, "OW", b"")[:4])
    examination = Examination(sending.sop_class_uid, sending.sop_instance_uid, EXPLICIT_LITTLE)
    for end in range(len(data)):
        examination.feed(data[end : end + 1])
        if examination.has_all_that_is_indexed:
            break
    assert pixels < end < pixels + 12
    examination.identify()
