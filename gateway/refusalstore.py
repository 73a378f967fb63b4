"""The SQL of what was refused: one row for what has kind, cause, device and UID in common."""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.database import Database
from gateway.refusals import Kind, Refusal, Refused

KEPT_ROWS = 2_000
"""Of each kind, those refused last; the totals count on."""

KEPT_AUDIT_ROWS = 100_000
"""Of each action: a port scanner must not fill the disk, nor push out what others did."""
_PRUNED_EVERY = 500


@dataclass(frozen=True, slots=True)
class AuditRow:
    """Who knocked or exported, and what became of it."""

    at: datetime
    action: str
    outcome: str
    listener: str
    remote: str
    calling_ae_title: str
    called_ae_title: str
    reason: str


class RefusalStore(Database):
    """Refusals, and the rows of who knocked."""

    def refuse(self, refusals: Sequence[Refusal], audit: AuditRow | None = None) -> None:
        """Keeps what was refused, each once more or as a new row, and an audit row beside."""
        with self._transaction() as sql:
            for refusal in refusals:
                self._refuse(sql, refusal)
            if audit is not None:
                self._audit(sql, audit)

    def _refuse(self, sql: sqlite3.Connection, refusal: Refusal) -> None:
        sql.execute(
            """
            insert into refusals (kind, cause, listener, remote, calling_ae_title, called_ae_title, uid,
                                  reason, times, first_at, last_at)
            values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?10, ?10)
            on conflict (kind, cause, remote, calling_ae_title, called_ae_title, uid) do update
            set times = times + excluded.times, last_at = excluded.last_at, reason = excluded.reason,
                listener = excluded.listener
            """,
            (
                refusal.kind,
                refusal.cause,
                refusal.listener,
                refusal.remote,
                refusal.calling_ae_title,
                refusal.called_ae_title,
                refusal.uid,
                refusal.reason,
                refusal.times,
                self._now(),
            ),
        )
        sql.execute(
            "delete from refusals where kind = ?1 and (last_at, number) <= (select last_at, number"
            " from refusals where kind = ?1 order by last_at desc, number desc limit 1 offset ?2)",
            (refusal.kind, KEPT_ROWS),
        )
        sql.execute(
            "insert into refusal_totals (kind, cause, times) values (?, ?, ?)"
            " on conflict (kind, cause) do update set times = times + excluded.times",
            (refusal.kind, refusal.cause, refusal.times),
        )

    def refusals(self, kind: Kind, limit: int | None = None) -> Sequence[Refused]:
        """The rows of a kind, what was refused last first."""
        with self._lock:
            rows = self._connection.execute(
                "select kind, cause, listener, remote, calling_ae_title, called_ae_title, uid, reason,"
                " times, first_at, last_at from refusals where kind = ? order by last_at desc, number desc"
                " limit ?",
                (kind, -1 if limit is None else limit),
            ).fetchall()
        return [Refused(Refusal(Kind(row[0]), *row[1:8]), row[8], _at(row[9]), _at(row[10])) for row in rows]

    def refusal_totals(self) -> Mapping[tuple[Kind, str], int]:
        """How often each kind and cause was refused, rows that are gone included."""
        with self._lock:
            rows = self._connection.execute("select kind, cause, times from refusal_totals").fetchall()
        return {(Kind(kind), cause): times for kind, cause, times in rows}

    def refused_classes(self, limit: int) -> Sequence[tuple[str, int]]:
        """The SOP classes of contexts that were not accepted, and how often, the most frequent first."""
        with self._lock:
            return self._connection.execute(
                "select uid, sum(times) from refusals where kind = ? group by uid order by 2 desc, 1 limit ?",
                (Kind.CONTEXT, limit),
            ).fetchall()

    # Audit

    def audit(self, row: AuditRow) -> None:
        """Adds an audit row."""
        self.refuse([], row)

    def _audit(self, sql: sqlite3.Connection, row: AuditRow) -> None:
        number = sql.execute(
            "insert into audit_rows"
            " (at, action, outcome, listener, remote, calling_ae_title, called_ae_title, reason)"
            " values (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                row.at.timestamp(),
                row.action,
                row.outcome,
                row.listener,
                row.remote,
                row.calling_ae_title,
                row.called_ae_title,
                row.reason,
            ),
        ).lastrowid
        if (number or 0) % _PRUNED_EVERY == 0:
            sql.execute(
                "delete from audit_rows where number in (select number from (select number, row_number() over"
                " (partition by action order by number desc) as nth from audit_rows) where nth > ?)",
                (KEPT_AUDIT_ROWS,),
            )

    def audited(self, action: str) -> int:
        """How many audit rows there are of an action."""
        with self._lock:
            row = self._connection.execute(
                "select count(*) from audit_rows where action = ?", (action,)
            ).fetchone()
        return int(row[0])

    def audit_rows(self, limit: int | None = 100, *, action: str | None = None) -> Sequence[AuditRow]:
        """Audit rows, newest first; of one action if it is named."""
        with self._lock:
            rows = self._connection.execute(
                "select at, action, outcome, listener, remote, calling_ae_title, called_ae_title, reason"
                " from audit_rows where ?1 is null or action = ?1 order by number desc limit ?2",
                (action, -1 if limit is None else limit),
            ).fetchall()
        return [AuditRow(_at(row[0]), *row[1:]) for row in rows]


def _at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
