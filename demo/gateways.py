"""A gateway as a site runs it: a process of its own, on the folder that enrolling made."""

import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from demo.modality import Called
from kernel.errors import Unavailable
from local.processes import Child, until
from local.system import ROOT, LocalSystem
from plumbing.tls import TLSFiles
from readroom.enrol import CONFIGURATION

_READY_WITHIN_S = 15.0


@dataclass(frozen=True, slots=True)
class RunningGateway:
    """One gateway.

    Attributes:
        process: `python -m gateway`.
        called: where modalities reach it.
        identity: its certificate and key, and the CA of ingest's listeners.
    """

    process: Child
    called: Called
    identity: TLSFiles

    @classmethod
    def start(
        cls, system: LocalSystem, name: str, ae_title: str, folder: Path, port: int
    ) -> "RunningGateway":
        """Starts it and waits until it listens; it ends with the system."""
        identity = TLSFiles(folder / "gateway.pem", folder / "gateway.key", folder / "ca.pem")
        command = [sys.executable, "-m", "gateway", "--config", str(folder / CONFIGURATION)]
        process = system.servers.processes.spawn(
            f"gateway-{name}", command, environment=os.environ, folder=ROOT
        )
        until(lambda: process.exit_code is not None or _listens(port), _READY_WITHIN_S)
        if process.exit_code is not None or not _listens(port):
            raise Unavailable(f"gateway `{name}` does not start: {process.last_words()}")
        called = Called("127.0.0.1", port, ae_title, identity)
        return cls(process, called, identity)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0
