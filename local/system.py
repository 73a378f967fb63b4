"""The whole system on this machine: embedded servers, certificates, one child process per service, one
for the web, and one that keeps the bus as it should be.

    system = LocalSystem(Path("data"))
    system.start()
    system.kill_service("ingest"); system.start_service("ingest")
    system.servers.nats.kill(); system.servers.nats.start()
    system.stop()

A child runs the very command a pod runs, configured by its environment alone. Addresses, authorities and
data stay the same over restarts, of a service and of everything. Where things are: `readroom/endpoints.py`.
"""

import http.client
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kernel.errors import Unavailable
from local.embedded import EmbeddedServers
from local.pki import Pki
from local.processes import Child, until
from plumbing.components import COMPONENTS, PROCESSES, SERVICES, WEB
from plumbing.files import write_private
from readroom.endpoints import Endpoints

ROOT = Path(__file__).parents[1]

READY_LIMIT_S = 180.0
"""How long a service may take until it is ready, on a machine that is busy with other things."""

STOP_LIMIT_S = 2.5
"""How long services may take to end when asked to; with the servers' 1.5 s everything is gone after 5 s."""

MIGRATE, BUS = "migrate", "bus"

_PEERS = {
    "ingest": ("access", "routing"),
    "routing": ("ingest", "access"),
    "access": ("ingest", "routing", "reporting"),
    "reporting": ("access",),
    "sharing": ("access", "notify"),
    "notify": ("sharing", "access"),
    "web": ("access", "ingest", "reporting", "sharing"),
}
"""Whom each asks."""

_SECRETS = {"access": ("revision_key",), "sharing": ("link_secret", "code_pepper")}
"""What each service keeps to itself."""


