"""Settings: a frozen value, read once from the environment; a bad value names its key."""

import ipaddress
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FilePath,
    NonNegativeFloat,
    PrivateAttr,
    SecretStr,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from kernel.countries import KNOWN
from kernel.errors import Invalid
from plumbing import remote
from plumbing.renewed import Renewed
from plumbing.tls import TLSFiles


def _host_and_port(address: str) -> str:
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ValueError("expected HOST:PORT")
    return address


Address = Annotated[str, AfterValidator(_host_and_port)]
"""`host:port`; an IPv6 host stands in brackets. Port 0 lets the system choose."""


IPAddress = Annotated[str, AfterValidator(lambda text: str(ipaddress.ip_address(text)))]
"""An address of IPv4 or IPv6, not a host's name."""


def listed(value: Any) -> Any:
    """The parts of a text between commas."""
    return [each.strip() for each in value.split(",") if each.strip()] if isinstance(value, str) else value


def _known(value: tuple[str, ...]) -> tuple[str, ...]:
    if unknown := [each for each in value if each not in KNOWN]:
        raise ValueError(f"expected ISO 3166 codes of countries: {len(unknown)} are not")
    return value


Countries = Annotated[tuple[str, ...], BeforeValidator(listed), AfterValidator(_known)]
"""ISO 3166 codes, separated by commas."""


def valid(kind: Any, text: str, field: str) -> str:
    """The text as a value of one of the kinds above; raises Invalid, which names `field`."""
    try:
        return str(TypeAdapter(kind).validate_python(text))
    except ValidationError as error:
        (detail,) = error.errors(include_input=False, include_url=False)
        raise Invalid(f"`{field}` {_cause(detail['type'], detail['msg'])}: `{text}`", field=field) from None


def _in_a_folder(path: Path) -> Path:
    if not path.parent.is_dir():
        raise ValueError("expected a file in a folder that exists")
    return path


def _of(kind: remote.Kind) -> AfterValidator:
    def check(value: Any) -> Any:
        if value is not None and (wrong := remote.problem(_text(value), kind)):
            raise ValueError(wrong)
        return value

    return AfterValidator(check)


def _text(value: str | SecretStr) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


DatabaseUrl = Annotated[SecretStr, remote.DATABASE, _of(remote.DATABASE)]
NatsUrl = Annotated[SecretStr, remote.BUS, _of(remote.BUS)]
CacheUrl = Annotated[SecretStr, remote.CACHE, _of(remote.CACHE)]
CollectorUrl = Annotated[str | None, remote.COLLECTOR, _of(remote.COLLECTOR)]
"""Addresses of servers; on other machines over TLS only (`remote.py`)."""


