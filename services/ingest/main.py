"""The process: settings, and every constructor in order."""

import asyncio
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path

from pydantic import FilePath, NonNegativeInt, PositiveInt

from kernel.clock import Clock
from kernel.dicom import parse_ae_title
from kernel.ids import NewId
from plumbing import dimse, permitted, rpc, runtime, timers
from plumbing.authority import CertificateAuthority
from plumbing.cache import RateWindow
from plumbing.callers import GATEWAY_URI
from plumbing.channels import Channels
from plumbing.config import Address, CacheUrl, ServiceSettings
from plumbing.edge import Edge
from plumbing.leases import Lease
from plumbing.lines import Lines
from plumbing.runtime import Application
from plumbing.service import open_parts
from plumbing.tls import TLSFiles, server_contexts
from services.ingest import events
from services.ingest.api import Addresses, IngestApi, serve, serve_gateways
from services.ingest.clients import AccessClient, PeerClient, RoutingClient
from services.ingest.deletion import ASKED_FOR, Deletions
from services.ingest.describing import Describing
from services.ingest.dicomweb import DicomWeb
from services.ingest.dimse import Listener, describe
from services.ingest.domain import Limits
from services.ingest.enrolment import Enrolments
from services.ingest.gateways import Gateways
from services.ingest.heldparts import HeldParts
from services.ingest.images import Images
from services.ingest.instanceindex import INDEX, Index
from services.ingest.office import EventLoopBridge, InProcess, Office
from services.ingest.packreading import PackReading
from services.ingest.packs import Packs
from services.ingest.purgerecord import NAME
from services.ingest.quarantine import FORGET_S, Quarantine
from services.ingest.renewal import Renewals
from services.ingest.served import Bytes
from services.ingest.settling import SettleLengths
from services.ingest.sources import Here, Verified
from services.ingest.store import IngestTransaction
from services.ingest.usecases import Studies
from services.ingest.volumes import Volumes
from services.ingest.worker import LINES, Configuration
from services.ingest.workers import OpenAssociations, Workers
from services.ingest.writers import RENEW_S, Writer

MOST_WORKERS = 8
"""Where the number is not a setting: each takes 40 MB and up to LINES connections to PostgreSQL."""


class Settings(ServiceSettings):
    """What ingest is told beside what every service is told.

    Attributes:
        pack_directory: where packs are: a disk of this process alone, or a file system that several share.
        peer_address: where other processes of ingest ask this one for packs, where it is not the address
            listened on.
        dicom_listen: where gateways send.
        dicomweb_listen: where the web asks for images (DICOMweb); none: it is not served.
        gateway_certificate, gateway_key: what both listeners for gateways show, signed by the gateway CA.
        gateway_listen: where gateways announce transfers.
        gateway_ca, gateway_ca_key: the authority that signs gateways.
        dicom_public_address, gateway_public_address: what an enrolled gateway is told to connect to,
            where it is not the address listened on.
        called_ae_title: the one title this server answers to.
        access_address, routing_address: where access and routing are.
        cache_url: where the processes of ingest count together what a gateway asks for. `redis://`, or `unix://`
            and the path of a socket; `rediss://` for another machine.
        settle_after_s: quiet before a study is called settled, at facilities that have no length of their own
            (A55).
        receive_workers: processes that receive images; by default one for each processor, at most eight. 0:
            this process receives them in threads.
        max_instance_bytes: larger data sets are refused.
        private_classes: whether objects of vendors' own storage classes are stored too; nothing renders them.
        max_associations: at once; more are rejected as a local limit. A quarter of them is kept free for
            gateways that have none.
        max_associations_per_gateway: the same of one gateway.
        max_handshakes: connections whose certificate is not known yet; of more the oldest silent one goes.
        max_handshakes_per_host: the same from one remote address.
        associations_per_minute: of one gateway.
        transfers_per_minute, transfers_kept: announced by one gateway, and kept of it.
        quarantine_instances, quarantine_bytes: refused instances kept of one gateway (A27).
        refusals_per_minute: listed for each cause of one certificate, or of one address without one.
        described_again_per_second: studies of which an earlier version kept less than this one.
    """

    prefix = "READROOM_INGEST_"

    pack_directory: Path
    peer_address: Address | None = None
    dicom_listen: Address
    dicomweb_listen: Address | None = None
    gateway_certificate: FilePath
    gateway_key: FilePath
    gateway_listen: Address
    gateway_ca: FilePath
    gateway_ca_key: FilePath
    dicom_public_address: Address | None = None
    gateway_public_address: Address | None = None
    called_ae_title: str = "READROOM"
    access_address: Address
    routing_address: Address
    cache_url: CacheUrl
    settle_after_s: float = 5.0
    receive_workers: NonNegativeInt | None = None
    max_instance_bytes: int = 8 << 30
    private_classes: bool = True
    max_associations: int = 256
    max_associations_per_gateway: int = 64
    max_handshakes: int = 256
    max_handshakes_per_host: int = 64
    associations_per_minute: int = 600
    transfers_per_minute: int = 12_000
    transfers_kept: int = 100_000
    quarantine_instances: int = 1_000
    quarantine_bytes: int = 4 << 30
    refusals_per_minute: int = 30
    described_again_per_second: PositiveInt = 20


