"""A gateway renews its certificate by itself, and nobody gets one who has none."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from kernel.errors import Denied, Exhausted, Invalid, ReadroomError
from plumbing.authority import CertificateAuthority, signing_request
from plumbing.callers import GATEWAY_URI
from plumbing.files import write_private
from plumbing.tls import TLSFiles
from services.ingest.renewal import RENEWALS_A_DAY
from tests.ingest.objects import a_ct
from tests.ingest.system import ADMIN, EnrolledGateway, Ingest, Sender, sent_objects
from tests.ingest.test_hostile import rejection
from wire.ingest.v1 import ingest_pb2 as pb


async def renew(ingest: Ingest, gateway: EnrolledGateway, request: bytes) -> str:
    asked = pb.RenewCertificateRequest(certificate_request_pem=request.decode())
    answer: pb.RenewCertificateResponse = await ingest.gateway_service(gateway).RenewCertificate(asked)
    return answer.certificate_pem


def showing(gateway: EnrolledGateway, folder: Path, certificate: str, key: bytes) -> EnrolledGateway:
    """The same gateway with another certificate."""
    (folder / "renewed.pem").write_text(certificate)
    write_private(folder / "renewed.key", key)
    tls = TLSFiles(folder / "renewed.pem", folder / "renewed.key", gateway.tls.ca)
    return EnrolledGateway(gateway.gateway_id, gateway.title, tls)


async def is_due(ingest: Ingest, gateway: EnrolledGateway) -> bool:
    answer: pb.HeartbeatResponse = await ingest.gateway_service(gateway).Heartbeat(pb.HeartbeatRequest())
    return answer.renew_certificate


async def age(ingest: Ingest, days: int) -> None:
    """Lets the certificates be so much older, by PostgreSQL's clock."""
    await ingest.rows(
        "update gateway_certificates set signed_at = signed_at - $1 * interval '1 day',"
        " ends_at = ends_at - $1 * interval '1 day'",
        days,
    )


@pytest.mark.proves("SEC-2", part="a gateway's certificates, renewed by itself")
async def test_both_certificates_count_until_the_gateway_is_revoked(ingest: Ingest, tmp_path: Path) -> None:
    gateway, (request, key) = await ingest.enrol(), signing_request()
    assert not await is_due(ingest, gateway)
    certificate = await renew(ingest, gateway, request)
    read = x509.load_pem_x509_certificate(certificate.encode())
    assert (read.not_valid_after_utc - datetime.now(UTC)).days in (397, 398)
    assert await renew(ingest, gateway, request) == certificate, "its first answer may have been lost"
    renewed = showing(gateway, tmp_path, certificate, key)
    for each in (gateway, renewed):
        assert (await sent_objects(Sender.of(ingest, each), a_ct()))[0].status == 0
    (listed,) = (await ingest.acting(ADMIN).ListGateways(pb.ListGatewaysRequest())).gateways
    assert listed.certificate_ends_at.ToDatetime(UTC) == read.not_valid_after_utc
    audited = await ingest.rows("select actor, outcome from audit_rows where action = 'gateway.renewed'")
    assert [(row["actor"], row["outcome"]) for row in audited] == [(f"gateway:{gateway.gateway_id}", "done")]

    await ingest.acting(ADMIN).RevokeGateway(pb.RevokeGatewayRequest(gateway_id=gateway.gateway_id))
    for each in (gateway, renewed):
        assert await rejection(Sender.of(ingest, each)) == [(1, 1, 3)]
        with pytest.raises(Denied, match="revoked"):
            await renew(ingest, each, signing_request()[0])
        with pytest.raises(Denied, match="revoked"):
            await renew(ingest, each, request)  # and what was answered before is not answered again


async def test_two_thirds_of_a_life_are_told_by_the_clock_of_the_cloud(
    ingest: Ingest, tmp_path: Path
) -> None:
    gateway, (request, key) = await ingest.enrol(), signing_request()
    await age(ingest, 265)
    assert not await is_due(ingest, gateway)
    await age(ingest, 1)
    assert await is_due(ingest, gateway)
    certificate = await renew(ingest, gateway, request)
    assert not await is_due(ingest, showing(gateway, tmp_path, certificate, key))
    assert await is_due(ingest, gateway), "whoever still shows the old one has not renewed"
    # The version before enrolled it: it kept nothing but when.
    await ingest.rows("delete from gateway_keys")
    await ingest.rows("delete from gateway_certificates")
    await ingest.rows(
        "update gateways set certificate_ends_at = null, enrolled_at = now() - interval '266 days'"
    )
    assert await is_due(ingest, gateway)


@pytest.mark.proves("SEC-2", part="a gateway's certificates, renewed by itself")
async def test_nobody_gets_a_certificate_with_what_is_not_theirs(ingest: Ingest, tmp_path: Path) -> None:
    gateway, other = await ingest.enrol("RIVERSIDE"), await ingest.enrol("OTHER")
    request, _ = signing_request()
    await renew(ingest, other, request)
    with pytest.raises(Denied, match="another gateway"):
        await renew(ingest, gateway, request)
    spoilt = request.replace(b"A", b"B", 1)
    for nonsense in (b"", b"nonsense", b"x" * 16_385, spoilt, request[:200]):
        with pytest.raises(Invalid) as refused:
            await renew(ingest, gateway, nonsense)
        assert refused.value.field == "certificate_request_pem"
    # One that the authority of gateways signed for this very gateway, and that ingest has not given.
    authority = CertificateAuthority.load(
        ingest.pki.gateway_ca.read_bytes(), ingest.pki.authority("gateway").key_pem
    )
    foreign, key = authority.issue(GATEWAY_URI.format(gateway_id=gateway.gateway_id), [], datetime.now(UTC))
    with pytest.raises(Denied, match="no gateway"):
        await renew(ingest, showing(gateway, tmp_path, foreign.decode(), key), signing_request()[0])
    assert await ingest.one("select count(*) from gateway_certificates") == 3
    refusals = await ingest.one(
        "select count(*) from audit_rows where action = 'gateway.renewed' and outcome = 'refused'"
    )
    assert refusals == 2


async def test_who_renews_without_end_is_refused(ingest: Ingest) -> None:
    gateway = await ingest.enrol()
    renewed, word = 0, ReadroomError
    while renewed <= 2 * RENEWALS_A_DAY:  # the day may turn once
        try:
            await renew(ingest, gateway, signing_request()[0])
        except Exhausted as refused:
            word = type(refused)
            break
        renewed += 1
    assert word is Exhausted
    assert renewed >= RENEWALS_A_DAY