class Settings(BaseModel):
    """What a process is told.

    Attributes:
        prefix: what stands before the names of the fields in the environment; each subclass says its own.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, validate_default=True)
    prefix: ClassVar[str]

    _files: dict[str, Path] = PrivateAttr(default_factory=dict)

    def secret(self, name: str) -> Callable[[], str]:
        """A secret as it is now: where it stands in a file, what is written there later counts too."""
        first: str = getattr(self, name).get_secret_value()
        file = self._files.get(name)
        if file is None:
            return lambda: first

        def read() -> str:
            given = {each: getattr(self, each) for each in type(self).model_fields}
            changed: SecretStr = getattr(type(self)(**given | {name: read_secret(file)}), name)
            return changed.get_secret_value()

        return Renewed(lambda: (file,), read)

    def secret_file(self, name: str) -> Path | None:
        """In which file a secret stands, if it does."""
        return self._files.get(name)

    @classmethod
    def read(cls, values: Mapping[str, Any], files: Mapping[str, Path]) -> Self:
        """The settings of these values, some of which stand in files; raises ValidationError."""
        made = cls(**values)
        made._files.update(files)
        return made


S = TypeVar("S", bound=Settings)


def read_secret(file: Path) -> str:
    """What stands in the file of a secret, without the end of its line; raises OSError or ValueError."""
    return file.read_text().rstrip("\r\n")


def load(settings_type: type[S], environ: Mapping[str, str]) -> S:
    """The settings in `environ`: the key of a field is the prefix and its name in capitals.

    A secret may stand in a file instead, named by the same key with `_FILE`; the end of line is not part
    of it. Raises Invalid, which names every key at fault and repeats no value.
    """
    values: dict[str, Any] = {}
    keys: dict[str, str] = {}
    problems: list[str] = []
    files: dict[str, Path] = {}
    for name, field in settings_type.model_fields.items():
        key = keys[name] = f"{settings_type.prefix}{name}".upper()
        file_key = f"{key}_FILE"
        is_secret = field.annotation is SecretStr
        if is_secret and file_key in environ:
            if key in environ:
                problems.append(f"`{key}` and `{file_key}` are both set: expected one of them")
            try:
                files[name] = Path(environ[file_key])
                values[name] = read_secret(files[name])
            except (OSError, UnicodeDecodeError):
                problems.append(f"`{file_key}` names a file that cannot be read")
        elif key in environ:
            values[name] = environ[key]
    if not problems:
        try:
            return settings_type.read(values, files)
        except ValidationError as error:
            problems = [
                f"`{keys.get(str(detail['loc'][0]), '?')}` {_cause(detail['type'], detail['msg'])}"
                if detail["loc"]
                else detail["msg"].removeprefix("Value error, ")
                for detail in error.errors(include_input=False, include_url=False)
            ]
    raise Invalid("; ".join(problems))


def _cause(kind: str, message: str) -> str:
    if kind == "missing":
        return "is not set"
    text = message.removeprefix("Value error, ")
    return f"is not valid: {text[:1].lower()}{text[1:]}"


class ReachingSettings(Settings):
    """What a process is told that reaches servers.

    Attributes:
        servers_ca: PEM of the authorities that sign the certificates of database, bus, cache and collector;
            needed as soon as one of them is on another machine.
    """

    servers_ca: FilePath | None = None

    @model_validator(mode="after")
    def _servers_elsewhere_can_be_verified(self) -> Self:
        for name, field in type(self).model_fields.items():
            kind = next((each for each in field.metadata if isinstance(each, remote.Kind)), None)
            address = getattr(self, name)
            if kind and address and self.servers_ca is None and remote.is_encrypted(_text(address), kind):
                raise ValueError(
                    f"`{f'{self.prefix}{name}'.upper()}` names a server that must be verified: set "
                    f"`{self.prefix}SERVERS_CA` to the file with the authority of its certificate"
                )
        return self


class ProcessSettings(ReachingSettings):
    """What every process of the cloud side is told.

    Attributes:
        listen: where gRPC is served.
        http_listen: where metrics and probes are served (`probes.py`), in plain text: keep it inside.
        database_url: `postgresql://`; a socket's folder stands in `?host=`.
        tls_certificate, tls_key, tls_ca: its own identity, and the CA of its peers.
        token_keys: JSON Web Key Set of the one or two Ed25519 keys that user tokens are verified with; read
            again when it changes.
        token_public_key: one such key in PEM, as the version before was told; without `token_keys` only.
        audit_key: what audit rows are sealed with, the same for good; at least 32 characters.
        audit_anchor_file: where the chain of audit rows is anchored; nobody else may write it.
        clock_offset_file: holds the seconds that a demo has moved time by; only on one machine.
        drain_s: how long a process that is told to stop waits for peers to end what they do by themselves.
        otlp_endpoint: where traces go, `http://` on this machine and `https://` on another; without it they
            go nowhere.
    """

    listen: Address
    http_listen: Address
    database_url: DatabaseUrl
    tls_certificate: FilePath
    tls_key: FilePath
    tls_ca: FilePath
    token_keys: FilePath | None = None
    token_public_key: FilePath | None = None
    audit_key: Annotated[SecretStr, Field(min_length=32)]
    audit_anchor_file: Annotated[Path, AfterValidator(_in_a_folder)]
    clock_offset_file: Path | None = None
    drain_s: NonNegativeFloat = 1.0
    otlp_endpoint: CollectorUrl = None

    @property
    def tls(self) -> TLSFiles:
        return TLSFiles(self.tls_certificate, self.tls_key, self.tls_ca)

    @property
    def token_key_file(self) -> Path:
        """The file with the keys that user tokens are verified with."""
        path = self.token_keys or self.token_public_key
        assert path is not None, "checked when the settings were read"
        return path

    @model_validator(mode="after")
    def _tokens_can_be_verified(self) -> Self:
        if self.token_keys is None and self.token_public_key is None:
            raise ValueError(f"`{f'{self.prefix}TOKEN_KEYS'.upper()}` is not set")
        return self

    @model_validator(mode="after")
    def _time_moves_on_one_machine_only(self) -> Self:
        if self.clock_offset_file is not None:
            for name in type(self).model_fields:
                address = getattr(self, name)
                moves = name.endswith(("listen", "_address", "_url")) and address is not None
                if moves and not remote.is_local(_text(address)):
                    key = f"{self.prefix}{name}".upper()
                    raise ValueError(f"`{key}` is not a loopback address: a clock offset is refused")
        return self


class ServiceSettings(ProcessSettings):
    """What every service is told.

    Attributes:
        nats_url: `nats://user:password@host:port`, of this service's own user (`permissions.py`); `tls://`
            where NATS is on another machine.
    """

    nats_url: NatsUrl
