"""The modality: an independent DICOM sender. DCMTK's storescu where it is installed, else pynetdicom's."""

import shutil
import ssl
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pydicom
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, _config, build_context, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from local.processes import until
from plumbing.tls import TLSFiles, client_context

_TIMEOUT_S = "20"

# One association proposes one transfer syntax, so that nothing is converted: what is on the modality's disk
# is what travels. storescu has an option for each (PS3.5 chapter 10).
_STORESCU_OPTIONS = {
    "1.2.840.10008.1.2": "-xi",  # implicit VR little endian
    "1.2.840.10008.1.2.1": "-xe",  # explicit VR little endian
    "1.2.840.10008.1.2.2": "-xb",  # explicit VR big endian
    "1.2.840.10008.1.2.1.99": "-xd",  # deflated
    "1.2.840.10008.1.2.4.50": "-xy",  # JPEG baseline
    "1.2.840.10008.1.2.4.51": "-xx",  # JPEG extended
    "1.2.840.10008.1.2.4.70": "-xs",  # JPEG lossless
    "1.2.840.10008.1.2.4.80": "-xt",  # JPEG-LS lossless
    "1.2.840.10008.1.2.4.90": "-xv",  # JPEG 2000 lossless
    "1.2.840.10008.1.2.4.91": "-xw",  # JPEG 2000
    "1.2.840.10008.1.2.5": "-xr",  # RLE
}


class Refused(Exception):
    """The peer did not take it; the sentence is the sender's own."""


@dataclass(frozen=True, slots=True)
class Called:
    """Whom a modality calls.

    Attributes:
        host, port: where.
        ae_title: the AE title called.
        tls: identity to show and authority to trust; None for plain text.
    """

    host: str
    port: int
    ae_title: str
    tls: TLSFiles | None = None


class Modality(Protocol):
    """Sends objects as they are on its disk."""

    @property
    def software(self) -> str: ...

    def send(self, paths: Sequence[Path], called: Called, sent: Callable[[], None]) -> None:
        """Sends them, `sent` after each; raises Refused if one is not taken."""


def modality(ae_title: str) -> Modality:
    """The one that this machine offers."""
    storescu = _dcmtk()
    return DcmtkModality(ae_title, storescu) if storescu else PynetdicomModality(ae_title)


def _dcmtk() -> str | None:
    # pynetdicom installs a program of the same name, and with an active environment it comes first.
    for folder in ("/usr/bin", "/usr/local/bin", "/opt/homebrew/bin", "/opt/local/bin"):
        program = shutil.which("storescu", path=folder)
        if program:
            return program
    return None


def by_transfer_syntax(paths: Sequence[Path]) -> dict[str, list[Path]]:
    """The objects of each transfer syntax."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        meta = pydicom.filereader.read_file_meta_info(path)
        groups[str(meta.TransferSyntaxUID)].append(path)
    return groups


@dataclass(frozen=True, slots=True)
class DcmtkModality:
    """DCMTK's storescu."""

    ae_title: str
    program: str
    software: str = "DCMTK storescu"

    def send(self, paths: Sequence[Path], called: Called, sent: Callable[[], None]) -> None:
        for transfer_syntax, group in by_transfer_syntax(paths).items():
            self._send(group, called, _STORESCU_OPTIONS[transfer_syntax], sent)

    def _send(self, paths: Sequence[Path], called: Called, proposed: str, sent: Callable[[], None]) -> None:
        command = [self.program, "-v", "-R", proposed, "-aet", self.ae_title, "-aec", called.ae_title]
        command += ["-to", _TIMEOUT_S, "-ta", _TIMEOUT_S, "-td", _TIMEOUT_S]
        if called.tls:
            command += ["+tls", str(called.tls.key), str(called.tls.certificate), "+cf", str(called.tls.ca)]
        command += [called.host, str(called.port), *map(str, paths)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        said = []
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("I: Received Store Response (Success)"):
                sent()
            elif line.startswith(("E:", "F:", "W:")) or "Store Response" in line:
                said.append(line[3:].strip())
        if process.wait() != 0:
            raise Refused("; ".join(dict.fromkeys(said)) or f"storescu ended with {process.returncode}")


@dataclass(frozen=True, slots=True)
class PynetdicomModality:
    """pynetdicom, sending the bytes of each file as they are."""

    ae_title: str
    software: str = "pynetdicom"

    def send(self, paths: Sequence[Path], called: Called, sent: Callable[[], None]) -> None:
        _config.STORE_SEND_CHUNKED_DATASET = True
        for transfer_syntax, group in by_transfer_syntax(paths).items():
            classes = {pydicom.filereader.read_file_meta_info(p).MediaStorageSOPClassUID for p in group}
            self._send(group, called, [build_context(c, transfer_syntax) for c in sorted(classes)], sent)

    def _send(
        self,
        paths: Sequence[Path],
        called: Called,
        contexts: list[PresentationContext],
        sent: Callable[[], None],
    ) -> None:
        tls = (_trusting(called.tls), called.host) if called.tls else None
        association = AE(self.ae_title).associate(
            called.host, called.port, contexts, ae_title=called.ae_title, tls_args=tls
        )
        if not association.is_established:
            raise Refused("association rejected" if association.is_rejected else "association aborted")
        try:
            for path in paths:
                answer = association.send_c_store(path)
                _let_the_reactor_run(association)
                if "Status" not in answer:
                    raise Refused("the connection was lost")
                if answer.Status != 0x0000:
                    raise Refused(f"status {answer.Status:04X}: {answer.get('ErrorComment', '')}")
                sent()
        finally:
            association.release()


def _let_the_reactor_run(association: Association) -> None:
    """Waits until the association's own thread has taken up its work again.

    send_c_store pauses that thread; if it is paused again before it noticed that it may go on, it goes on
    while the next response is awaited, takes it, and that wait ends by its time limit.
    """
    until(lambda: not association._is_paused, 0.05)  # noqa: SLF001  nothing public tells


def _trusting(files: TLSFiles) -> ssl.SSLContext:
    context = client_context(files)
    context.check_hostname = False  # a gateway's certificate names the gateway, not its host
    return context


@contextmanager
def witness(folder: Path) -> Iterator[Called]:
    """Somebody else to send to, who writes down what a modality puts on the wire, byte for byte.

    DCMTK writes objects anew, equal in every element but not always in every byte; what arrives elsewhere is
    compared with what it sends, not with what is on its disk.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def write_down(event: evt.Event) -> int:
        store: Any = event.request
        head = DicomBytesIO()
        write_file_meta_info(head, event.file_meta)
        name = f"{UID(store.AffectedSOPInstanceUID)}.dcm"
        (folder / name).write_bytes(bytes(128) + b"DICM" + head.getvalue() + store.DataSet.getvalue())
        return 0x0000

    ae = AE("WITNESS")
    for context in AllStoragePresentationContexts:
        ae.add_supported_context(str(context.abstract_syntax), ALL_TRANSFER_SYNTAXES)
    server: Any = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, write_down)])
    try:
        yield Called("127.0.0.1", server.server_address[1], "WITNESS")
    finally:
        server.shutdown()
