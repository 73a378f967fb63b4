"""DCMTK and Orthanc as receivers: what they take of odd input says how tolerant we should be.

They come from Debian (`make debian`). A test that needs one skips where it is absent, unless
`READROOM_TESTS_NEED_PEERS` is set, as `.ci/run` does.
"""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.ports import free_port

PROGRAMS = ("storescp", "Orthanc")
_START_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Peer:
    """A receiver on loopback, in plain text, that takes whoever calls."""

    name: str
    port: int


def installed(name: str) -> str:
    """Where the program of this name is; skips the test where it is absent."""
    program = shutil.which(name)
    if program is None:
        absent = f"{name} is not installed: `make debian` installs it"
        if os.environ.get("READROOM_TESTS_NEED_PEERS"):
            pytest.fail(absent)
        pytest.skip(absent)
    return program


@contextmanager
def running(name: str, folder: Path) -> Iterator[Peer]:
    """Starts the program of this name in an empty folder; skips the test where it is absent."""
    program = installed(name)
    port = free_port()
    command = {"storescp": _storescp, "Orthanc": _orthanc}[name](folder, port)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, *command], stdout=log, stderr=log)
        try:
            _wait(process, name, port, folder / "log")
            yield Peer(name, port)
        finally:
            process.kill()
            process.wait()


def _storescp(folder: Path, port: int) -> list[str]:
    stored = folder / "stored"
    stored.mkdir()
    return ["--promiscuous", "--accept-all", "--fork", "--output-directory", str(stored), str(port)]


def _orthanc(folder: Path, port: int) -> list[str]:
    configuration = folder / "orthanc.json"
    configuration.write_text(
        json.dumps(
            {
                "StorageDirectory": str(folder / "stored"),
                "IndexDirectory": str(folder / "stored"),
                "HttpServerEnabled": False,
                "DicomPort": port,
                "DicomCheckCalledAet": False,
                "DicomAlwaysAllowStore": True,
                "UnknownSopClassAccepted": True,
                "DicomScpTimeout": 2,
            }
        )
    )
    return [str(configuration)]


def _wait(process: "subprocess.Popen[bytes]", name: str, port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_WITHIN_S
    while True:
        with socket.socket() as probe:
            if not probe.connect_ex(("127.0.0.1", port)):
                return
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"{name} did not start: {log.read_text(errors='replace')[-500:]}")
        time.sleep(0.05)
