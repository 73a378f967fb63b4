"""`python -m tests.ingest.fuzzing`: spoils what hospitals and viewers send, looks for what nobody expects.

Each target has seeds, spoils them at random, and knows which answers are words. Anything else is a finding:
it is printed with the bytes that caused it, and the exit code is 1. A finding becomes a test.
"""

import argparse
import io
import random
import sys
import tarfile
import time
import zlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple
from uuid import UUID

from kernel.dicom import AETitle
from kernel.filing import CannotBeFiled, Examination
from kernel.ids import FacilityId, GatewayId, StudyId, TransferId
from plumbing.dimse.commands import MalformedCommand, read_command, read_response, write_store
from plumbing.dimse.items import Unreadable, read_acceptance, read_request
from plumbing.dimse.negotiation import write_proposal
from services.ingest.domain import Label, Sender
from services.ingest.packformat import HEADER_LENGTH, header
from tests.ingest import fuzzing_web
from tests.ingest.objects import CT, a_ct
from tests.ingest.system import DicomObject

EXPLICIT, IMPLICIT, DEFLATED = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99"
LONGEST = 20_000  # bytes of a spoilt seed
AE_CHARACTERS = "".join(map(chr, range(0x20, 0x7F))).replace("\\", "")


class Target(NamedTuple):
    """What is tried; it answers the bytes of a finding, or none."""

    name: str
    try_once: Callable[[random.Random], bytes]


def spoilt(seed: bytes, chance: random.Random) -> bytes:
    """The bytes with some of them changed, doubled, moved or cut off."""
    data = bytearray(seed)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(5):
            case 0 if at < len(data):
                data[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
            case 1:
                del data[at : at + chance.choice((1, 2, 4, 8, 100))]
            case 2:
                data[at:at] = chance.randbytes(chance.choice((1, 2, 4, 8)))
            case 3:
                data[at : at + 4] = chance.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xfe\xff\x00\xe0"))
            case _:
                begin = chance.randrange(len(data) + 1)
                data[at:at] = data[begin : begin + chance.choice((4, 8, 64))]
    return bytes(data[:LONGEST])


def requests(chance: random.Random) -> bytes:
    """A-ASSOCIATE-RQ and -AC (PS3.8 9.3.2, 9.3.3)."""
    contexts = [(CT, EXPLICIT), (CT, IMPLICIT)]
    body = spoilt(write_proposal("CT1", "READROOM", contexts, "a transfer")[6:], chance)
    for read in (read_request, read_acceptance):
        try:
            read(memoryview(body))
        except Unreadable:
            pass
        except Exception:
            return body
    return b""


def command_sets(chance: random.Random) -> bytes:
    """Command sets (PS3.7 6.3.1)."""
    body = spoilt(write_store(7, CT, "1.2.3"), chance)
    for read in (read_command, read_response):
        try:
            read(body)
        except MalformedCommand:
            pass
        except Exception:
            return body
    return b""


def data_sets(chance: random.Random) -> bytes:
    """The walk over a data set: in whatever pieces it comes, it says the same."""
    seed: DicomObject = a_ct(uid="1.2.3")
    syntax = chance.choice((EXPLICIT, EXPLICIT, IMPLICIT, DEFLATED))
    body = spoilt(seed.data, chance)
    if syntax == DEFLATED:
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        body = deflater.compress(body) + deflater.flush()
        if chance.random() < 0.5:
            body = spoilt(body, chance)

    def outcome(sizes: Sequence[int]) -> object:
        examination = Examination(seed.sop_class_uid, seed.sop_instance_uid, syntax)
        at = 0
        try:
            for size in sizes:
                examination.feed(body[at : at + size])
                at += size
            return dict(examination.finish())
        except CannotBeFiled as refused:
            return refused.fault

    pieces: list[int] = []
    while sum(pieces) < len(body):
        pieces.append(chance.choice((1, 3, 8, 100, 5_000)))
    try:
        return b"" if outcome([len(body)]) == outcome(pieces) else body
    except Exception:
        return body


def pax_headers(chance: random.Random) -> bytes:
    """The header of an entry: whatever a sender is called, a tar reads what was written (docs/packs.md)."""
    title = "".join(chance.choices(AE_CHARACTERS, k=chance.randint(1, 16)))
    now = datetime.fromtimestamp(chance.randrange(1, 2**33), UTC)
    ids = [UUID(bytes=chance.randbytes(16)) for _ in range(4)]
    sender = Sender(
        GatewayId(ids[0]),
        "",
        AETitle(title),
        FacilityId(ids[1]),
        TransferId(ids[2]),
        None,
        now,
        "",
    )
    label = Label(StudyId(ids[3]), sender, now, chance.randbytes(32), quarantined=chance.random() < 0.5)
    size = chance.choice((0, 1, 512, 8**11 - 1))
    written = header(label, size)
    try:
        with tarfile.open(fileobj=io.BytesIO(written)) as tar:
            told = tar.next()
        read = told is not None and (told.size, told.pax_headers["READROOM.calling_ae_title"])
        return b"" if read == (size, title) and len(written) == HEADER_LENGTH else written
    except Exception:
        return written


def of_viewers(target: Callable[[fuzzing_web.Spoil, random.Random], bytes]) -> Target:
    return Target(target.__name__, partial(target, spoilt))


TARGETS: Sequence[Target] = (
    *(Target(each.__name__, each) for each in (requests, command_sets, data_sets, pax_headers)),
    *map(of_viewers, fuzzing_web.TARGETS),
)


def main(minutes: float, seed: int) -> int:
    """Spends so many minutes on each target."""
    found = 0
    for target in TARGETS:
        chance, tried = random.Random(seed), 0
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end:
            tried += 1
            if finding := target.try_once(chance):
                found += 1
                print(f"{target.name}: {finding.hex()}", flush=True)
                if found >= 20:
                    return 1
        print(f"{target.name}: {tried} tried", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--minutes", type=float, default=5)
    arguments.add_argument("--seed", type=int, default=time.time_ns())
    told = arguments.parse_args()
    sys.exit(main(told.minutes, told.seed))