async def build(settings: Settings, clock: Clock, new_id: NewId, resources: AsyncExitStack) -> Application:
    """Constructs ingest; `resources` closes what it opened, last first."""
    limits = Limits(
        settle_after=timedelta(seconds=settings.settle_after_s),
        associations_per_minute=settings.associations_per_minute,
        transfers_per_minute=settings.transfers_per_minute,
        transfers_kept=settings.transfers_kept,
        quarantine_instances=settings.quarantine_instances,
        quarantine_bytes=settings.quarantine_bytes,
        refusals_per_minute=settings.refusals_per_minute,
    )
    called_ae_title = parse_ae_title(settings.called_ae_title, "called_ae_title")
    gateway_tls = TLSFiles(settings.gateway_certificate, settings.gateway_key, settings.gateway_ca)
    authority = CertificateAuthority.load(
        settings.gateway_ca.read_bytes(), settings.gateway_ca_key.read_bytes()
    )

    parts = await open_parts(NAME, settings, IngestTransaction, clock, new_id, resources, pool_size=16)
    database = parts.database
    async with database.statements() as statements:
        before_opening = await statements.clock()
    packs = Packs(settings.pack_directory, new_id)
    resources.callback(packs.close)
    writer = Writer(database, packs, settings.peer_address or settings.listen, new_id)
    rates = RateWindow(settings.secret("cache_url"), clock, settings.servers_ca)
    resources.push_async_callback(rates.close)
    channel = parts.asks("access", settings.access_address)
    access = AccessClient(channel)
    to_routing = parts.asks("routing", settings.routing_address)

    enrolments = Enrolments(database, access, authority, new_id, GATEWAY_URI)
    gateways = Gateways(database, access, rates, limits, new_id, clock, events.TRANSFERS_REFUSED.inc)
    studies = Studies(database, writer, limits, new_id)
    settle_lengths = SettleLengths(database, access, limits.settle_after)
    channels = Channels(lambda address: rpc.connect(address, NAME, settings.tls, token=lambda: None))
    resources.push_async_callback(channels.close)

    async def peer(address: str) -> PeerClient:
        return PeerClient(await channels.to(address))

    verified = Verified()
    reading = PackReading(database, packs, Here(packs, verified), writer, peer)
    images = Images(database, access, reading, events.stream_cut)
    routing = RoutingClient(to_routing)
    held_parts = HeldParts(database, access, routing)
    quarantine = Quarantine(database, access, packs)
    describing = Describing(database, packs, reading, describe)
    deletions = Deletions(database, access, routing, packs, writer, new_id)
    is_only = await writer.begin(before_opening)
    resources.push_async_callback(writer.end)
    # Before anybody sends: what comes then is of a new study, not of one that is about to be purged. Beside
    # other processes somebody sends already, and they may be asking just now.
    await events.resume(deletions, asked_for=timedelta() if is_only else ASKED_FOR)

    bridge = EventLoopBridge(asyncio.get_running_loop())
    dicom_limits = dimse.Limits(
        handshakes=settings.max_handshakes,
        handshakes_per_address=settings.max_handshakes_per_host,
        connections=settings.max_associations,
        connections_per_peer=settings.max_associations_per_gateway,
        connections_reserved=settings.max_associations // 4,
        max_data_set_bytes=settings.max_instance_bytes,
    )
    office = Office(gateways, studies)
    listening: dimse.Acceptor | Workers
    number = _workers() if settings.receive_workers is None else settings.receive_workers
    if number:
        listening = Workers(
            settings.dicom_listen,
            dicom_limits,
            number=number,
            configuration=_configuration(settings, gateway_tls, called_ae_title, dicom_limits),
            office=office,
        )
        resources.push_async_callback(listening.end)
        await listening.begin()
    else:
        lines = Lines(settings.secret("database_url"), INDEX, size=LINES, ca=settings.servers_ca)
        resources.callback(lines.close)
        parent = InProcess(office, bridge)
        listening = dimse.Acceptor(
            settings.dicom_listen,
            contexts=server_contexts(gateway_tls),
            handler=Listener(parent, packs, Index(lines), clock),
            called_ae_titles=[called_ae_title],
            private_classes=settings.private_classes,
            limits=dicom_limits,
        )
        listening.start()
        # In a thread: ending associations still ask this event loop.
        resources.push_async_callback(asyncio.to_thread, listening.stop)

    edge = None
    if settings.dicomweb_listen:
        key = settings.audit_key.get_secret_value().encode()
        dicomweb = DicomWeb(
            images, access, Bytes(packs, verified, reading, bridge), parts.verifier, bridge, key
        )
        edge = Edge(settings.dicomweb_listen, dicomweb.handle, contexts=server_contexts(settings.tls))
        edge.start()
        resources.push_async_callback(asyncio.to_thread, edge.stop)

    addresses = Addresses(
        settings.dicom_public_address or settings.dicom_listen,
        settings.gateway_public_address or settings.gateway_listen,
        called_ae_title,
        authority.certificate_pem.decode(),
    )
    ingest = IngestApi(
        enrolments,
        gateways,
        studies,
        settle_lengths,
        images,
        held_parts,
        quarantine,
        deletions,
        reading,
        Volumes(database, access),
        addresses,
    )
    serve(parts.server, ingest)
    gateway_server = rpc.Server(NAME, settings.gateway_listen, gateway_tls, None)
    serve_gateways(gateway_server, gateways, Renewals(database, authority, rates, GATEWAY_URI))
    return parts.application(
        events.hearings(deletions),
        permitted.asks(channel),
        servers=[gateway_server],
        tasks={
            "deletions": partial(events.look_after_deletions, deletions),
            "describing": partial(
                events.describe_again,
                describing,
                Lease(database, "describe again", new_id()),
                settings.described_again_per_second,
            ),
            "undescribed": partial(
                timers.every, events.COUNT_S, partial(events.count_undescribed, describing)
            ),
            "quarantine": partial(timers.every, FORGET_S, quarantine.forget),
            "studies": partial(
                events.look_after_studies, studies, writer, gateways, OpenAssociations(listening)
            ),
            "writer": partial(timers.every, RENEW_S, partial(events.renew, writer), retry_s=1.0),
        },
        ready={
            "listener": listening.ready,
            "disk": packs.ready,
            **({"dicomweb": edge.ready} if edge else {}),
        },
        drains=[partial(_drained, each) for each in (listening, edge) if each],
    )


def _workers() -> int:
    return min(len(os.sched_getaffinity(0)), MOST_WORKERS)


def _configuration(
    settings: Settings, tls: TLSFiles, called_ae_title: str, limits: dimse.Limits
) -> Configuration:
    def path(setting: Path | None) -> str | None:
        return None if setting is None else str(setting)

    return Configuration(
        NAME,
        settings.database_url.get_secret_value(),
        path(settings.secret_file("database_url")),
        path(settings.servers_ca),
        str(settings.pack_directory),
        (str(tls.certificate), str(tls.key), str(tls.ca)),
        [called_ae_title],
        settings.private_classes,
        limits,
        path(settings.clock_offset_file),
    )


async def _drained(listener: dimse.Acceptor | Workers | Edge, seconds: float) -> None:
    await asyncio.to_thread(listener.drain, seconds)


def main(environ: Mapping[str, str]) -> int:
    """Runs ingest; the exit code."""
    return runtime.run(NAME, Settings, build, environ)
