"""The web as a process: `python -m web`."""

import ssl
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import aiohttp
from pydantic import FilePath, NonNegativeFloat, SecretStr, model_validator

from kernel.clock import Clock
from kernel.ids import NewId
from plumbing import minting, permitted, remote, rpc, runtime, timers, tokens, verifying
from plumbing.components import WEB
from plumbing.config import Address, ProcessSettings
from plumbing.db import Database
from plumbing.renewed import Renewed, whole_certificates
from plumbing.sealing import AuditTrail
from plumbing.tls import client_contexts
from plumbing.tokenkeys import KeyFile
from web import client, oidc, serving
from web.asked import House
from web.entrance import Entrance
from web.flow import Flow
from web.issuer import DevelopmentIssuer
from web.listening import listening
from web.ohif import Ohif
from web.passing import Ingest
from web.rendering import ROOT, Rendering
from web.routes import ROUTES
from web.session import Sessions
from web.store import WebTransaction
from web.tokens import Mint
from web.viewerhost import ViewerHost
from web.viewing import Viewing

_DROP_EVERY_S = 3600.0
_DROP_ATTEMPTS_EVERY_S = 60.0


class Settings(ProcessSettings):
    """What the web is told beyond what every process is.

    Attributes:
        pages_listen: where the pages are served; in plain text on this machine only.
        pages_certificate, pages_key: for TLS; needed where `pages_listen` is not this machine.
        origin: the one address by which browsers know the pages, such as `https://readroom.example.org`.
        viewer_origin: the address by which browsers know the viewer, on a host of its own, such as
            `https://viewer.readroom.example.org`; empty: no images are shown.
        viewer_folder: where `make viewer` has put the viewer.
        dicomweb_address: where ingest serves images (DICOMweb); needed with `viewer_origin`.
        access_address, ingest_address, reporting_address, sharing_address: gRPC addresses.
        token_key: PEM of the Ed25519 key that user tokens are signed with; nobody else has it.
        development_issuer: whether people sign in with passwords that the web keeps: on one machine only.
        oidc_issuer: the provider of identities by which people sign in instead, such as
            `https://login.example.org/realms/hospital`, letter by letter as its answers name it.
        oidc_client_id, oidc_client_secret: as whom the provider knows the web.
        oidc_ca: PEM file of the authority of the provider's certificate; none: those that the system trusts.
        lock_after_s: seconds without a sign of a person after which their session is locked.
    """

    prefix = "READROOM_WEB_"

    pages_listen: Address
    pages_certificate: FilePath | None = None
    pages_key: FilePath | None = None
    origin: str
    viewer_origin: str = ""
    dicomweb_address: Address | None = None
    viewer_folder: Path = ROOT / "viewer"
    access_address: Address
    ingest_address: Address
    reporting_address: Address
    sharing_address: Address
    token_key: FilePath
    development_issuer: bool = False
    oidc_issuer: str = ""
    oidc_client_id: str = ""
    oidc_client_secret: SecretStr = SecretStr("")
    oidc_ca: FilePath | None = None
    lock_after_s: NonNegativeFloat = 1800.0

    @model_validator(mode="after")
    def _pages_are_encrypted_elsewhere(self) -> Self:
        for name in ("origin", "viewer_origin") if self.viewer_origin else ("origin",):
            key, origin = f"READROOM_WEB_{name.upper()}", getattr(self, name)
            url = urlsplit(origin)
            if (
                url.scheme not in ("http", "https")
                or not url.netloc
                or origin != f"{url.scheme}://{url.netloc}"
            ):
                raise ValueError(f"`{key}` is not valid: expected https://HOST or https://HOST:PORT")
            if url.scheme == "http" and not _is_here(origin):
                raise ValueError(f"`{key}` is another machine: expected https://")
        if bool(self.pages_certificate) != bool(self.pages_key):
            raise ValueError(
                "set both `READROOM_WEB_PAGES_CERTIFICATE` and `READROOM_WEB_PAGES_KEY`, or none"
            )
        here = remote.is_local(self.pages_listen)
        if not here and not self.pages_certificate:
            raise ValueError(
                "`READROOM_WEB_PAGES_LISTEN` is not this machine: set `READROOM_WEB_PAGES_CERTIFICATE`"
            )
        return self

    @model_validator(mode="after")
    def _the_viewer_has_a_host_of_its_own(self) -> Self:
        if not self.viewer_origin:
            return self
        if urlsplit(self.viewer_origin).hostname == urlsplit(self.origin).hostname:
            raise ValueError(
                "`READROOM_WEB_VIEWER_ORIGIN` has the host of `READROOM_WEB_ORIGIN` and so its cookies: "
                "give the viewer a host name of its own, such as `viewer.HOST`"
            )
        if self.dicomweb_address is None:
            raise ValueError("set `READROOM_WEB_DICOMWEB_ADDRESS`: the viewer gets its images there")
        return self

    @model_validator(mode="after")
    def _development_stays_on_one_machine(self) -> Self:
        if self.development_issuer == bool(self.oidc_issuer):
            raise ValueError(
                "nobody could sign in, or people in two ways: set `READROOM_WEB_OIDC_ISSUER`, or "
                "`READROOM_WEB_DEVELOPMENT_ISSUER` where all is on one machine"
            )
        if self.oidc_issuer:
            if not oidc.is_safe(self.oidc_issuer) or urlsplit(self.oidc_issuer).query:
                raise ValueError("`READROOM_WEB_OIDC_ISSUER` is not valid: expected https://HOST/…")
            if not (self.oidc_client_id and self.oidc_client_secret.get_secret_value()):
                raise ValueError("set `READROOM_WEB_OIDC_CLIENT_ID` and `READROOM_WEB_OIDC_CLIENT_SECRET`")
            return self
        for name in type(self).model_fields:
            address = getattr(self, name)
            named = name.endswith(("listen", "_address", "_url", "origin")) and address
            text = address.get_secret_value() if hasattr(address, "get_secret_value") else address
            if named and not (_is_here(text) if name.endswith("origin") else remote.is_local(text)):
                key = f"{self.prefix}{name}".upper()
                raise ValueError(f"`{key}` is not a loopback address: the development issuer is refused")
        return self


