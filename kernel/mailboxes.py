"""Mail addresses: what is one, and how mail servers know its domain (RFC 5321 4.1.2, RFC 6531, IDNA 2008)."""

import re
import unicodedata
from dataclasses import dataclass

import idna

MAX_ADDRESS_CHARACTERS = 254
"""The longest path of RFC 5321 (4.5.3.1.3) without its angle brackets."""

_MAX_LOCAL_BYTES = 64
_ATOM = r"[^\s\x00-\x1f\x7f()<>\[\]:;@\\,\".]+"
_LOCAL = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_QUOTED = re.compile(r'"(?:[^"\\\x00-\x1f\x7f]|\\[\x20-\x7e])*"')
_PLAIN = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+")
_HOST = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(?:\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*")


@dataclass(frozen=True, slots=True)
class Mailbox:
    """An address: local part as it is written, domain in ASCII."""

    local: str
    domain: str

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}"

    @property
    def is_plain(self) -> bool:
        """Whether every server between takes the local part: no quotes, and nothing outside of ASCII."""
        return _PLAIN.fullmatch(self.local) is not None


def mailbox(address: str) -> Mailbox:
    """Raises ValueError for what is not exactly one address, so that nothing of it becomes a command."""
    local, at, domain = address.rpartition("@")
    in_ascii = ascii_domain(domain)
    fits = (
        len(local.encode(errors="replace")) <= _MAX_LOCAL_BYTES
        and max(len(address), len(f"{local}@{in_ascii}")) <= MAX_ADDRESS_CHARACTERS
    )
    known = _LOCAL.fullmatch(local) or _QUOTED.fullmatch(local)
    visible = all(unicodedata.category(each)[0] not in "CZ" or each == " " for each in local)
    if not (at and fits and known and visible and _HOST.fullmatch(in_ascii)):
        raise ValueError("no mail address")
    return Mailbox(local, in_ascii)


def ascii_domain(domain: str) -> str:
    """The domain with A-labels in place of its international labels (IDNA 2008, mapped by UTS 46).

    What is in ASCII already stays as it is. Raises ValueError for what is no domain.
    """
    if domain.isascii():
        return domain
    return idna.encode(domain, uts46=True, std3_rules=True).decode("ascii")
