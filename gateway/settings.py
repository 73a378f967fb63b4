"""What a gateway is told: one TOML file, read once; a bad value names its key. README.md shows one."""

import ipaddress
import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FilePath, ValidationError

from gateway.private import is_private
from gateway.retention import Terms
from kernel.dicom import parse_ae_title
from kernel.errors import Invalid
from plumbing.config import Address, IPAddress
from plumbing.tls import TLSFiles


def _ae_title(text: str) -> str:
    try:
        return parse_ae_title(text, "AE title")
    except Invalid as error:
        raise ValueError(error.sentence) from None


Title = Annotated[str, AfterValidator(_ae_title)]


def _loopback(address: str) -> str:
    if not ipaddress.ip_address(address.rpartition(":")[0].strip("[]")).is_loopback:
        raise ValueError("expected a loopback address")
    return address


LoopbackAddress = Annotated[Address, AfterValidator(_loopback)]


def _private(path: Path) -> Path:
    if not is_private(path):
        raise ValueError(f"other users may read it: run `chmod 600 {path}`")
    return path


PrivateKey = Annotated[FilePath, AfterValidator(_private)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Central(_Table):
    """Central server, as enrolment named it.

    Attributes:
        dicom_address: where images go.
        gateway_address: where transfers are announced.
        ae_title: the AE title to call.
    """

    dicom_address: Address
    gateway_address: Address
    ae_title: Title


class Listener(_Table):
    """Where modalities send over TLS.

    Attributes:
        listen: 2762 is the port that IANA registered for DICOM over TLS.
        certificate, key: what the gateway shows to modalities; its own identity if absent.
        ca: of the hospital; a sender with a certificate of it is known, others must be registered.
    """

    listen: Address = "0.0.0.0:2762"
    certificate: FilePath | None = None
    key: PrivateKey | None = None
    ca: FilePath | None = None


class PlainListener(_Table):
    """Where registered modalities that cannot speak TLS send (A54)."""

    listen: Address


class Modality(_Table):
    """A registered modality: it is known by its AE title and its address together."""

    ae_title: Title
    address: IPAddress


class Retention(_Table):
    """How long studies stay in the spool after Central server has acknowledged all of them.

    Attributes:
        keep_days: then a study leaves; days in which the gateway did not run do not count.
        keep_at_least_days: before this none does, whatever the disk says.
        keep_at_most_gb: above this the longest kept leave earlier; no limit if absent. 1 GB is 10^9 bytes.
    """

    keep_days: float = Field(default=30.0, ge=0)
    keep_at_least_days: float = Field(default=3.0, ge=0)
    keep_at_most_gb: float | None = Field(default=None, gt=0)


class Metrics(_Table):
    """Where Prometheus and a watchdog ask, in plain text: on this machine only (GWY-3)."""

    listen: LoopbackAddress


class Log(_Table):
    """Where lines of the log go; to standard error if the table is absent.

    Attributes:
        file: renamed when it is full.
        max_mb: of one file.
        kept: older files that stay.
    """

    file: Path
    max_mb: float = Field(default=10.0, gt=0)
    kept: int = Field(default=5, ge=0, le=100)


class Settings(_Table):
    """The whole file. Relative paths start at its folder.

    Attributes:
        certificate, key, ca: the gateway's identity, and the CA of Central server.
        ae_titles: what modalities call; a study goes on under the title that was called.
        spool: folder for studies and the database; made if absent.
        parallel: associations to Central at once, each of which carries studies one after another.
        quiet_s: how long a transfer waits for the study's next instance before it ends.
        retry_s, retry_at_most_s: pause after the first failure, which doubles with each up to the second.
        drain_s: how long a gateway that is told to stop waits for modalities to release their associations,
            and then for the transfers under way to end; what is left goes on after the next start.
        private_classes: whether objects of vendors' own storage classes are taken too.
        reserve_mb: room on the disk that receiving may not touch, so that forwarding goes on when it is full.
    """

    certificate: FilePath
    key: PrivateKey
    ca: FilePath
    ae_titles: tuple[Title, ...] = Field(min_length=1)
    central: Central
    spool: Path
    listener: Listener | None = Listener()
    plain_listener: PlainListener | None = None
    modalities: tuple[Modality, ...] = ()
    parallel: int = Field(default=2, ge=1, le=32)
    quiet_s: float = Field(default=0.3, gt=0, le=60)
    retry_s: float = Field(default=1.0, gt=0)
    retry_at_most_s: float = Field(default=30.0, gt=0)
    drain_s: float = Field(default=1.0, ge=0, le=600)
    private_classes: bool = True
    reserve_mb: int = Field(default=64, ge=1)
    retention: Retention = Retention()
    metrics: Metrics | None = None
    log: Log | None = None

    @property
    def reserve_bytes(self) -> int:
        return self.reserve_mb * 2**20

    @property
    def terms(self) -> Terms:
        gb = self.retention.keep_at_most_gb
        return Terms(
            keep_days=self.retention.keep_days,
            keep_at_least_days=self.retention.keep_at_least_days,
            keep_at_most_bytes=None if gb is None else int(gb * 1e9),
        )

    @property
    def tls(self) -> TLSFiles:
        return TLSFiles(self.certificate, self.key, self.ca)


_PATHS = {("certificate",), ("key",), ("ca",), ("spool",), ("log", "file")} | {
    ("listener", name) for name in ("certificate", "key", "ca")
}


def load(path: Path) -> Settings:
    """The settings in the file at `path`; raises Invalid, which names every key at fault."""
    try:
        values = tomllib.loads(path.read_text())
    except OSError as error:
        raise Invalid(f"`{path}` cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"`{path}` is not TOML: {error}") from None
    for keys in _PATHS:
        _anchor(values, keys, path.parent)
    try:
        return Settings(**values)
    except ValidationError as error:
        problems = [
            f"`{'.'.join(map(str, detail['loc']))}` {_cause(detail['type'], detail['msg'])}"
            for detail in error.errors(include_input=False, include_url=False)
        ]
    raise Invalid("; ".join(problems))


def _anchor(values: Any, keys: tuple[str, ...], folder: Path) -> None:
    *tables, name = keys
    for table in tables:
        values = values.get(table, {}) if isinstance(values, dict) else {}
    if isinstance(values, dict) and isinstance(values.get(name), str):
        values[name] = folder / values[name]


def _cause(kind: str, message: str) -> str:
    if kind == "missing":
        return "is not set"
    if kind == "extra_forbidden":
        return "is not a setting"
    text = message.removeprefix("Value error, ")
    return f"is not valid: {text[:1].lower()}{text[1:]}"
