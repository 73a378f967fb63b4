"""The peers: Orthanc and DCMTK's storescp as receivers, storescu as the sender, all on loopback.

They come from Debian (`make debian`); a measurement whose peer is absent says so and is left out.
"""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from importlib import metadata
from pathlib import Path

from plumbing.rpc import TLSFiles

START_WITHIN_S = 30.0
DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
"""The plug-in of Orthanc, where Debian puts it."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """A DICOM receiver: where it listens, what it is called, and the processes that do its work.

    Attributes:
        web_port: where it speaks HTTP; 0: nowhere.
    """

    name: str
    port: int
    ae_title: str
    pids: tuple[int, ...]
    web_port: int = 0


def missing(*programs: str) -> list[str]:
    """Which of the programs this machine lacks."""
    return [program for program in programs if shutil.which(program) is None]


def versions() -> str:
    """Name and version of each peer found."""
    found = []
    for program in ("Orthanc", "storescp"):
        if not missing(program):
            text = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
            match = re.search(r"v?(\d+\.\d+\.\d+)", text)
            found.append(f"{program} {match[1] if match else 'of unknown version'}")
    found += [f"{package} {metadata.version(package)}" for package in ("cedarpy", "pycasbin")]
    return ", ".join(found)


@contextlib.contextmanager
def orthanc(folder: Path, tls: TLSFiles, *, tuned: bool, web: bool = False) -> Iterator[Receiver]:
    """Orthanc with mutual TLS, its storage below `folder`, as it is configured by default otherwise.

    With `web` it speaks HTTP too, and DICOMweb there: without TLS, for Debian's Orthanc 1.10.1 ends at the
    first request by HTTPS.
    """
    port, web_port = _free_port(), _free_port() if web else 0
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "orthanc.json"
    configuration.write_text(
        json.dumps(
            {
                "StorageDirectory": str(folder / "storage"),
                "IndexDirectory": str(folder / "storage"),
                "HttpServerEnabled": web,
                **(_web(web_port) if web else {}),
                "DicomAet": "ORTHANC",
                "DicomPort": port,
                "DicomCheckCalledAet": False,
                "DicomAlwaysAllowStore": True,
                "DicomTlsEnabled": True,
                "DicomTlsCertificate": str(tls.certificate),
                "DicomTlsPrivateKey": str(tls.key),
                "DicomTlsTrustedCertificates": str(tls.ca),
                "DicomTlsRemoteCertificateRequired": True,
                "OverwriteInstances": False,
            }
        )
    )
    with _running(["Orthanc", str(configuration)], folder, port, tuned) as pid:
        yield Receiver("Orthanc", port, "ORTHANC", (pid,), web_port)


def _web(port: int) -> dict[str, object]:
    return {"HttpPort": port, "AuthenticationEnabled": False, "Plugins": [str(DICOMWEB)]}


def upload(receiver: Receiver, paths: Sequence[Path]) -> None:
    """Gives Orthanc files by HTTP."""
    connection = HTTPConnection("127.0.0.1", receiver.web_port, timeout=60)
    for path in paths:
        connection.request("POST", "/instances", path.read_bytes())
        answer = connection.getresponse()
        if answer.status != 200:
            raise RuntimeError(f"Orthanc answered {answer.status} to {path.name}")
        answer.read()
    connection.close()


@contextlib.contextmanager
def storescp(folder: Path, tls: TLSFiles, *, tuned: bool) -> Iterator[Receiver]:
    """DCMTK's storescp with mutual TLS, writing files below `folder`; it neither syncs nor indexes."""
    port = _free_port()
    storage = folder / "storage"
    storage.mkdir(parents=True, exist_ok=True)
    command = ["storescp", "--enable-tls", str(tls.key), str(tls.certificate), "--add-cert-file", str(tls.ca),
               "--aetitle", "STORESCP", "--output-directory", str(storage), "--fork", str(port)]  # fmt: skip
    with _running(command, folder, port, tuned) as pid:
        yield Receiver("storescp", port, "STORESCP", (pid,))


def storescu(receiver: Receiver, tls: TLSFiles, calling_ae_title: str, folder: Path, *, tuned: bool) -> float:
    """Sends every file of `folder` in one association; returns the seconds it took."""
    command = ["storescu", "--enable-tls", str(tls.key), str(tls.certificate), "--add-cert-file", str(tls.ca),
               "--aetitle", calling_ae_title, "--call", receiver.ae_title, "--scan-directories",
               "127.0.0.1", str(receiver.port), str(folder)]  # fmt: skip
    began = time.perf_counter()
    done = subprocess.run(
        command, env=_environment(tuned), capture_output=True, text=True, timeout=300, check=False
    )
    took = time.perf_counter() - began
    if done.returncode != 0:
        raise RuntimeError(f"storescu to {receiver.name} failed: {done.stderr[-500:]}")
    return took


def _environment(tuned: bool) -> dict[str, str]:
    """DCMTK's code, in all three programs, disables Nagle's algorithm only where TCP_NODELAY is set."""
    return {**os.environ, **({"TCP_NODELAY": "1"} if tuned else {})}


def processor_seconds(pids: Sequence[int]) -> float:
    """User and system time that the processes, and their children that have ended, have used so far."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def _running(command: Sequence[str], folder: Path, port: int, tuned: bool) -> Iterator[int]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=_environment(tuned), stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + START_WITHIN_S
            while not _listens(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{command[0]} did not start: see {folder / 'log'}")
                time.sleep(0.05)
            yield process.pid
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
