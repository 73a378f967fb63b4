"""What a gateway shows of itself: one value, which a person reads as tables and a program as JSON.

No patient data: `--kept` shows some, and nothing else does.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gateway.disk import Disk
from gateway.identity import Identity
from gateway.queue import Outcome, State
from gateway.refusals import Kind, advice_after_central
from gateway.settings import Settings
from gateway.store import Store

_INSTANT = "%Y-%m-%d %H:%M:%S"

Cell = str | int | float | datetime | None


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of one kind.

    Attributes:
        name: of the table in JSON.
        title: what a person reads.
        total: how many there are, whether or not they are among `rows`.
        shown: for how many the rows stand.
    """

    name: str
    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    total: int
    shown: int

    def text(self) -> Iterator[str]:
        """Lines of a table, beneath a line that says how many there are; no column that is empty."""
        whole = [tuple(_text(cell) for cell in row) for row in self.rows]
        filled = [index for index, column in enumerate(zip(*whole, strict=True)) if any(column)]
        cells = [tuple(row[index] for index in filled) for row in whole]
        shown = "" if self.shown >= self.total else f" ({self.shown} shown; --all shows more)"
        yield ""
        yield f"{self.title}: {self.total or 'none'}{shown}"
        if cells:
            heads = tuple(self.heads[index].replace("_", " ") for index in filled)
            widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
            for row in (heads, *cells):
                yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()

    def value(self) -> Mapping[str, Any]:
        """The same for JSON."""
        return {
            "total": self.total,
            "rows": [dict(zip(self.heads, map(_plain, row), strict=True)) for row in self.rows],
        }


@dataclass(frozen=True, slots=True)
class Status:
    """Everything that `--status` shows."""

    facts: Mapping[str, Cell | Mapping[str, Any]]
    lines: Sequence[str] = field(default_factory=list)
    tables: Sequence[Table] = field(default_factory=list)

    def text(self) -> Iterator[str]:
        """For a person."""
        yield from self.lines
        for table in self.tables:
            yield from table.text()

    def value(self) -> Mapping[str, Any]:
        """For a program."""
        facts = {name: _plain(fact) for name, fact in self.facts.items()}
        return {**facts, **{table.name: table.value() for table in self.tables}}


def status(
    settings: Settings, identity: Identity, store: Store, disk: Disk, now: datetime, limit: int | None
) -> Status:
    """How the gateway is; of each table at most `limit` rows."""
    states, outcomes, waits = store.count(), store.outcomes(), store.waits()
    oldest_s = None if waits.oldest_at is None else max(0.0, (now - waits.oldest_at).total_seconds())
    facts: dict[str, Any] = {
        "at": now,
        "listener": settings.listener.listen if settings.listener else None,
        "plain_listener": settings.plain_listener.listen if settings.plain_listener else None,
        "disk": {
            "path": str(disk.path),
            "free_bytes": disk.free_bytes,
            "total_bytes": disk.total_bytes,
            "has_room": disk.has_room,
        },
        "transfers_by_state": {state.value: states.get(state, 0) for state in State},
        "instances_by_outcome": {outcome.value: outcomes.get(outcome, 0) for outcome in Outcome},
        "waiting_bytes": waits.size_bytes,
        "oldest_waits_s": oldest_s,
        "certificate_ends_at": identity.ends_at,
    }
    lines = list(_lines(settings, identity, disk, facts, oldest_s))
    return Status(facts, lines, list(_tables(store, states, outcomes, limit)))


