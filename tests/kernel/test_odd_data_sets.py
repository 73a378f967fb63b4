"""What devices write that is not quite PS3.5 is read, and noted; the same bytes go to DCMTK and Orthanc."""

import struct
from itertools import pairwise

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.dataset import MAX_NOTES
from kernel.filing import CannotBeFiled, Examination, Fault
from plumbing.dimse.negotiation import STORAGE_CLASSES
from tests.ingest.objects import CT, element
from tests.kernel.test_dataset import FILES, data_set
from tests.odd_data_sets import (
    ITEM,
    SEQUENCE_END,
    TAKEN,
    UNDEFINED,
    Odd,
    delimiter,
    sequence,
    short,
    store,
    undefined,
    without_vr,
)
from tests.peers import Peer

KEPT_TOO = {
    "the end of a sequence outside": delimiter(SEQUENCE_END),
    "an item outside": delimiter(ITEM, 4) + b"abcd",
    "an element between items": sequence(short(b"LO") + delimiter(SEQUENCE_END)),
    "zeros between items": sequence(delimiter(ITEM) + bytes(8) + delimiter(SEQUENCE_END)),
    "an item without its end": sequence(delimiter(ITEM, UNDEFINED) + delimiter(SEQUENCE_END)),
    "text without length": undefined(0x0040_4000, "UT", b"abcd"),
}
"""DCMTK ends the association at these; once an instance can be filed they are no reason to lose it."""


def examined(odd: Odd, cuts: list[int] | None = None) -> Examination:
    uid, data = odd.made()
    examination = Examination(CT, uid, odd.transfer_syntax_uid)
    for start, stop in pairwise([0, *sorted(min(cut, len(data)) for cut in cuts or []), len(data)]):
        examination.feed(data[start:stop])
    examination.identify()
    examination.finish()
    return examination


@pytest.mark.proves("BEY-7", part="an odd data set that can be filed is kept, and noted")
@pytest.mark.parametrize("name", TAKEN)
def test_what_two_peers_store_can_be_filed(name: str) -> None:
    assert examined(TAKEN[name]).notes == TAKEN[name].notes


def test_the_peers_store_it(peer: Peer) -> None:
    refused = [
        name for name, odd in TAKEN.items() if store(peer.port, odd.made(), odd.transfer_syntax_uid) != 0
    ]
    assert refused == []


@pytest.mark.filterwarnings("ignore:Expected explicit VR")
def test_what_is_refused_of_pydicoms_objects_the_peers_refuse_too(peer: Peer) -> None:
    refused_here, taken_there = 0, []
    for path in FILES:
        meta = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=[]).file_meta
        sop_class = str(meta.get("MediaStorageSOPClassUID", ""))
        if sop_class not in STORAGE_CLASSES:
            continue
        data, syntax = data_set(path)
        made = str(meta.MediaStorageSOPInstanceUID), data
        try:
            examination = Examination(sop_class, made[0], syntax)
            examination.feed(data)
            examination.finish()
            examination.identify()
        except CannotBeFiled as unfit:
            if unfit.fault is not Fault.UNINDEXABLE:  # nobody could find it again
                refused_here += 1
                if store(peer.port, made, syntax, sop_class=sop_class) == 0:
                    taken_there.append(path.name)
    assert refused_here > 5
    assert taken_there == []


@pytest.mark.parametrize("name", KEPT_TOO)
def test_behind_what_files_it_nothing_is_malformed(name: str) -> None:
    assert examined(Odd((), late=KEPT_TOO[name])).notes
    with pytest.raises(CannotBeFiled) as refused:
        examined(Odd((), front=KEPT_TOO[name]))
    assert refused.value.fault is Fault.MALFORMED


CUT = {
    "a value that is cut": element(0x7FE1_0010, "OB", bytes(100))[:-2],
    "half a header": element(0x7FE1_0010, "OB", bytes(100))[:6],
    "one zero, perhaps of the next group": b"\0",
    "a sequence without its end": sequence(delimiter(ITEM)),
    "fragments without their end": undefined(0x7FE1_0010, "OB", delimiter(ITEM) + delimiter(ITEM, 2) + b"ab"),
}


@pytest.mark.parametrize("name", CUT)
def test_what_is_cut_is_refused_all_the_same(name: str) -> None:
    with pytest.raises(CannotBeFiled) as refused:
        examined(Odd((), behind=CUT[name]))
    assert refused.value.fault is Fault.TRUNCATED


def test_of_two_values_nobody_knows_the_right_one() -> None:
    other = element(0x0010_0010, "PN", "Other^Name")
    for odd in (Odd((), early=other), Odd((), late=other)):
        with pytest.raises(CannotBeFiled) as refused:
            examined(odd)
        assert refused.value.fault is Fault.MALFORMED


def test_what_stands_behind_an_odd_element_is_indexed() -> None:
    """No VR, or `??`: the mapping tag behind it is found."""
    tag = 0x0038_0300
    for oddity in (without_vr(length=300), short(b"??"), short(b"\0\0", bytes(500))):
        values = examined(Odd((), late=oddity + element(tag, "LO", "WARD 3")))
        assert values.finish()[tag] == b"WARD 3"


def test_a_whole_data_set_in_implicit_vr_is_read_where_explicit_was_agreed() -> None:
    elements = {0x0008_0016: CT, 0x0008_0018: "1.2.3", 0x0020_000D: "1.2.4", 0x0020_000E: "1.2.5"}
    data = b"".join(
        struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value
        for tag, value in ((tag, text.encode() + b"\0" * (len(text) % 2)) for tag, text in elements.items())
    )
    examination = Examination(CT, "1.2.3", "1.2.840.10008.1.2.1")
    examination.feed(data + struct.pack("<HHL", 0x7FE0, 0x0010, 600) + bytes(600))
    examination.finish()
    assert examination.identify().study_instance_uid == "1.2.4"
    assert len(examination.notes) == 5


def test_notes_are_few() -> None:
    many = b"".join(struct.pack("<HH2sH", 0x0029, 0x1000 + n, b"??", 0) for n in range(500))
    assert len(examined(Odd((), late=many)).notes) == MAX_NOTES


@given(st.sampled_from(sorted(TAKEN)), st.lists(st.integers(0, 700), max_size=12))
def test_chunks_change_no_note(name: str, cuts: list[int]) -> None:
    assert examined(TAKEN[name], cuts).notes == TAKEN[name].notes


@given(st.binary(max_size=60), st.lists(st.integers(0, 700), max_size=4))
def test_whatever_stands_behind_is_kept_or_refused(noise: bytes, cuts: list[int]) -> None:
    fault = None
    try:
        examined(Odd((), behind=noise), cuts)
    except CannotBeFiled as refused:
        fault = refused.fault
    assert fault in {None, Fault.TRUNCATED, Fault.MALFORMED, Fault.EXCESSIVE}
