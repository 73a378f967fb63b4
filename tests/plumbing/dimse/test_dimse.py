"""The receive path against independent senders: what arrives, what is answered."""

import asyncio
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom._uid_dict import UID_dictionary
from pynetdicom import AE
from pynetdicom.pdu_primitives import (
    AsynchronousOperationsWindowNegotiation,
    SCP_SCU_RoleSelectionNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.presentation import AllStoragePresentationContexts, build_context

from demo.dicom_files import CATALOGUE, WHEEL, SyntheticCT
from plumbing.dimse import AssociationRequest, FewNames, Limits, Refused, Rejected
from plumbing.dimse.negotiation import STORAGE_CLASSES, TRANSFER_SYNTAXES, write_proposal
from tests.ingest.objects import CT, a_ct
from tests.ingest.system import DicomObject, store_object
from tests.plumbing.dimse.peers import (
    EXPLICIT,
    FIND,
    IMPLICIT,
    VERIFICATION,
    ByHand,
    Listening,
    command_set,
    listening,
    rejection,
    text,
)
from tests.plumbing.dimse.test_items import context
from tests.plumbing.dimse.test_odd_requests import request, user
from tests.wait import eventually

PRIVATE = "1.3.12.2.1107.5.9.1"
"""A vendor's class of raw data."""

# What arrives


def test_every_kind_of_object_arrives_as_it_was_sent(secured: Listening) -> None:
    objects = [DicomObject.of(sample.path) for sample in CATALOGUE]
    assert [sent.status for sent in secured.sender().store_objects(*objects)] == [0] * len(objects)
    assert [(command.transfer_syntax_uid, digest) for command, digest, _ in secured.stored] == [
        (each.transfer_syntax_uid, hashlib.sha256(each.data).hexdigest()) for each in objects
    ]
    assert secured.requests[0].certificate_der is not None


def test_echo(secured: Listening) -> None:
    with secured.sender().association([(VERIFICATION, IMPLICIT)]) as association:
        assert association.send_c_echo().Status == 0


def test_every_storage_class_and_transfer_syntax_is_accepted(plain: Listening) -> None:
    classes = [str(context.abstract_syntax) for context in AllStoragePresentationContexts]
    patients = [uid for uid in classes if uid in STORAGE_CLASSES]
    assert len(patients) >= 160
    for start in range(0, len(patients), 128):
        with plain.sender().association([(uid, EXPLICIT) for uid in patients[start : start + 128]]) as opened:
            assert len(opened.accepted_contexts) == len(patients[start : start + 128])
    with plain.sender().association([(CT, uid) for uid in sorted(TRANSFER_SYNTAXES)]) as opened:
        assert {c.transfer_syntax[0] for c in opened.accepted_contexts} == TRANSFER_SYNTAXES


def test_nothing_of_the_registry_is_missed_that_can_be_stored() -> None:
    """What the libraries offer publicly is less than PS3.6 A lists; what is added by hand completes it."""
    syntaxes = {uid for uid, (_, kind, *_) in UID_dictionary.items() if kind == "Transfer Syntax"}
    no_data_sets = ("1.2.840.10008.1.2.6.", "1.2.840.10008.1.2.7.", "1.2.840.10008.1.20")
    classes = {
        uid for uid, (name, kind, *_) in UID_dictionary.items() if kind == "SOP Class" and "Storage" in name
    }
    of_no_patient = ("1.2.840.10008.5.1.4.1.1.200.", "1.2.840.10008.5.1.4.1.1.201.")

    assert {uid for uid in syntaxes if not uid.startswith(no_data_sets)} == TRANSFER_SYNTAXES
    stored = {uid for uid in classes if uid.startswith("1.2.840.10008.5.1.4.1.1.")}
    assert {uid for uid in stored if not uid.startswith(of_no_patient)} <= STORAGE_CLASSES


def test_old_classes_are_accepted_and_foreign_ones_are_not(plain: Listening) -> None:
    retired_ultrasound, hanging_protocol = "1.2.840.10008.5.1.4.1.1.6", "1.2.840.10008.5.1.4.38.1"
    with plain.sender().association(
        [(retired_ultrasound, EXPLICIT), (FIND, EXPLICIT), (hanging_protocol, EXPLICIT), (CT, "1.2.3.5")]
    ) as opened:
        assert [c.abstract_syntax for c in opened.accepted_contexts] == [retired_ultrasound]
        rejected = [(CT, 4), (FIND, 3), (hanging_protocol, 3)]
        assert sorted((c.abstract_syntax, c.result) for c in opened.rejected_contexts) == rejected
    (request,) = plain.requests
    assert sorted((c.abstract_syntax_uid, c.result) for c in request.refused_contexts) == rejected


@pytest.mark.parametrize("wanted", [True, False])
def test_classes_of_vendors_are_stored_where_that_is_wanted(wanted: bool) -> None:
    with listening(private_classes=wanted) as handler:
        proposed = [(CT, EXPLICIT), (PRIVATE, EXPLICIT)]
        with handler.sender().association(proposed) as opened:
            accepted = [c.abstract_syntax for c in opened.accepted_contexts]
        assert accepted == [CT, PRIVATE] if wanted else [CT]


def test_a_class_of_a_vendor_serves_nothing_but_storage(plain: Listening) -> None:
    peer = ByHand(plain.port, associate=False)
    peer.socket.sendall(write_proposal("CT1", "READROOM", [(PRIVATE, EXPLICIT)], None))
    assert peer.pdu()[0] == 0x02
    peer.command(0x0020, sop_class=PRIVATE).fragment(b"x", command=False)  # C-FIND
    assert peer.status() == 0x0211
    peer.command(0x0030, sop_class=PRIVATE, data_set=0x0101)  # C-ECHO
    assert peer.status() == 0x0122
    peer.command(0x0001, sop_class=PRIVATE).fragment(b"data", command=False)
    assert peer.status() == 0
    peer.close()


def test_a_class_that_is_no_uid_is_not_stored(plain: Listening) -> None:
    peer = ByHand(plain.port, associate=False)
    spoilt = [context(2 * n + 1, uid, [EXPLICIT]) for n, uid in enumerate(("../1.2", "1.2.840.10008", ""))]
    peer.socket.sendall(request(*spoilt, user()))
    assert peer.pdu()[0] == 0x02
    assert [each.known_class for each in plain.requests[0].refused_contexts] == [False] * 3
    peer.close()


def test_labels_of_a_metric_are_few() -> None:
    names = FewNames()
    labels = {names.named(f"1.2.3.{number}") for number in range(1_000)}
    assert len(labels) == 201
    assert names.named("1.2.3.5") == "1.2.3.5"
    assert names.named("no uid") == names.OTHERS


@pytest.mark.parametrize(
    ("proposed", "chosen"),
    [
        ([IMPLICIT, EXPLICIT], EXPLICIT),
        (["1.2.840.10008.1.2.4.90", IMPLICIT], "1.2.840.10008.1.2.4.90"),
        (["1.2.3", "1.2.840.10008.1.2.2", EXPLICIT], "1.2.840.10008.1.2.2"),
        ([IMPLICIT, "1.2.840.10008.1.2.4.50"], IMPLICIT),
    ],
)
def test_of_several_transfer_syntaxes_the_senders_first_is_taken(
    plain: Listening, proposed: list[str], chosen: str
) -> None:
    ae = AE("CT1")
    association = ae.associate("127.0.0.1", plain.port, [build_context(CT, proposed)], ae_title="READROOM")
    assert [c.transfer_syntax for c in association.accepted_contexts] == [[chosen]]
    association.release()


def test_the_user_identity_is_read_and_what_is_optional_is_passed_over(plain: Listening) -> None:
    ae = AE("CT1")
    identity = UserIdentityNegotiation()
    identity.user_identity_type = 1
    identity.primary_field = b"0190-a-transfer"
    identity.positive_response_requested = True
    role = SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid, role.scu_role, role.scp_role = CT, True, True
    window = AsynchronousOperationsWindowNegotiation()
    window.maximum_number_operations_invoked = window.maximum_number_operations_performed = 8
    association = ae.associate(
        "127.0.0.1",
        plain.port,
        [build_context(CT, EXPLICIT)],
        ae_title="READROOM",
        ext_neg=[identity, role, window],
    )
    assert association.is_established
    assert association.acceptor.user_identity is not None
    (request,) = plain.requests
    assert (request.transfer_id, request.calling_ae_title) == ("0190-a-transfer", "CT1")
    association.release()


async def test_how_an_association_ended_is_told(plain: Listening) -> None:
    with plain.sender().association([(VERIFICATION, IMPLICIT)]):
        pass
    await eventually(lambda: plain.ends == ["released"])
    with plain.sender().association([(VERIFICATION, IMPLICIT)]) as association:
        association.abort()
    await eventually(lambda: plain.ends == ["released", "aborted"])
    ByHand(plain.port).close()
    await eventually(lambda: plain.ends == ["released", "aborted", "lost"])


async def test_what_was_not_received_to_its_end_is_discarded(plain: Listening) -> None:
    peer = ByHand(plain.port)
    peer.command(0x0001)
    peer.fragment(b"a part", command=False, last=False)
    await eventually(lambda: plain.chunks == 1)
    peer.close()
    await eventually(lambda: plain.ends == ["lost"])
    assert (plain.discarded, plain.stored) == (1, [])


# What is answered


def test_a_failed_handler_never_answers_success(plain: Listening) -> None:
    def fail(error: Exception) -> Callable[..., Any]:
        def raise_(*_: object) -> Any:
            raise error

        return raise_

    statuses = []
    for error in (Refused(0xA700, "full"), OSError("x"), Refused(0x0000, "not a refusal")):
        for step in ("begin", "write", "finish"):
            usual = getattr(plain, step)
            setattr(plain, step, fail(error))
            with plain.sender().association([(CT, EXPLICIT)]) as association:
                failed = store_object(association, a_ct())
                setattr(plain, step, usual)
                # The association lives on.
                assert store_object(association, a_ct()).status == 0
            statuses.append((failed.status, failed.comment))
    assert statuses == [(0xA700, "full")] * 3 + [(0x0110, "processing failure")] * 6
    assert plain.discarded == 3  # after each failed write, and only then


def test_the_answer_of_the_sink_is_sent(plain: Listening) -> None:
    plain.finish = lambda command: (0xB000, "coerced " * 20)
    (sent,) = plain.sender().store_objects(a_ct())
    assert (sent.status, sent.comment) == (0xB000, ("coerced " * 20)[:64].strip())


def test_a_failing_judge_rejects_for_now(plain: Listening) -> None:
    def raise_(request: AssociationRequest) -> None:
        raise RuntimeError

    plain.judge = raise_
    assert rejection(plain.port) == (2, 3, 1)


@pytest.mark.proves("SEC-2", part="rejections carry their reason")
async def test_rejections_carry_their_reason_and_are_told(plain: Listening) -> None:
    def judge(request: AssociationRequest) -> None:
        raise Rejected(1, 1, 3, "nobody knows you")

    assert rejection(plain.port, called="OTHER") == (1, 1, 7)
    await eventually(lambda: plain.refusals)  # each is told by a thread of its own
    plain.judge = judge
    assert rejection(plain.port) == (1, 1, 3)
    await eventually(
        lambda: (
            plain.refusals
            == [
                ("association", "nobody here is called `OTHER`"),
                ("association", "nobody knows you"),
            ]
        )
    )
    assert {each.calling_ae_title for each in plain.refused_connections} == {"CT1"}


def test_what_is_not_served_is_refused_and_the_association_lives(by_hand: Callable[..., ByHand]) -> None:
    peer = by_hand()
    refused: dict[str, tuple[dict[str, Any], int]] = {
        "an unknown operation": ({"command_field": 0x0020, "data_set": 1}, 0x0211),
        "an operation without data": ({"command_field": 0x0150, "data_set": 0x0101}, 0x0211),
        "a store without data": ({"command_field": 0x0001, "data_set": 0x0101}, 0x0212),
        "another class than the context's": ({"command_field": 0x0001, "sop_class": "1.2.3"}, 0x0122),
        "a context that was rejected": (
            {"command_field": 0x0001, "sop_class": FIND, "context": 5},
            0x0122,
        ),
        "a store of verification": (
            {"command_field": 0x0001, "sop_class": VERIFICATION, "context": 3},
            0x0122,
        ),
        "an echo where images go": ({"command_field": 0x0030, "data_set": 0x0101}, 0x0122),
    }
    for name, (command, status) in refused.items():
        peer.command(**command)
        if command.get("data_set", 1) != 0x0101:
            peer.fragment(b"dropped", command=False, context=command.get("context", 1))
        assert peer.status() == status, name
    peer.command(0x0001)
    peer.fragment(b"kept", command=False)
    assert peer.status() == 0


@pytest.mark.proves("SEC-4", part="UIDs are matched before any use")
@pytest.mark.parametrize("uid", ["../../etc/passwd", "1.2.3/4", "", "1" * 65, "1.2.x", "1.2\n3"])
def test_an_instance_uid_that_is_none_never_reaches_the_sink(
    plain: Listening, by_hand: Callable[..., ByHand], uid: str
) -> None:
    peer = by_hand()
    peer.command(0x0001, instance=uid)
    peer.fragment(b"dropped", command=False)
    assert peer.status() == 0x0117
    assert plain.stored == []


def test_a_cancel_is_passed_over(by_hand: Callable[..., ByHand]) -> None:
    peer = by_hand()
    cancel = {0x0100: b"\xff\x0f", 0x0120: b"\1\0", 0x0800: b"\1\1"}
    peer.fragment(command_set(cancel), command=True)
    peer.command(0x0001)
    peer.fragment(b"kept", command=False)
    assert peer.status() == 0


def test_a_command_may_come_in_pieces_and_an_empty_fragment_may_end_it(
    plain: Listening, by_hand: Callable[..., ByHand]
) -> None:
    peer = by_hand()
    store = command_set(
        {0x0002: text(CT), 0x0100: b"\1\0", 0x0110: b"\1\0", 0x0800: b"\1\0", 0x1000: text("1.2.3")}
    )
    for byte in store:
        peer.fragment(bytes([byte]), command=True, last=False)
    peer.fragment(b"", command=True)
    peer.fragment(b"da", command=False, last=False)
    peer.fragment(b"ta", command=False, last=False)
    peer.fragment(b"", command=False)
    assert peer.status() == 0
    assert plain.stored[0][1] == hashlib.sha256(b"data").hexdigest()


def test_a_data_set_over_the_limit_is_read_and_refused() -> None:
    with listening(limits=Limits(max_data_set_bytes=10_000)) as handler:
        with handler.sender().association([(CT, EXPLICIT)]) as association:
            assert store_object(association, a_ct(pixels=bytes(20_000))).status == 0xC000
            assert store_object(association, a_ct()).status == 0
        assert handler.discarded == 1


# Other people's senders and speed


STORESCU = next(
    (path for folder in ("/usr/bin", "/usr/local/bin") if (path := shutil.which("storescu", path=folder))),
    None,
)


@pytest.mark.skipif(STORESCU is None, reason="DCMTK's storescu is not installed")
@pytest.mark.parametrize("tuned", [True, False], ids=["TCP_NODELAY", "as shipped"])
async def test_dcmtk_sends(secured: Listening, tmp_path: Path, tuned: bool) -> None:
    assert STORESCU is not None
    assert secured.tls is not None
    paths = SyntheticCT(slices=40, size=256).write(tmp_path / "ct")
    tls = ["+tls", *map(str, (secured.tls.key, secured.tls.certificate)), "+cf", str(secured.tls.ca)]
    who = ["-xe", "-aet", "CT1", "-aec", "READROOM", "localhost", str(secured.port)]
    await asyncio.to_thread(
        subprocess.run,
        [STORESCU, *tls, *who, *map(str, paths)],
        env={**os.environ, **({"TCP_NODELAY": "1"} if tuned else {})},
        check=True,
        capture_output=True,
        timeout=60,
    )
    assert len(secured.stored) == 40
    await eventually(lambda: secured.ends == ["released"])


COMPRESSED = {"-xr": "SC_rgb_rle_2frame.dcm", "-xv": "examples_jpeg2k.dcm", "-xy": "examples_ybr_color.dcm"}
"""What tells storescu to propose the transfer syntax of a file."""


@pytest.mark.skipif(STORESCU is None, reason="DCMTK's storescu is not installed")
@pytest.mark.parametrize("pdu_bytes", [4 * 1024, 128 * 1024])
async def test_dcmtk_sends_compressed_objects_in_pdus_of_any_size(plain: Listening, pdu_bytes: int) -> None:
    """With storescu and dcmsend; echoscu asks first."""
    where = ["-aet", "CT1", "-aec", "READROOM", "localhost", str(plain.port)]
    sizes = ["--max-pdu", str(pdu_bytes), "--max-send-pdu", str(pdu_bytes)]
    files = {option: str(WHEEL / name) for option, name in COMPRESSED.items()}
    commands = [
        ["echoscu", "--max-pdu", str(pdu_bytes), *where],
        *(["storescu", "-R", option, *sizes, *where, file] for option, file in files.items()),
        ["dcmsend", "--decompress-never", *sizes, *where, *files.values()],
    ]
    for command in commands:
        await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True, timeout=60)
    syntaxes = [DicomObject.of(Path(file)).transfer_syntax_uid for file in files.values()]
    assert sorted(command.transfer_syntax_uid for command, _, _ in plain.stored) == sorted(2 * syntaxes)
    await eventually(lambda: set(plain.ends) == {"released"})
