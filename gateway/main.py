"""The gateway: everything constructed, in order, and served until SIGTERM, and then drained."""

import asyncio
import fcntl
import os
import random
import signal
import ssl
import sys
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry

from gateway import settings as configuration
from gateway import uptime
from gateway.central import CentralServer
from gateway.dimse import Reception
from gateway.disk import Disk
from gateway.folder import Folder
from gateway.forwarding import Forwarder
from gateway.heartbeat import Heartbeat
from gateway.identity import Identity
from gateway.logfile import LogFile
from gateway.metrics import GatewayCollector
from gateway.private import make_private
from gateway.queue import Backoff
from gateway.retention import Retention
from gateway.settings import Log, Settings
from gateway.store import Store
from kernel.clock import MonotonicClock
from kernel.errors import Conflict, ReadroomError, Unavailable
from kernel.ids import UUID7
from plumbing import log, rpc
from plumbing.dimse import Acceptor
from plumbing.probes import RELEASE, Probes
from plumbing.renewed import RenewedCollector
from plumbing.tls import Contexts, TLSFiles, client_context, renewed, server_context
from wire.ingest.v1.ingest_pb2_grpc import GatewayServiceStub

DATABASE = "gateway.db"

_log = log.get()


def run(path: Path) -> int:
    """Serves with the settings of the file at `path` until a signal; answers the exit code."""
    log.configure("gateway")
    try:
        asyncio.run(_serve(configuration.load(path)))
    except ReadroomError as error:
        sys.stderr.write(f"gateway: {error.sentence}\n")
        return 1
    return 0


def _log_to(told: Log | None) -> None:
    if told is None:
        return
    try:
        file = LogFile(told.file, max_bytes=int(told.max_mb * 1e6), kept=told.kept)
    except OSError as error:
        raise Unavailable(f"`{told.file}` cannot be written: {error.strerror}") from None
    log.to(file.write)


async def _serve(settings: Settings) -> None:
    _log_to(settings.log)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with AsyncExitStack() as resources:
        settings.spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        make_private(settings.spool)
        resources.enter_context(_alone(settings.spool))
        disk = Disk(settings.spool, reserve_bytes=settings.reserve_bytes)
        store, clock = open_store(settings, disk), MonotonicClock()
        resources.callback(store.close)
        folder = Folder(settings.spool)
        folder.begin()
        retention = Retention(store, folder, disk, settings.terms, begin=lambda: folder.clean(store.unknown))
        disk.tend()
        registry = CollectorRegistry()
        registry.register(GatewayCollector(disk, store, clock))
        registry.register(RenewedCollector())
        registry.register(RELEASE)
        probes = Probes(registry)
        if settings.metrics:
            await resources.enter_async_context(probes.served(settings.metrics.listen))

        identity = Identity(settings)
        channels = [rpc.connect(settings.central.gateway_address, "ingest", identity.files)]

        async def close_channels() -> None:
            for channel in channels:
                await channel.close()

        resources.push_async_callback(close_channels)
        central = CentralServer(
            GatewayServiceStub(channels[0]),
            loop,
            dicom_address=settings.central.dicom_address,
            ae_title=settings.central.ae_title,
            context=client_context(identity.files),
        )
        listening = listeners(settings, identity)

        async def renew() -> None:
            files = await identity.renew(central.renew)
            channels.append(rpc.connect(settings.central.gateway_address, "ingest", files))
            central.use(GatewayServiceStub(channels[-1]), client_context(files))
            _log.info("the certificate is renewed", ends_at=identity.ends_at)

        forwarder = Forwarder(
            store,
            folder,
            central,
            parallel=settings.parallel,
            quiet_s=settings.quiet_s,
            backoff=Backoff(settings.retry_s, settings.retry_at_most_s, random.SystemRandom().random),
            clock=clock,
        )
        beats = Heartbeat(store, central.tell, renew, lambda: identity.difficulty(clock.now()))
        heart = asyncio.create_task(beats.run())
        resources.callback(heart.cancel)
        forwarder.start()
        resources.push_async_callback(asyncio.to_thread, forwarder.stop)
        retention.start()
        resources.push_async_callback(asyncio.to_thread, retention.stop)
        acceptors: list[Acceptor] = []
        for listen, contexts in listening:
            reception = Reception(
                listen,
                plain=contexts is None,
                ae_titles=settings.ae_titles,
                modalities=settings.modalities,
                folder=folder,
                disk=disk,
                store=store,
                arrived=forwarder.arrived,
                clock=clock,
            )
            acceptor = Acceptor(
                listen,
                contexts=contexts,
                handler=reception,
                called_ae_titles=None,
                private_classes=settings.private_classes,
            )
            try:
                port = acceptor.start()
            except OSError as error:
                raise Unavailable(f"cannot listen on `{listen}`: {error.strerror}") from None
            acceptors.append(acceptor)
            resources.push_async_callback(asyncio.to_thread, acceptor.stop)
            address = f"{listen.rpartition(':')[0]}:{port}"
            if contexts is None:
                _log.warning("serving plain text by exception, to registered modalities", address=address)
            else:
                _log.info("serving", address=address)

        async def accepts() -> bool:
            return all(acceptor.accepts for acceptor in acceptors)

        async def remembers() -> bool:
            return await asyncio.to_thread(store.waits) is not None

        async def has_room() -> bool:
            return disk.has_room

        probes.started({"listener": accepts, "database": remembers, "disk": has_room}, {})
        await stopped.wait()
        probes.leaves()
        await asyncio.gather(*(asyncio.to_thread(each.drain, settings.drain_s) for each in acceptors))
        await asyncio.to_thread(forwarder.drain, settings.drain_s)


def open_store(settings: Settings, disk: Disk) -> Store:
    """Open the gateway's memory, as every process of it does."""
    clock = MonotonicClock()
    return Store(
        settings.spool / DATABASE,
        clock=clock,
        uptime=uptime.of_this_machine(),
        new_id=UUID7(clock),
        spend=disk.spend,
    )


def listeners(settings: Settings, identity: Identity) -> Sequence[tuple[str, Contexts | None]]:
    """Where modalities send, and how: TLS, and plain text where that exception is configured.

    They are shown the certificate of the gateway, also a renewed one, unless the listener has its own.
    """
    found: list[tuple[str, Contexts | None]] = []
    if listener := settings.listener:

        def files() -> TLSFiles:
            own, given = identity.files, listener
            return TLSFiles(
                given.certificate or own.certificate, given.key or own.key, given.ca or settings.ca
            )

        def context(those: TLSFiles) -> ssl.SSLContext:
            made = server_context(those)
            # A modality without a certificate may still be a registered one.
            made.verify_mode = ssl.CERT_OPTIONAL if listener.ca else ssl.CERT_NONE
            return made

        found.append((listener.listen, renewed(files, context)))
    if settings.plain_listener:
        found.append((settings.plain_listener.listen, None))
    return found


@contextmanager
def _alone(spool: Path) -> Iterator[None]:
    """Holds the spool folder for this process; raises Conflict if another one has it."""
    descriptor = os.open(spool / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Conflict(f"another gateway works on `{spool}`") from None
    finally:
        os.close(descriptor)
