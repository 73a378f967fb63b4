"""Where a system on embedded servers is: `endpoints.json` in its data directory, mode 0600.

Written by `python -m local` when everything is ready, read by the command line, the demo and tests.
"""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from kernel.errors import Unavailable
from plumbing.files import write_private

FILE = "endpoints.json"


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The keys of the file. Addresses are `host:port`, paths absolute.

    Attributes:
        services: gRPC address of each service by name, and of the web.
        http: address of each process's metrics and probes, in plain text.
        pages: address of the web's pages, for a browser.
        dicom: where ingest takes DICOM over mutual TLS from gateways.
        dicomweb: where the web asks ingest for images over mutual TLS.
        gateways: where ingest takes the gateways' gRPC calls.
        service_ca: certificate of the authority of services and of the caller `bff`.
        gateway_ca: certificate of the authority of gateways and of the two listeners above.
        caller_certificate, caller_key: the identity of the caller `bff`, which the command line presents.
        issuer_key: private Ed25519 key of the token issuer: who can read it can act as any user.
        clock_offset_file: the seconds by which a demo has moved the system's time; absent for none.
        mail, texts: folders with what the mail server and the text gateway of this machine have received.
    """

    services: dict[str, str]
    http: dict[str, str]
    pages: str
    dicom: str
    dicomweb: str
    gateways: str
    service_ca: Path
    gateway_ca: Path
    caller_certificate: Path
    caller_key: Path
    issuer_key: Path
    clock_offset_file: Path
    mail: Path
    texts: Path

    @classmethod
    def read(cls, data_dir: Path) -> "Endpoints":
        """Raises Unavailable if no system runs on the data directory."""
        path = data_dir / FILE
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls, dec_hook=lambda _, text: Path(text))
        except FileNotFoundError:
            raise Unavailable(
                f"no system runs on `{data_dir}`: start one with `make up DATA={data_dir}`, or name another "
                "folder with --data"
            ) from None
        except (OSError, msgspec.MsgspecError) as failure:
            raise Unavailable(f"`{path}` cannot be read: {failure}") from None

    def write(self, data_dir: Path) -> None:
        content = msgspec.json.encode(self, enc_hook=str)
        write_private(data_dir / FILE, msgspec.json.format(content, indent=1))

    @staticmethod
    def remove(data_dir: Path) -> None:
        """The system has stopped."""
        (data_dir / FILE).unlink(missing_ok=True)
