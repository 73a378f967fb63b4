"""The SQL of what a person may ask: the queue, final failures, and which studies are kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from gateway.database import Database
from gateway.queue import Outcome, State, Transfer, transfer_of
from gateway.studies import Searched
from kernel.dicom import UID, AETitle
from kernel.ids import TransferId


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A transfer as the status shows it.

    Attributes:
        reason: of the last interruption, or why the whole transfer was refused.
        next_try_s: seconds until it is tried again; None unless it waits.
    """

    transfer: Transfer
    waiting: int
    acknowledged: int
    refused: int
    reason: str
    next_try_s: float | None


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """An item whose failure is final."""

    transfer_id: TransferId
    study_instance_uid: UID
    calling_ae_title: AETitle
    sop_instance_uid: UID
    status: int
    comment: str
    at: datetime


@dataclass(frozen=True, slots=True)
class KeptRow:
    """A study that can be exported."""

    study_instance_uid: UID
    calling_ae_title: AETitle
    instances: int
    received_at: datetime
    about: Searched


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is not at its end yet."""

    instances: int
    size_bytes: int
    oldest_at: datetime | None


class TellingStore(Database):
    """Reads what the commands and the metrics show."""

    def queue(self, limit: int | None = None) -> Sequence[QueueRow]:
        """Transfers, open ones first, then newest first."""
        with self._lock:
            rows = self._connection.execute(
                """
                select id, study_instance_uid, calling_ae_title, created_at, state,
                    aged_s, aged_boot, aged_uptime_s, since_birth, reason, next_attempt_at,
                    (select count(*) from items where transfer_id = t.id and outcome = 'waiting'),
                    (select count(*) from items where transfer_id = t.id and outcome = 'acknowledged'),
                    (select count(*) from items where transfer_id = t.id and outcome = 'refused')
                from transfers t
                order by state not in ('waiting', 'sending'), created_at desc limit ?
                """,
                (_limit(limit),),
            ).fetchall()
        found = []
        for *transfer, reason, next_attempt_at, waiting, acknowledged, refused in rows:
            told = transfer_of(transfer)
            left = max(0.0, next_attempt_at - self._uptime.seconds()) if told.state is State.WAITING else None
            found.append(QueueRow(told, waiting, acknowledged, refused, reason, left))
        return found

    def waits(self) -> Waiting:
        """How much waits for Central server, and since when the oldest of it."""
        with self._lock:
            row = self._connection.execute(
                "select count(*), coalesce(sum(size_bytes), 0), min(received_at) from items"
                " where outcome = ?",
                (Outcome.WAITING,),
            ).fetchone()
        return Waiting(row[0], row[1], None if row[2] is None else datetime.fromtimestamp(row[2], UTC))

    def outcomes(self) -> Mapping[Outcome, int]:
        """How many items have each outcome."""
        with self._lock:
            rows = self._connection.execute("select outcome, count(*) from items group by outcome").fetchall()
        return {Outcome(outcome): count for outcome, count in rows}

    def refused(self, limit: int | None = None) -> Sequence[RefusedRow]:
        """Items whose failure is final, newest first."""
        with self._lock:
            rows = self._connection.execute(
                "select transfer_id, study_instance_uid, calling_ae_title, sop_instance_uid, status, comment,"
                " coalesce(answered_at, received_at)"
                " from items join transfers on transfers.id = transfer_id"
                " where outcome = 'refused' order by number desc limit ?",
                (_limit(limit),),
            ).fetchall()
        return [
            RefusedRow(
                TransferId(UUID(transfer_id)),
                UID(study),
                AETitle(title),
                UID(instance),
                status,
                comment,
                datetime.fromtimestamp(at, UTC),
            )
            for transfer_id, study, title, instance, status, comment, at in rows
        ]

    # Kept studies

    def kept(self) -> Sequence[KeptRow]:
        """Studies that can be exported, the one received last first."""
        with self._lock:
            rows = self._connection.execute(
                """
                select study_instance_uid, calling_ae_title, count(distinct sop_instance_uid),
                    max(received_at) as last, coalesce(patient_name, ''), coalesce(patient_id, ''),
                    coalesce(accession_number, ''), coalesce(study_date, '')
                from items join transfers on transfers.id = transfer_id
                    left join studies using (study_instance_uid, calling_ae_title)
                group by study_instance_uid, calling_ae_title order by last desc
                """
            ).fetchall()
        return [
            KeptRow(UID(r[0]), AETitle(r[1]), r[2], datetime.fromtimestamp(r[3], UTC), Searched(*r[4:]))
            for r in rows
        ]

    def undescribed(self) -> Sequence[tuple[UID, AETitle, str, str]]:
        """Kept studies of which nobody has written down the patient: UID, title, and an instance of theirs.

        The instance is the digest and transfer syntax of what came last.
        """
        with self._lock:
            return self._connection.execute(
                """
                select study_instance_uid, calling_ae_title, sha256, transfer_syntax_uid
                from (select t.study_instance_uid, t.calling_ae_title, i.sha256, i.transfer_syntax_uid,
                          max(i.number)
                      from items i join transfers t on t.id = i.transfer_id
                      group by t.study_instance_uid, t.calling_ae_title) newest
                where not exists (select 1 from studies s
                    where s.study_instance_uid = newest.study_instance_uid
                      and s.calling_ae_title = newest.calling_ae_title)
                """
            ).fetchall()

    def describe(self, study_instance_uid: UID, calling_ae_title: AETitle, about: Searched) -> None:
        """Writes down what a kept study is searched by."""
        with self._transaction() as sql:
            sql.execute(SAVE_STUDY, (study_instance_uid, calling_ae_title, *about))


SAVE_STUDY = """
    insert into studies values (?, ?, ?, ?, ?, ?)
    on conflict do update set
        patient_name = coalesce(nullif(excluded.patient_name, ''), patient_name),
        patient_id = coalesce(nullif(excluded.patient_id, ''), patient_id),
        accession_number = coalesce(nullif(excluded.accession_number, ''), accession_number),
        study_date = coalesce(nullif(excluded.study_date, ''), study_date)
"""
"""Parameters: the study, the title, and what it is searched by. What came last counts, unless it is empty."""


def _limit(limit: int | None) -> int:
    return -1 if limit is None else limit