class LocalSystem:
    """A system on one data directory.

    Args:
        data_dir: made if missing; one system at a time has it.
        first_admin: login of the administrator to create if there is no user yet.
        durable: False spares PostgreSQL the waiting for the disk, see `EmbeddedServers`.
        settings: more environment for every service, such as `READROOM_INGEST_SETTLE_AFTER_S`.
        commands: what to run instead of `python -m services NAME`, by name; `migrate` and `bus`, which keeps
            the bus as it should be, are two of them.
        ports: of a new data directory, see `portplan.plan`; any free ones without.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        first_admin: str | None = None,
        durable: bool = True,
        settings: Mapping[str, str] | None = None,
        commands: Mapping[str, Sequence[str]] | None = None,
        ports: Mapping[str, int] | None = None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.servers = EmbeddedServers(self.data_dir, PROCESSES, durable=durable, ports=ports)
        admin = ["--first-admin", first_admin] if first_admin else []
        own = {name: [sys.executable, "-m", "services", name] for name in (*SERVICES, MIGRATE, BUS)}
        own[MIGRATE] += admin
        own[WEB.name] = [sys.executable, "-m", "web"]
        self._commands: Mapping[str, Sequence[str]] = commands or own
        self._settings = settings or {}
        self._services: dict[str, Child] = {}

    @property
    def names(self) -> list[str]:
        """The services of this system, and the web."""
        return [name for name in self._commands if name not in (MIGRATE, BUS)]

    @property
    def pki(self) -> Pki:
        return Pki(self.data_dir / "pki")

    def start(self) -> None:
        """Starts everything; returns when every service is ready. Nothing stays if something fails."""
        self.prepare()
        try:
            for name in self.names:
                self._spawn(name)
            for name in self.names:
                self._wait_until_ready(name)
            self.endpoints().write(self.data_dir)
        except BaseException:
            self.stop()
            raise

    def prepare(self) -> None:
        """Starts the servers, makes certificates and migrates the databases; services may start then."""
        self.servers.open()
        try:
            with ThreadPoolExecutor() as beside:
                making: list[Future[Any]] = [
                    beside.submit(Pki.make, self.data_dir / "pki", COMPONENTS.values(), datetime.now(UTC)),
                    beside.submit(self._make_secrets),
                ]
                if "notify" in self.names:
                    making.append(beside.submit(self.servers.sink.start))
                self.servers.start()
                for each in making:
                    each.result()
            if MIGRATE in self._commands:
                self._migrate()
            if BUS in self._commands:
                self._spawn(BUS)
        except BaseException:
            self.stop()
            raise

    def start_service(self, name: str) -> None:
        """Starts one service and returns when it is ready."""
        self._spawn(name)
        self._wait_until_ready(name)

    def stop_service(self, name: str) -> None:
        """Asks a service to end, and insists after a while."""
        self._end(name, signal.SIGTERM)

    def kill_service(self, name: str, signal_number: int = signal.SIGKILL) -> None:
        """Sends a signal and waits for the end; by default without warning."""
        self._end(name, signal_number)

    def service_pid(self, name: str) -> int:
        return self._services[name].pid

    def has_ended(self, name: str) -> bool:
        """Whether a service that was started has ended since."""
        return self._services[name].exit_code is not None

    def wait_for_an_end(self, within_s: float | None = None) -> str | None:
        """Waits until a server or service ends by itself; answers what and why, None if none did in time."""
        child = self.servers.processes.wait_for_an_end(within_s)
        return _obituary(child) if child else None

    def wait_for_an_ended_part(self) -> tuple[str, str]:
        """Waits until a server or service ends by itself; answers its name, and what and why."""
        child = self.servers.processes.wait_for_an_end()
        assert child is not None, "without a limit it waits until one ended"
        return child.name, _obituary(child)

    def start_again(self, name: str) -> None:
        """Starts a part that ended by itself. Raises Unavailable if it does not get ready."""
        if server := self.servers.by_name.get(name):
            server.start()
            return
        self._spawn(name)
        if name != BUS:
            self._wait_until_ready(name)

    def stop(self) -> None:
        """Ends everything, services first."""
        if not self.servers.processes.is_open:
            return
        Endpoints.remove(self.data_dir)
        with ThreadPoolExecutor(max_workers=len(PROCESSES)) as enders:
            list(enders.map(self.stop_service, list(self._services)))
        self.servers.stop()

    def invite(self, login: str) -> str:
        """The code of a new invitation of a user, by which they sign in first; an earlier one ends."""
        done = subprocess.run(
            [sys.executable, "-m", "services", "invite", login],
            env={**os.environ, **self.environment(MIGRATE)},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=READY_LIMIT_S,
            check=False,
        )
        if done.returncode != 0:
            raise Unavailable(f"`{login}` could not be invited: {done.stderr.strip()}")
        return done.stdout.strip()

    def endpoints(self) -> Endpoints:
        """Where things are."""
        caller = self.pki.tls(WEB.identity)
        return Endpoints(
            services={name: self._address(name) for name in self.names},
            http={name: self._address(name, "http") for name in self.names},
            pages=self._origin,
            dicom=self._address("ingest", "dicom"),
            dicomweb=self._address("ingest", "dicomweb"),
            gateways=self._address("ingest", "gateways"),
            service_ca=self.pki.service_ca,
            gateway_ca=self.pki.gateway_ca,
            caller_certificate=caller.certificate,
            caller_key=caller.key,
            issuer_key=self.pki.token_key,
            clock_offset_file=self._clock_offset_file,
            mail=self.servers.sink.mail,
            texts=self.servers.sink.texts,
        )

    def environment(self, name: str) -> dict[str, str]:
        """What the command of this name is told beside our own environment."""
        if name == MIGRATE:
            databases = {_key(s, "database_url"): self.servers.database_url(s) for s in PROCESSES}
            return databases | self.environment(BUS)
        if name == BUS:
            return {_key(BUS, "setup_url"): self.servers.nats.setup_url}
        component = COMPONENTS[name]
        identity = self.pki.tls(component.identity)
        settings: dict[str, object] = {
            **{setting: self._address(name, edge) for edge, setting in component.ports.items()},
            "database_url": self.servers.database_url(name),
            "tls_certificate": identity.certificate,
            "tls_key": identity.key,
            "tls_ca": identity.ca,
            "token_keys": self.pki.token_keys,
            "clock_offset_file": self._clock_offset_file,
            "audit_key_file": self._secret(f"{name}_audit_key"),
            "audit_anchor_file": self.data_dir / f"{name}-audit.anchor",
        }
        return {_key(name, field): str(value) for field, value in (settings | self._own(name)).items()}

    def _own(self, name: str) -> dict[str, str | Path]:
        """The settings that only this service has: its peers, its secrets, its edges."""
        own: dict[str, str | Path] = {f"{peer}_address": self._address(peer) for peer in _PEERS[name]}
        own |= {f"{secret}_file": self._secret(secret) for secret in _SECRETS.get(name, ())}
        if name in SERVICES:
            own["nats_url"] = self.servers.nats.url(name)
        if name == "ingest":
            gateways = self.pki.gateway_tls(name)
            own |= {
                "cache_url": self.servers.cache_url,
                "pack_directory": self.data_dir / "packs",
                "gateway_certificate": gateways.certificate,
                "gateway_key": gateways.key,
                "gateway_ca": gateways.ca,
                "gateway_ca_key": self.pki.gateway_ca_key,
            }
        if name == "notify":
            sink = self.servers.sink
            own |= {
                "smtp_address": sink.mail_address,
                "smtp_tls": "none",
                "mail_from": "readroom@localhost.example",
                "link_base": "https://localhost.example/shared/",
                "text_url": sink.text_url,
                "text_token_file": sink.token_file,
            }
        if name == WEB.name:
            own |= {
                "origin": self._origin,
                "viewer_origin": self._origin.replace("localhost", "viewer.localhost"),
                "dicomweb_address": self._address("ingest", "dicomweb"),
                "token_key": self.pki.token_key,
                "development_issuer": "true",
            }
        return own

    @property
    def _origin(self) -> str:
        """The address of the pages: browsers keep cookies of `localhost` as if it were encrypted."""
        return f"http://localhost:{self.servers.kept.port('web_pages')}"

    def _make_secrets(self) -> None:
        own = [secret for names in _SECRETS.values() for secret in names]
        for path in map(self._secret, (*own, *(f"{name}_audit_key" for name in PROCESSES))):
            if not path.exists():
                write_private(path, secrets.token_hex(32).encode())

    def _secret(self, name: str) -> Path:
        """Where a secret of this installation is: chosen at its first start, the same for good."""
        return self.data_dir / f"{name}.key"

    @property
    def _clock_offset_file(self) -> Path:
        return self.data_dir / "clock-offset"

    def _address(self, name: str, edge: str = "grpc") -> str:
        return f"127.0.0.1:{self.servers.kept.port(f'{name}_{edge}')}"

    def _spawn(self, name: str) -> Child:
        running = self._services.get(name)
        if running and running.exit_code is None:
            return running
        child = self.servers.processes.spawn(
            name,
            self._commands[name],
            environment={**os.environ, **self.environment(name), **self._settings},
            folder=ROOT,
        )
        self._services[name] = child
        return child

    def _wait_until_ready(self, name: str) -> None:
        child, address = self._services[name], self._address(name, "http")
        if not until(lambda: child.exit_code is not None or _is_ready(address), READY_LIMIT_S):
            raise Unavailable(f"{name} is not ready after {READY_LIMIT_S:.0f} s: see `{child.log}`")
        if child.exit_code is not None:
            raise Unavailable(_obituary(child))

    def _migrate(self) -> None:
        child = self._spawn(MIGRATE)
        child.wait(READY_LIMIT_S)
        if child.exit_code != 0:
            raise Unavailable(_obituary(child))
        self._end(MIGRATE, signal.SIGKILL)

    def _end(self, name: str, signal_number: int) -> None:
        if child := self._services.pop(name, None):
            child.end(signal_number, STOP_LIMIT_S)
            self.servers.processes.forget(child)


def _key(service: str, field: str) -> str:
    return f"READROOM_{service}_{field}".upper()


def _obituary(child: Child) -> str:
    code = child.exit_code
    if code is None:
        return f"{child.name} did not end in time: see `{child.log}`"
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return f"{child.name} {how}: {child.last_words()}"


def _is_ready(address: str) -> bool:
    connection = http.client.HTTPConnection(address, timeout=2.0)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
