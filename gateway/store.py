"""The SQL of the queue: what was received, what is exported, what is forwarded, who was refused."""

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from gateway.database import from_the_reserve
from gateway.queue import End, Event, Item, Outcome, State, Transfer, after, transfer_of
from gateway.refusalstore import AuditRow, RefusalStore
from gateway.retention import RetentionStore
from gateway.studies import Searched
from gateway.telling import SAVE_STUDY, TellingStore
from kernel.dicom import UID, AETitle
from kernel.errors import NotFound
from kernel.ids import TransferId

_OTHERS = """
    o.study_instance_uid = t.study_instance_uid and o.calling_ae_title = t.calling_ae_title and o.id <> t.id
"""
"""Other transfers of the study."""


class Store(RetentionStore, RefusalStore, TellingStore):
    """The queue, what was refused, and what a person may ask.

    What forwarding writes may use the room that is kept for it; what receiving writes may not.
    """

    # Receiving

    def keep(
        self,
        item: Item,
        study_instance_uid: UID,
        calling_ae_title: AETitle,
        about: Searched = Searched(),  # noqa: B008 - a value
    ) -> None:
        """Puts a received item into the queue: into the open transfer of its study, or into a new one.

        The same bytes under the same UID are one item of a transfer, however often they come. Other bytes
        are of a corrected study: were they to join a transfer whose study was deleted meanwhile, they would
        be refused with it.
        """
        with self._transaction() as sql:
            row = sql.execute(
                """
                select id from transfers t
                where study_instance_uid = ? and calling_ae_title = ? and state in ('waiting', 'sending')
                  and not exists (select 1 from items i where i.transfer_id = t.id and outcome = 'refused')
                  and not exists (select 1 from items i where i.transfer_id = t.id
                                  and sop_instance_uid = ? and sha256 <> ?)
                order by created_at desc, id desc limit 1
                """,
                (study_instance_uid, calling_ae_title, item.sop_instance_uid, item.sha256),
            ).fetchone()
            transfer_id = row[0] if row else self._begin(sql, study_instance_uid, calling_ae_title)
            if about != Searched():
                sql.execute(SAVE_STUDY, (study_instance_uid, calling_ae_title, *about))
            sql.execute(
                """
                insert into items (transfer_id, sop_instance_uid, sha256, sop_class_uid, transfer_syntax_uid,
                                   received_at, size_bytes)
                values (?, ?, ?, ?, ?, ?, ?)
                on conflict (transfer_id, sop_instance_uid, sha256)
                do update set outcome = 'waiting', received_at = excluded.received_at,
                              number = (select max(number) + 1 from items)
                """,
                (
                    transfer_id,
                    item.sop_instance_uid,
                    item.sha256,
                    item.sop_class_uid,
                    item.transfer_syntax_uid,
                    self._now(),
                    item.size_bytes,
                ),
            )

    def _begin(self, sql: sqlite3.Connection, study_instance_uid: UID, calling_ae_title: AETitle) -> str:
        transfer_id = str(self._new_id())
        sql.execute(
            "insert into transfers (id, study_instance_uid, calling_ae_title, created_at, state,"
            " aged_s, aged_boot, aged_uptime_s, since_birth) values (?, ?, ?, ?, ?, 0, ?, ?, 1)",
            (
                transfer_id,
                study_instance_uid,
                calling_ae_title,
                self._now(),
                State.WAITING,
                self._uptime.boot_id,
                self._uptime.seconds(),
            ),
        )
        return transfer_id

    def unknown(self, digests: Sequence[str]) -> Sequence[str]:
        """Those of some SHA-256 that no item has."""
        with self._lock:
            rows = self._connection.execute(
                "select value from json_each(?) where not exists (select 1 from items where sha256 = value)",
                (json.dumps(list(digests)),),
            ).fetchall()
        return [row[0] for row in rows]

    # Exporting

    @from_the_reserve
    def export(self, study_instance_uids: Sequence[UID]) -> Sequence[Sequence[tuple[AETitle, int]]]:
        """Puts kept studies into the queue once more, as a new transfer for each title they came under.

        Of each instance goes what came last. Answers for each study the titles and how many instances go;
        raises NotFound, and exports nothing, if one is not kept.
        """
        with self._transaction() as sql:
            return [self._export(sql, uid) for uid in study_instance_uids]

    def _export(self, sql: sqlite3.Connection, study_instance_uid: UID) -> Sequence[tuple[AETitle, int]]:
        titles = sql.execute(
            "select distinct calling_ae_title from transfers where study_instance_uid = ? order by 1",
            (study_instance_uid,),
        ).fetchall()
        if not titles:
            raise NotFound(f"this gateway keeps no study `{study_instance_uid}`")
        exported = []
        for (title,) in titles:
            changed = sql.execute(
                """
                insert into items
                    (transfer_id, sop_instance_uid, sha256, sop_class_uid, transfer_syntax_uid, received_at,
                     size_bytes)
                select ?, sop_instance_uid, sha256, sop_class_uid, transfer_syntax_uid, received_at,
                    size_bytes
                from (select i.*, row_number() over (partition by sop_instance_uid
                                                     order by number desc) as nth
                      from items i join transfers t on t.id = i.transfer_id
                      where t.study_instance_uid = ? and t.calling_ae_title = ?)
                where nth = 1 order by number
                """,
                (self._begin(sql, study_instance_uid, title), study_instance_uid, title),
            )
            exported.append((AETitle(title), changed.rowcount))
        row = AuditRow(self._clock.now(), "study.exported", "done", "", "", "", "", study_instance_uid)
        self._audit(sql, row)
        return exported

    # Forwarding

    @from_the_reserve
    def recover(self) -> int:
        """After a restart: what was being sent waits again, and nothing waits any longer. Says how many."""
        with self._transaction() as sql:
            waiting = after(State.SENDING, Event.INTERRUPTED)
            sql.execute(
                "update transfers set next_attempt_at = 0 where state = ? and next_attempt_at > 0",
                (State.WAITING,),
            )
            changed = sql.execute(
                "update transfers set state = ?, next_attempt_at = 0 where state = ?",
                (waiting, State.SENDING),
            )
            return changed.rowcount

    @from_the_reserve
    def claim(self) -> Transfer | None:
        """The oldest transfer that is due and whose study is not being sent, now SENDING."""
        return next(iter(self._claim("true", (), 1)), None)

    @from_the_reserve
    def claim_more(self, calling_ae_title: AETitle, most: int) -> Sequence[Transfer]:
        """The oldest such under this title that are the only ones of their studies."""
        only = f"calling_ae_title = ? and not exists (select 1 from transfers o where {_OTHERS})"  # noqa: S608
        return self._claim(only, (calling_ae_title,), most)

    def _claim(self, condition: str, values: tuple[str, ...], most: int) -> Sequence[Transfer]:
        with self._transaction() as sql:
            up_s = self._uptime.seconds()
            rows = sql.execute(
                f"""
                select id, study_instance_uid, calling_ae_title, created_at, state,
                    aged_s, aged_boot, aged_uptime_s, since_birth,
                    not exists (select 1 from transfers o where {_OTHERS})
                from transfers t
                where state = 'waiting' and next_attempt_at <= ? and {condition}
                  and not exists (select 1 from transfers o where {_OTHERS} and o.state = 'sending')
                order by created_at, id limit ?
                """,  # noqa: S608 constants only
                (up_s, *values, most),
            ).fetchall()
            claimed = []
            for *columns, is_only in rows:
                transfer = transfer_of(columns)
                aged = transfer.aged.at(self._uptime.boot_id, up_s)
                state = after(transfer.state, Event.BEGUN)
                sql.execute(
                    "update transfers set state = ?, aged_s = ?, aged_boot = ?, aged_uptime_s = ?,"
                    " since_birth = ? where id = ?",
                    (state, aged.seconds, aged.boot_id, aged.uptime_s, aged.since_birth, str(transfer.id)),
                )
                claimed.append(replace(transfer, state=state, aged=aged, is_only=bool(is_only)))
            return claimed

    def due(self, limit: int) -> int:
        """How many transfers are due, counted up to `limit`."""
        with self._lock:
            row = self._connection.execute(
                "select count(*) from (select 1 from transfers where state = 'waiting'"
                " and next_attempt_at <= ? limit ?)",
                (self._uptime.seconds(), limit),
            ).fetchone()
        return int(row[0])

    def due_in_s(self) -> float | None:
        """How long until a waiting transfer is due; None if none waits."""
        with self._lock:
            row = self._connection.execute(
                "select min(next_attempt_at) from transfers where state = 'waiting'"
            ).fetchone()
        return None if row[0] is None else max(0.0, row[0] - self._uptime.seconds())

    def having_waiting(self, transfer_ids: Iterable[TransferId]) -> set[TransferId]:
        """Those of the transfers that have items without a final answer."""
        with self._lock:
            rows = self._connection.execute(
                """
                select value from json_each(?) where exists (
                    select 1 from items where transfer_id = value and outcome = 'waiting')
                """,
                (json.dumps([str(each) for each in transfer_ids]),),
            ).fetchall()
        return {TransferId(UUID(row[0])) for row in rows}

    def waiting(self, transfer_id: TransferId, limit: int = 500) -> Sequence[Item]:
        """The items that have no final answer, in order of receipt."""
        with self._lock:
            rows = self._connection.execute(
                "select sop_instance_uid, sha256, sop_class_uid, transfer_syntax_uid, size_bytes from items"
                " where transfer_id = ? and outcome = 'waiting' order by number limit ?",
                (str(transfer_id), limit),
            ).fetchall()
        return [Item(*row) for row in rows]

    @from_the_reserve
    def answered(
        self, transfer_id: TransferId, item: Item, outcome: Outcome, status: int, comment: str
    ) -> None:
        """Keeps the final answer to an item."""
        with self._transaction() as sql:
            sql.execute(
                "update items set outcome = ?, status = ?, comment = ?, answered_at = ?"
                " where transfer_id = ? and sop_instance_uid = ? and sha256 = ?",
                (outcome, status, comment, self._now(), str(transfer_id), item.sop_instance_uid, item.sha256),
            )
            sql.execute(
                "update transfers set failures = 0 where id = ? and failures > 0", (str(transfer_id),)
            )

    @from_the_reserve
    def refuse_waiting(self, transfer_id: TransferId, status: int, comment: str) -> None:
        """The final answer to an item that is one to all that wait."""
        with self._transaction() as sql:
            sql.execute(
                "update items set outcome = ?, status = ?, comment = ?, answered_at = ?"
                " where transfer_id = ? and outcome = 'waiting'",
                (Outcome.REFUSED, status, comment, self._now(), str(transfer_id)),
            )

    @from_the_reserve
    def finish(self, transfer: Transfer, reason: str = "") -> State | None:
        """Ends a transfer whose items all have their answer; None if another item has come."""
        with self._transaction() as sql:
            end = self._finish(sql, transfer, reason)
        return end.state if end else None

    @from_the_reserve
    def finish_all(self, transfers: Sequence[Transfer], reason: str = "") -> Sequence[End]:
        """Ends those of the transfers whose items all have their answer."""
        with self._transaction() as sql:
            ends = [self._finish(sql, each, reason) for each in transfers]
        return [end for end in ends if end is not None]

    def _finish(self, sql: sqlite3.Connection, transfer: Transfer, reason: str) -> End | None:
        answers: dict[str, int] = dict(
            sql.execute(
                "select outcome, count(*) from items where transfer_id = ? group by outcome",
                (str(transfer.id),),
            ).fetchall()
        )
        if Outcome.WAITING in answers:
            return None
        event = Event.SOME_REFUSED if Outcome.REFUSED in answers else Event.ALL_ACKNOWLEDGED
        state = after(transfer.state, event)
        sql.execute(
            "update transfers set state = ?, reason = ? where id = ?", (state, reason, str(transfer.id))
        )
        return End(transfer, state, answers.get(Outcome.ACKNOWLEDGED, 0))

    @from_the_reserve
    def interrupted(self, transfer: Transfer, reason: str, pause_s: float) -> None:
        """It goes on later."""
        with self._transaction() as sql:
            sql.execute(
                "update transfers set state = ?, failures = failures + 1, reason = ?, next_attempt_at = ?"
                " where id = ?",
                (
                    after(transfer.state, Event.INTERRUPTED),
                    reason,
                    self._uptime.seconds() + pause_s,
                    str(transfer.id),
                ),
            )

    def failures(self, transfer_id: TransferId) -> int:
        """Interruptions since the last acknowledgement."""
        with self._lock:
            row = self._connection.execute(
                "select failures from transfers where id = ?", (str(transfer_id),)
            ).fetchone()
        return int(row[0])

    # Telling

    def open_transfers(self) -> tuple[int, timedelta | None]:
        """How many transfers are not at an end, and how old the oldest of them is by our clock."""
        with self._lock:
            count, oldest = self._connection.execute(
                "select count(*), min(created_at) from transfers where state in ('waiting', 'sending')"
            ).fetchone()
        return count, None if oldest is None else timedelta(seconds=max(0.0, self._now() - oldest))

    def count(self) -> Mapping[State, int]:
        """Return how many transfers are in each state."""
        with self._lock:
            rows = self._connection.execute("select state, count(*) from transfers group by state").fetchall()
        return {State(state): count for state, count in rows}