def _lines(
    settings: Settings, identity: Identity, disk: Disk, facts: Mapping[str, Any], oldest_s: float | None
) -> Iterator[str]:
    if settings.listener:
        yield f"listener {settings.listener.listen} over TLS"
    if settings.plain_listener:
        yield (
            f"warning: modalities on {settings.plain_listener.listen} send without TLS; "
            "only registered ones may"
        )
    room = f"{disk.free_bytes / 1e9:,.1f} of {disk.total_bytes / 1e9:,.1f} GB are free"
    if disk.has_room:
        yield f"disk of {disk.path}: {room}"
    else:
        yield (
            f"warning: the disk of {disk.path} is full ({room}): "
            "modalities are answered A700 until it has room"
        )
    if difficulty := identity.difficulty(facts["at"]):
        yield f"warning: {difficulty}"
    else:
        yield f"certificate valid until {identity.ends_at:%Y-%m-%d}; it is renewed by itself"
    yield f"now {facts['at']:{_INSTANT}}; times are UTC"
    by_outcome = facts["instances_by_outcome"]
    yield "instances: " + ", ".join(f"{count} {outcome}" for outcome, count in by_outcome.items())
    if oldest_s is not None:
        yield f"the oldest has waited for {_duration(oldest_s)}"


def _tables(
    store: Store, states: Mapping[State, int], outcomes: Mapping[Outcome, int], limit: int | None
) -> Iterator[Table]:
    queue = [
        (
            row.transfer.state.value,
            row.transfer.calling_ae_title,
            row.transfer.study_instance_uid,
            row.transfer.created_at,
            row.waiting,
            row.acknowledged,
            row.refused,
            None if row.next_try_s is None else round(row.next_try_s, 1),
            "" if row.transfer.state is State.SENDING else row.reason,
        )
        for row in store.queue(limit)
    ]
    heads = ("state", "title", "study", "since", "waiting", "acknowledged", "refused", "next_try_s", "reason")
    yield Table("transfers", "transfers", heads, queue, sum(states.values()), len(queue))
    final = [
        (row.at, row.calling_ae_title, row.study_instance_uid, row.sop_instance_uid, f"{row.status:04X}",
         row.comment, advice_after_central(row.status))
        for row in store.refused(limit)
    ]  # fmt: skip
    yield Table(
        "refused_by_central_server",
        "refused by Central server, final",
        ("at", "title", "study", "instance", "status", "reason", "what_to_do"),
        final,
        outcomes.get(Outcome.REFUSED, 0),
        len(final),
    )
    totals = store.refusal_totals()
    for kind, title in _TITLES.items():
        rows = store.refusals(kind, limit)
        refused = [
            (
                row.last_at,
                row.times,
                row.refusal.remote,
                row.refusal.calling_ae_title,
                row.refusal.called_ae_title,
                row.refusal.uid,
                row.refusal.cause,
                row.refusal.reason,
                row.advice,
            )
            for row in rows
        ]
        yield Table(
            f"refused_{kind}s" if kind is not Kind.ODD else "odd_instances",
            title,
            ("last_at", "times", "remote", "calling", "called", "uid", "cause", "reason", "what_to_do"),
            refused,
            sum(times for (of, _), times in totals.items() if of is kind),
            sum(row.times for row in rows),
        )
    for action, name, title in _ACTIONS:
        done = store.audit_rows(limit, action=action)
        yield Table(
            name,
            title,
            ("at", "remote", "calling", "called", "what"),
            [(row.at, row.remote, row.calling_ae_title, row.called_ae_title, row.reason) for row in done],
            store.audited(action),
            len(done),
        )


_ACTIONS = (
    ("study.exported", "exports", "exports"),
    ("association.plain", "plain_associations", "associations in plain text, by exception"),
)
_TITLES = {
    Kind.INSTANCE: "instances refused here",
    Kind.CONTEXT: "kinds of objects not taken here",
    Kind.ASSOCIATION: "associations refused here",
    Kind.HANDSHAKE: "connections refused here",
    Kind.ODD: "instances kept as they came, though not quite DICOM",
}
"""In the order in which a person should look."""


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.0f} seconds"


def _text(cell: Cell) -> str:
    if isinstance(cell, datetime):
        return f"{cell:{_INSTANT}}"
    return "" if cell is None else str(cell)


def _plain(cell: Any) -> Any:
    return cell.isoformat() if isinstance(cell, datetime) else cell
