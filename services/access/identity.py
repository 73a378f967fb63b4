"""An identity, and the invitation by which a person binds theirs to a user, once.

An identity is what an issuer says of a person: its own name, and the subject by which it knows them (OpenID
Connect Core 1.0, section 2). Nothing else binds: an e-mail address belongs today to one person, and next year
to another.

The code of an invitation is 64 characters: its id, by which it is found, and 32 random bytes, of which only
the digest is kept. A try is counted, and the count committed, before the digests are compared.
"""

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NewType
from uuid import UUID

from kernel.errors import Conflict, Invalid, NotFound
from kernel.ids import UserId

InvitationId = NewType("InvitationId", UUID)

INVITATION_LASTS = timedelta(days=7)
"""Somebody may be away for a week."""

MAX_WRONG_CODES = 5
"""What a person mistypes; 32 random bytes are not guessed in any number of tries."""

MAX_IDENTITIES = 10
"""Of one user: some hospitals and a badge system."""

SECRET_BYTES = 32
_ID_BYTES = 16

# OpenID Connect Core 1.0, section 2: `sub` is at most 255 characters of ASCII, `iss` an https URL.
_NAME = re.compile(r"[!-~]{1,255}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Identity:
    """What an issuer says of a person; both are compared letter by letter."""

    issuer: str
    subject: str


def checked_identity(issuer: str, subject: str) -> Identity:
    """The identity of this name; raises Invalid, which names the field and repeats nothing."""
    for name, value in (("issuer", issuer), ("subject", subject)):
        if not _NAME.fullmatch(value):
            raise Invalid(
                f"`{name}` must be 1 to 255 printable characters of ASCII without blanks", field=name
            )
    return Identity(issuer, subject)


@dataclass(frozen=True, slots=True)
class BoundIdentity:
    """An identity that signs in as a user, and who bound it when."""

    identity: Identity
    user_id: UserId
    bound_by: str
    bound_at: datetime


@dataclass(frozen=True, slots=True)
class Code:
    """What an administrator hands to whom they invite."""

    invitation_id: InvitationId
    secret: bytes = field(repr=False)

    @property
    def text(self) -> str:
        return base64.urlsafe_b64encode(self.invitation_id.bytes + self.secret).decode()

    @property
    def digest(self) -> bytes:
        """All that is kept of it: of 32 random bytes nobody finds the secret."""
        return hashlib.sha256(self.secret).digest()


def read_code(text: str) -> Code:
    """The code that somebody shows; raises NotFound for what is none, as for one that is not valid."""
    try:
        content = base64.b64decode(text.strip(), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise not_valid() from None
    if len(content) != _ID_BYTES + SECRET_BYTES:
        raise not_valid()
    return Code(InvitationId(UUID(bytes=content[:_ID_BYTES])), content[_ID_BYTES:])


@dataclass(frozen=True, slots=True)
class Invitation:
    """The one invitation of a user.

    Attributes:
        invited_by: login of the administrator; None: who has the database made it.
        wrong_codes: in succession.
        used_at: None until somebody has bound their identity by it.
    """

    id: InvitationId
    user_id: UserId
    digest: bytes = field(repr=False)
    invited_by: str | None
    invited_at: datetime
    ends_at: datetime
    wrong_codes: int = 0
    used_at: datetime | None = None

    @classmethod
    def made(cls, code: Code, user_id: UserId, *, by: str | None, now: datetime) -> "Invitation":
        return cls(code.invitation_id, user_id, code.digest, by, now, now + INVITATION_LASTS)

    def is_open(self, now: datetime) -> bool:
        """Whether somebody may still use it."""
        return self.used_at is None and now < self.ends_at and self.wrong_codes < MAX_WRONG_CODES

    def fits(self, code: Code) -> bool:
        return hmac.compare_digest(self.digest, code.digest)


def not_valid() -> NotFound:
    """The one answer to whoever shows a code that does not count; it says nothing about what exists."""
    return NotFound(
        "this invitation is not valid: it was used, has ended, or a newer one took its place; "
        "ask an administrator for another",
        field="code",
    )


def must_have_room(bound: int, login: str) -> None:
    """Raises Conflict if a user has as many identities as one may have."""
    if bound >= MAX_IDENTITIES:
        raise Conflict(f"`{login}` has {MAX_IDENTITIES} identities already: remove one of them first")


def bound_to_another() -> Conflict:
    """The answer where an identity is to sign in as two users; it does not say as whom it does."""
    return Conflict(
        "this identity signs in as another user already: an administrator must remove it there first",
        field="identity",
    )
