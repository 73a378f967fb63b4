"""Enumerations of the contracts as words a person types: `ROLE_FACILITY_USER` is `facility-user`."""

from collections.abc import Iterable
from typing import Any, Protocol

from wire.access.v1.access_pb2 import (
    CaseAct,
    ExplainedClause,
    ExplainedPath,
    Explanation,
    Historical,
    Language,
    Level,
    Path,
    Priority,
    ReadType,
    Role,
    Side,
    Truth,
    WaitsFor,
)
from wire.ingest.v1.ingest_pb2 import Deletion, Refusal
from wire.notify.v1.notify_pb2 import Notice
from wire.routing.v1.routing_pb2 import Held, PlacementReason, TransmissionModel
from wire.sharing.v1.sharing_pb2 import Bucket, Rights


class _Enum(Protocol):
    """What a generated enumeration offers."""

    def items(self) -> Iterable[tuple[str, int]]: ...


class Words:
    """The values of one enumeration by word, and back.

    `unspecified` is the word for 0; without it 0 can be shown, as nothing, but not said.
    """

    def __init__(self, enum: _Enum, prefix: str, unspecified: str = "") -> None:
        self._words = {
            number: name.removeprefix(prefix).lower().replace("_", "-") if number else unspecified
            for name, number in enum.items()
        }
        self._numbers = {word: number for number, word in self._words.items() if word}

    @property
    def sayable(self) -> list[str]:
        """The words, in the order of the contract."""
        return list(self._numbers)

    def number(self, word: str) -> Any:
        """The value that `word` stands for, of the enumeration's own type."""
        return self._numbers[word]

    def word(self, number: int) -> str:
        """The word for a value; one that is newer than this program is shown as its number."""
        return self._words.get(number, str(number))


LEVELS = Words(Level, "LEVEL_", "none")
READ_TYPES = Words(ReadType, "READ_TYPE_")
ROLES = Words(Role, "ROLE_")
MODELS = Words(TransmissionModel, "TRANSMISSION_MODEL_")
REASONS = Words(PlacementReason, "PLACEMENT_REASON_")
HELD = Words(Held.Kind, "KIND_")
HISTORICAL = Words(Historical, "HISTORICAL_", "off")
TRUTHS = Words(Truth, "TRUTH_")
PARTS = Words(ExplainedClause.Part, "PART_")
SIDES = Words(Side, "SIDE_")
PATHS = Words(Path, "PATH_")
REASONS_OF_SIGHT = Words(ExplainedPath.Reason, "REASON_")
OBSTACLES = Words(Explanation.Obstacle, "OBSTACLE_")
REFUSED = Words(Refusal.Kind, "KIND_")
LANGUAGES = Words(Language, "LANGUAGE_")
PRIORITIES = Words(Priority, "PRIORITY_")
CASE_ACTS = Words(CaseAct, "CASE_ACT_")
WAITS_FOR = Words(WaitsFor, "WAITS_FOR_")
RIGHTS = Words(Rights, "RIGHTS_")
BUCKETS = Words(Bucket.State, "STATE_")
NOTICES = Words(Notice.State, "STATE_")
DELETIONS = Words(Deletion.State, "STATE_")
