"""When each gateway was heard, and what it told of itself: noted in memory, saved once a second."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from threading import Lock

from kernel.errors import Invalid
from kernel.ids import GatewayId

MAX_VERSION_CHARACTERS = 64
LONGEST_WAIT = timedelta(days=3650)
"""What waits longer by a gateway's clock says that the clock is wrong."""


@dataclass(frozen=True, slots=True)
class Contact:
    """What is known of a gateway; None: nobody has told.

    Attributes:
        heard_at: when it did anything last.
        stored_at: when its last instance was stored.
        told_at: when it told what follows.
        waiting_studies: transfers in its queue that were not at an end.
        waiting_since: since when the oldest of them has waited, by our clock.
    """

    heard_at: datetime | None = None
    stored_at: datetime | None = None
    told_at: datetime | None = None
    software_version: str | None = None
    waiting_studies: int | None = None
    waiting_since: datetime | None = None

    def then(self, later: "Contact") -> "Contact":
        """Both together; what the later one says counts. What a gateway tells counts as a whole."""
        told = later if later.told_at else self
        return Contact(
            later.heard_at or self.heard_at,
            later.stored_at or self.stored_at,
            *(getattr(told, each.name) for each in fields(Contact)[2:]),
        )


NEVER_HEARD = Contact()


def told(
    software_version: str, waiting_studies: int, oldest_waits: timedelta | None, now: datetime
) -> Contact:
    """What a gateway tells; raises Invalid for what cannot be."""
    if len(software_version) > MAX_VERSION_CHARACTERS or not software_version.isprintable():
        raise Invalid(
            f"`software_version` must have at most {MAX_VERSION_CHARACTERS} printable characters",
            field="software_version",
        )
    if waiting_studies < 0:
        raise Invalid("`waiting_studies` must not be negative", field="waiting_studies")
    since = None if oldest_waits is None else now - min(max(oldest_waits, timedelta()), LONGEST_WAIT)
    return Contact(now, None, now, software_version or None, waiting_studies, since)


class Contacts:
    """Of one process, for many threads."""

    def __init__(self) -> None:
        self._noted: dict[GatewayId, Contact] = {}
        self._lock = Lock()

    def note(self, gateway_id: GatewayId, contact: Contact) -> None:
        """Adds to what is known of a gateway."""
        with self._lock:
            self._noted[gateway_id] = self._noted.get(gateway_id, NEVER_HEARD).then(contact)

    def take(self) -> Mapping[GatewayId, Contact]:
        """What was noted since the last time, for the caller to save."""
        with self._lock:
            taken, self._noted = self._noted, {}
            return taken

    def keep(self, taken: Mapping[GatewayId, Contact]) -> None:
        """This could not be saved: `take` answers it again."""
        with self._lock:
            for gateway_id, contact in taken.items():
                self._noted[gateway_id] = contact.then(self._noted.get(gateway_id, NEVER_HEARD))
