"""A gateway renews its certificate by itself, and one whose certificate has ended says what to do."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from gateway.identity import RENEWED, Identity
from gateway.settings import load
from kernel.errors import Unavailable
from local.pki import Pki
from plumbing.authority import signing_request
from plumbing.callers import GATEWAY_URI
from plumbing.files import write_private
from plumbing.tls import TLSFiles
from tests.gateway.system import CentralOfTheTest, Gateway, an_identity, digest
from tests.gateway.test_with_ingest import a_gateway
from tests.ingest.objects import a_ct
from tests.ingest.system import HARBOUR, RIVERSIDE, Ingest, Sender, sent_objects
from tests.ingest.test_hostile import rejection
from tests.wait import eventually


@pytest.mark.proves("SEC-2", part="a gateway's certificates, renewed by itself")
async def test_a_gateway_renews_its_certificate_by_itself_and_goes_on_with_it(
    ingest: Ingest, tmp_path: Path
) -> None:
    enrolled = await ingest.enrol("RIVERSIDE", RIVERSIDE, HARBOUR)
    await ingest.rows(
        "update gateway_certificates set signed_at = signed_at - interval '266 days',"
        " ends_at = ends_at - interval '266 days'"
    )
    async with a_gateway(ingest, enrolled, tmp_path / "gateway") as gateway:
        renewed = gateway.folder / "spool" / RENEWED
        await eventually(lambda: "the certificate is renewed" in gateway.log.read_text())
        assert renewed.stat().st_mode & 0o077 == 0
        fingerprint = x509.load_pem_x509_certificate(renewed.read_bytes()).fingerprint(hashes.SHA256()).hex()
        known = await ingest.rows("select certificate_sha256 from gateway_certificates")
        assert fingerprint in {row["certificate_sha256"] for row in known}
        # From now on nothing but the new one counts, as when the first has ended: before a restart and after.
        await ingest.rows("delete from gateway_certificates where certificate_sha256 <> $1", fingerprint)
        await ingest.rows("update gateways set certificate_sha256 = 'ended'")
        assert await rejection(Sender.of(ingest, enrolled)) == [(1, 1, 3)]
        for _ in range(2):
            sending = a_ct()
            await sent_objects(gateway.modality(), sending)
            await eventually(lambda: stored(ingest, sending.sop_instance_uid), within=30)  # noqa: B023
            assert await asyncio.to_thread(gateway.stop) == 0  # ingest runs in this loop, and answers it
            await asyncio.to_thread(gateway.start)
        assert "it is renewed by itself" in gateway.status()


async def stored(ingest: Ingest, sop_instance_uid: str) -> bool:
    return sop_instance_uid in await ingest.stored()


async def test_a_gateway_whose_certificate_has_ended_says_what_to_do(
    tmp_path: Path, pki: Pki, central: CentralOfTheTest
) -> None:
    (tmp_path / "gateway").mkdir()
    long_ago = datetime.now(UTC) - timedelta(days=400)
    ended = an_identity(tmp_path / "gateway", pki, long_ago)
    gateway = Gateway(
        tmp_path / "gateway",
        pki,
        dicom_address=central.address("dicom"),
        gateway_address=central.address("gateways"),
        identity=ended,
    )
    gateway.start()
    try:
        sending = a_ct()
        (answer,) = await sent_objects(gateway.modality(), sending)
        assert answer.status == 0, "what modalities send is kept"
        await eventually(lambda: "the certificate of this gateway ended on" in gateway.log.read_text())
        shown = gateway.status()
        assert (
            f"warning: the certificate of this gateway ended on {long_ago + timedelta(days=398):%Y-%m-%d}"
            in shown
        )
        assert "enrol it anew" in shown
        assert (
            json.loads(gateway.acts("--status", "--json"))["certificate_ends_at"]
            < datetime.now(UTC).isoformat()
        )
        assert gateway.states() != ["done"]
        # It is enrolled anew.
        gateway.kill()
        an_identity(tmp_path / "gateway", pki)
        gateway.start()
        await eventually(lambda: central.digests() == {digest(sending)}, within=30)
        assert "warning: the certificate" not in gateway.status()
    finally:
        gateway.kill()


async def test_what_central_answers_is_shown_only_if_it_is_for_this_gateway_and_its_key(
    gateway: Gateway, pki: Pki
) -> None:
    settings = load(gateway.config)
    settings.spool.mkdir()
    identity = Identity(settings)
    authority = pki.authority("gateway")
    asked: list[str] = []

    async def foreign(request: str) -> str:
        asked.append(request)
        return authority.sign(
            request.encode(), "spiffe://readroom/gateway/another", datetime.now(UTC)
        ).decode()

    async def of_another_key(request: str) -> str:
        asked.append(request)
        (uri,) = identity._shown.uris
        return authority.sign(signing_request()[0], uri, datetime.now(UTC)).decode()

    async def nonsense(request: str) -> str:
        asked.append(request)
        return "nonsense"

    for answer in (foreign, of_another_key, nonsense):
        with pytest.raises(Unavailable, match="not for this gateway's key"):
            await identity.renew(answer)
    assert len(set(asked)) == 1, "the same request, so that a lost answer costs no key"
    assert identity.files == settings.tls
    assert not (settings.spool / RENEWED).exists()


def test_a_renewed_certificate_of_another_gateway_or_none_is_passed_over(gateway: Gateway, pki: Pki) -> None:
    """The gateway was enrolled anew in its old folder, or the file is spoilt: the configured one counts."""
    settings = load(gateway.config)
    settings.spool.mkdir()
    later = datetime.now(UTC) + timedelta(days=200)
    uri = GATEWAY_URI.format(gateway_id="01900000-0000-7000-8000-0000000000b1")
    certificate, key = pki.authority("gateway").issue(uri, [], later)
    for content in (certificate + key, b"nonsense", b""):
        write_private(settings.spool / RENEWED, content)
        assert Identity(settings).files == settings.tls
    (own,) = Identity(settings)._shown.uris
    certificate, key = pki.authority("gateway").issue(own, [], later)
    write_private(settings.spool / RENEWED, certificate + key)
    renewed = settings.spool / RENEWED
    assert Identity(settings).files == TLSFiles(renewed, renewed, settings.ca)