def _is_here(origin: str) -> bool:
    """Whether browsers look for an address on this machine: below `localhost` too (RFC 6761, 6.3)."""
    return remote.is_local(origin) or (urlsplit(origin).hostname or "").endswith(".localhost")


async def build(
    settings: Settings, clock: Clock, new_id: NewId, resources: AsyncExitStack
) -> runtime.Application:
    database = await Database.connect(
        settings.secret("database_url"),
        WebTransaction,
        clock=clock,
        new_id=new_id,
        ca=settings.servers_ca,
    )
    resources.push_async_callback(database.close)
    mint = Mint(minting.Issuer(settings.token_key.read_bytes(), new_id), clock)
    addresses = {
        "access": settings.access_address,
        "ingest": settings.ingest_address,
        "reporting": settings.reporting_address,
        "sharing": settings.sharing_address,
    }
    services = await client.connect(addresses, settings.tls, mint, resources)
    sessions = Sessions(database, new_id)
    secret = settings.audit_key.get_secret_value()
    issuer = DevelopmentIssuer(database, services, secret) if settings.development_issuer else None
    entrance = None
    if settings.oidc_issuer:
        provider = await _provider(settings, clock, resources)
        entrance = Entrance(database, services, provider, secret)
    way_in = entrance or issuer
    assert way_in is not None, "the settings name one"
    house = House(
        database,
        services,
        sessions,
        issuer,
        mint,
        timedelta(seconds=settings.lock_after_s),
        Flow(database, new_id),
        Viewing(database),
        entrance,
        settings.viewer_origin,
    )
    edge = serving.Edge(
        house, ROUTES, Rendering(), settings.origin, clock, await _viewer(settings, house, clock, resources)
    )
    pages_end = await resources.enter_async_context(
        listening(
            edge.application(),
            settings.pages_listen,
            _pages_tls(settings),
            edge.of_refusals,
            settings.drain_s,
        )
    )

    async def drain(_seconds: float) -> None:
        """Lists that are followed say that they end; images and pages under way have the time."""
        house.leaving.set()
        await pages_end()

    verifier = tokens.Verifier(KeyFile(settings.token_key_file), clock)
    server = rpc.Server(WEB.identity, settings.listen, settings.tls, verifier)
    trail = AuditTrail(database, WEB.name, settings, clock)
    to_access = rpc.connect(settings.access_address, "access", settings.tls)
    resources.push_async_callback(to_access.close)
    verifying.serve(server, trail, permitted.asks(to_access))
    return runtime.Application(
        servers=[server],
        tasks={
            "seal": trail.seal,
            "drop-ended": partial(timers.every, _DROP_EVERY_S, sessions.drop_ended),
            "drop-attempts": partial(timers.every, _DROP_ATTEMPTS_EVERY_S, way_in.drop_old),
            "drop-closed": partial(timers.every, _DROP_EVERY_S, house.flow.drop_closed),
            "drop-codes": partial(timers.every, _DROP_ATTEMPTS_EVERY_S, house.viewing.drop_old),
        },
        ready={"database": database.ready},
        drains=[drain],
    )


async def _viewer(
    settings: Settings, house: House, clock: Clock, resources: AsyncExitStack
) -> ViewerHost | None:
    if not settings.viewer_origin or settings.dicomweb_address is None:
        return None
    ingest = await resources.enter_async_context(
        Ingest.connected(settings.dicomweb_address, client_contexts(settings.tls), house.mint)
    )
    ohif = Ohif(settings.viewer_folder, settings.origin)
    return ViewerHost(house, clock, settings.viewer_origin, settings.origin, ingest, ohif)


async def _provider(settings: Settings, clock: Clock, resources: AsyncExitStack) -> oidc.Provider:
    us = oidc.Client(
        settings.oidc_issuer,
        settings.oidc_client_id,
        settings.secret("oidc_client_secret"),
        f"{settings.origin}/sign-in/callback",
    )
    http = await resources.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
    return oidc.Provider(us, http, ssl.create_default_context(cafile=settings.oidc_ca), clock)


def _pages_tls(settings: Settings) -> ssl.SSLContext | None:
    """With which certificate browsers are served; each handshake takes up what changes in the files."""
    if settings.pages_certificate is None or settings.pages_key is None:
        return None
    certificate, key = settings.pages_certificate, settings.pages_key

    def made() -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        whole_certificates(certificate)
        context.load_cert_chain(certificate, key)
        return context

    def choose(connection: ssl.SSLObject, _name: str | None, _first: ssl.SSLContext) -> None:
        connection.context = renewed()

    renewed = Renewed(lambda: (certificate, key), made)
    first = made()
    first.sni_callback = choose
    return first


def main(environ: Mapping[str, str]) -> int:
    return runtime.run(WEB.name, Settings, build, environ)
