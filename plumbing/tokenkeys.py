"""The public keys that user tokens are verified with: a file of one or two, read again when it changes.

A JSON Web Key Set (RFC 7517, section 5) of Ed25519 keys (RFC 8037), each known by its thumbprint (RFC 7638).
There are two while the key changes: first services learn of the new key, then the web mints with it, then the
old one goes. A file with one key in PEM, as the version before was given, is read too.

A file is taken whole or not at all: while it cannot be read, the keys before count.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey
from prometheus_client import Gauge

from kernel.errors import Invalid
from plumbing import log

MAX_KEYS = 2
MAX_FILE_BYTES = 1 << 16
"""Two keys are 400 bytes."""

Keys = Mapping[str, OKPKey]
"""By thumbprint."""

COUNT = Gauge("readroom_token_keys", "Keys that user tokens are verified with: two while the key changes")
UNREADABLE = Gauge(
    "readroom_token_keys_unreadable",
    "Alert at 1: the file of keys cannot be read, and the keys before still count",
)

_log = log.get()


class _Jwk(msgspec.Struct):
    kty: str
    crv: str = ""
    x: str = ""
    kid: str | None = None
    use: str = "sig"
    alg: str = "Ed25519"
    d: str | None = None


class _Jwks(msgspec.Struct):
    keys: list[_Jwk]


def parse(content: bytes) -> Keys:
    """The keys in a file; raises Invalid, which repeats nothing of it."""
    if len(content) > MAX_FILE_BYTES:
        raise Invalid(f"the file of token keys is larger than {MAX_FILE_BYTES} bytes")
    try:
        if content.lstrip().startswith(b"-----BEGIN"):
            keys = [_public(OKPKey.import_key(content))]
        else:
            keys = [_key(each) for each in msgspec.json.decode(content, type=_Jwks).keys]
    except (JoseError, ValueError, TypeError, msgspec.MsgspecError) as error:
        raise Invalid(
            "the file of token keys is no JSON Web Key Set of Ed25519 keys, and no PEM of one"
        ) from error
    found = {key.thumbprint(): key for key in keys}
    if not 1 <= len(keys) <= MAX_KEYS or len(found) != len(keys):
        raise Invalid(f"the file of token keys must hold 1 to {MAX_KEYS} different keys")
    return found


def _key(given: _Jwk) -> OKPKey:
    if given.d is not None:
        raise _private()
    if (given.kty, given.crv, given.use, given.alg) != ("OKP", "Ed25519", "sig", "Ed25519"):
        raise Invalid("a token key must be an Ed25519 key for signatures (`OKP`, `Ed25519`, `sig`)")
    key = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": given.x})
    if given.kid not in (None, key.thumbprint()):
        raise Invalid("the `kid` of a token key must be its thumbprint (RFC 7638)")
    return key


def _public(key: OKPKey) -> OKPKey:
    if key.is_private:
        raise _private()
    if key.curve_name != "Ed25519":
        raise Invalid("a token key must be an Ed25519 key")
    return key


def _private() -> Invalid:
    return Invalid(
        "the file of token keys holds a private key: make a new key, and give services its public part only"
    )


def key_set(pems: Iterable[bytes]) -> bytes:
    """The file for these keys in PEM, of which the public parts are taken; raises Invalid."""
    try:
        keys = [OKPKey.import_key(pem) for pem in pems]
    except (JoseError, ValueError, TypeError) as error:
        raise Invalid("expected Ed25519 keys in PEM") from error
    more = {"use": "sig", "alg": "Ed25519"}
    shown = [{**key.as_dict(private=False), "kid": key.thumbprint(), **more} for key in keys]
    content = json.dumps({"keys": shown}, indent=2).encode() + b"\n"
    parse(content)
    return content


class KeyFile:
    """A file of keys.

    Attributes:
        keys: those that count now.
    """

    def __init__(self, path: Path) -> None:
        """Raises Invalid if it cannot be read."""
        self._path = path
        self._seen: object = None
        self._told: object = None
        try:
            self.keys = self._read()
        except OSError as error:
            raise Invalid(f"the file of token keys cannot be read: {error.strerror}") from error
        COUNT.set(len(self.keys))

    def look(self) -> bool:
        """Looks whether the file has changed, and reads it then; whether other keys count now."""
        try:
            if self._stamp() == self._seen:
                return False
            keys = self._read()
        except (OSError, Invalid) as error:
            self._complain(error)
            return False
        UNREADABLE.set(0)
        COUNT.set(len(keys))
        self._told = None
        if keys.keys() == self.keys.keys():
            return False
        _log.info("token keys changed", keys=sorted(keys))
        self.keys = keys
        return True

    def _stamp(self) -> tuple[int, ...]:
        status = self._path.stat()
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    def _read(self) -> Keys:
        # Looked at before it is read: what is written meanwhile is seen the next time.
        stamp = self._stamp()
        with self._path.open("rb") as file:
            keys = parse(file.read(MAX_FILE_BYTES + 1))
        self._seen = stamp
        return keys

    def _complain(self, error: OSError | Invalid) -> None:
        UNREADABLE.set(1)
        said = str(error)
        if said != self._told:
            _log.warning("the token keys cannot be read: those before still count", cause=said)
            self._told = said
